//! What is under way and what was answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;

use throng_base::Instant;
use throng_runtime::Clock;
use tokio::sync::Notify;

use crate::latency::Latency;
use crate::report::Pair;

#[derive(Clone, Copy)]
struct Flight {
    intended: Instant,
    sent: Instant,
}

struct Inner {
    /// By the number in the reply's subject; `None` = free.
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    ack: Latency,
    measure_from: Instant,
    measure_until: Instant,
    acked: u64,
    measured: u64,
    refused: u64,
    last_refusal: String,
    /// By stream, the numbers that were given.
    numbers: BTreeMap<String, Vec<u64>>,
}

/// Answers of the servers, shared by the sender and the readers of all connections on one thread.
pub(super) struct Acks {
    clock: Clock,
    inner: RefCell<Inner>,
    answered: Notify,
}

impl Acks {
    /// `clock` is the sender's.
    pub(super) fn new(clock: Clock) -> Self {
        let inner = Inner {
            flights: Vec::new(),
            free: Vec::new(),
            ack: Latency::new(),
            measure_from: Instant::ZERO,
            measure_until: Instant::ZERO,
            acked: 0,
            measured: 0,
            refused: 0,
            last_refusal: String::new(),
            numbers: BTreeMap::new(),
        };
        Self { clock, inner: RefCell::new(inner), answered: Notify::new() }
    }

    /// Begins a phase on fresh histograms.
    pub(super) fn begin(&self, from: Instant, until: Instant) {
        let mut inner = self.inner.borrow_mut();
        inner.ack = Latency::new();
        inner.measured = 0;
        (inner.measure_from, inner.measure_until) = (from, until);
    }

    /// A send is on its way; returns the number that its answer bears.
    pub(super) fn begin_flight(&self, intended: Instant, sent: Instant) -> usize {
        let mut inner = self.inner.borrow_mut();
        let flight = Some(Flight { intended, sent });
        if let Some(number) = inner.free.pop() {
            inner.flights[number] = flight;
            return number;
        }
        inner.flights.push(flight);
        inner.flights.len() - 1
    }

    /// Takes an answer: `{"stream":"S","seq":7}` or `{"error":{…}}`.
    pub(super) fn answer(&self, subject: &str, payload: &[u8]) {
        let now = self.clock.now();
        let mut inner = self.inner.borrow_mut();
        let number = subject.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
        let Some(number) = number.filter(|&number| number < inner.flights.len()) else { return };
        let Some(flight) = inner.flights[number].take() else { return };
        inner.free.push(number);
        match parse(payload) {
            Some((stream, seq)) => inner.acked(now, flight, stream, seq),
            None => {
                inner.refused += 1;
                inner.last_refusal = String::from_utf8_lossy(payload).into_owned();
            }
        }
        self.answered.notify_one();
    }

    /// Waits for an answer or for `other`.
    pub(super) async fn wait(&self, other: impl Future<Output = ()>) {
        tokio::select! {
            () = self.answered.notified() => {}
            () = other => {}
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        let inner = self.inner.borrow();
        inner.flights.len() - inner.free.len()
    }

    pub(super) fn acked(&self) -> u64 {
        self.inner.borrow().acked
    }

    /// Latency, acks in the measured time, and the table to print.
    pub(super) fn measured(&self) -> (Pair, u64, String) {
        let inner = self.inner.borrow();
        (Pair::of(&inner.ack), inner.measured, inner.ack.table("ack latency"))
    }

    /// Refused sends and the last reason.
    pub(super) fn refused(&self) -> Option<(u64, String)> {
        let inner = self.inner.borrow();
        (inner.refused > 0).then(|| (inner.refused, inner.last_refusal.clone()))
    }

    /// Numbers that were given twice.
    pub(super) fn numbers_twice(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let twice = inner.numbers.values_mut().map(|numbers| {
            numbers.sort_unstable();
            numbers.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
        });
        twice.sum()
    }
}

impl Inner {
    fn acked(&mut self, now: Instant, flight: Flight, stream: &str, seq: u64) {
        self.acked += 1;
        self.measured += u64::from(now >= self.measure_from && now < self.measure_until);
        if flight.intended >= self.measure_from {
            self.ack.record(now.since(flight.intended), now.since(flight.sent));
        }
        match self.numbers.get_mut(stream) {
            Some(numbers) => numbers.push(seq),
            None => drop(self.numbers.insert(stream.to_owned(), vec![seq])),
        }
    }
}

/// Stream and number of an ack; by hand, because a JSON parser per message would be the generator's largest cost.
fn parse(payload: &[u8]) -> Option<(&str, u64)> {
    let text = std::str::from_utf8(payload).ok().filter(|text| !text.contains("\"error\""))?;
    let after = |key: &str| text.split_once(key).map(|(_, after)| after);
    let stream = after("\"stream\":")?.trim_start().strip_prefix('"')?.split('"').next()?;
    let digits = after("\"seq\":")?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((stream, digits[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_and_refusals_are_told_apart() {
        assert_eq!(parse(br#"{"stream":"throng-0", "seq":17}"#), Some(("throng-0", 17)));
        assert_eq!(parse(br#"{"error":{"code":503,"err_code":10008},"stream":"x","seq":0}"#), None);
        assert_eq!(parse(b"\xff"), None);
    }
}
