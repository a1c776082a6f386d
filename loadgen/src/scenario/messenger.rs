//! `messenger`: pairs of users write to each other, and everything they see is checked.

use std::collections::VecDeque;
use std::time::Duration;

use throng_base::Instant;
use throng_client_core::{Answer, ClientEvent, Config, Cursor, Request, RequestError, Start};
use throng_wire::frame::Freshness;
use throng_wire::limits::PAGE_EVENTS_MAX;
use throng_wire::{ChannelId, Event, EventKind, Seq};

use super::sender::{Model, Sender};
use super::stage::{Act, Stage};
use crate::check::{HistoryCheck, Track};
use crate::cli::MessengerArgs;
use crate::exit::{Exit, Failure};
use crate::fleet::SessionNo;
use crate::lane::{Lane, Stamp};
use crate::latency::Latency;
use crate::limits::VERIFIES_MAX;
use crate::pace::Pace;
use crate::report::{Pair, Report};

/// Pairs unless told otherwise.
const PAIRS: usize = 500;

/// Messages per second over all unless told otherwise.
const RATE: f64 = 2000.0;

/// What the run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Opening channels and subscribing, while sessions still connect.
    SetUp,
    /// Sending until everything is handed over.
    Load,
    /// Waiting for acks and deliveries.
    Drain,
    /// Reading every history at both ends.
    Verify,
}

/// One end of a pair. Its number is its user's, its session's and its lane's; pair p has the ends 2p and 2p + 1.
#[derive(Default)]
struct End {
    track: Track,
    /// Its request to open the channel was made (first ends only).
    has_asked: bool,
    is_subscribed: bool,
    /// History read so far.
    read: u64,
}

struct Messenger {
    sender: Sender,
    part: Part,
    ends: Vec<End>,
    deliver: Latency,
    delivered: u64,
    subscribed: usize,
    to_verify: VecDeque<SessionNo>,
    verifying: usize,
    verified: usize,
    histories: Vec<HistoryCheck>,
    elapsed: Duration,
    failed: Option<String>,
    next_look: Instant,
}

pub(super) fn run(args: &MessengerArgs) -> Result<Exit, Failure> {
    let pairs = args.pairs.or(args.sessions.map(|sessions| sessions / 2)).unwrap_or(PAIRS).max(1);
    let mut stage = Stage::new(&args.common, pairs * 2, Config { inbox: true, ..Config::default() })?;
    let mut report = Report::new("messenger", stage.identities.run_id());
    (report.channels, report.body_bytes) = (pairs, args.load.body.max(crate::lane::BODY_MIN));
    let mut messenger = Messenger::new(args, &stage, pairs)?;
    // The ends of a pair are on different transports, and every transport has first ends and second ends.
    let transport = |user: SessionNo| user / 2 + user % 2;
    let connected = stage.connect(pairs * 2, args.common.connect_timeout, transport, &mut messenger)?;
    if connected.note(&mut report, "connecting") {
        messenger.load(&mut stage, args, &mut report)?;
    }
    println!("checks: {}", messenger.sender.checks.line());
    if messenger.sender.checks.sender_inversions > 0 {
        println!(
            "  {} neighbouring sends stored the other way round",
            messenger.sender.checks.sender_inversions
        );
    }
    let checks = &messenger.sender.checks;
    if checks.copies > 0 {
        println!(
            "  {} copies asked for, {} answers to copies, {} given up",
            checks.copies, checks.copies_answered, checks.copies_given_up
        );
    }
    report.checks = Some(messenger.sender.checks.clone());
    super::conclude(stage, report, &args.common)
}

impl Messenger {
    fn new(args: &MessengerArgs, stage: &Stage, pairs: usize) -> Result<Self, Failure> {
        let mut sender = Sender::new(&args.load, throng_runtime::unix_millis(), stage.fleet.now())?;
        for end in 0..pairs * 2 {
            let channel = ChannelId::direct(stage.identities.user(end), stage.identities.user(end ^ 1));
            sender.lanes.push(Lane::new(end, channel));
        }
        Ok(Self {
            sender,
            part: Part::SetUp,
            ends: (0..pairs * 2).map(|_| End::default()).collect(),
            deliver: Latency::new(),
            delivered: 0,
            subscribed: 0,
            to_verify: (0..pairs * 2).collect(),
            verifying: 0,
            verified: 0,
            histories: (0..pairs).map(|pair| HistoryCheck::new(pair * 2, 2)).collect(),
            elapsed: Duration::ZERO,
            failed: None,
            next_look: Instant::ZERO,
        })
    }

