//! What clients were promised, kept beside the system and compared with what they saw.
//!
//! The model knows bodies (each unique), acknowledgements, the order in which each client was handed events, and what
//! every read returned. It shares no code with the system: a body is a byte string, a channel a number, a sequence a
//! `u64`, and the order of calls is the order in which things happened.
//!
//! Checked: every channel's log is 1, 2, 3 …, the same for everybody (C1); what is acknowledged is stored under that
//! number, once (C2, C3); a send stands behind everything
//! that was known when it was made; nothing is skipped on the way to a follower (C4); a
//! cursor of another history is refused, one of this is not (C5); a read is as fresh as it asked to be (C6); a removed
//! member sees nothing behind its removal (C7); inboxes learn of everything.

mod history;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use history::{History, Op, Returned, Step};
pub use reads::{Freshness, Query};

/// The content of an event.
type Body = Vec<u8>;

/// One send.
#[derive(Clone, Debug)]
struct Sent {
    channel: usize,
    client: usize,
    /// The highest number that anybody had been told of when it was handed in.
    floor: u64,
    acked: Option<u64>,
}

/// Everything observed in a run.
#[derive(Default)]
pub struct Model {
    sends: BTreeMap<Body, Sent>,
    /// By channel: the first body seen at each number, from whomever.
    logs: BTreeMap<usize, BTreeMap<u64, Body>>,
    /// By (client, channel): the last number handed over.
    feeds: BTreeMap<(usize, usize), u64>,
    /// By channel: the stamp seen at each number.
    stamps: BTreeMap<usize, BTreeMap<u64, u64>>,
    /// By channel: the highest number that anybody was told of, by an ack or a read.
    told: BTreeMap<usize, u64>,
    /// By (client, channel): the newest number the inbox named.
    inboxes: BTreeMap<(usize, usize), u64>,
    /// By (client, channel), for members that were removed for good: the highest number they were shown.
    seen: BTreeMap<(usize, usize), u64>,
    /// By (client, channel): where the log says that the member was removed, and never added again.
    removed: BTreeMap<(usize, usize), u64>,
    /// By (client, channel): where the log says that the member was added last.
    joined: BTreeMap<(usize, usize), u64>,
    /// Events that a channel keeps at least; all if `None`.
    keep: Option<u64>,
    /// By channel: the highest floor that anybody was told; what lies below it is gone.
    floors: BTreeMap<usize, u64>,
    /// By channel that is held, as far as is known: where it begins.
    held: BTreeMap<usize, u64>,
    /// By (client, request).
    queries: BTreeMap<(usize, u64), Query>,
    history: History,
    /// What was broken.
    pub violations: Vec<String>,
}

impl Model {
    /// A model of channels that keep at least so many of their newest events, or all.
    pub fn new(keep: Option<u64>) -> Self {
        Self { keep, ..Self::default() }
    }

    fn broken(&mut self, text: String) {
        // One is enough to fail; a few help to understand.
        if self.violations.len() < 20 {
            self.violations.push(text);
        }
    }

    /// A client hands its next send to its outbox.
    pub fn sent(&mut self, client: usize, channel: usize, body: &[u8]) {
        let floor = self.told.get(&channel).copied().unwrap_or(0);
        let before = self.sends.insert(body.to_vec(), Sent { channel, client, floor, acked: None });
        assert!(before.is_none(), "the workload makes unique bodies");
        self.history.call(channel, body.to_vec(), Op::Publish);
    }

    /// A client was told that a send is stored (contract C2), perhaps once more (contract C3).
    pub fn acked(&mut self, body: &[u8], seq: u64) {
        let text = String::from_utf8_lossy(body).into_owned();
        let Some(sent) = self.sends.get_mut(body) else {
            return self.broken(format!("an ack for {text}, which nobody sent"));
        };
        match sent.acked {
            None => {
                sent.acked = Some(seq);
                let channel = sent.channel;
                self.tell(channel, seq);
                self.history.returns(channel, body, Returned::Seq(seq));
            }
            Some(first) if first == seq => {}
            Some(first) => self.broken(format!("C3: {text} acknowledged as #{first} and as #{seq}")),
        }
    }

    fn tell(&mut self, channel: usize, seq: u64) {
        let told = self.told.entry(channel).or_default();
        *told = (*told).max(seq);
    }

    /// A client was handed an event of a channel it follows from the start.
    pub fn delivered(&mut self, client: usize, channel: usize, seq: u64, ts: u64, body: &[u8]) {
        let last = self.feeds.entry((client, channel)).or_default();
        let expected = *last + 1;
        *last = seq;
        if seq != expected {
            self.broken(format!("C1/C4: client {client} channel {channel}: #{seq} after #{}", expected - 1));
        }
        self.saw(client, channel, seq, ts, body);
    }

