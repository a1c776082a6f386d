//! Everything that can go wrong at once, many seeds: nothing is lost, doubled, reordered or left unanswered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use throng_client_core::{ClientEvent, Cursor, Start};
use throng_wire::{ChannelId, ClientMsgId};

use crate::server::Mood;
use crate::world::{STREAM, WEBSOCKET, World, channel};

/// Channels in play.
const CHANNELS: u8 = 3;

#[test]
fn no_fault_loses_doubles_or_reorders_anything() {
    for seed in 0..200 {
        let url = if seed % 2 == 0 { STREAM } else { WEBSOCKET };
        run(url, seed);
    }
}

fn run(url: &str, seed: u64) {
    let mut world = World::new(url, seed);
    let mut sent: BTreeMap<(ChannelId, ClientMsgId), Bytes> = BTreeMap::new();
    for n in 1..=CHANNELS {
        world.client.subscribe(world.now, channel(n), Start::After(Cursor::default())).expect("room");
    }
    let part =
        |world: &mut World| if world.rng.chance(500_000) { world.rng.below(400_000) as u32 } else { 0 };
    world.server.mood = Mood {
        refuse: part(&mut world),
        drop_push: part(&mut world),
        drop_answer: part(&mut world),
        short_page: part(&mut world),
    };
    for turn in 0..60 {
        fault(&mut world, url);
        for _ in 0..world.rng.below(12) {
            let to = channel(world.rng.between(1, u64::from(CHANNELS)) as u8);
            if world.rng.chance(600_000) {
                let body = Bytes::from(format!("{turn}"));
                let id = world.client.publish(world.now, to, body.clone()).expect("room");
                sent.insert((to, id), body);
            } else {
                world.server.append(to, "of somebody else");
            }
        }
        world.drain();
        let time = Duration::from_millis(world.rng.between(0, 300));
        world.run_for(time);
    }
    // Then the world heals, and everything comes to an end (safety first, then liveness).
    world.reachable = true;
    world.server.mood = Mood::default();
    world.run_until(&format!("seed {seed}: rest"), Duration::from_secs(300), |world| {
        let complete = |n| world.delivered(channel(n)).len() as u64 == world.server.head(channel(n)).0;
        world.client.unanswered_sends() == 0 && (1..=CHANNELS).all(complete)
    });
    check(&world, &sent, seed);
}

fn fault(world: &mut World, url: &str) {
    match world.rng.below(20) {
        0 | 1 => world.cut(),
        2 => world.reachable = false,
        3..=6 => world.reachable = true,
        7 => world.restart_client(url),
        _ => {}
    }
}

fn check(world: &World, sent: &BTreeMap<(ChannelId, ClientMsgId), Bytes>, seed: u64) {
    for n in 1..=CHANNELS {
        let head = world.server.head(channel(n)).0;
        assert_eq!(world.delivered(channel(n)), (1..=head).collect::<Vec<_>>(), "seed {seed}, channel {n}");
    }
    // What the history holds, by the client's own names.
    let mut stored = BTreeMap::new();
    for (&id, history) in &world.server.channels {
        for event in &history.events {
            if let Some(origin) = event.origin {
                let before = stored.insert((id, origin.client_msg_id), (event.seq, event.body.clone()));
                assert!(before.is_none(), "seed {seed}: {origin:?} is stored twice");
            }
        }
    }
    let bodies: BTreeMap<_, _> = stored.iter().map(|(name, (_, body))| (*name, body.clone())).collect();
    assert_eq!(&bodies, sent, "seed {seed}: every send is in the history, and nothing else");
    for event in &world.events {
        match event {
            ClientEvent::Acked { channel, client_msg_id, seq, .. }
            | ClientEvent::RepeatAcked { channel, client_msg_id, seq } => {
                assert_eq!(
                    stored[&(*channel, *client_msg_id)].0,
                    *seq,
                    "seed {seed}: an ack names its number"
                );
            }
            ClientEvent::SendFailed { .. }
            | ClientEvent::SubscriptionEnded { .. }
            | ClientEvent::Reset { .. } => {
                panic!("seed {seed}: {event:?}")
            }
            _ => {}
        }
    }
}
