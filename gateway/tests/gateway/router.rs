//! A router of one node that leads every shard, keeps no history and allows everything.

use std::collections::BTreeMap;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_base::Full;
use throng_gateway::{GatewayHandle, LoopInput, RouterSink};
use throng_wire::link::{Answer, Op, Reply, ToGateway, ToRouter};
use throng_wire::{ChannelId, Event, MemberNo, NodeId, Origin, Seq, ServerTs, ShardId, UserSeq};

pub(crate) const SHARDS: u32 = 4;
pub(crate) const NODE: NodeId = NodeId(1);

/// What the router does with a message.
#[derive(Default)]
pub(crate) struct FakeRouter {
    heads: BTreeMap<ChannelId, u64>,
    pub(crate) registered: u64,
}

impl FakeRouter {
    /// What a gateway hears first.
    pub(crate) fn leads() -> ToGateway {
        ToGateway::Leads { shards: (0..SHARDS).map(|shard| (ShardId(shard), Some(NODE), 1)).collect() }
    }

    pub(crate) fn handle(&mut self, message: ToRouter) -> Vec<ToGateway> {
        let ToRouter::Request(request) = message else { return vec![] };
        let reply = |answer| ToGateway::Reply(Reply { id: request.id, result: Ok(answer) });
        match request.op {
            Op::Register { .. } => {
                self.registered += 1;
                vec![reply(Answer::Registered { user_seq: UserSeq(0) })]
            }
            Op::Subscribe { channel, .. } => {
                let head = Seq(self.heads.get(&channel).copied().unwrap_or(0));
                vec![reply(Answer::Subscribed { head, member: MemberNo(1) })]
            }
            Op::Publish { channel, client_msg_id, kind, body } => {
                let head = self.heads.entry(channel).or_default();
                *head += 1;
                let (seq, ts) = (Seq(*head), ServerTs(1_000 + *head));
                let origin = Some(Origin { device: request.device, client_msg_id });
                let event = Event { seq, kind, sender: MemberNo(1), ts, origin, body };
                let deliver = ToGateway::Deliver { channel, event, sender: request.user };
                vec![reply(Answer::Published { seq, ts, duplicate: false }), deliver]
            }
            other => panic!("the tests do not ask for {other:?}"),
        }
    }
}

/// The router in this process, on a thread of its own.
pub(crate) struct InProcess(Sender<Vec<ToRouter>>);

impl InProcess {
    /// The sink for a loop, and what starts the router once the loop's handle is there.
    pub(crate) fn new() -> (Self, impl FnOnce(GatewayHandle)) {
        let (sender, receiver): (_, Receiver<Vec<ToRouter>>) = bounded(4);
        let start = |handle: GatewayHandle| {
            thread::spawn(move || {
                let mut router = FakeRouter::default();
                tell(&handle, LoopInput::RouterUp(NODE));
                tell(&handle, LoopInput::Router { node: NODE, messages: vec![FakeRouter::leads()] });
                for batch in receiver {
                    let messages = batch.into_iter().flat_map(|message| router.handle(message)).collect();
                    tell(&handle, LoopInput::Router { node: NODE, messages });
                }
            });
        };
        (Self(sender), start)
    }
}

fn tell(handle: &GatewayHandle, input: LoopInput) {
    let mut input = input;
    while let Err(Full(back)) = handle.send(input) {
        input = back;
        thread::yield_now();
    }
}

impl RouterSink for InProcess {
    fn send(&mut self, node: NodeId, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>> {
        assert_eq!(node, NODE);
        match self.0.try_send(messages) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(messages) | TrySendError::Disconnected(messages)) => Err(Full(messages)),
        }
    }
}