    /// A client was shown an event, by whatever way.
    fn saw(&mut self, client: usize, channel: usize, seq: u64, ts: u64, body: &[u8]) {
        let seen = self.seen.entry((client, channel)).or_default();
        *seen = (*seen).max(seq);
        self.tell(channel, seq);
        let known = self.logs.entry(channel).or_default().entry(seq).or_insert_with(|| body.to_vec());
        if known != body {
            let (a, b) =
                (String::from_utf8_lossy(known).into_owned(), String::from_utf8_lossy(body).into_owned());
            self.broken(format!("C1: channel {channel} #{seq} is {a} and {b}"));
        }
        let stamps = self.stamps.entry(channel).or_default();
        if stamps.insert(seq, ts).is_some_and(|before| before != ts) {
            self.broken(format!("C1: channel {channel} #{seq} has two stamps"));
        }
        let stamps = &self.stamps[&channel];
        if stamps.range(..seq).next_back().is_some_and(|(_, earlier)| *earlier > ts) {
            self.broken(format!("server_ts falls at channel {channel} #{seq}"));
        }
    }

    /// The log says that a member was removed at this number.
    pub fn removed(&mut self, client: usize, channel: usize, seq: u64) {
        let joined = self.joined.get(&(client, channel)).copied().unwrap_or(0);
        if joined < seq {
            self.removed.insert((client, channel), seq);
        }
    }

    /// The log says that a member was added at this number; perhaps once more, by a request that nobody waited for any
    /// more.
    pub fn joined(&mut self, client: usize, channel: usize, seq: u64) {
        let joined = self.joined.entry((client, channel)).or_default();
        *joined = (*joined).max(seq);
        let newest = *joined;
        self.removed.retain(|who, at| *who != (client, channel) || *at > newest);
    }

    /// A client's inbox names the head of a channel.
    pub fn inbox(&mut self, client: usize, channel: usize, head: u64) {
        let known = self.inboxes.entry((client, channel)).or_default();
        *known = (*known).max(head);
    }

    /// A client's feed starts over at `floor`, which happens where retention has deleted what it would continue with, and
    /// never takes more than it may; or to somebody who is, perhaps, no member any more.
    pub fn reset(&mut self, client: usize, channel: usize, floor: u64, head: u64, may_end: bool) {
        // Who was removed is told no more than the end that it may see.
        match self.keep.filter(|_| floor > 1) {
            _ if may_end => {}
            Some(keep) if floor + keep <= head + 1 => {}
            Some(keep) => self.broken(format!(
                "C5: client {client}: channel {channel} begins at #{floor} and ends at #{head}, {keep} events are to be kept"
            )),
            None => self.broken(format!(
                "C5: client {client} was told to reset channel {channel} although nothing was restored or deleted"
            )),
        }
        if let Some(held) = self.held.get(&channel).filter(|held| floor > **held) {
            let held = *held;
            self.broken(format!("channel {channel} was held at floor #{held} and begins at #{floor}"));
        }
        let known = self.floors.entry(channel).or_default();
        *known = (*known).max(floor);
        self.feeds.insert((client, channel), floor.saturating_sub(1));
        self.tell(channel, head);
    }

    /// An operator was told that a channel is held, which began at `floor` then; or asks for something else, so that
    /// nobody knows from here on (`None`).
    pub fn held(&mut self, channel: usize, floor: Option<u64>) {
        match floor {
            Some(floor) => self.held.insert(channel, floor),
            None => self.held.remove(&channel),
        };
    }

    /// A send ended in a final refusal, which the workload never provokes.
    pub fn refused(&mut self, body: &[u8], code: &str) {
        self.broken(format!("{} was refused with {code}", String::from_utf8_lossy(body)));
    }

    /// The last number that a client was handed of a channel.
    pub fn fed(&self, client: usize, channel: usize) -> u64 {
        self.feeds.get(&(client, channel)).copied().unwrap_or(0)
    }

    /// Sends without an acknowledgement.
    pub fn open_sends(&self) -> usize {
        self.sends.values().filter(|sent| sent.acked.is_none()).count()
    }

    /// Sends acknowledged.
    pub fn acked_sends(&self) -> usize {
        self.sends.len() - self.open_sends()
    }

    /// Events handed over, over all clients.
    pub fn deliveries(&self) -> u64 {
        self.feeds.values().sum()
    }

