//! The task that owns the machine and its transport.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use throng_base::Instant;
use throng_client_core::{
    Answer, Client as Machine, ClientEvent, Endpoint, Output, Request, SavedState, Session, Start,
};
use throng_wire::{ChannelId, ClientMsgId, RequestId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{ConnectError, Error};
use crate::handle::Ack;
use crate::subscription::{Subscription, SubscriptionEvent};
use crate::transport::{Dialer, Transport};

/// Bytes read from the transport at a time.
const READ_BYTES: usize = 16 * 1024;

/// How long a goodbye may take.
const LINGER: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A send, in a queue of its own: it waits while the outbox is full, and nothing else does.
pub(crate) struct PublishCommand {
    pub(crate) channel: ChannelId,
    pub(crate) body: Bytes,
    pub(crate) reply: Reply<Ack>,
}

/// What a handle asks for.
pub(crate) enum Command {
    Subscribe { channel: ChannelId, start: Start, reply: Reply<Subscription> },
    Request { request: Request, reply: Reply<Answer> },
    SetToken { token: Bytes, reply: Reply<()> },
    Save { reply: Reply<SavedState> },
    Close { reply: Reply<SavedState> },
}

/// What a subscription reports. Bounded by the subscriptions themselves: each has at most two signals on the way.
#[derive(Debug)]
pub(crate) enum Signal {
    Room { channel: ChannelId, generation: u64, events: u32 },
    Dropped { channel: ChannelId, generation: u64 },
}

/// The driver's queues.
pub(crate) struct Inputs {
    pub(crate) publishes: mpsc::Receiver<PublishCommand>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

struct Subscriber {
    generation: u64,
    events: mpsc::UnboundedSender<SubscriptionEvent>,
    /// Events the reader still has room for.
    room: u32,
    /// Until the subscription stands for the first time.
    pending: Option<(Reply<Subscription>, Subscription)>,
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The task's state.
pub(crate) struct Driver {
    machine: Machine,
    origin: std::time::Instant,
    dialer: Dialer,
    dialing: Option<JoinHandle<io::Result<Transport>>>,
    reader: Option<Reader>,
    writer: Option<Writer>,
    /// Written but not flushed (TLS keeps a record's rest).
    unflushed: bool,
    goodbye: Option<JoinHandle<()>>,
    notices: broadcast::Sender<ClientEvent>,
    ready: Option<oneshot::Sender<Result<Session, ConnectError>>>,
    acks: HashMap<(ChannelId, ClientMsgId), Reply<Ack>>,
    answers: HashMap<RequestId, Reply<Answer>>,
    subscribers: HashMap<ChannelId, Subscriber>,
    generations: u64,
    capacity: u32,
    signals: (mpsc::UnboundedSender<Signal>, mpsc::UnboundedReceiver<Signal>),
    /// A send that the outbox had no room for.
    stalled: Option<PublishCommand>,
    closing: Option<Reply<SavedState>>,
}

/// What woke the driver.
enum Wake {
    Publish(Option<PublishCommand>),
    Command(Option<Command>),
    Signal(Signal),
    Dialed(io::Result<Transport>),
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
    Timeout,
}

/// Time since the driver began, as the machine wants it.
pub(crate) fn now_since(origin: std::time::Instant) -> Instant {
    Instant::from_millis(1) + origin.elapsed()
}

impl Driver {
    pub(crate) fn new(
        machine: Machine,
        origin: std::time::Instant,
        dialer: Dialer,
        notices: broadcast::Sender<ClientEvent>,
        ready: oneshot::Sender<Result<Session, ConnectError>>,
        capacity: usize,
    ) -> Self {
        Self {
            machine,
            origin,
            dialer,
            dialing: None,
            reader: None,
            writer: None,
            unflushed: false,
            goodbye: None,
            notices,
            ready: Some(ready),
            acks: HashMap::new(),
            answers: HashMap::new(),
            subscribers: HashMap::new(),
            generations: 0,
            capacity: u32::try_from(capacity.max(2)).unwrap_or(u32::MAX - 1),
            signals: mpsc::unbounded_channel(),
            stalled: None,
            closing: None,
        }
    }

    /// Runs until the client is closed, ends by itself, or its last handle is gone.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let mut buffer = vec![0u8; READ_BYTES];
        self.machine.handle_timeout(self.now());
        loop {
            self.drain();
            if self.machine.is_done() {
                break;
            }
            let wake = self.wait(&mut inputs, &mut buffer).await;
            self.handle(wake, &mut buffer);
        }
        if let Some(goodbye) = self.goodbye.take() {
            let _ = goodbye.await;
        }
        if let Some(reply) = self.closing.take() {
            let _ = reply.send(Ok(self.machine.saved_state()));
        }
    }

    async fn wait(&mut self, inputs: &mut Inputs, buffer: &mut [u8]) -> Wake {
        let deadline = self.machine.poll_timeout().map(|at| at.since(now_since(self.origin)));
        let outgoing = self.machine.outgoing();
        let (reader, writer) = (self.reader.as_mut(), self.writer.as_mut());
        let writes = writer.is_some() && !outgoing.is_empty();
        let flushes = writer.is_some() && outgoing.is_empty() && self.unflushed;
        let send = async {
            match writer {
                Some(writer) if writes => Wake::Wrote(writer.write(outgoing).await),
                Some(writer) if flushes => Wake::Flushed(writer.flush().await),
                _ => core::future::pending().await,
            }
        };
        let read = async {
            match reader {
                Some(reader) => reader.read(buffer).await,
                None => core::future::pending().await,
            }
        };
        let dial = async {
            match self.dialing.as_mut() {
                Some(dialing) => dialing.await.unwrap_or_else(|error| Err(io::Error::other(error))),
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            wake = send => wake,
            read = read => Wake::Read(read),
            dialed = dial => Wake::Dialed(dialed),
            command = inputs.commands.recv() => Wake::Command(command),
            publish = inputs.publishes.recv(), if self.stalled.is_none() => Wake::Publish(publish),
            Some(signal) = self.signals.1.recv() => Wake::Signal(signal),
            () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => Wake::Timeout,
        }
    }

    fn handle(&mut self, wake: Wake, buffer: &mut [u8]) {
        let now = self.now();
        match wake {
            Wake::Publish(Some(command)) => self.publish(now, command),
            Wake::Command(Some(command)) => self.command(now, command),
            // The last handle is gone.
            Wake::Publish(None) | Wake::Command(None) => self.machine.close(now),
            Wake::Signal(signal) => self.signal(now, signal),
            Wake::Dialed(outcome) => self.dialed(now, outcome),
            Wake::Read(Ok(0)) => self.lost(now, "the server closed the connection"),
            Wake::Read(Ok(bytes)) => self.machine.handle_bytes(now, &mut buffer[..bytes]),
            Wake::Wrote(Ok(0)) => self.lost(now, "the connection takes no more bytes"),
            Wake::Wrote(Ok(bytes)) => {
                self.unflushed = true;
                self.machine.sent(now, bytes);
            }
            Wake::Flushed(Ok(())) => self.unflushed = false,
            Wake::Read(Err(error)) | Wake::Wrote(Err(error)) | Wake::Flushed(Err(error)) => {
                self.lost(now, &error.to_string());
            }
            Wake::Timeout => self.machine.handle_timeout(now),
        }
    }

    fn now(&self) -> Instant {
        now_since(self.origin)
    }

    fn dialed(&mut self, now: Instant, outcome: io::Result<Transport>) {
        self.dialing = None;
        match outcome {
            Ok(transport) => {
                let (reader, writer) = transport.into_halves();
                self.reader = Some(Box::new(reader));
                self.writer = Some(Box::new(writer));
                self.machine.handle_connected(now);
            }
            Err(error) => self.machine.handle_disconnected(now, &error.to_string()),
        }
    }

    fn lost(&mut self, now: Instant, why: &str) {
        self.reader = None;
        self.writer = None;
        self.unflushed = false;
        self.machine.handle_disconnected(now, why);
    }

    fn publish(&mut self, now: Instant, command: PublishCommand) {
        let PublishCommand { channel, body, reply } = command;
        match self.machine.publish(now, channel, body) {
            Ok(id) => {
                self.acks.insert((channel, id), reply);
            }
            Err(throng_base::Full(body)) => self.stalled = Some(PublishCommand { channel, body, reply }),
        }
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Subscribe { channel, start, reply } => self.subscribe(now, channel, start, reply),
            Command::Request { request, reply } => match self.machine.request(now, request) {
                Ok(id) => {
                    self.answers.insert(id, reply);
                }
                Err(_) => drop(reply.send(Err(Error::Full))),
            },
            Command::SetToken { token, reply } => {
                self.machine.set_token(now, token);
                let _ = reply.send(Ok(()));
            }
            Command::Save { reply } => drop(reply.send(Ok(self.machine.saved_state()))),
            Command::Close { reply } => {
                self.closing = Some(reply);
                self.machine.close(now);
            }
        }
    }

    fn subscribe(&mut self, now: Instant, channel: ChannelId, start: Start, reply: Reply<Subscription>) {
        if self.machine.subscribe(now, channel, start).is_err() {
            let _ = reply.send(Err(Error::Full));
            return;
        }
        self.machine.set_room(now, channel, self.capacity);
        self.generations += 1;
        let generation = self.generations;
        let (events, receiver) = mpsc::unbounded_channel();
        let subscription = Subscription {
            channel,
            generation,
            events: receiver,
            signals: self.signals.0.clone(),
            capacity: self.capacity,
            taken: 0,
        };
        let pending = Some((reply, subscription));
        self.subscribers.insert(channel, Subscriber { generation, events, room: self.capacity, pending });
    }

    fn signal(&mut self, now: Instant, signal: Signal) {
        let (Signal::Room { channel, generation, .. } | Signal::Dropped { channel, generation }) = signal;
        let Some(subscriber) = self.subscribers.get_mut(&channel) else { return };
        if subscriber.generation != generation {
            return;
        }
        match signal {
            Signal::Room { events, .. } => {
                subscriber.room += events;
                assert!(subscriber.room <= self.capacity, "room is given back at most once");
                self.machine.set_room(now, channel, subscriber.room);
            }
            Signal::Dropped { .. } => {
                self.subscribers.remove(&channel);
                self.machine.unsubscribe(now, channel);
            }
        }
    }

    /// Carries out what the machine wants.
    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect { endpoint } => self.connect(endpoint),
                Output::Write => {} // wait() looks at `outgoing`
                Output::Disconnect => self.disconnect(),
                Output::Event(event) => self.event(event),
            }
        }
        if let Some(stalled) = self.stalled.take() {
            let now = self.now();
            self.publish(now, stalled);
            if self.stalled.is_none() {
                self.drain();
            }
        }
    }

    fn connect(&mut self, endpoint: std::sync::Arc<Endpoint>) {
        let dialer = self.dialer.clone();
        self.dialing = Some(tokio::spawn(async move { dialer.dial(&endpoint).await }));
    }

    fn disconnect(&mut self) {
        if let Some(dialing) = self.dialing.take() {
            dialing.abort();
        }
        self.unflushed = false;
        let reader = self.reader.take();
        let Some(mut writer) = self.writer.take() else { return };
        let rest = self.machine.outgoing().to_vec();
        self.goodbye = Some(tokio::spawn(async move {
            let goodbye = async {
                writer.write_all(&rest).await?;
                writer.shutdown().await
            };
            let _ = tokio::time::timeout(LINGER, goodbye).await;
            drop(reader);
        }));
    }

    fn event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Acked { channel, client_msg_id, seq, ts, duplicate } => {
                if let Some(reply) = self.acks.remove(&(channel, client_msg_id)) {
                    let _ = reply.send(Ok(Ack { seq, ts, duplicate, client_msg_id }));
                }
            }
            ClientEvent::SendFailed { channel, client_msg_id, code } => {
                if let Some(reply) = self.acks.remove(&(channel, client_msg_id)) {
                    let _ = reply.send(Err(Error::Refused(code)));
                }
            }
            ClientEvent::Answered { request, result } => {
                if let Some(reply) = self.answers.remove(&request) {
                    let _ = reply.send(result.map_err(Error::from));
                }
            }
            ClientEvent::Delivered { channel, event } => {
                if let Some(subscriber) = self.subscribers.get_mut(&channel) {
                    subscriber.room -= 1;
                    let _ = subscriber.events.send(SubscriptionEvent::Event(event));
                }
            }
            ClientEvent::Reset { channel, epoch, floor, head } => {
                if let Some(subscriber) = self.subscribers.get_mut(&channel) {
                    let _ = subscriber.events.send(SubscriptionEvent::Reset { epoch, floor, head });
                }
            }
            ClientEvent::Subscribed { channel, .. } => {
                let pending = self.subscribers.get_mut(&channel).and_then(|one| one.pending.take());
                if let Some((reply, subscription)) = pending {
                    // If the asker is gone, dropping the subscription unsubscribes.
                    let _ = reply.send(Ok(subscription));
                }
            }
            ClientEvent::SubscriptionEnded { channel, code } => self.subscription_ended(channel, code),
            ClientEvent::RepeatAcked { .. } => {}
            other => self.notice(other),
        }
    }

    fn subscription_ended(&mut self, channel: ChannelId, code: throng_wire::Code) {
        let Some(subscriber) = self.subscribers.remove(&channel) else { return };
        match subscriber.pending {
            Some((reply, _)) => drop(reply.send(Err(Error::Refused(code)))),
            None => drop(subscriber.events.send(SubscriptionEvent::Ended(code))),
        }
    }

    /// What is for everybody; the first outcome is also the answer to `connect`.
    fn notice(&mut self, event: ClientEvent) {
        let outcome = match &event {
            ClientEvent::Connected(session) => Some(Ok(session.clone())),
            ClientEvent::TokenRefused { code } => Some(Err(ConnectError::Token(*code))),
            ClientEvent::Closed { reason } => Some(Err(ConnectError::Failed(Some(reason.clone())))),
            _ => None,
        };
        if let Some(outcome) = outcome
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(outcome);
        }
        tracing::debug!(?event, "client");
        let _ = self.notices.send(event);
    }
}