    fn load(&mut self, stage: &mut Stage, args: &MessengerArgs, report: &mut Report) -> Result<(), Failure> {
        let end = stage.drive(self, Duration::from_secs(120))?;
        if let Some(failed) = self.failed.take() {
            return Err(Failure::preflight(format!("cannot open a channel: {failed}")));
        }
        if !end.note(report, "opening channels") {
            return Ok(());
        }
        let rate = args.load.rate.unwrap_or(RATE);
        // A number of messages takes as long as it takes.
        let long =
            args.load.messages.map_or(args.load.duration, |n| Duration::from_secs_f64(n as f64 / rate));
        let load = crate::cli::Load { duration: long, ..args.load.clone() };
        let now = stage.fleet.now();
        self.part = Part::Load;
        self.sender.begin(now, &load, Model::Open(Pace::new(now, rate, long, load.messages)));
        let mut goes_on = stage.drive(self, long + load.drain)?.note(report, "sending");
        self.sender.model = Model::Off;
        self.part = Part::Drain;
        if goes_on {
            goes_on = stage.drive(self, load.drain)?.note(report, "waiting for acks and deliveries");
        }
        self.phase(rate, &load, report);
        if goes_on {
            let unanswered = self.sender.lanes.iter().map(|lane| lane.unanswered() as u64 + lane.owed());
            self.sender.checks.unanswered += unanswered.sum::<u64>();
            self.part = Part::Verify;
            stage.drive(self, Duration::from_secs(600))?.note(report, "reading the histories");
            self.sender.checks.history_errors += (self.ends.len() - self.verified) as u64;
        }
        Ok(())
    }

    fn phase(&self, rate: f64, load: &crate::cli::Load, report: &mut Report) {
        let mut phase = self.sender.phase("rate", "open", Some(rate));
        phase.deliver = Some(Pair::of(&self.deliver));
        println!(
            "{} sent, {} acked ({:.0} per second), {} delivered",
            phase.sent, phase.acked, phase.acked_per_s, self.delivered
        );
        print!(
            "{}{}",
            self.sender.ack.table("ack latency"),
            self.deliver.table("delivery latency, to the other end")
        );
        if load.max_p99_ms.is_some_and(|most| phase.ack.corrected.p99_ms > most) {
            report.outcome(Exit::Objective, format!("ack p99 {:.1} ms", phase.ack.corrected.p99_ms));
        }
        if self.sender.refused > 0
            && let Some(code) = self.sender.last_refusal
        {
            report.outcome(Exit::Objective, format!("{} sends refused (last: {code})", self.sender.refused));
        }
        report.phases.push(phase);
    }

    /// The first end opens the channel; after that both subscribe.
    fn open(&mut self, stage: &mut Stage, end: SessionNo) {
        let peer = stage.identities.user(end ^ 1);
        let asked = stage.fleet.act(end, |client, now| client.request(now, Request::Open { peer }));
        assert!(asked.is_ok(), "a session has one request at a time");
    }

    fn subscribe(&mut self, stage: &mut Stage, end: SessionNo) {
        let channel = self.sender.lanes[end].channel;
        let start = Start::After(Cursor::default());
        if end < stage.fleet.len() {
            let done = stage.fleet.act(end, |client, now| client.subscribe(now, channel, start));
            assert!(done.is_ok(), "a session has one channel");
        }
    }

    fn connected(&mut self, stage: &mut Stage, end: SessionNo) {
        // Both must exist before the channel is opened, so that both can subscribe; the second to come opens it. A
        // reconnect changes nothing: the machine repeats what has no answer.
        let (first, peer) = (end & !1, end ^ 1);
        let peer_exists = peer < stage.fleet.len() && stage.fleet.act(peer, |client, _| client.is_open());
        if peer_exists && !core::mem::replace(&mut self.ends[first].has_asked, true) {
            self.open(stage, first);
        }
    }

    fn answered(&mut self, stage: &mut Stage, end: SessionNo, result: Result<Answer, RequestError>) {
        match (self.part, result) {
            (Part::SetUp, Ok(Answer::Channel { .. })) => {
                self.subscribe(stage, end);
                self.subscribe(stage, end ^ 1);
            }
            (Part::SetUp, Err(RequestError::Timeout)) => self.open(stage, end),
            (Part::SetUp, Err(error)) => self.failed = Some(error.to_string()),
            (Part::Verify, Ok(Answer::Page { head, events })) => self.page(stage, end, head, &events),
            (Part::Verify, Err(RequestError::Timeout)) => self.fetch(stage, end),
            (Part::Verify, Err(_)) => {
                // Counted as a history that could not be read.
                self.verifying -= 1;
            }
            _ => {}
        }
    }

    fn delivered(&mut self, stage: &Stage, end: SessionNo, event: &Event) {
        let checks = &mut self.sender.checks;
        self.ends[end].track.delivered(event, checks);
        if event.kind != EventKind::MESSAGE {
            return;
        }
        self.delivered += 1;
        let Some(stamp) = Stamp::decode(&event.body) else { return };
        if stamp.lane as usize != end && stamp.intended >= self.sender.measure_from {
            let now = stage.fleet.now();
            self.deliver.record(now.since(stamp.intended), now.since(stamp.handed));
        }
    }

