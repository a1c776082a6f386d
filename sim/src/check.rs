//! What clients were promised, kept beside the system and compared with what they saw.
//!
//! The model knows bodies (each unique), acknowledgements and the order in which each client was handed events. It
//! shares no code with the system: a body is a byte string, a channel a number, a sequence a `u64`.

use std::collections::BTreeMap;

/// A send: client and its count.
type Body = Vec<u8>;

/// Everything observed in a run.
#[derive(Default)]
pub struct Model {
    /// Bodies handed to the system: (channel) and whether acknowledged, with which number.
    sends: BTreeMap<Body, (usize, Option<u64>)>,
    /// By channel: the first body seen at each number, from whomever.
    logs: BTreeMap<usize, BTreeMap<u64, Body>>,
    /// By (client, channel): the last number handed over.
    feeds: BTreeMap<(usize, usize), u64>,
    /// By channel: the last stamp seen at each number.
    stamps: BTreeMap<usize, BTreeMap<u64, u64>>,
    /// What was broken.
    pub violations: Vec<String>,
}

impl Model {
    fn broken(&mut self, text: String) {
        // One is enough to fail; a few help to understand.
        if self.violations.len() < 20 {
            self.violations.push(text);
        }
    }

    /// A client hands a send to its outbox.
    pub fn sent(&mut self, channel: usize, body: &[u8]) {
        let before = self.sends.insert(body.to_vec(), (channel, None));
        assert!(before.is_none(), "the workload makes unique bodies");
    }

    /// A client was told that a send is stored (contract C2), perhaps once more (contract C3).
    pub fn acked(&mut self, body: &[u8], seq: u64) {
        let text = String::from_utf8_lossy(body).into_owned();
        match self.sends.get_mut(body) {
            None => self.broken(format!("an ack for {text}, which nobody sent")),
            Some((_, acked @ None)) => *acked = Some(seq),
            Some((_, Some(first))) if *first == seq => {}
            Some((_, Some(first))) => {
                let first = *first;
                self.broken(format!("C3: {text} acknowledged as #{first} and as #{seq}"));
            }
        }
    }

    /// A client was handed an event of a channel it follows from the start.
    pub fn delivered(&mut self, client: usize, channel: usize, seq: u64, ts: u64, body: &[u8]) {
        let last = self.feeds.entry((client, channel)).or_default();
        let expected = *last + 1;
        *last = seq;
        if seq != expected {
            self.broken(format!("C1/C4: client {client} channel {channel}: #{seq} after #{}", expected - 1));
        }
        let known = self.logs.entry(channel).or_default().entry(seq).or_insert_with(|| body.to_vec());
        if known != body {
            let (a, b) =
                (String::from_utf8_lossy(known).into_owned(), String::from_utf8_lossy(body).into_owned());
            self.broken(format!("C1: channel {channel} #{seq} is {a} and {b}"));
        }
        let stamps = self.stamps.entry(channel).or_default();
        stamps.insert(seq, ts);
        if stamps.range(..seq).next_back().is_some_and(|(_, earlier)| *earlier > ts) {
            self.broken(format!("server_ts falls at channel {channel} #{seq}"));
        }
    }

    /// A client's feed starts over after a RESET, which never happens without a restore.
    pub fn reset(&mut self, client: usize, channel: usize) {
        self.broken(format!(
            "C5: client {client} was told to reset channel {channel} although nothing was restored"
        ));
    }

    /// A send ended in a final refusal, which the workload never provokes.
    pub fn refused(&mut self, body: &[u8], code: &str) {
        self.broken(format!("{} was refused with {code}", String::from_utf8_lossy(body)));
    }

    /// Sends without an acknowledgement.
    pub fn open_sends(&self) -> usize {
        self.sends.values().filter(|(_, acked)| acked.is_none()).count()
    }

    /// Sends acknowledged.
    pub fn acked_sends(&self) -> usize {
        self.sends.len() - self.open_sends()
    }

