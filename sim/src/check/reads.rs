//! Reads: how fresh they are, and that they show the log as it is.

use super::{Model, Op, Returned};

/// How fresh a read wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As it comes.
    Stale,
    /// At least through this number.
    AtLeast(u64),
    /// Everything that was acknowledged to anybody before it was asked for.
    Linearizable,
}

/// A read under way.
#[derive(Clone, Debug)]
pub struct Query {
    /// The channel's number in the scenario.
    pub channel: usize,
    /// Events behind this number are asked for.
    pub after: u64,
    /// How fresh.
    pub freshness: Freshness,
    /// Whether the cursor says that it belongs to another history.
    pub foreign: bool,
    /// Whether the reader is a member for the whole run; others may see less.
    pub member: bool,
}

impl Model {
    /// A client asks for a range of a channel.
    pub fn asked(&mut self, client: usize, request: u64, query: Query) {
        let floor = self.told.get(&query.channel).copied().unwrap_or(0);
        if query.freshness == Freshness::Linearizable && query.member && !query.foreign {
            self.history.call(query.channel, key(client, request), Op::Read);
        }
        // What "before it was asked for" means is fixed here.
        let freshness = match query.freshness {
            Freshness::Linearizable if query.member => Freshness::AtLeast(floor),
            other => other,
        };
        self.queries.insert((client, request), Query { freshness, ..query });
    }

    /// The answer: the head that the reader may see, and the events: number, stamp, body.
    pub fn read(&mut self, client: usize, request: u64, head: u64, events: &[(u64, u64, Vec<u8>)]) {
        let Some(query) = self.queries.remove(&(client, request)) else {
            return self.broken(format!("client {client} got a page that it did not ask for"));
        };
        let (channel, after) = (query.channel, query.after);
        if query.foreign {
            self.broken(format!(
                "C5: client {client}: a cursor of another history of channel {channel} was taken"
            ));
        }
        if let Freshness::AtLeast(floor) = query.freshness
            && query.member
            && head < floor
        {
            self.broken(format!(
                "C6: client {client} read channel {channel} through #{head}, due was #{floor}"
            ));
        }
        for (at, (seq, ts, body)) in events.iter().enumerate() {
            if *seq != after + 1 + at as u64 || *seq > head {
                self.broken(format!(
                    "C1: client {client} channel {channel}: a page after #{after} holds #{seq}"
                ));
            }
            self.saw(client, channel, *seq, *ts, body);
        }
        if after < head && events.is_empty() {
            self.broken(format!(
                "C1: client {client} channel {channel}: nothing after #{after}, the head is #{head}"
            ));
        }
        self.history.returns(channel, &key(client, request), Returned::Head(head));
        // Whatever anybody was shown is committed: later linearizable reads must have it.
        self.tell(channel, head);
    }

    /// The answer: the cursor cannot be continued.
    pub fn read_reset(&mut self, client: usize, request: u64) {
        let Some(query) = self.queries.remove(&(client, request)) else { return };
        if !query.foreign && query.member && self.keep.is_none() {
            self.broken(format!("C5: client {client}'s cursor in channel {} was refused", query.channel));
        }
    }

    /// There was no answer, or a refusal, which only members must not get.
    pub fn read_failed(&mut self, client: usize, request: u64, refusal: Option<&str>) {
        let Some(query) = self.queries.remove(&(client, request)) else { return };
        if let (Some(code), true) = (refusal, query.member) {
            self.broken(format!(
                "client {client}'s read of channel {} was refused with {code}",
                query.channel
            ));
        }
    }
}

fn key(client: usize, request: u64) -> Vec<u8> {
    format!("read {client} {request}").into_bytes()
}
