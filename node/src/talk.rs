//! `throng chat`, `send`, `tail` and `history`: conversations from the terminal.

use std::collections::BTreeMap;

use throng_client::{Client, Cursor, Error, Start, Subscription, SubscriptionEvent};
use throng_wire::event::Membership;
use throng_wire::frame::Freshness;
use throng_wire::{ChannelId, Event, EventKind, MemberNo, Seq, UserId};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::cli::{ChatArgs, ConnectArgs, HistoryArgs, PeerArgs, SendArgs, TailArgs};
use crate::connect::{self, chain};
use crate::error::Failure;

/// Messages of an earlier talk that a chat shows at its start.
const CHAT_BACKLOG: u64 = 20;

/// A direct conversation, open.
struct Talk {
    client: Client,
    channel: ChannelId,
    head: Seq,
    me: MemberNo,
    names: BTreeMap<UserId, String>,
    members: BTreeMap<MemberNo, UserId>,
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::runtime("cannot start the async runtime", e))?
        .block_on(future)
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::runtime(what, chain(error))
}

impl Talk {
    async fn open(args: &ConnectArgs, peer: &PeerArgs) -> Result<Self, Failure> {
        let client = connect::connect(args).await?;
        let other = connect::user(&peer.with);
        let info = client.open(other).await.map_err(|e| failed("cannot open the conversation", &e))?;
        let names =
            BTreeMap::from([(connect::user(&args.user), args.user.clone()), (other, peer.with.clone())]);
        let mut talk = Self {
            client,
            channel: info.channel,
            head: info.head,
            me: info.member,
            names,
            members: BTreeMap::new(),
        };
        let (members, _) = talk
            .client
            .members(info.channel, MemberNo(0))
            .await
            .map_err(|e| failed("cannot list the members", &e))?;
        talk.members = members.into_iter().map(|member| (member.member, member.user)).collect();
        // The answer to OPEN names the member it was about; who I am is in the list.
        let own = connect::user(&args.user);
        talk.me = talk.members.iter().find(|(_, user)| **user == own).map_or(talk.me, |(member, _)| *member);
        Ok(talk)
    }

    fn name(&self, member: MemberNo) -> String {
        let user = self.members.get(&member);
        user.and_then(|user| self.names.get(user)).cloned().unwrap_or_else(|| format!("member {member}"))
    }

    /// One line for a terminal; control characters of the message are escaped, so that nobody can paint on it.
    fn line(&self, event: &Event) -> String {
        let text = match event.kind {
            EventKind::MESSAGE => {
                let text = String::from_utf8_lossy(&event.body);
                text.chars()
                    .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
                    .collect()
            }
            EventKind::JOINED | EventKind::LEFT => membership(event),
            EventKind(other) => format!("(event of kind {other})"),
        };
        format!("#{} {}: {text}", event.seq, self.name(event.sender))
    }

    async fn subscribe(&self, after: Seq) -> Result<Subscription, Failure> {
        self.client
            .subscribe(self.channel, Start::After(Cursor::after(after)))
            .await
            .map_err(|e| failed("cannot subscribe to the conversation", &e))
    }
}

fn membership(event: &Event) -> String {
    let what = if event.kind == EventKind::JOINED { "joined" } else { "left" };
    match Membership::decode(&event.body) {
        Some(membership) => format!("member {} {what}", membership.member),
        None => format!("(somebody {what})"),
    }
}

/// Talks until the end of input.
///
/// # Errors
/// [`Failure::Runtime`] if the conversation cannot be opened or ends.
pub(crate) fn chat(args: &ChatArgs) -> Result<(), Failure> {
    block_on(async {
        let talk = Talk::open(&args.connect, &args.peer).await?;
        println!("talking with {} as {}; end with Ctrl-D", args.peer.with, args.connect.user);
        let mut events = talk.subscribe(Seq(talk.head.0.saturating_sub(CHAT_BACKLOG))).await?;
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) if line.is_empty() => {}
                    Ok(Some(line)) => {
                        talk.client.publish(talk.channel, line).await.map_err(|e| failed("not sent", &e))?;
                    }
                    Ok(None) => break,
                    Err(e) => return Err(failed("cannot read the terminal", &e)),
                },
                event = events.next() => show(&talk, event)?,
            }
        }
        close(&talk.client).await
    })
}

/// Prints an event of a chat; membership lines are noise there.
fn show(talk: &Talk, event: Option<SubscriptionEvent>) -> Result<(), Failure> {
    match event {
        Some(SubscriptionEvent::Event(event)) if event.kind == EventKind::MESSAGE => {
            println!("{}", talk.line(&event));
            Ok(())
        }
        Some(SubscriptionEvent::Event(_)) => Ok(()),
        Some(SubscriptionEvent::Reset { floor, .. }) => {
            println!("(history before #{floor} is gone)");
            Ok(())
        }
        Some(SubscriptionEvent::Ended(code)) => {
            Err(Failure::Runtime(format!("the conversation ended: {code}")))
        }
        None => Err(Failure::Runtime("the connection is closed".into())),
    }
}

/// Sends one message and prints its number.
///
/// # Errors
/// [`Failure::Runtime`] if it could not be stored.
pub(crate) fn send(args: &SendArgs) -> Result<(), Failure> {
    block_on(async {
        let talk = Talk::open(&args.connect, &args.peer).await?;
        let ack = talk
            .client
            .publish(talk.channel, args.text.clone())
            .await
            .map_err(|e| failed("the message was not stored", &e))?;
        println!("stored as #{}", ack.seq);
        close(&talk.client).await
    })
}

/// Prints messages as they arrive.
///
/// # Errors
/// [`Failure::Runtime`] if the conversation cannot be opened or ends.
pub(crate) fn tail(args: &TailArgs) -> Result<(), Failure> {
    block_on(async {
        let talk = Talk::open(&args.connect, &args.peer).await?;
        let mut events = talk.subscribe(Seq(args.after)).await?;
        let mut shown = 0;
        while args.count == 0 || shown < args.count {
            let event = events.next().await;
            shown += u64::from(
                matches!(&event, Some(SubscriptionEvent::Event(e)) if e.kind == EventKind::MESSAGE),
            );
            show(&talk, event)?;
        }
        close(&talk.client).await
    })
}

/// Prints a range of history, membership events included.
///
/// # Errors
/// [`Failure::Runtime`] if it cannot be read.
pub(crate) fn history(args: &HistoryArgs) -> Result<(), Failure> {
    block_on(async {
        let talk = Talk::open(&args.connect, &args.peer).await?;
        let (mut after, mut left) = (Seq(args.after), args.limit);
        while left > 0 {
            let limit =
                u16::try_from(left.min(throng_wire::limits::PAGE_EVENTS_MAX as u64)).unwrap_or(u16::MAX);
            let fetched =
                talk.client.fetch(talk.channel, Cursor::after(after), limit, Freshness::Linearizable);
            let page = match fetched.await {
                Ok(page) => page,
                // Retention: it begins later. Floors only rise, so this ends.
                Err(Error::Reset { floor, .. }) if floor.0 > after.0 + 1 => {
                    println!("(history before #{floor} is gone)");
                    after = Seq(floor.0 - 1);
                    continue;
                }
                Err(e) => return Err(failed("cannot read the history", &e)),
            };
            for event in &page.events {
                println!("{}", talk.line(event));
                after = event.seq;
                left -= 1;
            }
            if page.events.is_empty() {
                break;
            }
        }
        close(&talk.client).await
    })
}

async fn close(client: &Client) -> Result<(), Failure> {
    client.close().await.map(drop).map_err(|e| failed("not closed in order", &e))
}
