//! Sending: lanes, the schedule, repetitions, acks and their latency.

use std::collections::VecDeque;
use std::time::Duration;

use throng_base::{Instant, Rng};
use throng_client_core::ClientEvent;
use throng_wire::{ChannelId, ClientMsgId, Code, Seq};

use super::stage::Stage;
use crate::acks::Acks;
use crate::check::Checks;
use crate::cli::Load;
use crate::exit::Failure;
use crate::fleet::SessionNo;
use crate::lane::{Copies, Lane, Remind, Stamp};
use crate::latency::Latency;
use crate::limits::{BACKLOG_MAX, SENDS_PER_TURN};
use crate::pace::Pace;
use crate::report::{Pair, Phase};

/// Copies without an answer for this long are sent again: what carried them may have died.
const REMIND_AFTER: Duration = Duration::from_millis(1500);

/// When sends are due.
pub(super) enum Model {
    /// Nothing is.
    Off,
    /// A fixed schedule.
    Open(Pace),
    /// As many in flight per lane, until an instant or a number of sends.
    Closed { window: usize, until: Instant, left: u64 },
}

/// All lanes of a run and what they measured.
pub(super) struct Sender {
    pub(super) lanes: Vec<Lane>,
    pub(super) model: Model,
    pub(super) checks: Checks,
    pub(super) ack: Latency,
    /// Intended sends that an outbox had no room for.
    backlog: VecDeque<(usize, Instant)>,
    /// Lanes by their channel's slot, if an open model is to go evenly through the slots instead of the lanes.
    by_slot: Vec<(u16, usize)>,
    /// Sends that an open model has begun.
    turn: usize,
    body: usize,
    /// Least and most sendings of a message.
    dup: (u32, u32),
    /// When to look at which lane's send for answers to its copies.
    reminders: VecDeque<(Instant, usize, ClientMsgId)>,
    acks: Option<Acks>,
    rng: Rng,
    /// Sends intended before this instant are not measured.
    pub(super) measure_from: Instant,
    measure_until: Instant,
    pub(super) sent: u64,
    pub(super) acked: u64,
    measured_acks: u64,
    last_line: (Duration, u64),
    /// Lanes with room in a closed model.
    idle: Vec<usize>,
    pub(super) refused: u64,
    pub(super) last_refusal: Option<Code>,
}

impl Sender {
    /// # Errors
    /// [`Failure`] if the file for acks cannot be written.
    pub(super) fn new(load: &Load, seed: u64, now: Instant) -> Result<Self, Failure> {
        let acks = load.acks.as_ref().map(|path| Acks::open(path, now)).transpose()?;
        Ok(Self {
            lanes: Vec::new(),
            model: Model::Off,
            checks: Checks::default(),
            ack: Latency::new(),
            backlog: VecDeque::new(),
            by_slot: Vec::new(),
            turn: 0,
            body: load.body,
            dup: (load.dup_min.max(1), load.dup.max(load.dup_min).max(1)),
            reminders: VecDeque::new(),
            acks,
            rng: Rng::new(seed),
            measure_from: Instant::ZERO,
            measure_until: Instant::ZERO,
            sent: 0,
            acked: 0,
            measured_acks: 0,
            last_line: (Duration::ZERO, 0),
            idle: Vec::new(),
            refused: 0,
            last_refusal: None,
        })
    }

    /// Begins a phase on fresh histograms.
    pub(super) fn begin(&mut self, now: Instant, load: &Load, model: Model) {
        self.ack = Latency::new();
        self.measured_acks = 0;
        let warmup = load.warmup.min(load.duration / 2);
        self.measure_from = now + warmup;
        self.measure_until = now + load.duration;
        self.idle = match model {
            Model::Closed { .. } => (0..self.lanes.len()).collect(),
            Model::Open(_) | Model::Off => Vec::new(),
        };
        if self.acks.is_some() {
            // Whoever follows the acks wants to know when each shard was back, not when it was next asked.
            let slots = self.lanes.iter().map(|lane| lane.channel.slot().0);
            self.by_slot = slots.zip(0..).collect();
            self.by_slot.sort_unstable();
        }
        self.model = model;
    }

    /// Hands over what is due; returns when to look again.
    pub(super) fn due(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        self.retry_backlog(stage, now);
        self.remind(stage, now);
        if let Some(acks) = &mut self.acks {
            acks.flush();
        }
        match &mut self.model {
            Model::Off => None,
            Model::Open(_) => self.due_open(stage, now),
            Model::Closed { .. } => self.due_closed(stage, now),
        }
    }

