//! `nats`: what `publish` measures, against NATS JetStream, to compare (feature `nats`).
//!
//! Acks come back over one subscription per connection, as in NATS' own asynchronous publishers: a future per message
//! would cost the generator, and so a machine that it shares with the servers, more.

mod acks;
mod timer;

use std::rc::Rc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, Subject};
use futures_util::StreamExt;
use throng_base::Instant;
use throng_runtime::Clock;

use super::cpu_seconds;
use crate::check::Checks;
use crate::cli::NatsArgs;
use crate::exit::{Exit, Failure};
use crate::lane::Stamp;
use crate::limits::SENDS_PER_TURN;
use crate::pace::Pace;
use crate::report::{Phase, Report};

use acks::Acks;
use timer::Timer;

/// How long a stream may take to be placed.
const PLACED_MAX: Duration = Duration::from_secs(30);

/// When sends are due.
enum Model {
    Open(Pace),
    Closed { until: Instant },
}

/// One subject.
struct Lane {
    subject: Subject,
    connection: usize,
    counter: u64,
}

struct Nats<'a> {
    args: &'a NatsArgs,
    clock: Clock,
    clients: Vec<Client>,
    lanes: Vec<Lane>,
    next_lane: usize,
    acks: Rc<Acks>,
    timer: Timer,
    sent: u64,
}

pub(super) fn run(args: &NatsArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::preflight(error.to_string()))?;
    let mut report = Report::new("nats", "nats");
    (report.targets, report.channels, report.sessions) =
        (args.targets.clone(), args.subjects, args.connections);
    report.body_bytes = args.load.body.max(crate::lane::BODY_MIN);
    report.transports = vec!["nats"];
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut nats = Nats::connect(args).await?;
        let outcome = nats.load(&mut report).await;
        nats.finish(&mut report);
        outcome
    })?;
    super::verdict(&mut report);
    if let Some(path) = &args.json {
        super::write_json(path, &report)?;
    }
    super::say(&report);
    Ok(report.exit())
}

impl<'a> Nats<'a> {
    async fn connect(args: &'a NatsArgs) -> Result<Self, Failure> {
        let clock = Clock::new();
        let acks = Rc::new(Acks::new(clock));
        let mut clients = Vec::new();
        for number in 0..args.connections.max(1) {
            let target = &args.targets[number % args.targets.len()];
            let client = async_nats::connect(target).await.map_err(|error| trouble("connect", error))?;
            let mut answers = client
                .subscribe(format!("throng-acks.{number}.*"))
                .await
                .map_err(|error| trouble("subscribe", error))?;
            let acks = Rc::clone(&acks);
            tokio::task::spawn_local(async move {
                while let Some(message) = answers.next().await {
                    acks.answer(&message.subject, &message.payload);
                }
            });
            clients.push(client);
        }
        let mut nats = Self {
            args,
            clock,
            clients,
            lanes: Vec::new(),
            next_lane: 0,
            acks,
            timer: Timer::new().map_err(|error| Failure::preflight(error.to_string()))?,
            sent: 0,
        };
        nats.make_streams().await?;
        Ok(nats)
    }

    async fn make_streams(&mut self) -> Result<(), Failure> {
        let jetstream = jetstream::new(self.clients[0].clone());
        for number in 0..self.args.streams {
            let config = stream::Config {
                name: stream_name(number),
                subjects: vec![format!("throng.{number}.*")],
                num_replicas: 3.min(self.args.targets.len()),
                storage: stream::StorageType::File,
                ..Default::default()
            };
            self.make_stream(&jetstream, config).await?;
        }
        self.lanes = (0..self.args.subjects)
            .map(|lane| Lane {
                subject: format!("throng.{}.{lane}", lane % self.args.streams).into(),
                connection: lane % self.clients.len(),
                counter: 0,
            })
            .collect();
        Ok(())
    }

