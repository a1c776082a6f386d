//! Calls and returns by channel, in the order in which they happened: what a linearizability checker reads.

use std::collections::BTreeMap;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store one more event.
    Publish,
    /// What is the head?
    Read,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The event's number.
    Seq(u64),
    /// The head.
    Head(u64),
}

/// One step: the call number `0` made, or its return.
pub type Step = (usize, Result<Op, Returned>);

/// Histories of all channels.
#[derive(Clone, Debug, Default)]
pub struct History {
    open: BTreeMap<(usize, Vec<u8>), usize>,
    calls: usize,
    /// By channel.
    pub channels: BTreeMap<usize, Vec<Step>>,
}

impl History {
    pub(super) fn call(&mut self, channel: usize, key: Vec<u8>, op: Op) {
        self.calls += 1;
        self.open.insert((channel, key), self.calls);
        self.channels.entry(channel).or_default().push((self.calls, Ok(op)));
    }

    pub(super) fn returns(&mut self, channel: usize, key: &[u8], returned: Returned) {
        if let Some(call) = self.open.remove(&(channel, key.to_vec())) {
            self.channels.entry(channel).or_default().push((call, Err(returned)));
        }
    }
}
