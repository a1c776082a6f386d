//! The link of one loop to one router node: make it, greet, carry messages, notice its end, make it again.
//!
//! ```text
//!           due                writable, connected      HELLO_ACK that fits
//!   Down ────────► Connecting ─────────────────────► Greeting ──────────────► Up  (RouterUp)
//!    ▲                │ deadline, error                 │ deadline, REFUSED    │ end, error, silence
//!    └── backoff ─────┴─────────────────────────────────┴──────────────────────┘ (RouterDown, from Up)
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use throng_base::{Full, Instant, Rng};
use throng_runtime::tls::{Expected, PeerTls};
use throng_runtime::{ConnectOptions, Event, FrameLink, Interest, LinkError, LinkLimits, Poller, connect};
use throng_wire::error::DecodeError;
use throng_wire::limits::{PEER_BATCH_MESSAGES_MAX, PEER_BATCH_TARGET, PEER_FRAME_MAX};
use throng_wire::link::{Op, ToRouter};
use throng_wire::peer::{PeerHello, PeerRefused, PeerRole};
use throng_wire::{NodeId, PeerFrame};

use crate::handle::LoopInput;
use crate::limits::{
    LINK_BACKOFF_MAX, LINK_BACKOFF_MIN, LINK_HELLO_TIMEOUT, LINK_OUTGOING_BYTES, LINK_PING_EVERY,
    LINK_REFUSED_PAUSE, LINK_SILENCE_MAX,
};

const LIMITS: LinkLimits = LinkLimits { frame_max: PEER_FRAME_MAX, outgoing_max: LINK_OUTGOING_BYTES };

enum State {
    Down { until: Instant },
    Connecting { link: FrameLink, deadline: Instant },
    Greeting { link: FrameLink, deadline: Instant },
    Up { link: FrameLink, heard: Instant, ping_due: Instant },
}

/// Why a link ended.
#[derive(Debug)]
enum Failure {
    Link(LinkError),
    Decode(DecodeError),
    Refused(PeerRefused),
    /// It is not the node, or not the cluster, that we look for.
    Mismatch(PeerHello),
    /// A frame that has no place here.
    Unexpected,
    Silence,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => f.write_str(&error.chain()),
            Self::Decode(error) => write!(f, "malformed frame: {error}"),
            Self::Refused(refused) => write!(f, "refused with {}: {}", refused.code, refused.reason),
            Self::Mismatch(hello) => {
                write!(f, "another node or cluster answers: {:?} of {} shards", hello.role, hello.shards)
            }
            Self::Unexpected => f.write_str("a frame that gateways do not get"),
            Self::Silence => f.write_str("nothing was heard in time"),
        }
    }
}

impl Failure {
    /// Whether trying again soon is of no use: somebody has to put it right.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Mismatch(_) | Self::Link(LinkError::Tls(_) | LinkError::UnexpectedTls)
        )
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

pub(super) struct NodeLink {
    token: u64,
    node: NodeId,
    address: SocketAddr,
    tls: Option<PeerTls>,
    state: State,
    /// What the socket is registered for.
    interest: Interest,
    backoff: Duration,
}

