//! Messages of all groups, gathered per node and turn.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Message, MessageType};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftBatch, RaftMessage};

use super::convert;
use super::limits;
use super::output::StoreOutput;
use crate::entry::PeerId;

#[derive(Debug, Default)]
struct Batch {
    messages: Vec<RaftMessage>,
    bytes: usize,
}

/// Batches being filled. The list of nodes is the list of voters, so it is bounded; a turn's messages are bounded by
/// what raft may have in flight.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    open: BTreeMap<NodeId, Batch>,
    closed: VecDeque<StoreOutput>,
}

impl Outbox {
    /// Adds a message to the batch of its receiver.
    pub(super) fn add(&mut self, shard: ShardId, message: Message) {
        let to = PeerId(message.to);
        let node = to.node();
        if message.msg_type == MessageType::MsgSnapshot {
            let meta = convert::snapshot_from_raft(message.get_snapshot());
            let message = convert::message_from_raft(shard, message);
            self.closed.push_back(StoreOutput::SendSnapshot { shard, to, message, meta });
            return;
        }
        self.add_message(node, convert::message_from_raft(shard, message));
    }

    /// Adds a message that depends on nothing to the batch of a node.
    pub(super) fn add_message(&mut self, node: NodeId, message: RaftMessage) {
        let batch = self.open.entry(node).or_default();
        batch.bytes += message.size_hint();
        batch.messages.push(message);
        if batch.bytes >= limits::BATCH_BYTES || batch.messages.len() >= limits::BATCH_MESSAGES_MAX {
            self.closed.push_back(send(node, std::mem::take(batch)));
        }
    }

    /// Closes all batches and yields them, per node in the order the messages were made.
    pub(super) fn flush(&mut self, outputs: &mut VecDeque<StoreOutput>) {
        outputs.append(&mut self.closed);
        for (node, batch) in &mut self.open {
            if !batch.messages.is_empty() {
                outputs.push_back(send(*node, std::mem::take(batch)));
            }
        }
    }
}

fn send(node: NodeId, batch: Batch) -> StoreOutput {
    StoreOutput::Send { node, batch: RaftBatch { messages: batch.messages } }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(to: u64, bytes: usize) -> Message {
        let entry = raft::eraftpb::Entry { data: Bytes::from(vec![0; bytes]), ..Default::default() };
        Message { to, entries: vec![entry].into(), ..Default::default() }
    }

    #[test]
    fn one_send_per_node_and_turn_unless_it_grows_large() {
        let mut outbox = Outbox::default();
        for shard in 0..10 {
            outbox.add(ShardId(shard), message(2, 10));
            outbox.add(ShardId(shard), message(3, limits::BATCH_BYTES / 4));
        }
        let mut outputs = VecDeque::new();
        outbox.flush(&mut outputs);
        let sends: Vec<_> = outputs
            .iter()
            .map(|output| match output {
                StoreOutput::Send { node, batch } => (node.0, batch.messages.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sends, [(3, 4), (3, 4), (2, 10), (3, 2)]);
        outputs.clear();
        outbox.flush(&mut outputs);
        assert!(outputs.is_empty());
    }
}
