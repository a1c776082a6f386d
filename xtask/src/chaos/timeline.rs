//! Since when does every shard take writes again, as clients see it?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Result;
use crate::process;

/// Slots that channels hash to (wire/SPEC.md); shards are even ranges of them.
const SLOTS: u64 = 1 << 16;

/// What the acks told since the last [`Timeline::watch`].
pub(super) struct Timeline {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Only sends due from here on count: an ack of one of them was given afterwards, whatever was on the way before.
    since_ms: u64,
    /// The first ack of such a send, by shard.
    first_ms: Vec<Option<u64>>,
    acks: u64,
}

impl Timeline {
    /// Makes a named pipe for the load generator's `--acks` and reads it until the generator ends.
    pub(super) fn open(pipe: &Path, shards: usize) -> Result<Self> {
        process::run(Command::new("mkfifo").arg(pipe))?;
        let state = State { since_ms: 0, first_ms: vec![None; shards], acks: 0 };
        let timeline = Self { state: Arc::new(Mutex::new(state)) };
        let (state, pipe) = (Arc::clone(&timeline.state), pipe.to_owned());
        // Opening waits for the writer. The thread ends with the generator, or with this process.
        thread::spawn(move || {
            let Ok(file) = File::open(&pipe) else { return };
            for line in BufReader::new(file).lines() {
                let Ok(line) = line else { return };
                state.lock().expect("nobody panics with it").take(&line);
            }
        });
        Ok(timeline)
    }

    /// From this instant on, milliseconds since 1970, sends count.
    pub(super) fn watch(&self, since_ms: u64) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.since_ms = since_ms;
        state.first_ms.fill(None);
    }

    /// When the last shard gave its first ack; `None` while one has not.
    pub(super) fn back_ms(&self) -> Option<u64> {
        let state = self.state.lock().expect("nobody panics with it");
        state.first_ms.iter().copied().try_fold(0, |latest, first| first.map(|first| latest.max(first)))
    }

    /// When each shard gave its first ack, milliseconds after `begin_ms`, in rising order.
    pub(super) fn by_shard(&self, begin_ms: u64) -> Vec<u64> {
        let state = self.state.lock().expect("nobody panics with it");
        let mut times: Vec<_> =
            state.first_ms.iter().flatten().map(|first| first.saturating_sub(begin_ms)).collect();
        times.sort_unstable();
        times
    }

    /// Shards without an ack so far.
    pub(super) fn silent(&self) -> Vec<usize> {
        let state = self.state.lock().expect("nobody panics with it");
        state.first_ms.iter().enumerate().filter(|(_, first)| first.is_none()).map(|(n, _)| n).collect()
    }

    /// Acks so far.
    pub(super) fn acks(&self) -> u64 {
        self.state.lock().expect("nobody panics with it").acks
    }
}

impl State {
    /// `SLOT INTENDED_MS ACKED_MS`
    fn take(&mut self, line: &str) {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().ok());
        let (Some(Some(slot)), Some(Some(intended)), Some(Some(acked))) =
            (words.next(), words.next(), words.next())
        else {
            return;
        };
        self.acks += 1;
        let shard = (slot * self.first_ms.len() as u64 / SLOTS) as usize;
        if intended >= self.since_ms
            && let Some(first) = self.first_ms.get_mut(shard)
        {
            first.get_or_insert(acked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_back_when_the_last_shard_acked_a_later_send() {
        let state = State { since_ms: 0, first_ms: vec![None; 2], acks: 0 };
        let timeline = Timeline { state: Arc::new(Mutex::new(state)) };
        let take = |line: &str| timeline.state.lock().expect("alone").take(line);
        timeline.watch(100);
        take("0 99 150"); // was due before
        take("65535 100 130");
        take("65535 110 120"); // not the first
        assert_eq!((timeline.back_ms(), timeline.silent()), (None, vec![0]));
        take("32767 105 140");
        assert_eq!((timeline.back_ms(), timeline.acks()), (Some(140), 4));
    }
}