    /// What was called and returned, by channel.
    pub fn into_history(self) -> (History, Vec<String>) {
        (self.history, self.violations)
    }

    /// Whether every follower of a channel has everything that was acknowledged in it, and its inbox knows.
    pub fn is_caught_up(&self, followers: &[(usize, usize)]) -> bool {
        self.laggard(followers).is_none()
    }

    /// Whether every follower was handed everything that was acknowledged in its channel.
    pub fn is_fed(&self, followers: &[(usize, usize)]) -> bool {
        let newest = self.newest_acked();
        followers
            .iter()
            .all(|(client, channel)| self.fed(*client, *channel) >= newest.get(channel).copied().unwrap_or(0))
    }

    fn laggard(&self, followers: &[(usize, usize)]) -> Option<String> {
        let newest = self.newest_acked();
        followers.iter().find_map(|(client, channel)| {
            let known = |map: &BTreeMap<(usize, usize), u64>| map.get(&(*client, *channel)).copied().unwrap_or(0);
            let (fed, inbox) = (known(&self.feeds), known(&self.inboxes));
            let head = newest.get(channel).copied().unwrap_or(0);
            (fed < head || inbox < head).then(|| {
                format!("C4: client {client} has channel {channel} through #{fed}, its inbox #{inbox}, acknowledged is #{head}")
            })
        })
    }

    fn newest_acked(&self) -> BTreeMap<usize, u64> {
        let mut newest = BTreeMap::new();
        for sent in self.sends.values() {
            let head: &mut u64 = newest.entry(sent.channel).or_default();
            *head = (*head).max(sent.acked.unwrap_or(0));
        }
        newest
    }

    /// Compares the whole after everything has healed.
    pub fn finish(&mut self, followers: &[(usize, usize)]) {
        if self.open_sends() > 0 {
            let open: Vec<_> = self.sends.iter().filter(|(_, sent)| sent.acked.is_none()).take(3).collect();
            let text = format!(
                "liveness: {} sends are unanswered after healing, for instance {open:?}",
                self.open_sends()
            );
            self.broken(text);
        }
        if let Some(text) = self.laggard(followers) {
            self.broken(text);
        }
        let problems = [self.misplaced(), self.disordered(), self.seen_behind_removal()];
        problems.into_iter().flatten().for_each(|problem| self.broken(problem));
    }

    /// Sends that are not where their acknowledgement says, or are there twice.
    fn misplaced(&self) -> Vec<String> {
        let mut places: BTreeMap<(usize, &Body), Vec<u64>> = BTreeMap::new();
        for (channel, log) in &self.logs {
            log.iter().for_each(|(seq, body)| places.entry((*channel, body)).or_default().push(*seq));
        }
        let mut problems = Vec::new();
        for (body, sent) in &self.sends {
            let text = String::from_utf8_lossy(body);
            let places = places.get(&(sent.channel, body)).map_or(&[][..], Vec::as_slice);
            match (sent.acked, places) {
                (Some(seq), [at]) if seq == *at => {}
                (None, [] | [_]) => {}
                // Nobody was shown it before retention deleted it.
                (Some(seq), []) if self.floors.get(&sent.channel).is_some_and(|floor| seq < *floor) => {}
                (Some(seq), places) => {
                    problems.push(format!("C2: {text} was acknowledged as #{seq}, found at {places:?}"));
                }
                (None, places) => problems.push(format!("C3: {text} is stored several times, at {places:?}")),
            }
        }
        problems
    }

    /// Sends that stand before what was acknowledged or shown to somebody before they were handed in: a device that
    /// waits for each answer keeps its order, and nobody writes into the past.
    fn disordered(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (channel, log) in &self.logs {
            for (seq, body) in log {
                let Some(sent) = self.sends.get(body).filter(|sent| *seq <= sent.floor) else { continue };
                let (text, client, floor) = (String::from_utf8_lossy(body), sent.client, sent.floor);
                problems.push(format!(
                    "order: {text} of client {client} stands at channel {channel} #{seq}, #{floor} was known before it was sent"
                ));
            }
        }
        problems
    }

    fn seen_behind_removal(&self) -> Vec<String> {
        let beyond = |(key, at): (&(usize, usize), &u64)| {
            let seen = self.seen.get(key).copied().unwrap_or(0);
            (seen > *at).then(|| {
                format!(
                    "C7: client {} was removed from channel {} at #{at} and was shown #{seen}",
                    key.0, key.1
                )
            })
        };
        self.removed.iter().filter_map(beyond).collect()
    }
}