    /// Events handed over, over all clients.
    pub fn deliveries(&self) -> u64 {
        self.feeds.values().sum()
    }

    /// Whether every follower of a channel has everything that was acknowledged in it.
    pub fn is_caught_up(&self, followers: &[(usize, usize)]) -> bool {
        let newest = self.newest_acked();
        followers.iter().all(|(client, channel)| {
            self.feeds.get(&(*client, *channel)).copied().unwrap_or(0)
                >= newest.get(channel).copied().unwrap_or(0)
        })
    }

    fn newest_acked(&self) -> BTreeMap<usize, u64> {
        let mut newest = BTreeMap::new();
        for (channel, acked) in self.sends.values() {
            let head: &mut u64 = newest.entry(*channel).or_default();
            *head = (*head).max(acked.unwrap_or(0));
        }
        newest
    }

    /// Compares the whole after everything has healed.
    pub fn finish(&mut self, followers: &[(usize, usize)]) {
        if self.open_sends() > 0 {
            let open: Vec<_> = self.sends.iter().filter(|(_, (_, acked))| acked.is_none()).take(3).collect();
            let text = format!(
                "liveness: {} sends are unanswered after healing, for instance {open:?}",
                self.open_sends()
            );
            self.broken(text);
        }
        if !self.is_caught_up(followers) {
            self.broken("C4: a follower lacks acknowledged events after healing".to_owned());
        }
        let mut problems = Vec::new();
        for (body, (channel, acked)) in &self.sends {
            let places: Vec<u64> = self
                .logs
                .get(channel)
                .into_iter()
                .flatten()
                .filter(|(_, at)| *at == body)
                .map(|(seq, _)| *seq)
                .collect();
            let text = String::from_utf8_lossy(body);
            match (acked, places.as_slice()) {
                (Some(seq), [at]) if seq == at => {}
                (None, [] | [_]) => {}
                (Some(seq), places) => {
                    problems.push(format!("C2: {text} was acknowledged as #{seq}, found at {places:?}"))
                }
                (None, places) => problems.push(format!("C3: {text} is stored several times, at {places:?}")),
            }
        }
        for problem in problems {
            self.broken(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checker must reject: each case is a history that breaks one promise.
    #[test]
    fn planted_bad_histories_are_rejected() {
        type Case = (&'static str, fn(&mut Model));
        let cases: [Case; 8] = [
            ("lost", |m| m.acked(b"a", 1)),
            ("gap", |m| m.delivered(0, 0, 2, 1, b"a")),
            ("double delivery", |m| {
                m.delivered(0, 0, 1, 1, b"a");
                m.delivered(0, 0, 1, 1, b"a");
            }),
            ("two bodies", |m| {
                m.delivered(0, 0, 1, 1, b"a");
                m.delivered(1, 0, 1, 1, b"b");
            }),
            ("second copy", |m| {
                m.acked(b"a", 1);
                m.delivered(0, 0, 1, 1, b"a");
                m.delivered(0, 0, 2, 1, b"a");
            }),
            ("two numbers", |m| {
                m.acked(b"a", 1);
                m.acked(b"a", 2);
            }),
            ("clock falls", |m| {
                m.delivered(0, 0, 1, 5, b"x");
                m.delivered(0, 0, 2, 4, b"a");
            }),
            ("unanswered", |_| {}),
        ];
        for (name, history) in cases {
            let mut model = Model::default();
            model.sent(0, b"a");
            history(&mut model);
            model.finish(&[(0, 0)]);
            assert!(!model.violations.is_empty(), "{name} went unnoticed");
        }
    }

    #[test]
    fn a_good_history_passes() {
        let mut model = Model::default();
        model.sent(0, b"a");
        model.delivered(0, 0, 1, 1, b"joined");
        model.delivered(0, 0, 2, 1, b"a");
        model.acked(b"a", 2);
        model.acked(b"a", 2);
        model.finish(&[(0, 0)]);
        assert_eq!(model.violations, Vec::<String>::new());
    }
}
