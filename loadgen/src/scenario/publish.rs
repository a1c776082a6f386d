//! `publish`: how many messages per second become durable, and how long that takes.

use std::collections::HashMap;
use std::time::Duration;

use throng_base::{Instant, Rng};
use throng_client_core::{Answer, ClientEvent, Config, Cursor, Request};
use throng_wire::frame::{ChannelClass, Freshness};
use throng_wire::{ChannelId, RequestId, Seq};

use super::sender::{Model, Sender};
use super::stage::{Act, Stage};
use crate::cli::PublishArgs;
use crate::exit::{Exit, Failure};
use crate::fleet::SessionNo;
use crate::lane::Lane;
use crate::latency::Latency;
use crate::pace::Pace;
use crate::report::Report;

/// Requests of a session unanswered at a time.
const REQUESTS: usize = 32;

/// What the run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Making the channels.
    SetUp,
    /// Sending until everything is handed over.
    Load,
    /// Waiting for answers.
    Drain,
    /// Asking for the heads.
    Verify,
}

struct Publish {
    sender: Sender,
    part: Part,
    /// By channel, its lane.
    by_channel: HashMap<ChannelId, usize>,
    /// Head of each lane's channel when it was made.
    base: Vec<u64>,
    /// Head at the end.
    heads: Vec<Option<u64>>,
    /// Next lane to ask about, per part.
    next: usize,
    asked: HashMap<(SessionNo, RequestId), usize>,
    done: usize,
    elapsed: Duration,
    failed: Option<String>,
}

pub(super) fn run(args: &PublishArgs) -> Result<Exit, Failure> {
    let sessions = args.sessions.clamp(1, args.channels.max(1));
    let mut stage = Stage::new(&args.common, sessions, Config { inbox: false, ..Config::default() })?;
    let mut report = Report::new("publish", stage.identities.run_id());
    (report.channels, report.body_bytes) = (args.channels, args.load.body.max(crate::lane::BODY_MIN));
    let mut publish = Publish::new(args, sessions, stage.fleet.now())?;
    let connected = stage.connect(sessions, args.common.connect_timeout, |user| user, &mut publish)?;
    if connected.note(&mut report, "connecting") {
        publish.load(&mut stage, args, &mut report)?;
    }
    publish.tell(&report);
    report.checks = Some(publish.sender.checks.clone());
    super::conclude(stage, report, &args.common)
}

impl Publish {
    fn new(args: &PublishArgs, sessions: usize, now: Instant) -> Result<Self, Failure> {
        let mut rng = Rng::new(throng_runtime::unix_millis() ^ u64::from(std::process::id()) << 32);
        let mut sender = Sender::new(&args.load, rng.next_u64(), now)?;
        let mut by_channel = HashMap::new();
        for lane in 0..args.channels {
            let mut id = [0u8; 16];
            id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
            id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
            let channel = ChannelId::group(id);
            by_channel.insert(channel, lane);
            sender.lanes.push(Lane::new(lane % sessions, channel));
        }
        Ok(Self {
            sender,
            part: Part::SetUp,
            by_channel,
            base: vec![0; args.channels],
            heads: vec![None; args.channels],
            next: 0,
            asked: HashMap::new(),
            done: 0,
            elapsed: Duration::ZERO,
            failed: None,
        })
    }

    fn load(&mut self, stage: &mut Stage, args: &PublishArgs, report: &mut Report) -> Result<(), Failure> {
        let end = stage.drive(self, Duration::from_secs(120))?;
        if let Some(failed) = self.failed.take() {
            return Err(Failure::preflight(format!("cannot make a channel: {failed}")));
        }
        if !end.note(report, "making the channels") {
            return Ok(());
        }
        let load = &args.load;
        let mut rate = args.rate_asked();
        if rate.is_none() && (args.find_max || args.unloaded.is_none()) {
            let until = stage.fleet.now() + load.duration;
            let model = Model::Closed {
                window: usize::from(args.window),
                until,
                left: load.messages.unwrap_or(u64::MAX),
            };
            if !self.phase(stage, args, report, ("max", "closed", None), model)? {
                return Ok(());
            }
            if args.find_max {
                rate = report.phases.last().map(|phase| phase.acked_per_s / 2.0).filter(|rate| *rate >= 1.0);
            }
        }
        for (name, rate) in [("rate", rate), ("unloaded", args.unloaded)] {
            let Some(rate) = rate else { continue };
            let pace = Pace::new(stage.fleet.now(), rate, load.duration, load.messages);
            if !self.phase(stage, args, report, (name, "open", Some(rate)), Model::Open(pace))? {
                return Ok(());
            }
        }
        self.verify(stage, report)
    }

    /// One stretch of load and its drain; false if the run is to end.
    fn phase(
        &mut self,
        stage: &mut Stage,
        args: &PublishArgs,
        report: &mut Report,
        (name, model_name, target): (&'static str, &'static str, Option<f64>),
        model: Model,
    ) -> Result<bool, Failure> {
        self.part = Part::Load;
        let mut load = args.load.clone();
        if let (Some(rate), Some(messages)) = (target, load.messages) {
            load.duration = load.duration.min(Duration::from_secs_f64(messages as f64 / rate));
        }
        self.sender.begin(stage.fleet.now(), &load, model);
        let (sent, acked) = (self.sender.sent, self.sender.acked);
        let end = stage.drive(self, args.load.duration + args.load.drain)?;
        let mut goes_on = end.note(report, "sending");
        self.sender.model = Model::Off;
        self.part = Part::Drain;
        if goes_on {
            goes_on = stage.drive(self, args.load.drain)?.note(report, "waiting for acks");
        }
        let mut phase = self.sender.phase(name, model_name, target);
        (phase.sent, phase.acked) = (self.sender.sent - sent, self.sender.acked - acked);
        println!("{name} ({model_name}): {:.0} committed messages per second", phase.acked_per_s);
        print!("{}", self.sender.ack.table("ack latency"));
        if let Some(most) = args.load.max_p99_ms
            && phase.ack.corrected.p99_ms > most
            && model_name == "open"
        {
            report.outcome(Exit::Objective, format!("ack p99 {:.1} ms", phase.ack.corrected.p99_ms));
        }
        report.phases.push(phase);
        Ok(goes_on)
    }

