//! What must hold of a data directory after a cut.

use std::fmt;
use std::path::Path;

use throng_storage_core::log::Tail;
use throng_wire::link::Answer;

use crate::Result;
use crate::acks::Acks;
use crate::history::{self, History};
use crate::node::{Node, Options};
use crate::plan;
use crate::write::repeat;

/// What was found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Events of all channels.
    pub(crate) events: usize,
    /// Acknowledged sends among them.
    pub(crate) acknowledged: usize,
    /// Whether the log ended in the remains of a commit.
    pub(crate) is_torn: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let torn = if self.is_torn { "torn" } else { "clean" };
        write!(f, "found {} events, {} acknowledged, {torn} tail", self.events, self.acknowledged)
    }
}

impl Found {
    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (events, rest) = text.trim().strip_prefix("found ")?.split_once(" events, ")?;
        let (acknowledged, tail) = rest.split_once(" acknowledged, ")?;
        Some(Self {
            events: events.parse().ok()?,
            acknowledged: acknowledged.parse().ok()?,
            is_torn: tail == "torn tail",
        })
    }
}

/// Opens the directory twice, compares, uses it, and opens it a third time.
///
/// # Errors
/// What does not hold.
pub(crate) fn check(dir: &Path, acks: &Acks, seed: u64) -> Result<Found> {
    let options = Options::default();
    let mut node = Node::open(dir, &options)?;
    let is_torn = node.tail() != Tail::Clean;
    let first = history::read(&mut node)?;
    compare(&first, acks, seed)?;
    drop(node);

    let mut node = Node::open(dir, &options).map_err(|why| format!("the second time: {why}"))?;
    let second = history::read(&mut node)?;
    if second != first {
        return Err("what the second recovery finds is not what the first one found".to_owned());
    }
    history::wait_for_inboxes(&mut node, &second)?;
    let used = use_it(&mut node, &second, seed)?;
    drop(node);

    let mut node = Node::open(dir, &options).map_err(|why| format!("after use: {why}"))?;
    if history::read(&mut node)? != used {
        return Err("what was sent after the cut is not there after an orderly end".to_owned());
    }
    let events = first.values().map(Vec::len).sum();
    let acknowledged = acks.by_channel.values().map(|messages| messages.len()).sum();
    Ok(Found { events, acknowledged, is_torn })
}

/// Every acknowledged send is there with its number and content; numbers have no gap; nothing is there twice.
fn compare(history: &History, acks: &Acks, seed: u64) -> Result<()> {
    for (&channel, events) in history {
        history::messages(seed, channel, events)?;
    }
    for (channel, messages) in &acks.by_channel {
        let Some(events) = history.get(channel) else {
            return Err(format!("lost: channel {channel} was acknowledged, and is not there"));
        };
        let places = history::messages(seed, *channel, events)?;
        for (&n, &seq) in messages {
            match places.get(n as usize - 1) {
                Some(&at) if at == seq => {}
                Some(at) => return Err(format!("channel {channel}: message {n} was event {seq}, is {at}")),
                None => {
                    let last = places.len();
                    return Err(format!(
                        "lost: channel {channel}, message {n} was acknowledged as event {seq}; the last one is {last}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The last send of each channel is known, and the next one gets the next number. Returns what must be there then.
fn use_it(node: &mut Node, found: &History, seed: u64) -> Result<History> {
    for (&channel, events) in found {
        let places = history::messages(seed, channel, events)?;
        let last = places.len() as u64;
        if let Some(&at) = places.last() {
            repeat(node, seed, channel, last, at)?;
        }
        let next = events.len() as u64 + 1;
        match node.call(plan::owner(channel), plan::publish(seed, channel, last + 1))? {
            Ok(Answer::Published { seq, duplicate: false, .. }) if seq.0 == next => {}
            other => {
                return Err(format!("channel {channel}: a send after the cut, not event {next}: {other:?}"));
            }
        }
    }
    history::read(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_as_written() {
        for is_torn in [false, true] {
            let found = Found { events: 12, acknowledged: 7, is_torn };
            assert_eq!(Found::parse(&found.to_string()), Some(found));
        }
        assert_eq!(Found::parse("lost: channel 1"), None);
    }
}