    /// A cluster that was just started takes some seconds until it places streams.
    async fn make_stream(
        &self,
        jetstream: &jetstream::Context,
        config: stream::Config,
    ) -> Result<(), Failure> {
        let patience = self.clock.now() + PLACED_MAX;
        loop {
            match jetstream.create_stream(config.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if self.clock.now() >= patience => return Err(trouble("create a stream", error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    async fn load(&mut self, report: &mut Report) -> Result<(), Failure> {
        let load = &self.args.load;
        let mut rate = load.rate.filter(|_| !self.args.find_max);
        if rate.is_none() && (self.args.find_max || self.args.unloaded.is_none()) {
            let until = self.clock.now() + load.duration;
            let phase = self.phase(report, ("max", "closed", None), Model::Closed { until }).await?;
            rate = Some(phase / 2.0).filter(|rate| self.args.find_max && *rate >= 1.0);
        }
        for (name, rate) in [("rate", rate), ("unloaded", self.args.unloaded)] {
            let Some(rate) = rate else { continue };
            let pace = Pace::new(self.clock.now(), rate, load.duration, load.messages);
            self.phase(report, (name, "open", Some(rate)), Model::Open(pace)).await?;
        }
        self.verify(report).await
    }

    /// One stretch of load and its drain; returns the acks per second.
    async fn phase(
        &mut self,
        report: &mut Report,
        (name, model_name, target): (&'static str, &'static str, Option<f64>),
        mut model: Model,
    ) -> Result<f64, Failure> {
        let load = &self.args.load;
        let (begin, sent, acked) = (self.clock.now(), self.sent, self.acks.acked());
        let from = begin + load.warmup.min(load.duration / 2);
        self.acks.begin(from, begin + load.duration);
        while let Some(next) = self.send_due(&mut model).await? {
            self.acks.wait(self.timer.until(&self.clock, next)).await;
        }
        let drained = self.clock.now() + load.drain;
        while self.acks.in_flight() > 0 && self.clock.now() < drained {
            let soon = self.clock.now() + Duration::from_millis(10);
            self.acks.wait(self.timer.until(&self.clock, soon)).await;
        }
        let measured_s = load.duration.as_secs_f64() - from.since(begin).as_secs_f64();
        let (ack, measured, table) = self.acks.measured();
        let acked_per_s = measured as f64 / measured_s.max(0.001);
        println!("{name} ({model_name}): {acked_per_s:.0} committed messages per second");
        print!("{table}");
        report.phases.push(Phase {
            name,
            model: model_name,
            target_per_s: target,
            measured_s,
            sent: self.sent - sent,
            acked: self.acks.acked() - acked,
            acked_per_s,
            ack,
            deliver: None,
        });
        Ok(acked_per_s)
    }

    /// Sends what is due and has room; returns when to look again (at an answer anyway), `None` at the end.
    async fn send_due(&mut self, model: &mut Model) -> Result<Option<Instant>, Failure> {
        for _ in 0..SENDS_PER_TURN {
            let now = self.clock.now();
            let is_full = self.acks.in_flight() >= self.args.window;
            let intended = match model {
                Model::Open(pace) => match pace.next() {
                    None => return Ok(None),
                    Some(at) if at > now => return Ok(pace.wake()),
                    Some(_) if is_full => return Ok(Some(now + Duration::from_millis(10))),
                    Some(_) => pace.take(now).expect("it is due"),
                },
                Model::Closed { until } if now >= *until => return Ok(None),
                Model::Closed { until } if is_full => return Ok(Some(*until)),
                Model::Closed { .. } => now,
            };
            self.send(now, intended).await?;
        }
        // Whoever reads the answers gets a turn.
        tokio::task::yield_now().await;
        Ok(Some(self.clock.now()))
    }

    async fn send(&mut self, now: Instant, intended: Instant) -> Result<(), Failure> {
        let number = self.next_lane;
        self.next_lane = (number + 1) % self.lanes.len();
        let lane = &mut self.lanes[number];
        let stamp = Stamp { lane: number as u32, counter: lane.counter, intended, handed: now };
        lane.counter += 1;
        let reply = format!("throng-acks.{}.{}", lane.connection, self.acks.begin_flight(intended, now));
        self.sent += 1;
        let client = &self.clients[lane.connection];
        let body = stamp.encode(self.args.load.body);
        let published = client.publish_with_reply(lane.subject.clone(), reply, body).await;
        published.map_err(|error| trouble("publish", error))
    }

    /// Everything acknowledged must be stored, under numbers that are all different.
    async fn verify(&mut self, report: &mut Report) -> Result<(), Failure> {
        let jetstream = jetstream::new(self.clients[0].clone());
        let mut stored = 0;
        for number in 0..self.args.streams {
            let stream = jetstream.get_stream(stream_name(number)).await;
            stored +=
                stream.map_err(|error| trouble("look at a stream", error))?.cached_info().state.messages;
        }
        let acked = self.acks.acked();
        report.checks = Some(Checks {
            events_checked: acked,
            lost: acked.saturating_sub(stored),
            stored_twice: self.acks.numbers_twice(),
            unanswered: self.acks.in_flight() as u64,
            ..Checks::default()
        });
        if let Some((refused, why)) = self.acks.refused() {
            println!("refused sends: {refused} (last: {why})");
        }
        Ok(())
    }

    fn finish(&self, report: &mut Report) {
        report.elapsed_s = report.phases.iter().map(|phase| phase.measured_s).sum();
        report.generator.cpu = cpu_seconds() / self.clock.now().since(Instant::ZERO).as_secs_f64().max(0.001);
    }
}

fn stream_name(number: usize) -> String {
    format!("throng-{number}")
}

fn trouble(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::preflight(format!("cannot {what}: {error}"))
}
