//! The user's handle.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use throng_client_core::{
    Answer, Client as Machine, Cursor, Endpoint, Login, Request, SavedState, Session, Start,
};
use throng_wire::frame::{ChannelClass, Freshness, Member, SyncEntry};
use throng_wire::{ChannelId, ClientMsgId, Event, MemberNo, Seq, ServerTs, UserId, UserSeq};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::driver::{Command, Driver, Inputs, PublishCommand, now_since};
use crate::error::{ConnectError, Error};
use crate::options::ClientOptions;
use crate::subscription::{Notices, Subscription};
use crate::transport::Dialer;

/// Sends waiting for room in the outbox.
const PUBLISHES_WAITING_MAX: usize = 256;

/// Commands waiting for the driver.
const COMMANDS_WAITING_MAX: usize = 64;

/// Notices held for a reader that is behind.
const NOTICES_HELD_MAX: usize = 256;

/// A send is durable on a majority of replicas under its final number (contract C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Its number in the channel.
    pub seq: Seq,
    /// The shard's stamp.
    pub ts: ServerTs,
    /// An earlier try had stored it already.
    pub duplicate: bool,
    /// The client's own number for it.
    pub client_msg_id: ClientMsgId,
}

/// State of a channel after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The channel.
    pub channel: ChannelId,
    /// Its class.
    pub class: ChannelClass,
    /// Its newest event.
    pub head: Seq,
    /// The number of the member the operation was about.
    pub member: MemberNo,
}

/// A range of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The newest event the user may see.
    pub head: Seq,
    /// Consecutive events.
    pub events: Vec<Event>,
}

/// Channels that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncPage {
    /// Cursor for the next call.
    pub cursor: UserSeq,
    /// Whether more follow.
    pub more: bool,
    /// The channels.
    pub entries: Vec<SyncEntry>,
}

/// A connected device. Cheap to clone; the connection ends with [`Client::close`] or the last handle.
#[derive(Clone, Debug)]
pub struct Client {
    publishes: mpsc::Sender<PublishCommand>,
    commands: mpsc::Sender<Command>,
    notices: broadcast::Sender<throng_client_core::ClientEvent>,
    session: Arc<Session>,
}

