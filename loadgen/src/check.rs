//! What must hold, checked without the client machine's help: it hands events over in order, and this is where it is
//! not believed.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;
use throng_wire::{Event, EventKind};

use crate::lane::{Lane, Stamp};

/// What was found; every field but `events_checked`, `copies*` and `sender_inversions` must be 0.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Checks {
    /// Events handed over and compared.
    pub(crate) events_checked: u64,
    /// Numbers that were skipped in a sequence as it was delivered.
    pub(crate) gaps: u64,
    /// Events delivered a second time.
    pub(crate) duplicates: u64,
    /// Events delivered below one delivered before, and never seen until then.
    pub(crate) reorders: u64,
    /// Acknowledged sends that are not in the history.
    pub(crate) lost: u64,
    /// Sends that are in the history more than once.
    pub(crate) stored_twice: u64,
    /// Sends whose ack named another number than the history does, or two acks that differ.
    pub(crate) ack_mismatches: u64,
    /// Events that an end was never given although the history has them.
    pub(crate) undelivered: u64,
    /// Events whose content differs between delivery and history.
    pub(crate) content_mismatches: u64,
    /// Histories that could not be read to their end, or have holes.
    pub(crate) history_errors: u64,
    /// Cursors that were reset although nothing was restored or retired.
    pub(crate) resets: u64,
    /// Sends refused as UNKNOWN_OUTCOME or CONFLICT, which a client that keeps its window never sees.
    pub(crate) lost_track: u64,
    /// Sends, and copies of sends, without an answer when time was up.
    pub(crate) unanswered: u64,
    /// Copies that were to be sent beside the first sendings.
    pub(crate) copies: u64,
    /// Answers to copies; each was compared with the first answer.
    pub(crate) copies_answered: u64,
    /// Copies not insisted on because so many newer sends were acknowledged that the channel may have forgotten.
    pub(crate) copies_given_up: u64,
    /// Neighbouring sends of one sender that were stored the other way round (legal when one of them was retried).
    pub(crate) sender_inversions: u64,
}

impl Checks {
    /// Broken promises.
    pub(crate) fn violations(&self) -> u64 {
        let own = [self.gaps, self.duplicates, self.reorders, self.lost, self.stored_twice, self.undelivered];
        own.into_iter().chain(self.others().map(|(_, count)| count)).sum()
    }

    /// Violations that have no place of their own in the line for people, by name.
    fn others(&self) -> [(&'static str, u64); 6] {
        [
            ("acks of another number", self.ack_mismatches),
            ("other contents", self.content_mismatches),
            ("unreadable histories", self.history_errors),
            ("cursors reset", self.resets),
            ("sends refused as unknown", self.lost_track),
            ("unanswered", self.unanswered),
        ]
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let others = self.others();
        let mut line = format!(
            "{} events checked: {} lost, {} duplicated, {} reordered, {} gaps, {} other violations",
            self.events_checked,
            self.lost + self.undelivered,
            self.duplicates + self.stored_twice,
            self.reorders,
            self.gaps,
            others.iter().map(|(_, count)| count).sum::<u64>(),
        );
        for (name, count) in others.iter().filter(|(_, count)| *count > 0) {
            line += &format!(", {count} {name}");
        }
        line
    }
}

/// What one end of a channel was given.
#[derive(Default)]
pub(crate) struct Track {
    /// Digest of event n + 1 at n; 0 = never given.
    digests: Vec<u64>,
}

impl Track {
    /// The highest number given.
    pub(crate) fn head(&self) -> u64 {
        self.digests.len() as u64
    }

    /// An event was handed over.
    pub(crate) fn delivered(&mut self, event: &Event, checks: &mut Checks) {
        checks.events_checked += 1;
        let (digest, next) = (digest(event), self.head() + 1);
        match event.seq.0 {
            seq if seq == next => self.digests.push(digest),
            seq if seq > next => {
                checks.gaps += seq - next;
                self.digests.resize(seq as usize - 1, 0);
                self.digests.push(digest);
            }
            seq => {
                let before = seq.checked_sub(1).and_then(|at| self.digests.get_mut(at as usize));
                match before {
                    Some(known) if *known == 0 => {
                        checks.reorders += 1;
                        *known = digest;
                    }
                    _ => checks.duplicates += 1,
                }
            }
        }
    }

    /// Compares an event of the history with what was handed over.
    pub(crate) fn compare(&self, event: &Event, checks: &mut Checks) {
        match event.seq.0.checked_sub(1).and_then(|at| self.digests.get(at as usize)) {
            None | Some(0) => checks.undelivered += 1,
            Some(known) if *known != digest(event) => checks.content_mismatches += 1,
            Some(_) => {}
        }
    }
}

/// Number, kind, sender and content: what must be the same wherever the event is read. Never 0.
pub(crate) fn digest(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event.seq.0, event.kind.0, event.sender.0, event.ts.0, &event.body[..]).hash(&mut hasher);
    hasher.finish() | 1
}

/// A channel's history against the sends of its lanes.
pub(crate) struct HistoryCheck {
    first_lane: u32,
    seen: Vec<BTreeSet<u64>>,
    last_counter: Vec<Option<u64>>,
    next_seq: u64,
}

