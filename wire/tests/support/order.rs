//! SPEC.md's order rules as a model of its own, to check traces with: what a server may and must do next. It shares
//! no code with the gateway.

use throng_wire::frame::{ErrorScope, Frame, Reset, Sender, Unknown, request_of};
use throng_wire::{ChannelId, ClientMsgId, Code, DecodeError, RequestId};

/// What a session waits for.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Hello,
    Auth,
    Welcome,
    Open,
    Closed,
}

/// One session, seen from outside.
#[derive(Debug)]
pub(crate) struct Order {
    phase: Phase,
    versions: (u16, u16),
    requests: Vec<(RequestId, Option<ChannelId>)>,
    sends: Vec<(ChannelId, ClientMsgId)>,
    pings: Vec<(Sender, u64)>,
    /// The server owes this at once.
    close: Option<Code>,
    error: Option<(RequestId, Code)>,
}

impl Order {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Hello,
            versions: (0, 0),
            requests: Vec::new(),
            sends: Vec::new(),
            pings: Vec::new(),
            close: None,
            error: None,
        }
    }

    /// A payload from the client.
    pub(crate) fn client(&mut self, payload: &[u8]) -> Result<(), String> {
        if self.phase == Phase::Closed || self.close.is_some() || self.error.is_some() {
            return Err("the server's answer comes first".into());
        }
        match Frame::decode(payload) {
            Ok(Some(frame)) if frame.sender() == Sender::Server => self.close = Some(Code::PROTOCOL),
            Ok(Some(frame)) => self.client_frame(&frame),
            Ok(None) => match Unknown::read(payload).map_err(|error| error.to_string())?.request {
                Some(_) if self.phase != Phase::Open => self.close = Some(Code::AUTH_REQUIRED),
                Some(request) => self.error = Some((request, Code::UNSUPPORTED)),
                None => {}
            },
            Err(error @ DecodeError::OverLimit(_)) if request_of(payload).is_some() => {
                self.error = Some((request_of(payload).expect("just seen"), error.code()));
            }
            Err(error) => self.close = Some(error.code()),
        }
        Ok(())
    }

    fn client_frame(&mut self, frame: &Frame<'_>) {
        match (&self.phase, frame) {
            (_, Frame::Close(_)) => self.phase = Phase::Closed,
            (Phase::Hello, Frame::Hello(hello)) => {
                self.versions = (hello.version_min, hello.version_max);
                self.phase = Phase::Auth;
            }
            (Phase::Auth, Frame::Auth(_)) if self.versions.0 > 1 => self.close = Some(Code::VERSION),
            (Phase::Auth, Frame::Auth(_)) => self.phase = Phase::Welcome,
            (Phase::Welcome | Phase::Open, Frame::Auth(_)) => {
                self.close = Some(Code::ALREADY_AUTHENTICATED);
            }
            (_, Frame::Hello(_) | Frame::Auth(_)) => self.close = Some(Code::PROTOCOL),
            (Phase::Open, Frame::Publish(publish)) => {
                self.sends.push((publish.channel, publish.client_msg_id));
            }
            (Phase::Open, Frame::Ping(ping)) if ping.wants_answer => {
                self.pings.push((Sender::Server, ping.nonce));
            }
            (Phase::Open, Frame::Pong(pong)) => {
                remove(&mut self.pings, |at| *at == (Sender::Client, pong.nonce))
            }
            (Phase::Open, frame) => {
                let channel = match frame {
                    Frame::Fetch(fetch) => Some(fetch.channel),
                    Frame::Subscribe(subscribe) => Some(subscribe.channel),
                    _ => None,
                };
                self.requests.extend(frame.request().map(|request| (request, channel)));
            }
            _ => self.close = Some(Code::AUTH_REQUIRED),
        }
    }

    /// A payload from the server.
    pub(crate) fn server(&mut self, payload: &[u8]) -> Result<(), String> {
        let frame = Frame::decode(payload).map_err(|error| error.to_string())?.ok_or("unknown type")?;
        if frame.sender() == Sender::Client {
            return Err(format!("{} is a client's frame", frame.type_name()));
        }
        match (&frame, self.close.take(), self.error.take()) {
            (Frame::Close(close), Some(code), _) if close.code == code => {
                self.phase = Phase::Closed;
                return Ok(());
            }
            (frame, Some(code), _) => return Err(format!("CLOSE {code} is due, not {}", frame.type_name())),
            (Frame::Error(error), _, Some((request, code)))
                if error.scope == ErrorScope::Request(request) && error.code == code =>
            {
                return Ok(());
            }
            (frame, _, Some((_, code))) => {
                return Err(format!("ERROR {code} is due, not {}", frame.type_name()));
            }
            (Frame::Close(_), None, None) => {
                self.phase = Phase::Closed;
                return Ok(());
            }
            _ => {}
        }
        match (&self.phase, &frame) {
            (Phase::Welcome, Frame::Welcome(welcome)) if welcome.version == 1 => self.phase = Phase::Open,
            (Phase::Open, frame) => return self.server_frame(frame),
            (phase, frame) => return Err(format!("{} in {phase:?}", frame.type_name())),
        }
        Ok(())
    }

    fn server_frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let answered = match frame {
            Frame::Ack(ack) => take(&mut self.sends, |send| *send == (ack.channel, ack.client_msg_id)),
            Frame::Error(error) => match error.scope {
                ErrorScope::Publish(channel, id) => take(&mut self.sends, |send| *send == (channel, id)),
                ErrorScope::Request(request) => take(&mut self.requests, |open| open.0 == request),
                ErrorScope::Session => true,
            },
            Frame::Pong(pong) => take(&mut self.pings, |ping| *ping == (Sender::Server, pong.nonce)),
            Frame::Ping(ping) => {
                if ping.wants_answer {
                    self.pings.push((Sender::Client, ping.nonce));
                }
                true
            }
            Frame::Reset(Reset::Channel { channel, .. }) => {
                take(&mut self.requests, |open| open.1 == Some(*channel))
            }
            Frame::Reset(Reset::Inbox { .. }) => take(&mut self.requests, |open| open.1.is_none()),
            Frame::Deliver(_) | Frame::Lagged(_) | Frame::Goaway(_) => true,
            answer => {
                let request = answer_to(answer).ok_or_else(|| format!("{} again", answer.type_name()))?;
                take(&mut self.requests, |open| open.0 == request)
            }
        };
        if answered { Ok(()) } else { Err(format!("{frame:?} answers nothing")) }
    }

    /// The session may end here: nothing is owed at once, and every request has its answer (SPEC W-ORD-6).
    pub(crate) fn finish(&self) -> Result<(), String> {
        let is_done = self.phase == Phase::Closed
            || (self.requests.is_empty() && self.sends.is_empty() && self.pings.is_empty());
        if is_done && self.close.is_none() && self.error.is_none() {
            Ok(())
        } else {
            Err(format!("something is still due: {self:?}"))
        }
    }
}

fn answer_to(frame: &Frame<'_>) -> Option<RequestId> {
    match frame {
        Frame::Page(page) => Some(page.request),
        Frame::Synced(synced) => Some(synced.request),
        Frame::Subscribed(subscribed) => Some(subscribed.request),
        Frame::Channel(channel) => Some(channel.request),
        Frame::MembersPage(page) => Some(page.request),
        _ => None,
    }
}

fn take<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> bool {
    let at = items.iter().position(is_it);
    at.map(|at| items.remove(at)).is_some()
}

fn remove<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool) {
    take(items, is_it);
}
