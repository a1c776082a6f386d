//! Everything that a node holds of the workload, read through the router as a client would.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use throng_wire::event::{Event, EventKind};
use throng_wire::frame::Freshness;
use throng_wire::ids::{Seq, UserSeq};
use throng_wire::link::{Answer, Op, Refusal};

use crate::Result;
use crate::node::{EPOCH, Node, PATIENCE};
use crate::plan::{self, CHANNELS, MEMBERS};

/// By channel that was made: all its events.
pub(crate) type History = BTreeMap<u16, Vec<Event>>;

/// Events in a page.
const PAGE: u16 = 200;

/// Reads all channels. That the numbers of a channel are 1, 2, 3 … through its head is checked here.
///
/// # Errors
/// A gap, or the node stops or does not answer.
pub(crate) fn read(node: &mut Node) -> Result<History> {
    let mut history = History::new();
    for channel in 0..CHANNELS {
        if let Some(events) = read_channel(node, channel)? {
            history.insert(channel, events);
        }
    }
    Ok(history)
}

/// The events of a channel; `None` if it was not made.
fn read_channel(node: &mut Node, channel: u16) -> Result<Option<Vec<Event>>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = Seq(events.len() as u64);
        let fetch = Op::Fetch {
            channel: plan::id(channel),
            after,
            epoch: EPOCH,
            limit: PAGE,
            freshness: Freshness::Linearizable,
        };
        let (head, page) = match node.call(plan::owner(channel), fetch)? {
            Ok(Answer::Page { head, events }) => (head, events),
            Err(Refusal { .. }) if events.is_empty() => return Ok(None),
            other => return Err(format!("channel {channel} after {after}: {other:?}")),
        };
        for event in page {
            if event.seq.0 != events.len() as u64 + 1 {
                return Err(format!("channel {channel}: event {} follows event {}", event.seq, events.len()));
            }
            events.push(event);
        }
        match events.len() as u64 {
            read if read == head.0 => return Ok(Some(events)),
            read if read == after.0 => {
                return Err(format!("channel {channel}: nothing after event {read} of {head}"));
            }
            _ => {}
        }
    }
}

/// The messages among a channel's events, by the sender's number: where each lies.
///
/// # Errors
/// One is there twice, is missing before a later one, or says something else than was sent.
pub(crate) fn messages(seed: u64, channel: u16, events: &[Event]) -> Result<Vec<u64>> {
    let mut places = Vec::new();
    for event in events.iter().filter(|event| event.kind == EventKind::MESSAGE) {
        let n = places.len() as u64 + 1;
        let sent = event.origin.map(|origin| origin.client_msg_id.0);
        if sent != Some(n) {
            return Err(format!("channel {channel}: event {} is message {sent:?}, not {n}", event.seq));
        }
        if event.body != plan::body(seed, channel, n) {
            return Err(format!("channel {channel}: event {} does not say what message {n} did", event.seq));
        }
        places.push(event.seq.0);
    }
    Ok(places)
}

/// Waits until every member's inbox shows every channel at its head: rows for other shards' users travel through an
/// outbox, which must survive as well.
///
/// # Errors
/// It does not come about.
pub(crate) fn wait_for_inboxes(node: &mut Node, history: &History) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for user in 0..CHANNELS {
        loop {
            let heads = inbox(node, user)?;
            let missing = (0..MEMBERS).map(|back| (user + CHANNELS - back) % CHANNELS).find(|channel| {
                let head = history.get(channel).map(|events| events.len() as u64);
                head.is_some_and(|head| heads.get(channel) != Some(&head))
            });
            let Some(channel) = missing else { break };
            if Instant::now() > deadline {
                return Err(format!(
                    "user {user}'s inbox never showed channel {channel} at its head: {heads:?}"
                ));
            }
            node.turn(Duration::from_millis(5))?;
        }
    }
    Ok(())
}

/// Heads by channel, as a user's inbox shows them.
fn inbox(node: &mut Node, user: u16) -> Result<BTreeMap<u16, u64>> {
    let sync = Op::Sync { after: UserSeq(0), epoch: EPOCH, limit: PAGE };
    match node.call(plan::owner(user), sync)? {
        Ok(Answer::Synced { entries, more: false, .. }) => {
            let number = |id| (0..CHANNELS).find(|channel| plan::id(*channel) == id);
            Ok(entries.iter().filter_map(|entry| Some((number(entry.channel)?, entry.head.0))).collect())
        }
        other => Err(format!("user {user}'s inbox: {other:?}")),
    }
}