    /// Every channel's head must be what it was plus its acked sends, and the numbers acked must be all different.
    fn verify(&mut self, stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
        self.part = Part::Verify;
        (self.next, self.done) = (0, 0);
        self.asked.clear();
        stage.drive(self, Duration::from_secs(120))?.note(report, "verifying");
        for (lane, (base, head)) in self.sender.lanes.iter().zip(self.base.iter().zip(&self.heads)) {
            let checks = &mut self.sender.checks;
            let Some(head) = *head else {
                checks.history_errors += 1;
                continue;
            };
            let mut seqs: Vec<u64> = lane.seqs.iter().copied().filter(|seq| *seq != 0).collect();
            seqs.sort_unstable();
            checks.events_checked += seqs.len() as u64;
            checks.unanswered += lane.unanswered() as u64 + lane.owed();
            checks.stored_twice += seqs.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
            checks.ack_mismatches += seqs.iter().filter(|seq| **seq <= *base || **seq > head).count() as u64;
            let stored = head.saturating_sub(*base);
            checks.lost += (seqs.len() as u64).saturating_sub(stored);
            if lane.unanswered() == 0 && lane.refused == 0 {
                checks.stored_twice += stored.saturating_sub(seqs.len() as u64);
            }
        }
        Ok(())
    }

    fn tell(&self, report: &Report) {
        if self.sender.refused > 0
            && let Some(code) = self.sender.last_refusal
        {
            println!("refused sends: {} (last: {code})", self.sender.refused);
        }
        if !report.phases.is_empty() {
            println!("checks: {}", self.sender.checks.line());
        }
    }

    /// Keeps `REQUESTS` requests per session on the way until every lane has had its own.
    fn ask(&mut self, stage: &mut Stage) {
        let most = REQUESTS * stage.fleet.len();
        while self.next < self.sender.lanes.len() && self.asked.len() < most {
            let lane = self.next;
            if !self.ask_for(stage, lane) {
                return;
            }
            self.next += 1;
        }
    }

    fn ask_for(&mut self, stage: &mut Stage, lane: usize) -> bool {
        let (session, channel) = (self.sender.lanes[lane].session, self.sender.lanes[lane].channel);
        let request = match self.part {
            Part::SetUp => Request::Create { channel, class: ChannelClass::Group, members: Vec::new() },
            Part::Verify => Request::Fetch {
                channel,
                cursor: Cursor::after(Seq(0)),
                limit: 1,
                freshness: Freshness::Linearizable,
            },
            Part::Load | Part::Drain => return false,
        };
        let asked = stage.fleet.act(session, |client, now| client.request(now, request));
        let Ok(id) = asked else { return false };
        self.asked.insert((session, id), lane);
        true
    }

    fn answer(
        &mut self,
        stage: &mut Stage,
        lane: usize,
        result: Result<Answer, throng_client_core::RequestError>,
    ) {
        match result {
            Ok(Answer::Channel { head, .. }) => self.base[lane] = head.0,
            Ok(Answer::Page { head, .. }) => self.heads[lane] = Some(head.0),
            Ok(_) => {}
            Err(throng_client_core::RequestError::Timeout) => {
                self.ask_for(stage, lane);
                return;
            }
            Err(error) => self.failed = Some(error.to_string()),
        }
        self.done += 1;
    }
}

impl PublishArgs {
    fn rate_asked(&self) -> Option<f64> {
        self.load.rate.filter(|_| !self.find_max)
    }
}

impl Act for Publish {
    fn event(&mut self, stage: &mut Stage, session: SessionNo, event: ClientEvent) {
        match event {
            ClientEvent::Acked { channel, .. }
            | ClientEvent::RepeatAcked { channel, .. }
            | ClientEvent::SendFailed { channel, .. } => {
                if let Some(&lane) = self.by_channel.get(&channel) {
                    self.sender.answered(stage, lane, &event);
                }
            }
            ClientEvent::Answered { request, result } => {
                if let Some(lane) = self.asked.remove(&(session, request)) {
                    self.answer(stage, lane, result);
                }
            }
            _ => {}
        }
    }

    fn due(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        self.elapsed = stage.elapsed();
        match self.part {
            Part::SetUp | Part::Verify => {
                if stage.fleet.open() > 0 {
                    self.ask(stage);
                }
                Some(now + Duration::from_millis(10))
            }
            Part::Load | Part::Drain => self.sender.due(stage, now),
        }
    }

    fn is_over(&mut self, _: &Stage, _: Instant) -> bool {
        match self.part {
            Part::SetUp | Part::Verify => self.done >= self.sender.lanes.len() || self.failed.is_some(),
            Part::Load => self.sender.is_spent(),
            Part::Drain => self.sender.is_quiet(),
        }
    }

    fn line(&mut self) -> String {
        match self.part {
            Part::SetUp => format!("making channels: {}/{}", self.done, self.sender.lanes.len()),
            Part::Verify => format!("verifying: {}/{}", self.done, self.sender.lanes.len()),
            Part::Load | Part::Drain => self.sender.line(self.elapsed),
        }
    }

    fn take_interval(&mut self, take: &mut dyn FnMut(&'static str, &mut Latency)) {
        take("ack", &mut self.sender.ack);
    }
}