    /// Sends copies again that nobody answered.
    fn remind(&mut self, stage: &mut Stage, now: Instant) {
        while let Some(&(_, lane, id)) = self.reminders.front().filter(|(at, ..)| *at <= now) {
            self.reminders.pop_front();
            match self.lanes[lane].remind(id) {
                Remind::Settled => {}
                Remind::GiveUp(copies) => self.checks.copies_given_up += u64::from(copies),
                Remind::Again(body, copies) => {
                    let (session, channel) = (self.lanes[lane].session, self.lanes[lane].channel);
                    for _ in 0..copies {
                        repeat(stage, session, channel, id, &body);
                    }
                    self.reminders.push_back((now + REMIND_AFTER, lane, id));
                }
            }
        }
    }

    fn due_open(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        for _ in 0..SENDS_PER_TURN {
            let Model::Open(pace) = &mut self.model else { return None };
            if self.backlog.len() >= BACKLOG_MAX {
                return Some(now + Duration::from_millis(10));
            }
            let Some(intended) = pace.take(now) else { return pace.wake() };
            stage.lag.saturating_record(now.since(intended).as_nanos() as u64);
            let lane = match self.by_slot.as_slice() {
                [] => self.turn % self.lanes.len(),
                by_slot => spread(by_slot, self.turn),
            };
            self.turn += 1;
            if !self.send(stage, lane, now, intended) {
                self.backlog.push_back((lane, intended));
            }
        }
        Some(now)
    }

    fn due_closed(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        let Model::Closed { window, until, mut left } = self.model else { return None };
        for _ in 0..SENDS_PER_TURN {
            if now >= until || left == 0 {
                self.model = Model::Off;
                return None;
            }
            let Some(&lane) = self.idle.last() else { break };
            let is_full = self.lanes[lane].unanswered() >= window;
            if is_full || !self.send(stage, lane, now, now) {
                self.idle.pop();
            } else {
                left -= 1;
            }
        }
        self.model = Model::Closed { window, until, left };
        Some(if self.idle.is_empty() { until } else { now })
    }

    fn retry_backlog(&mut self, stage: &mut Stage, now: Instant) {
        for _ in 0..self.backlog.len().min(SENDS_PER_TURN) {
            let Some((lane, intended)) = self.backlog.pop_front() else { return };
            if !self.send(stage, lane, now, intended) {
                self.backlog.push_front((lane, intended));
                return;
            }
        }
    }

    /// Hands one send over; false if the outbox is full.
    fn send(&mut self, stage: &mut Stage, lane: usize, now: Instant, intended: Instant) -> bool {
        let to = &mut self.lanes[lane];
        let stamp = Stamp { lane: lane as u32, counter: to.handed, intended, handed: now };
        let body = stamp.encode(self.body);
        let (session, channel) = (to.session, to.channel);
        let published = stage.fleet.act(session, |client, now| client.publish(now, channel, body.clone()));
        let Ok(id) = published else { return false };
        self.sent += 1;
        // Some copies beside the first sending, some after its ack.
        let (least, most) = self.dup;
        let all = least - 1 + self.rng.below(u64::from(most - least) + 1) as u32;
        let copies = Copies { all, later: self.rng.below(u64::from(all) + 1) as u32 };
        for _ in copies.later..copies.all {
            repeat(stage, session, channel, id, &body);
        }
        self.checks.copies += u64::from(all);
        self.lanes[lane].sent(now, id, intended, body, copies);
        true
    }