impl NodeLink {
    pub(super) fn new(
        token: u64,
        node: NodeId,
        address: SocketAddr,
        tls: Option<PeerTls>,
        now: Instant,
    ) -> Self {
        let (state, interest) = (State::Down { until: now }, Interest::None);
        Self { token, node, address, tls, state, interest, backoff: LINK_BACKOFF_MIN }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match &self.state {
            State::Down { until } => *until,
            State::Connecting { deadline, .. } | State::Greeting { deadline, .. } => *deadline,
            State::Up { heard, ping_due, .. } => (*ping_due).min(*heard + LINK_SILENCE_MAX),
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        poller: &Poller,
        rng: &mut Rng,
        inputs: &mut Vec<LoopInput>,
    ) {
        if now < self.poll_timeout() {
            return;
        }
        match &mut self.state {
            State::Down { .. } => {
                if let Err(error) = self.start(now, poller) {
                    self.end(Failure::Link(LinkError::Io(error)), now, rng, inputs);
                }
            }
            State::Connecting { .. } | State::Greeting { .. } => self.end(Failure::Silence, now, rng, inputs),
            State::Up { heard, .. } if now >= *heard + LINK_SILENCE_MAX => {
                self.end(Failure::Silence, now, rng, inputs);
            }
            State::Up { link, ping_due, .. } => {
                *ping_due = now + LINK_PING_EVERY;
                // A full queue is a sign of life to come or of silence; either way no ping is needed.
                let _ = link.queue(|out| PeerFrame::Ping(now.as_millis()).encode(out));
                self.flush(now, poller);
            }
        }
    }

    fn start(&mut self, now: Instant, poller: &Poller) -> std::io::Result<()> {
        let stream = connect(self.address, ConnectOptions::default())?;
        poller.register(&stream, self.token, Interest::Write)?;
        self.interest = Interest::Write;
        let deadline = now + LINK_HELLO_TIMEOUT;
        let session = self.tls.as_ref().map(|tls| tls.dial(Expected::Node(self.node))).transpose();
        let link = FrameLink::new(stream, session.map_err(std::io::Error::other)?, LIMITS);
        self.state = State::Connecting { link, deadline };
        Ok(())
    }

    pub(super) fn handle_event(
        &mut self,
        event: &Event,
        now: Instant,
        hello: &PeerHello,
        poller: &Poller,
        rng: &mut Rng,
        inputs: &mut Vec<LoopInput>,
    ) {
        let outcome = match &self.state {
            State::Down { .. } => return, // an event of the socket before
            State::Connecting { .. } => self.greet(hello),
            State::Greeting { .. } | State::Up { .. } => self.read(event, now, hello, inputs),
        };
        match outcome {
            Ok(()) => self.flush(now, poller),
            Err(failure) => self.end(failure, now, rng, inputs),
        }
    }

    /// The connect has an outcome.
    fn greet(&mut self, hello: &PeerHello) -> Result<(), Failure> {
        let State::Connecting { link, .. } = &self.state else { return Ok(()) };
        link.stream().connected().map_err(LinkError::Io)?;
        let State::Connecting { mut link, deadline } = self.take_state() else { return Ok(()) };
        link.queue(|out| PeerFrame::Hello(hello.clone()).encode(out)).expect("a new link has room");
        self.state = State::Greeting { link, deadline };
        Ok(())
    }

    fn read(
        &mut self,
        event: &Event,
        now: Instant,
        hello: &PeerHello,
        inputs: &mut Vec<LoopInput>,
    ) -> Result<(), Failure> {
        let (State::Greeting { link, .. } | State::Up { link, .. }) = &mut self.state else { return Ok(()) };
        if !event.readable {
            return Ok(());
        }
        let mut frames = Vec::new();
        let outcome = link.read(|payload| frames.push(PeerFrame::decode(payload)));
        for frame in frames {
            // Unknown types are skipped: the other side may be newer.
            if let Some(frame) = frame.map_err(Failure::Decode)? {
                self.handle_frame(frame, now, hello, inputs)?;
            }
        }
        Ok(outcome?)
    }

    fn handle_frame(
        &mut self,
        frame: PeerFrame,
        now: Instant,
        ours: &PeerHello,
        inputs: &mut Vec<LoopInput>,
    ) -> Result<(), Failure> {
        match (&mut self.state, frame) {
            (_, PeerFrame::Refused(refused)) => Err(Failure::Refused(refused)),
            (State::Greeting { .. }, PeerFrame::HelloAck(theirs)) => {
                let fits = theirs.protocol == ours.protocol
                    && theirs.role == PeerRole::Node(self.node)
                    && theirs.cluster == ours.cluster
                    && theirs.shards == ours.shards
                    && theirs.epoch == ours.epoch;
                if !fits {
                    return Err(Failure::Mismatch(theirs));
                }
                self.come_up(now);
                inputs.push(LoopInput::RouterUp(self.node));
                Ok(())
            }
            (State::Up { link, heard, .. }, frame) => {
                *heard = now;
                match frame {
                    PeerFrame::ToGateway(messages) => {
                        inputs.push(LoopInput::Router { node: self.node, messages });
                        Ok(())
                    }
                    PeerFrame::Ping(nonce) => {
                        // No room: the peer sees our other frames, or notices that nothing moves.
                        let _ = link.queue(|out| PeerFrame::Pong(nonce).encode(out));
                        Ok(())
                    }
                    PeerFrame::Pong(_) => Ok(()),
                    _ => Err(Failure::Unexpected),
                }
            }
            _ => Err(Failure::Unexpected),
        }
    }

    fn come_up(&mut self, now: Instant) {
        let State::Greeting { link, .. } = self.take_state() else {
            unreachable!("only a greeting is accepted")
        };
        tracing::info!(node = %self.node, address = %self.address, "linked to router");
        self.state = State::Up { link, heard: now, ping_due: now + LINK_PING_EVERY };
        self.backoff = LINK_BACKOFF_MIN;
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Down { until: Instant::ZERO })
    }

