//! `readback`: what an earlier messenger run left behind, read once more and boiled down to one digest, so that two
//! replicas, or one before and after something happened to it, can be compared.

use std::hash::{DefaultHasher, Hasher};

use throng_base::Instant;
use throng_client_core::{Answer, ClientEvent, Config, Cursor, Request, RequestError};
use throng_wire::frame::Freshness;
use throng_wire::limits::PAGE_EVENTS_MAX;
use throng_wire::{ChannelId, Event, Seq};

use super::stage::{Act, Stage};
use crate::check;
use crate::cli::ReadbackArgs;
use crate::exit::{Exit, Failure};
use crate::fleet::SessionNo;
use crate::latency::Latency;
use crate::report::Report;

/// One channel, read by its pair's first end.
struct Reading {
    channel: ChannelId,
    next: u64,
    digest: DefaultHasher,
    has_asked: bool,
    is_done: bool,
}

struct Readback {
    freshness: Freshness,
    readings: Vec<Reading>,
    /// Events read.
    events: u64,
    done: usize,
    /// Holes, and answers that were no page.
    errors: Vec<String>,
}

pub(super) fn run(args: &ReadbackArgs) -> Result<Exit, Failure> {
    let mut stage = Stage::new(&args.common, args.pairs * 2, Config { inbox: false, ..Config::default() })?;
    let mut report = Report::new("readback", stage.identities.run_id());
    report.channels = args.pairs;
    let readings = (0..args.pairs).map(|pair| Reading {
        channel: ChannelId::direct(stage.identities.user(pair * 2), stage.identities.user(pair * 2 + 1)),
        next: 1,
        digest: DefaultHasher::new(),
        has_asked: false,
        is_done: false,
    });
    let mut readback = Readback {
        freshness: if args.stale { Freshness::Stale } else { Freshness::Linearizable },
        readings: readings.collect(),
        events: 0,
        done: 0,
        errors: Vec::new(),
    };
    // The second ends connect too, so that sessions are numbered like users.
    let connected = stage.connect(args.pairs * 2, args.common.connect_timeout, |user| user, &mut readback)?;
    if connected.note(&mut report, "connecting") {
        stage.drive(&mut readback, args.within)?.note(&mut report, "reading the histories");
    }
    let mut all = DefaultHasher::new();
    readback.readings.iter().for_each(|reading| all.write_u64(reading.digest.finish()));
    println!(
        "readback: {} of {} channels, {} events, digest {:016x}",
        readback.done,
        args.pairs,
        readback.events,
        all.finish()
    );
    for error in readback.errors.iter().take(3) {
        println!("  {error}");
    }
    if !readback.errors.is_empty() {
        report.outcome(Exit::Incorrect, format!("{} answers were wrong", readback.errors.len()));
    }
    super::conclude(stage, report, &args.common)
}

impl Readback {
    /// A reconnect changes nothing: the machine repeats what has no answer.
    fn connected(&mut self, stage: &mut Stage, session: SessionNo) {
        if !core::mem::replace(&mut self.readings[session / 2].has_asked, true) {
            self.fetch(stage, session);
        }
    }

    fn fetch(&mut self, stage: &mut Stage, session: SessionNo) {
        let reading = &self.readings[session / 2];
        let request = Request::Fetch {
            channel: reading.channel,
            cursor: Cursor::after(Seq(reading.next - 1)),
            limit: PAGE_EVENTS_MAX as u16,
            freshness: self.freshness,
        };
        let asked = stage.fleet.act(session, |client, now| client.request(now, request));
        assert!(asked.is_ok(), "a session has one request at a time");
    }

    fn page(&mut self, stage: &mut Stage, session: SessionNo, head: Seq, events: &[Event]) {
        let reading = &mut self.readings[session / 2];
        for event in events {
            if event.seq.0 != reading.next {
                self.errors.push(format!("{} where {} was due", event.seq, reading.next));
            }
            reading.next = event.seq.0 + 1;
            reading.digest.write_u64(check::digest(event));
        }
        self.events += events.len() as u64;
        if reading.next <= head.0 && !events.is_empty() {
            return self.fetch(stage, session);
        }
        if reading.next != head.0 + 1 {
            self.errors.push(format!("read to {}, the head is {head}", reading.next - 1));
        }
        self.finish(session);
    }

    fn finish(&mut self, session: SessionNo) {
        let before = core::mem::replace(&mut self.readings[session / 2].is_done, true);
        self.done += usize::from(!before);
    }
}

impl Act for Readback {
    fn event(&mut self, stage: &mut Stage, session: SessionNo, event: ClientEvent) {
        if session % 2 == 1 {
            return;
        }
        match event {
            ClientEvent::Connected(_) => self.connected(stage, session),
            ClientEvent::Answered { result, .. } => match result {
                Ok(Answer::Page { head, events }) => self.page(stage, session, head, &events),
                Err(RequestError::Timeout) => self.fetch(stage, session),
                Err(error) => {
                    self.errors.push(error.to_string());
                    self.finish(session);
                }
                Ok(_) => {
                    self.errors.push("the cursor was reset".into());
                    self.finish(session);
                }
            },
            _ => {}
        }
    }

    fn due(&mut self, _: &mut Stage, _: Instant) -> Option<Instant> {
        None
    }

    fn is_over(&mut self, _: &Stage, _: Instant) -> bool {
        self.done == self.readings.len()
    }

    fn line(&mut self) -> String {
        format!("read {}/{} channels, {} events", self.done, self.readings.len(), self.events)
    }

    fn take_interval(&mut self, _: &mut dyn FnMut(&'static str, &mut Latency)) {}
}