impl Client {
    /// Connects and authenticates; returns when a session stands.
    ///
    /// # Errors
    /// [`ConnectError`] if that cannot be had within the options' time. Later breaks are repaired in the background.
    pub async fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        Ok(Self::connect_with_notices(options).await?.0)
    }

    /// The same, with all notices from the very first on.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with_notices(options: ClientOptions) -> Result<(Self, Notices), ConnectError> {
        let dialer = Dialer::new(&options.roots).map_err(ConnectError::Roots)?;
        Self::connect_through(dialer, options).await
    }

    /// The same, with a dialer shared with other clients (one UDP socket, one TLS configuration).
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_through(
        dialer: Dialer,
        options: ClientOptions,
    ) -> Result<(Self, Notices), ConnectError> {
        let origin = std::time::Instant::now();
        let timeout = options.connect_timeout;
        let capacity = options.subscription_capacity;
        let machine = machine(options, now_since(origin))?;
        let (publishes, publishes_in) = mpsc::channel(PUBLISHES_WAITING_MAX);
        let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (notices, first_notices) = broadcast::channel(NOTICES_HELD_MAX);
        let (ready, ready_in) = oneshot::channel();
        let inputs = Inputs { publishes: publishes_in, commands: commands_in };
        let driver = Driver::new(machine, origin, dialer, notices.clone(), ready, capacity);
        tokio::spawn(driver.run(inputs));
        let session = match tokio::time::timeout(timeout, ready_in).await {
            Ok(Ok(outcome)) => outcome?,
            Ok(Err(_)) => return Err(ConnectError::Failed(None)),
            // Dropping the handles ends the driver.
            Err(_) => return Err(ConnectError::Failed(last_failure(first_notices))),
        };
        let client = Self { publishes, commands, notices, session: Arc::new(session) };
        Ok((client, Notices { events: first_notices }))
    }

    /// The session as it was first established.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sends a message and waits until it is durable, however many connections that takes; waits for room in the
    /// outbox first. Dropping the future does not take the message back.
    ///
    /// # Errors
    /// [`Error::Refused`] for good, or [`Error::Closed`].
    pub async fn publish(&self, channel: ChannelId, body: impl Into<Bytes>) -> Result<Ack, Error> {
        let (reply, answer) = oneshot::channel();
        let command = PublishCommand { channel, body: body.into(), reply };
        self.publishes.send(command).await.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Subscribes to a channel; returns when the subscription stands. A channel has one subscription per client: this
    /// one replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::Refused`], for instance without membership; [`Error::Full`]; [`Error::Closed`].
    pub async fn subscribe(&self, channel: ChannelId, start: Start) -> Result<Subscription, Error> {
        self.command(|reply| Command::Subscribe { channel, start, reply }).await
    }

    /// Opens the direct channel with a user (with oneself: the self channel), making it if need be.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(&self, peer: UserId) -> Result<ChannelInfo, Error> {
        self.channel_request(Request::Open { peer }).await
    }

    /// Makes a group whose id is [`ChannelId::group`] of 128 random bits; repeating it is harmless.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create(
        &self,
        channel: ChannelId,
        class: ChannelClass,
        members: Vec<UserId>,
    ) -> Result<ChannelInfo, Error> {
        self.channel_request(Request::Create { channel, class, members }).await
    }

    /// Joins an open channel.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn join(&self, channel: ChannelId) -> Result<ChannelInfo, Error> {
        self.add(channel, UserId::NIL).await
    }

    /// Adds a user to a group.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn add(&self, channel: ChannelId, user: UserId) -> Result<ChannelInfo, Error> {
        self.channel_request(Request::Join { channel, user }).await
    }

    /// Leaves a channel and ends one's subscription.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn leave(&self, channel: ChannelId) -> Result<ChannelInfo, Error> {
        self.remove(channel, UserId::NIL).await
    }

    /// Removes a user from a channel (owners).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn remove(&self, channel: ChannelId, user: UserId) -> Result<ChannelInfo, Error> {
        self.channel_request(Request::Leave { channel, user }).await
    }

    /// Members with a number above `after`, and whether more follow.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn members(&self, channel: ChannelId, after: MemberNo) -> Result<(Vec<Member>, bool), Error> {
        let limit = throng_wire::limits::MEMBERS_PAGE_MAX as u16;
        match self.request(Request::Members { channel, after, limit }).await? {
            Answer::Members { more, members } => Ok((members, more)),
            _ => Err(Error::Refused(throng_wire::Code::PROTOCOL)),
        }
    }

    /// Up to `limit` events after a cursor, oldest first.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Reset`] if the cursor cannot be continued.
    pub async fn fetch(
        &self,
        channel: ChannelId,
        cursor: Cursor,
        limit: u16,
        freshness: Freshness,
    ) -> Result<Page, Error> {
        match self.request(Request::Fetch { channel, cursor, limit, freshness }).await? {
            Answer::Page { head, events } => Ok(Page { head, events }),
            _ => Err(Error::Refused(throng_wire::Code::PROTOCOL)),
        }
    }

    /// Which channels moved after an inbox cursor.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sync(&self, after: UserSeq) -> Result<SyncPage, Error> {
        let limit = throng_wire::limits::SYNC_ENTRIES_MAX as u16;
        match self.request(Request::Sync { after, epoch: None, limit }).await? {
            Answer::Synced { cursor, more, entries } => Ok(SyncPage { cursor, more, entries }),
            _ => Err(Error::Refused(throng_wire::Code::PROTOCOL)),
        }
    }

    /// What happens to the client from now on.
    pub fn notices(&self) -> Notices {
        Notices { events: self.notices.subscribe() }
    }

    /// A new token for this and later connections.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_token(&self, token: impl Into<String>) -> Result<(), Error> {
        let token = Bytes::from(token.into());
        self.command(|reply| Command::SetToken { token, reply }).await
    }

    /// Cursors and outbox, to be given to the next run of this device.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn saved_state(&self) -> Result<SavedState, Error> {
        self.command(|reply| Command::Save { reply }).await
    }

    /// Says goodbye, closes, and returns what to give to the next run of this device.
    ///
    /// # Errors
    /// [`Error::Closed`] if it was closed before.
    pub async fn close(&self) -> Result<SavedState, Error> {
        self.command(|reply| Command::Close { reply }).await
    }

    async fn channel_request(&self, request: Request) -> Result<ChannelInfo, Error> {
        match self.request(request).await? {
            Answer::Channel { channel, class, head, member } => {
                Ok(ChannelInfo { channel, class, head, member })
            }
            _ => Err(Error::Refused(throng_wire::Code::PROTOCOL)),
        }
    }

    async fn request(&self, request: Request) -> Result<Answer, Error> {
        self.command(|reply| Command::Request { request, reply }).await
    }

    async fn command<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(make(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

fn machine(options: ClientOptions, now: throng_base::Instant) -> Result<Machine, ConnectError> {
    let endpoints: Result<Vec<Arc<Endpoint>>, _> =
        options.endpoints.iter().map(|url| url.parse().map(Arc::new)).collect();
    let endpoints = endpoints.map_err(ConnectError::Endpoint)?;
    if endpoints.is_empty() {
        return Err(ConnectError::NoEndpoint);
    }
    let login = Login { endpoints: endpoints.into(), token: Bytes::from(options.token) };
    let saved = options.saved.unwrap_or_else(|| SavedState {
        next_client_msg_id: ClientMsgId(unix_time().as_micros() as u64),
        ..SavedState::default()
    });
    Ok(Machine::new(Arc::new(options.config), login, saved, seed()?, now))
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_micros(1))
}

fn seed() -> Result<u64, ConnectError> {
    use ring::rand::SecureRandom;
    let mut seed = [0u8; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| ConnectError::System(std::io::Error::other("no randomness")))?;
    Ok(u64::from_le_bytes(seed))
}

/// Why the last attempt failed.
fn last_failure(
    mut notices: broadcast::Receiver<throng_client_core::ClientEvent>,
) -> Option<throng_client_core::Reason> {
    let mut last = None;
    while let Ok(event) = notices.try_recv() {
        if let throng_client_core::ClientEvent::Disconnected { reason, .. } = event {
            last = Some(reason);
        }
    }
    last
}