    /// Drops the connection and says when to try again: full jitter, so that a restarted node does not meet all
    /// gateways at once.
    fn end(&mut self, failure: Failure, now: Instant, rng: &mut Rng, inputs: &mut Vec<LoopInput>) {
        let is_refused = failure.is_refusal();
        let pause = if is_refused { LINK_REFUSED_PAUSE } else { self.backoff };
        self.backoff = (self.backoff * 2).min(LINK_BACKOFF_MAX);
        let pause = Duration::from_nanos(rng.between(pause.as_nanos() as u64 / 2, pause.as_nanos() as u64));
        let before = std::mem::replace(&mut self.state, State::Down { until: now + pause });
        if matches!(before, State::Up { .. }) {
            tracing::warn!(node = %self.node, address = %self.address, reason = %failure, "link to router lost");
            inputs.push(LoopInput::RouterDown(self.node));
        } else {
            tracing::debug!(node = %self.node, address = %self.address, reason = %failure, "no link to router");
        }
        if is_refused {
            tracing::error!(node = %self.node, address = %self.address, reason = %failure, "not our router");
        }
    }

    /// Queues messages in frames of at most [`PEER_BATCH_TARGET`] bytes or so.
    pub(super) fn send(&mut self, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>> {
        let State::Up { link, .. } = &mut self.state else { return Ok(()) };
        let mut rest = messages;
        while !rest.is_empty() {
            if link.outgoing_len() >= LINK_OUTGOING_BYTES {
                return Err(Full(rest));
            }
            let after = rest.split_off(batch_len(&rest));
            let frame = PeerFrame::ToRouter(std::mem::replace(&mut rest, after));
            link.queue(|out| frame.encode(out)).expect("room was checked");
        }
        Ok(())
    }

    /// Sends what was queued and waits for what the poller has to tell: a failed write shows as an event.
    pub(super) fn flush(&mut self, now: Instant, poller: &Poller) {
        let (State::Greeting { link, .. } | State::Up { link, .. }) = &mut self.state else { return };
        if link.flush().is_err() {
            // The read side reports the error too, but a deadline in the past does so without fail.
            if let State::Up { heard, .. } = &mut self.state {
                *heard = Instant::ZERO;
            } else if let State::Greeting { deadline, .. } = &mut self.state {
                *deadline = now;
            }
            return;
        }
        let wanted = link.interest();
        if wanted != self.interest && poller.modify(&*link, self.token, wanted).is_ok() {
            self.interest = wanted;
        }
    }
}

/// How many messages from the front share a frame: at least one.
fn batch_len(messages: &[ToRouter]) -> usize {
    let mut bytes = 0;
    let fits = messages.iter().take(PEER_BATCH_MESSAGES_MAX).take_while(|message| {
        bytes += weight(message);
        bytes <= PEER_BATCH_TARGET
    });
    fits.count().max(1)
}

/// About how many bytes a message takes in a frame; never much less than the truth.
fn weight(message: &ToRouter) -> usize {
    let variable = match message {
        ToRouter::Request(request) => match &request.op {
            Op::Publish { body, .. } => body.len(),
            Op::Create { members, .. } => members.len() * 20,
            _ => 0,
        },
        ToRouter::Unsubscribe { .. } | ToRouter::Unregister { .. } => 0,
    };
    128 + variable
}