    /// Both ends of each pair have the same events, and none is missing that was acknowledged.
    fn is_delivered(&self) -> bool {
        self.ends.chunks_exact(2).zip(self.sender.lanes.chunks_exact(2)).all(|(ends, lanes)| {
            let head = ends[0].track.head();
            let acked = lanes.iter().filter_map(|lane| lane.seqs.iter().max()).max().copied().unwrap_or(0);
            head == ends[1].track.head() && head >= acked
        })
    }

    fn start_verifying(&mut self, stage: &mut Stage) {
        while self.verifying < VERIFIES_MAX
            && let Some(end) = self.to_verify.pop_front()
        {
            self.verifying += 1;
            self.fetch(stage, end);
        }
    }

    fn fetch(&mut self, stage: &mut Stage, end: SessionNo) {
        let request = Request::Fetch {
            channel: self.sender.lanes[end].channel,
            cursor: Cursor::after(Seq(self.ends[end].read)),
            limit: PAGE_EVENTS_MAX as u16,
            freshness: Freshness::Linearizable,
        };
        let asked = stage.fleet.act(end, |client, now| client.request(now, request));
        assert!(asked.is_ok(), "a session has one request at a time");
    }

    fn page(&mut self, stage: &mut Stage, end: SessionNo, head: Seq, events: &[Event]) {
        let (pair, is_first) = (end / 2, end & 1 == 0);
        for event in events {
            self.ends[end].track.compare(event, &mut self.sender.checks);
            self.sender.checks.events_checked += 1;
            self.ends[end].read += 1;
            // The first end's reading is held against the sends, the second's only against its deliveries.
            if is_first {
                let lanes = &self.sender.lanes[pair * 2..pair * 2 + 2];
                self.histories[pair].event(event, lanes, &mut self.sender.checks);
            }
        }
        if self.ends[end].read < head.0 && !events.is_empty() {
            return self.fetch(stage, end);
        }
        let lacks = self.ends[end].read != head.0 || self.ends[end].track.head() > head.0;
        self.sender.checks.history_errors += u64::from(lacks);
        if is_first {
            let lanes = &self.sender.lanes[pair * 2..pair * 2 + 2];
            self.histories[pair].finish(lanes, &mut self.sender.checks);
        }
        self.verifying -= 1;
        self.verified += 1;
    }
}

impl Act for Messenger {
    fn event(&mut self, stage: &mut Stage, end: SessionNo, event: ClientEvent) {
        match event {
            ClientEvent::Connected(_) => self.connected(stage, end),
            ClientEvent::Answered { result, .. } => self.answered(stage, end, result),
            ClientEvent::Delivered { event, .. } => self.delivered(stage, end, &event),
            ClientEvent::Acked { .. } | ClientEvent::RepeatAcked { .. } | ClientEvent::SendFailed { .. } => {
                self.sender.answered(stage, end, &event);
            }
            ClientEvent::Subscribed { .. } => {
                let before = core::mem::replace(&mut self.ends[end].is_subscribed, true);
                self.subscribed += usize::from(!before);
            }
            ClientEvent::SubscriptionEnded { code, .. } => {
                self.failed = Some(format!("subscription: {code}"))
            }
            ClientEvent::Reset { .. } => self.sender.checks.resets += 1,
            _ => {}
        }
    }

    fn due(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        self.elapsed = stage.elapsed();
        match self.part {
            Part::SetUp => None,
            Part::Load => self.sender.due(stage, now),
            Part::Drain => {
                self.sender.due(stage, now);
                Some(now + Duration::from_millis(10))
            }
            Part::Verify => {
                self.start_verifying(stage);
                None
            }
        }
    }

    fn is_over(&mut self, _: &Stage, now: Instant) -> bool {
        match self.part {
            Part::SetUp => self.subscribed == self.ends.len() || self.failed.is_some(),
            Part::Load => self.sender.is_spent(),
            Part::Drain => {
                // Looking at every pair takes a while; not at every turn.
                if now < self.next_look {
                    return false;
                }
                self.next_look = now + Duration::from_millis(20);
                self.sender.is_quiet() && self.is_delivered()
            }
            Part::Verify => self.verifying == 0 && self.to_verify.is_empty(),
        }
    }

    fn line(&mut self) -> String {
        match self.part {
            Part::SetUp => format!("subscribed {}/{}", self.subscribed, self.ends.len()),
            Part::Load | Part::Drain => {
                let line = self.sender.line(self.elapsed);
                format!("{line}  delivered {} {}", self.delivered, self.deliver.interval_line())
            }
            Part::Verify => format!("reading histories: {}/{}", self.verified, self.ends.len()),
        }
    }

    fn take_interval(&mut self, take: &mut dyn FnMut(&'static str, &mut Latency)) {
        take("ack", &mut self.sender.ack);
        take("deliver", &mut self.deliver);
    }
}
