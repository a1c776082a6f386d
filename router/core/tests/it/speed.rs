//! How fast entries are applied. Not a test of a promise: run by hand with
//! `cargo test --release -p throng-router-core --test it -- --ignored --nocapture speed`.

use std::time::Instant;

use throng_router_core::Applied;
use throng_router_core::entry::EntryBuilder;
use throng_router_core::machines::{Machines, MemoryLimits, NoEffects};
use throng_storage_core::state::StateWrite;
use throng_wire::EventKind;
use throng_wire::ids::*;

use crate::harness::{Disk, SHARD};

const CHANNELS: u64 = 1_000;
const ENTRIES: u64 = 200;
const PER_ENTRY: u64 = 2_000;

fn id(n: u64) -> [u8; 16] {
    let mut id = [3u8; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

/// A direct channel's other member.
fn users(channel: u64) -> (UserId, UserId) {
    (UserId(id(2 * channel + 1)), UserId(id(2 * channel + 2)))
}

fn direct(channel: u64) -> ChannelId {
    let (a, b) = users(channel);
    ChannelId::direct(a, b)
}

#[test]
#[ignore = "a measurement: cargo test --release -p throng-router-core --test it -- --ignored speed"]
fn speed_of_apply_with_write_behind() {
    let disk = Disk::default();
    let mut machines = Machines::load(disk.clone(), &[0], 1, MemoryLimits::default()).expect("an empty disk");
    let mut outcomes = Vec::new();
    let mut index = 0;
    let mut apply = |machines: &mut Machines<Disk>, entry: EntryBuilder| {
        index += 1;
        outcomes.clear();
        let payload = entry.seal(ServerTs(index));
        let begin = Instant::now();
        machines
            .apply(SHARD, Applied { index, term: 1 }, &payload, &mut outcomes, &mut NoEffects)
            .expect("a valid entry");
        begin.elapsed()
    };
    let mut entry = EntryBuilder::new();
    for n in 0..CHANNELS {
        let (a, b) = users(n);
        entry.create(direct(n), a, throng_wire::frame::ChannelClass::Direct, &[b]);
    }
    apply(&mut machines, entry);
    let channels: Vec<_> = (0..CHANNELS).map(|n| (direct(n), users(n))).collect();
    let (mut applying, mut cutting, mut rows, mut cuts) =
        (std::time::Duration::ZERO, std::time::Duration::ZERO, 0, 0);
    for n in 0..ENTRIES {
        let mut entry = EntryBuilder::new();
        for k in 0..PER_ENTRY {
            let message = n * PER_ENTRY + k;
            let (channel, (a, b)) = channels[(message % CHANNELS) as usize];
            let from = if (message / CHANNELS).is_multiple_of(2) { a } else { b };
            entry.publish(channel, from, DeviceId(1), ClientMsgId(message), EventKind::MESSAGE, &[7; 190]);
        }
        applying += apply(&mut machines, entry);
        if machines.wants_flush() {
            let begin = Instant::now();
            let (token, batch) = machines.cut();
            cutting += begin.elapsed();
            (rows, cuts) = (rows + batch.len(), cuts + 1);
            // Dropped, as a disk would take it elsewhere: what is measured is the router's thread.
            drop(batch);
            disk.0.borrow_mut().flush().expect("memory does not fail");
            machines.handle_flushed(token);
        }
    }
    let messages = ENTRIES * PER_ENTRY;
    let rate = |time: std::time::Duration| (messages as f64 / time.as_secs_f64()) as u64;
    println!("apply: {} sends/s", rate(applying));
    println!("cut: {rows} rows in {cuts} batches, {:?} each", cutting / cuts);
    println!("apply and cut: {} sends/s", rate(applying + cutting));
}

#[test]
#[ignore = "a measurement: cargo test --release -p throng-router-core --test it -- --ignored speed"]
fn speed_of_a_whole_node_on_one_core() {
    use throng_wire::link::{Op, Request, ToRouter};

    use crate::world::{GATEWAY, World};

    let mut world = World::new(1, 64);
    for n in 0..CHANNELS {
        let (a, b) = users(n);
        let op = Op::Create {
            channel: direct(n),
            class: throng_wire::frame::ChannelClass::Direct,
            members: vec![b],
        };
        world.call(a, op).expect("a new channel");
    }
    world.pass_ms(2_000);
    world.node(1).heard.clear();
    let channels: Vec<_> = (0..CHANNELS).map(|n| (direct(n), users(n).0)).collect();
    let body = bytes::Bytes::from(vec![7; 190]);
    let begin = Instant::now();
    for n in 0..ENTRIES {
        for k in 0..PER_ENTRY {
            let message = n * PER_ENTRY + k;
            let (channel, user) = channels[(message % CHANNELS) as usize];
            let (kind, body) = (EventKind::MESSAGE, body.clone());
            let op = Op::Publish { channel, client_msg_id: ClientMsgId(message), kind, body };
            let request = Request { id: message, user, device: DeviceId(1), op };
            let now = world.now;
            world.node(1).router.handle_gateway(now, GATEWAY, ToRouter::Request(request));
        }
        world.pass_ms(2);
        let answered = std::mem::take(&mut world.node(1).heard);
        assert_eq!(answered.len() as u64, PER_ENTRY, "all are answered at once, nobody listens");
    }
    let rate = (ENTRIES * PER_ENTRY) as f64 / begin.elapsed().as_secs_f64();
    println!("whole node, Raft and state map in memory: {} sends/s", rate as u64);
}
