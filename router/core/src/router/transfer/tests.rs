//! Both ends over a link that loses, doubles and breaks.

use bytes::Bytes;
use throng_base::{Instant, Rng};
use throng_storage_core::entry::Conf;
use throng_storage_core::state::{Change, MemState, StateRead, StateWrite, Table, WriteBatch};
use throng_storage_core::store::SnapshotMeta;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftConf, RaftMessage, SnapshotMessage};

use super::{receive, send};
use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOT_OFFER_AGAIN, SNAPSHOT_WINDOW};
use crate::machines::{Machines, MemoryLimits};
use crate::snapshot::{Cursor, Import, next_chunk};

const STREAM: u64 = 77;
const SHARD: ShardId = ShardId(0);
/// The receiver's number for the copy.
const REPLICA: u32 = 70;

fn offer() -> SnapshotMessage {
    let (message, conf) = (Box::<RaftMessage>::default(), Box::<RaftConf>::default());
    SnapshotMessage::Offer { stream: STREAM, message, index: 0, log_term: 0, conf }
}

fn meta() -> SnapshotMeta {
    SnapshotMeta { conf: Conf { voters: vec![1, 2], ..Conf::default() }, ..SnapshotMeta::default() }
}

/// A store with one copy of so many rows.
fn store(rows: u64) -> MemState {
    let mut state = MemState::new();
    let mut machines =
        Machines::load(state.clone(), &[0], 1, MemoryLimits::default()).expect("memory can be read");
    machines.set_conf(SHARD, meta().conf);
    state.write(&machines.cut().1).expect("memory takes it");
    let row = |number: u64| {
        let key = [&[0; 6][..], &[9; 16], &number.to_be_bytes()].concat();
        Change::Put(Table::Events, key.into(), vec![7; 3].into())
    };
    state.write(&(0..rows).map(row).collect()).expect("memory takes it");
    state
}

fn events(state: &MemState, replica: u32) -> Vec<(Bytes, Bytes)> {
    let (from, to) = (replica.to_be_bytes(), (replica + 1).to_be_bytes());
    let rows = state.scan(Table::Events, &from, &to, 1_000).expect("memory can be read");
    rows.into_iter().map(|(key, value)| (key.slice(4..), value)).collect()
}

/// A sender with its view, a receiver with its disk, and what travels between them.
struct Pair {
    now: Instant,
    sending: send::Sending,
    receiving: Option<receive::Receiving>,
    to_receiver: Vec<SnapshotMessage>,
    to_sender: Vec<SnapshotMessage>,
    view: MemState,
    cursor: Option<Cursor>,
    unwritten: Vec<WriteBatch>,
    disk: MemState,
    is_complete: bool,
    has_failed: bool,
    ended: Option<bool>,
}

impl Pair {
    fn new(rows: u64) -> Self {
        Self {
            now: Instant::ZERO,
            sending: send::Sending::new(Instant::ZERO, NodeId(2), offer()),
            receiving: None,
            to_receiver: Vec::new(),
            to_sender: Vec::new(),
            view: store(rows),
            cursor: Some(Cursor::start()),
            unwritten: Vec::new(),
            disk: MemState::new(),
            is_complete: false,
            has_failed: false,
            ended: None,
        }
    }

    /// Carries out everything that both ends want, but does not write and does not deliver.
    fn pump(&mut self) {
        while let Some(step) = self.sending.poll_step() {
            match step {
                send::Step::Send(message) => self.to_receiver.push(message),
                send::Step::Read => {
                    let cursor = self.cursor.take().expect("nothing is read behind the last chunk");
                    let chunk = next_chunk(&self.view, SHARD, 0, &cursor, 80).expect("readable");
                    self.cursor = chunk.next;
                    self.sending.handle_read(chunk.rows, chunk.digest);
                }
                send::Step::Ended(ok) => self.ended = self.ended.or(Some(ok)),
            }
        }
        let Some(receiving) = &mut self.receiving else { return };
        while let Some(step) = receiving.poll_step() {
            match step {
                receive::Step::Send(message) => self.to_sender.push(message),
                receive::Step::Write(batch) => self.unwritten.push(batch),
                receive::Step::Flush => self.unwritten.push(WriteBatch::new()),
                receive::Step::Complete => self.is_complete = true,
                receive::Step::Failed(_) => self.has_failed = true,
            }
        }
        assert!(self.unwritten.len() <= SNAPSHOT_WINDOW + 1, "the window bounds what waits for the disk");
    }

