//! The workload: sends to all channels, and marks what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use throng_base::Rng;
use throng_wire::link::Answer;

use crate::Result;
use crate::acks::Ack;
use crate::history::{self, History};
use crate::marks::{Mark, Marks};
use crate::node::{Node, Options, PATIENCE};
use crate::plan::{self, CHANNELS};

/// Sends of one channel under way.
const IN_FLIGHT_MAX: u64 = 4;
/// Of sends that it finds at start, so many are repeated.
const REPEATED: u64 = 4;

/// One channel's sender.
struct Sender {
    channel: u16,
    /// The last message sent.
    sent: u64,
    in_flight: u64,
}

/// Opens, sends for so long, closes; or ends the process at once, with sends under way.
///
/// # Errors
/// The node refuses to open, stops, or answers wrongly.
pub(crate) fn run(
    dir: &Path,
    options: &Options,
    marks: &mut Marks,
    seed: u64,
    time: Duration,
    aborts: bool,
) -> Result<()> {
    marks.make(&Mark::Opening)?;
    let mut node = Node::open(dir, options)?;
    let found = history::read(&mut node)?;
    marks.make(&Mark::Serving)?;
    let mut senders = Vec::new();
    for channel in 0..CHANNELS {
        senders.push(start(&mut node, marks, seed, channel, &found)?);
    }
    let sent = drive(&mut node, marks, seed, time, &mut senders, aborts)?;
    println!("{sent} sends acknowledged, log ended in {:?}", node.tail());
    if aborts {
        std::process::abort();
    }
    marks.make(&Mark::Closing)
}

/// Makes the channel, or repeats its last sends, which must be known.
fn start(node: &mut Node, marks: &mut Marks, seed: u64, channel: u16, found: &History) -> Result<Sender> {
    let mut sent = 0;
    if let Some(events) = found.get(&channel) {
        let places = history::messages(seed, channel, events)?;
        sent = places.len() as u64;
        for n in sent.saturating_sub(REPEATED) + 1..=sent {
            repeat(node, seed, channel, n, places[n as usize - 1])?;
        }
    } else {
        match node.call(plan::owner(channel), plan::create(channel))? {
            Ok(Answer::Channel { .. }) => marks.make(&Mark::Acks(vec![Ack { channel, n: 0, seq: 0 }]))?,
            other => return Err(format!("channel {channel} was not made: {other:?}")),
        }
    }
    Ok(Sender { channel, sent, in_flight: 0 })
}

/// A send that is stored already is answered with its number.
pub(crate) fn repeat(node: &mut Node, seed: u64, channel: u16, n: u64, at: u64) -> Result<()> {
    match node.call(plan::owner(channel), plan::publish(seed, channel, n))? {
        Ok(Answer::Published { seq, duplicate: true, .. }) if seq.0 == at => Ok(()),
        other => Err(format!("channel {channel}: message {n} is event {at}; sent again: {other:?}")),
    }
}

/// Sends until the time is over and, unless the process is to end, everything is answered. Returns how much was.
fn drive(
    node: &mut Node,
    marks: &mut Marks,
    seed: u64,
    time: Duration,
    senders: &mut [Sender],
    aborts: bool,
) -> Result<u64> {
    let (begin, mut rng, mut acknowledged) = (Instant::now(), Rng::new(seed).fork(senders[0].sent), 0);
    let mut waiting: BTreeMap<u64, (u16, u64)> = BTreeMap::new();
    loop {
        let over = begin.elapsed() >= time;
        if (over && (aborts || waiting.is_empty())) || begin.elapsed() > time + PATIENCE {
            return Ok(acknowledged);
        }
        for sender in senders.iter_mut().filter(|sender| !over && sender.in_flight < IN_FLIGHT_MAX) {
            // Now and then, so that commits are of all sizes.
            if rng.below(3) == 0 {
                sender.sent += 1;
                sender.in_flight += 1;
                let op = plan::publish(seed, sender.channel, sender.sent);
                waiting.insert(node.ask(plan::owner(sender.channel), op), (sender.channel, sender.sent));
            }
        }
        let mut newest = BTreeMap::new();
        for (id, result) in node.turn(Duration::from_millis(3))? {
            let (channel, n) =
                waiting.remove(&id).ok_or_else(|| format!("a second answer to request {id}"))?;
            match result {
                Ok(Answer::Published { seq, duplicate: false, .. }) => {
                    newest.insert(channel, Ack { channel, n, seq: seq.0 });
                }
                other => return Err(format!("channel {channel}: message {n}: {other:?}")),
            }
            senders[usize::from(channel)].in_flight -= 1;
            acknowledged += 1;
        }
        if !newest.is_empty() {
            marks.make(&Mark::Acks(newest.into_values().collect()))?;
        }
    }
}
