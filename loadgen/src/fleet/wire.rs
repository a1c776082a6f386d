//! A session's bytes: its own socket for plain WebSocket, the tokio thread for everything with TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use throng_base::Instant;
use throng_client_core::{Endpoint, Scheme};
use throng_runtime::{ConnectOptions, Event, Interest, Read, Stream, Write};

use super::pump::{Report, What};
use super::{Fleet, SessionNo};
use crate::identity;
use crate::limits::PUMP_QUEUED_MAX;

/// A session's transport.
pub(super) enum Wire {
    None,
    Connecting(Stream),
    /// `blocked`: waits until the socket takes more.
    Tcp {
        stream: Stream,
        blocked: bool,
    },
    /// `queued`: bytes handed to the tokio thread and not written yet.
    Pumped {
        queued: usize,
        is_up: bool,
    },
}

/// Session number and generation in a poll token.
fn token(number: SessionNo, generation: u32) -> u64 {
    u64::from(generation) << 32 | number as u64
}

impl Fleet {
    pub(super) fn connect(&mut self, number: SessionNo, endpoint: &Arc<Endpoint>, now: Instant) {
        let session = &mut self.sessions[number];
        session.generation = (session.generation + 1) & 0x7fff_ffff; // never the waker's token
        let generation = session.generation;
        if endpoint.scheme != Scheme::Ws {
            session.wire = Wire::Pumped { queued: 0, is_up: false };
            self.pump.dial(number, generation, Arc::clone(endpoint));
            return;
        }
        let started = self.address(endpoint).and_then(|address| {
            let stream = throng_runtime::connect(
                address,
                ConnectOptions { source: identity::source(address, number) },
            )?;
            self.poller.register(&stream, token(number, generation), Interest::Write)?;
            Ok(stream)
        });
        let session = &mut self.sessions[number];
        match started {
            Ok(stream) => session.wire = Wire::Connecting(stream),
            Err(error) => session.client.handle_disconnected(now, &error.to_string()),
        }
    }

    /// Resolved once per name: a generator with 10,000 sessions should not test the resolver.
    fn address(&mut self, endpoint: &Endpoint) -> std::io::Result<SocketAddr> {
        let name = endpoint.authority();
        if let Some(address) = self.addresses.get(&name) {
            return Ok(*address);
        }
        let address = identity::resolve(endpoint)?;
        self.addresses.insert(name, address);
        Ok(address)
    }

    pub(super) fn disconnect(&mut self, number: SessionNo) {
        let session = &mut self.sessions[number];
        let outgoing = session.client.outgoing();
        match core::mem::replace(&mut session.wire, Wire::None) {
            Wire::None | Wire::Connecting(_) => {}
            Wire::Tcp { mut stream, .. } => {
                let _ = stream.write(outgoing); // the goodbye, as far as the socket takes it
                stream.shutdown_write();
            }
            Wire::Pumped { .. } => {
                self.pump.close(number, session.generation, Bytes::copy_from_slice(outgoing));
            }
        }
    }

    pub(super) fn socket_event(&mut self, event: Event) {
        let (number, generation) = ((event.token & 0xffff_ffff) as usize, (event.token >> 32) as u32);
        if self.sessions[number].generation != generation {
            return;
        }
        match self.sessions[number].wire {
            Wire::Connecting(_) => self.finish_connect(number),
            Wire::Tcp { .. } => {
                if event.writable {
                    self.unblock(number);
                }
                if event.readable {
                    self.read(number);
                }
            }
            Wire::None | Wire::Pumped { .. } => {}
        }
    }

    fn finish_connect(&mut self, number: SessionNo) {
        let now = self.clock.now();
        let session = &mut self.sessions[number];
        let Wire::Connecting(stream) = core::mem::replace(&mut session.wire, Wire::None) else { return };
        let token = token(number, session.generation);
        let ready = stream.connected().and_then(|()| self.poller.modify(&stream, token, Interest::Read));
        match ready {
            Ok(()) => {
                session.wire = Wire::Tcp { stream, blocked: false };
                session.client.handle_connected(now);
                self.service(number, now);
            }
            Err(error) => self.lost(number, &error.to_string()),
        }
    }