    fn write(&mut self) {
        if !self.unwritten.is_empty() {
            self.disk.write(&self.unwritten.remove(0)).expect("memory takes it");
            let receiving = self.receiving.as_mut().expect("it wrote");
            receiving.handle_written(self.now);
        }
        self.pump();
    }

    fn deliver(&mut self, message: SnapshotMessage) {
        match message {
            SnapshotMessage::Offer { stream, message, .. } => match &mut self.receiving {
                Some(receiving) => receiving.offered_again(),
                None => {
                    let import = Import::new(SHARD, 1, REPLICA);
                    let receiving =
                        receive::Receiving::new(self.now, NodeId(1), stream, *message, meta(), import);
                    self.receiving = Some(receiving);
                }
            },
            SnapshotMessage::Chunk { number, rows, digest, .. } => {
                let receiving = self.receiving.as_mut().expect("it accepted");
                receiving.handle_chunk(self.now, number, rows, digest);
            }
            other => self.sending.handle(self.now, &other),
        }
        self.pump();
    }

    fn pass(&mut self, time: core::time::Duration) {
        self.now += time;
        self.sending.handle_timeout(self.now);
        if let Some(receiving) = &mut self.receiving {
            receiving.handle_timeout(self.now);
        }
        self.pump();
    }
}

#[test]
fn every_row_arrives_once_and_in_order_over_a_bad_link() {
    for seed in 0..200 {
        let (mut rng, mut pair) = (Rng::new(seed), Pair::new(1 + seed % 60));
        pair.pump();
        for _ in 0..20_000 {
            if pair.is_complete || pair.has_failed || pair.ended.is_some() {
                break;
            }
            match rng.below(20) {
                0..7 if !pair.to_receiver.is_empty() => {
                    let message = pair.to_receiver.remove(0);
                    if rng.chance(100_000) {
                        pair.to_receiver.insert(0, message.clone());
                    }
                    pair.deliver(message);
                }
                7..14 if !pair.to_sender.is_empty() => {
                    let message = pair.to_sender.remove(0);
                    pair.deliver(message);
                }
                14..17 => pair.write(),
                17 => pair.pass(SNAPSHOT_OFFER_AGAIN / 3),
                18 if rng.chance(150_000) => {
                    // The link breaks: what was under way is gone.
                    pair.to_receiver.clear();
                    pair.to_sender.clear();
                }
                _ => {}
            }
        }
        assert!(pair.is_complete, "seed {seed}: no end; sender {:?}", pair.ended);
        assert_eq!(events(&pair.disk, REPLICA), events(&pair.view, 0), "seed {seed}");
    }
}

#[test]
fn a_row_that_changed_on_the_way_fails_the_snapshot() {
    let mut pair = Pair::new(4);
    pair.pump();
    for _ in 0..40 {
        if !pair.to_receiver.is_empty() {
            let mut message = pair.to_receiver.remove(0);
            if let SnapshotMessage::Chunk { number: 0, rows, .. } = &mut message {
                rows[0].value = vec![8; 3].into();
            }
            pair.deliver(message);
        }
        if !pair.to_sender.is_empty() {
            let message = pair.to_sender.remove(0);
            pair.deliver(message);
        }
        pair.write();
    }
    assert!(pair.has_failed && !pair.is_complete);
    assert_eq!(pair.ended, Some(false));
}

#[test]
fn whoever_hears_nothing_gives_up() {
    let mut pair = Pair::new(4);
    pair.pump();
    let message = pair.to_receiver.remove(0);
    pair.deliver(message);
    pair.pass(SNAPSHOT_OFFER_AGAIN);
    assert!(matches!(pair.to_receiver[..], [SnapshotMessage::Offer { .. }]), "{:?}", pair.to_receiver);
    pair.pass(SNAPSHOT_IDLE_MAX);
    assert_eq!((pair.ended, pair.has_failed), (Some(false), true));
}

#[test]
fn a_receiver_that_wants_what_is_gone_ends_the_stream() {
    let mut pair = Pair::new(40);
    pair.pump();
    pair.sending.handle(pair.now, &SnapshotMessage::Accept { stream: STREAM, next: 5 });
    pair.pump();
    assert_eq!(pair.ended, Some(false));
}