impl HistoryCheck {
    /// For the lanes `first_lane ..` that write into the channel.
    pub(crate) fn new(first_lane: usize, lanes: usize) -> Self {
        Self {
            first_lane: first_lane as u32,
            seen: vec![BTreeSet::new(); lanes],
            last_counter: vec![None; lanes],
            next_seq: 1,
        }
    }

    /// The next event of the history. `lanes` are those of the channel.
    pub(crate) fn event(&mut self, event: &Event, lanes: &[Lane], checks: &mut Checks) {
        checks.history_errors += u64::from(event.seq.0 != self.next_seq);
        self.next_seq = event.seq.0 + 1;
        if event.kind != EventKind::MESSAGE {
            return;
        }
        let stamp = Stamp::decode(&event.body);
        let place =
            stamp.and_then(|stamp| Some((stamp.lane.checked_sub(self.first_lane)? as usize, stamp.counter)));
        let Some((lane, counter)) = place.filter(|(lane, _)| *lane < lanes.len()) else {
            checks.content_mismatches += 1; // a message nobody sent
            return;
        };
        if !self.seen[lane].insert(counter) {
            checks.stored_twice += 1;
        }
        let named = lanes[lane].seqs.get(counter as usize).copied();
        checks.ack_mismatches += u64::from(named.is_none_or(|named| named != 0 && named != event.seq.0));
        let before = self.last_counter[lane].replace(counter);
        checks.sender_inversions += u64::from(before.is_some_and(|before| before > counter));
    }

    /// The history is complete.
    pub(crate) fn finish(&self, lanes: &[Lane], checks: &mut Checks) {
        for (lane, seen) in lanes.iter().zip(&self.seen) {
            for (counter, seq) in lane.seqs.iter().enumerate() {
                checks.lost += u64::from(*seq != 0 && !seen.contains(&(counter as u64)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use throng_base::Instant;
    use throng_wire::{ChannelId, ClientMsgId, MemberNo, Seq, ServerTs};

    use super::*;
    use crate::lane::Copies;

    fn event(seq: u64, counter: u64) -> Event {
        let stamp = Stamp { lane: 0, counter, intended: Instant::ZERO, handed: Instant::ZERO };
        Event {
            seq: Seq(seq),
            kind: EventKind::MESSAGE,
            sender: MemberNo(1),
            ts: ServerTs(0),
            origin: None,
            body: stamp.encode(40),
        }
    }

    fn lane(acked: &[u64]) -> Lane {
        let mut lane = Lane::new(0, ChannelId::NIL);
        for (n, seq) in acked.iter().enumerate() {
            let id = ClientMsgId(n as u64 + 1);
            lane.sent(Instant::ZERO, id, Instant::ZERO, Bytes::new(), Copies::default());
            lane.acked(Instant::ZERO, id, Seq(*seq));
        }
        lane
    }

    fn delivered(seqs: &[u64]) -> Checks {
        let (mut track, mut checks) = (Track::default(), Checks::default());
        seqs.iter().for_each(|seq| track.delivered(&event(*seq, *seq), &mut checks));
        checks
    }

    fn history(acked: &[u64], counters: &[u64]) -> Checks {
        let (lanes, mut checks) = ([lane(acked)], Checks::default());
        let mut history = HistoryCheck::new(0, 1);
        for (n, counter) in counters.iter().enumerate() {
            history.event(&event(n as u64 + 1, *counter), &lanes, &mut checks);
        }
        history.finish(&lanes, &mut checks);
        checks
    }

    #[test]
    fn each_fault_of_delivery_has_its_name() {
        assert_eq!(delivered(&[1, 2, 3]).violations(), 0);
        assert_eq!(delivered(&[1, 4]).gaps, 2);
        assert_eq!(delivered(&[1, 2, 2]).duplicates, 1);
        assert_eq!(delivered(&[1, 3, 2]).reorders, 1);
        assert_eq!(delivered(&[0]).duplicates, 1);
    }

    #[test]
    fn each_fault_of_storage_has_its_name() {
        assert_eq!(history(&[1, 2], &[0, 1]).violations(), 0);
        assert_eq!(history(&[1, 2], &[0]).lost, 1);
        assert_eq!(history(&[1], &[0, 0]).stored_twice, 1);
        assert_eq!(history(&[2, 1], &[0, 1]).ack_mismatches, 2);
        let inverted = history(&[2, 1], &[1, 0]);
        assert_eq!((inverted.sender_inversions, inverted.violations()), (1, 0));
        assert_eq!(history(&[], &[0]).ack_mismatches, 1);
    }

    #[test]
    fn delivery_and_history_must_agree() {
        let (mut track, mut checks) = (Track::default(), Checks::default());
        track.delivered(&event(1, 1), &mut checks);
        track.compare(&event(1, 1), &mut checks);
        assert_eq!(checks.violations(), 0);
        track.compare(&event(1, 2), &mut checks);
        track.compare(&event(2, 3), &mut checks);
        assert_eq!((checks.content_mismatches, checks.undelivered), (1, 1));
    }
}