    fn unblock(&mut self, number: SessionNo) {
        let session = &mut self.sessions[number];
        let Wire::Tcp { stream, blocked } = &mut session.wire else { return };
        if core::mem::replace(blocked, false) {
            let _ = self.poller.modify(&*stream, token(number, session.generation), Interest::Read);
            self.mark_dirty(number);
        }
    }

    /// Reads one buffer's worth; the poller reports again if there is more.
    fn read(&mut self, number: SessionNo) {
        let now = self.clock.now();
        let session = &mut self.sessions[number];
        let Wire::Tcp { stream, .. } = &mut session.wire else { return };
        match stream.read(&mut self.buffer) {
            Ok(Read::Bytes(bytes)) => {
                session.client.handle_bytes(now, &mut self.buffer[..bytes]);
                self.service(number, now);
            }
            Ok(Read::Blocked) => {}
            Ok(Read::Closed) => self.lost(number, "closed by the server"),
            Err(error) => self.lost(number, &error.to_string()),
        }
    }

    fn lost(&mut self, number: SessionNo, why: &str) {
        let now = self.clock.now();
        let session = &mut self.sessions[number];
        session.wire = Wire::None;
        session.client.handle_disconnected(now, why);
        self.service(number, now);
    }

    /// Writes what has come up; what a session has to say in one turn leaves in one call.
    pub(super) fn flush(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            while self.write_some(number) {}
            self.sessions[number].dirty = false;
        }
        let marked_meanwhile = core::mem::replace(&mut self.dirty, dirty);
        assert!(marked_meanwhile.is_empty(), "a session being written is still marked");
    }

    /// One write; true if there may be more to write.
    fn write_some(&mut self, number: SessionNo) -> bool {
        let now = self.clock.now();
        let session = &mut self.sessions[number];
        let outgoing = session.client.outgoing();
        if outgoing.is_empty() {
            return false;
        }
        let taken = match &mut session.wire {
            Wire::None | Wire::Connecting(_) => return false,
            Wire::Tcp { blocked: true, .. } => return false,
            Wire::Tcp { stream, blocked } => match stream.write(outgoing) {
                Ok(Write::Bytes(bytes)) => bytes,
                Ok(Write::Blocked) => {
                    *blocked = true;
                    let _ = self.poller.modify(&*stream, token(number, session.generation), Interest::Both);
                    return false;
                }
                Err(error) => {
                    let why = error.to_string();
                    self.lost(number, &why);
                    return false;
                }
            },
            Wire::Pumped { queued, is_up } => {
                if !*is_up || *queued >= PUMP_QUEUED_MAX {
                    return false;
                }
                *queued += outgoing.len();
                self.pump.write(number, session.generation, Bytes::copy_from_slice(outgoing));
                outgoing.len()
            }
        };
        session.client.sent(now, taken);
        self.service(number, now);
        true
    }

    /// Takes what the tokio thread reports.
    pub(super) fn take_reports(&mut self) {
        // Bounded by the channel, so that sockets get their turn.
        for _ in 0..crate::limits::PUMP_REPORTS_MAX {
            let Some(report) = self.pump.next_report() else { return };
            self.report(report);
        }
    }

    fn report(&mut self, report: Report) {
        let Report { number, generation, what } = report;
        let now = self.clock.now();
        let session = &mut self.sessions[number];
        let Wire::Pumped { queued, is_up } = &mut session.wire else { return };
        if session.generation != generation {
            return;
        }
        match what {
            What::Connected => {
                *is_up = true;
                session.client.handle_connected(now);
                self.service(number, now);
            }
            What::Bytes(mut bytes) => {
                session.client.handle_bytes(now, &mut bytes);
                self.service(number, now);
            }
            What::Wrote(bytes) => {
                *queued -= bytes;
                self.mark_dirty(number);
            }
            What::Gone(why) => self.lost(number, &why),
        }
    }
}