    /// Whether nothing is due and nothing unanswered.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.model, Model::Off)
            && self.backlog.is_empty()
            && self.reminders.is_empty()
            && self.lanes.iter().all(Lane::is_quiet)
    }

    /// Whether the phase's sends have all been handed over.
    pub(super) fn is_spent(&self) -> bool {
        self.backlog.is_empty()
            && match &self.model {
                Model::Off => true,
                Model::Open(pace) => pace.next().is_none(),
                Model::Closed { .. } => false,
            }
    }

    /// Takes an answer to a send. `lane` is the lane of its session and channel.
    pub(super) fn answered(&mut self, stage: &mut Stage, lane: usize, event: &ClientEvent) {
        let now = stage.fleet.now();
        match *event {
            ClientEvent::Acked { client_msg_id, seq, .. } => self.acked(stage, lane, now, client_msg_id, seq),
            ClientEvent::RepeatAcked { client_msg_id, seq, .. } => {
                let agrees = self.lanes[lane].copy_answered(client_msg_id, seq);
                self.checks.copies_answered += 1;
                self.checks.ack_mismatches += u64::from(agrees != Some(true));
            }
            ClientEvent::SendFailed { client_msg_id, code, .. } => {
                self.lanes[lane].refused(now, client_msg_id);
                self.refused += 1;
                self.last_refusal = Some(code);
                self.checks.lost_track += u64::from(matches!(code, Code::UNKNOWN_OUTCOME | Code::CONFLICT));
                self.idle_again(lane);
            }
            _ => {}
        }
    }

    fn acked(&mut self, stage: &mut Stage, lane: usize, now: Instant, id: ClientMsgId, seq: Seq) {
        let Some(acked) = self.lanes[lane].acked(now, id, seq) else {
            self.checks.ack_mismatches += 1; // an ack for something that was not sent
            return;
        };
        self.acked += 1;
        // Throughput counts acks that arrive in the measured time, latency the sends intended in it.
        self.measured_acks += u64::from(now >= self.measure_from && now < self.measure_until);
        if acked.intended >= self.measure_from {
            self.ack.record(now.since(acked.intended), now.since(acked.sent));
        }
        let (session, channel) = (self.lanes[lane].session, self.lanes[lane].channel);
        if let Some(acks) = &mut self.acks {
            acks.record(&channel, acked.intended, now);
        }
        for _ in 0..acked.later {
            repeat(stage, session, channel, id, &acked.body);
        }
        if self.lanes[lane].owed() > 0 {
            self.reminders.push_back((now + REMIND_AFTER, lane, id));
        }
        self.idle_again(lane);
    }

    fn idle_again(&mut self, lane: usize) {
        if let Model::Closed { .. } = self.model
            && self.idle.last() != Some(&lane)
        {
            self.idle.push(lane);
        }
    }

    /// The phase as it stands in the report.
    pub(super) fn phase(&self, name: &'static str, model: &'static str, target: Option<f64>) -> Phase {
        let measured_s = self.measure_until.since(self.measure_from).as_secs_f64();
        Phase {
            name,
            model,
            target_per_s: target,
            measured_s,
            sent: self.sent,
            acked: self.acked,
            acked_per_s: self.measured_acks as f64 / measured_s.max(0.001),
            ack: Pair::of(&self.ack),
            deliver: None,
        }
    }

    /// `sent 1000 acked 990 (495/s) ack p50 0.8 ms p99 2.0 ms`.
    pub(super) fn line(&mut self, elapsed: Duration) -> String {
        let (since, before) = core::mem::replace(&mut self.last_line, (elapsed, self.acked));
        let rate = (self.acked - before) as f64 / elapsed.saturating_sub(since).as_secs_f64().max(0.001);
        let mut line = format!(
            "sent {}  acked {} ({rate:.0}/s)  ack {}",
            self.sent,
            self.acked,
            self.ack.interval_line()
        );
        if !self.backlog.is_empty() {
            line += &format!("  waiting {}", self.backlog.len());
        }
        if let Some(code) = self.last_refusal {
            line += &format!("  refused {} ({code})", self.refused);
        }
        line
    }
}

/// The lane of a send, such that every range of slots comes up evenly: in steps of the golden section through the slots,
/// and at each the channel that comes next, its lanes in turn. With the lanes one after the other, a shard with few
/// channels waits long, and by chance the last of 64 comes up only after five times the mean.
fn spread(by_slot: &[(u16, usize)], turn: usize) -> usize {
    let target = (turn as u16).wrapping_mul(40_503);
    let first = by_slot.partition_point(|(slot, _)| *slot < target) % by_slot.len();
    let slot = by_slot[first].0;
    let same = by_slot[first..].iter().take_while(|(other, _)| *other == slot).count();
    by_slot[first + (turn / 7) % same].1
}

fn repeat(stage: &mut Stage, session: SessionNo, channel: ChannelId, id: ClientMsgId, body: &[u8]) {
    stage.fleet.act(session, |client, now| client.repeat(now, channel, id, body));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_slots_comes_up_evenly() {
        // Two lanes for each of 1,000 channels, whose slots are chance.
        let mut rng = Rng::new(5);
        let slots: Vec<u16> = (0..1000).map(|_| rng.below(1 << 16) as u16).collect();
        let mut by_slot: Vec<_> = (0..2000).map(|lane| (slots[lane / 2], lane)).collect();
        by_slot.sort_unstable();
        let (mut seen, mut used, mut longest) = ([0usize; 64], vec![0u32; 2000], 0);
        for turn in 0..20_000 {
            let lane = spread(&by_slot, turn);
            used[lane] += 1;
            let shard = usize::from(slots[lane / 2]) / 1024;
            longest = longest.max(turn - seen[shard]);
            seen[shard] = turn;
        }
        assert!(longest < 3 * 64, "a shard waits for {longest} sends");
        assert!(used.iter().filter(|count| **count > 0).count() > 1500, "both lanes of most channels");
    }

    #[test]
    fn one_lane_is_enough() {
        assert!((0..100).all(|turn| spread(&[(9, 0)], turn) == 0));
    }
}
