//! The log against a disk of byte vectors: what was written comes back, what was damaged is noticed.

use bytes::Bytes;
use proptest::prelude::*;
use throng_base::Rng;
use throng_wire::ids::ShardId;

use super::*;
use crate::entry::{Conf, Mark};

const LOG: LogId = LogId(0x5eed);
const CAPACITY: u64 = 6 * BLOCK as u64;

/// Segments as a disk holds them, and the writer at their end.
struct Disk {
    log: LogId,
    segments: Vec<Vec<u8>>,
    appender: Option<Appender>,
    /// Where each commit begins and ends: segment, range.
    commits: Vec<(usize, core::ops::Range<usize>)>,
}

impl Disk {
    fn new(log: LogId) -> Self {
        let mut disk = Self { log, segments: Vec::new(), appender: None, commits: Vec::new() };
        disk.prepare(CAPACITY);
        disk.go_on();
        disk
    }

    fn with(log: LogId, commits: &[Vec<Record>]) -> Self {
        let mut disk = Self::new(log);
        commits.iter().for_each(|records| disk.commit(records));
        disk
    }

    /// Writes on where recovery finds the end.
    fn go_on(&mut self) {
        let found = self.read(|_| ()).expect("a log that opens").expect("there is a segment");
        self.appender = Some(Appender::new(self.log, found.end, found.segments));
    }

    fn prepare(&mut self, capacity: u64) {
        let generation = Generation(self.segments.len() as u64 + 1);
        let mut segment = vec![0; capacity as usize];
        let begin = Generation::FIRST;
        segment[..BLOCK]
            .copy_from_slice(&SegmentHeader { log: self.log, generation, capacity, begin }.encode());
        self.segments.push(segment);
    }

    fn commit(&mut self, records: &[Record]) {
        let len = commit::encoded_len(records);
        let mut appender = self.appender.take().expect("made in new");
        if !appender.fits(len) {
            let next = appender.end().generation.next();
            if next.0 > self.segments.len() as u64 {
                self.prepare(CAPACITY);
            }
            appender.rotate(next, CAPACITY);
        }
        let mut bytes = Vec::new();
        let staged = appender.stage(records, &mut bytes).expect("test records are small");
        assert!(bytes.len() == len && bytes.len().is_multiple_of(BLOCK), "whole blocks");
        let (segment, from) = (staged.generation.0 as usize - 1, staged.offset as usize);
        self.segments[segment][from..from + len].copy_from_slice(&bytes);
        self.commits.push((segment, from..from + len));
        self.appender = Some(appender);
    }

    fn read(&self, mut found: impl FnMut(Record)) -> Result<Option<Recovered>, LogError> {
        let mut recovery = Recovery::new(self.log, Generation::FIRST);
        for segment in &self.segments {
            recovery.segment(segment, |_, record| {
                found(record.to_record());
                Ok(())
            })?;
        }
        recovery.finish()
    }

    fn records(&self) -> Result<(Vec<Record>, LogEnd, Tail), LogError> {
        let mut records = Vec::new();
        let found = self.read(|record| records.push(record))?.expect("a disk has a segment");
        Ok((records, found.end, found.tail))
    }
}

fn entry(index: u64, len: usize) -> Entry {
    let data = Bytes::from(vec![index as u8; len]);
    Entry { kind: EntryKind::Normal, term: 1 + index / 4, index, data, context: Bytes::from_static(b"ctx") }
}

fn record(shard: u32, entries: Vec<Entry>) -> Record {
    let last = entries.last().map_or(0, |entry| entry.term);
    let hard_state = (last > 0).then_some(HardState { term: last, vote: 2, commit: 0 });
    Record { shard: ShardId(shard), hard_state, mark: None, entries }
}

fn small_log() -> Vec<Vec<Record>> {
    (1..=10)
        .map(|n| vec![record(0, vec![entry(n, 800 * n as usize)]), record(3, vec![entry(n, 5)])])
        .collect()
}

fn any_record() -> impl Strategy<Value = Record> {
    let kind =
        prop_oneof![Just(EntryKind::Normal), Just(EntryKind::ConfChange), Just(EntryKind::ConfChangeV2)];
    let bytes = || prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..80), 1 => prop::collection::vec(any::<u8>(), 0..2000)];
    let body = (kind, any::<u64>(), bytes(), bytes());
    let state = prop::option::of((any::<u64>(), any::<u64>(), any::<u64>()));
    (any::<u32>(), state, any_mark(), 0..u64::MAX / 2, prop::collection::vec(body, 0..5)).prop_map(
        |(shard, state, mark, first, bodies)| {
            let hard_state = state.map(|(term, vote, commit)| HardState { term, vote, commit });
            let entries = (first..).zip(bodies).map(|(index, (kind, term, data, context))| Entry {
                kind,
                term,
                index,
                data: data.into(),
                context: context.into(),
            });
            Record { shard: ShardId(shard), hard_state, mark, entries: entries.collect() }
        },
    )
}

fn any_mark() -> impl Strategy<Value = Option<Mark>> {
    let ids = |from: u64, min| {
        prop::collection::btree_set(from..from + 1000, min..4).prop_map(|ids| ids.into_iter().collect())
    };
    let conf = (ids(1, 1), ids(2000, 0), ids(1, 0)).prop_map(|(voters, learners, voters_outgoing)| Conf {
        voters,
        learners,
        voters_outgoing,
        ..Conf::default()
    });
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>(), any::<bool>());
    prop::option::of((numbers, conf).prop_map(|((index, term, peer, replica, reset, is_suspect), conf)| {
        Mark { index, term, peer, replica, conf, reset, is_suspect }
    }))
}

fn any_commits() -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(any_record(), 0..4), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_comes_back(commits in any_commits()) {
        let disk = Disk::with(LOG, &commits);
        let (records, end, tail) = disk.records().expect("an intact log opens");
        prop_assert_eq!(records, commits.concat());
        prop_assert_eq!(tail, Tail::Clean);
        prop_assert_eq!(&end, disk.appender.as_ref().expect("made in new").end());
    }

    /// A file that lost bytes, or whose bytes turned to zero, at any point.
    #[test]
    fn truncation_is_refused_and_zeros_lose_only_what_they_cover(commits in any_commits(), at in any::<prop::sample::Index>()) {
        let mut disk = Disk::with(LOG, &commits);
        let last = disk.segments.last_mut().expect("a disk has a segment");
        let cut = at.index(last.len());
        let kept = last.split_off(cut);
        prop_assert!(disk.records().is_err(), "a segment of the wrong size is never legal");
        let segment = disk.segments.len() - 1;
        disk.segments[segment].resize(cut + kept.len(), 0);
        let whole = |place: &&(usize, core::ops::Range<usize>)| place.0 < segment || place.1.end <= cut;
        let expected: Vec<Record> = commits[..disk.commits.iter().take_while(whole).count()].concat();
        match disk.records() {
            // The last bytes of a commit may have been zeros anyway.
            Ok((records, ..)) => prop_assert!(records.len() >= expected.len() && commits.concat().starts_with(&records)),
            Err(error) => prop_assert!(cut < BLOCK, "only the header matters: {error}"),
        }
    }

    /// The last commit reaches the disk in part: any of its 512-byte sectors, in any order.
    #[test]
    fn a_torn_last_commit_takes_nothing_else_with_it(commits in any_commits(), seed in any::<u64>()) {
        let mut disk = Disk::with(LOG, &commits);
        let (segment, range) = disk.commits.last().expect("at least one").clone();
        let mut rng = Rng::new(seed);
        for sector in disk.segments[segment][range].chunks_mut(512) {
            if rng.chance(500_000) {
                sector.fill(0);
            }
        }
        let (records, _, tail) = disk.records().expect("a torn tail is legal");
        let (all, without) = (commits.concat(), commits[..commits.len() - 1].concat());
        prop_assert!(records == all || records == without);
        // The log goes on at its end, over whatever lies there.
        disk.go_on();
        disk.commits.clear();
        disk.commit(&[record(9, vec![entry(1, 10)])]);
        let (again, ..) = disk.records().expect("a log goes on after a torn tail");
        prop_assert_eq!(&again[..records.len()], &records[..]);
        prop_assert_eq!(again.len(), records.len() + 1, "{:?}", tail);
    }

    /// Any bit in use: damage before the last commit is refused, damage from there on shows as a torn tail.
    #[test]
    fn no_bit_flips_unseen(commits in any_commits(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut disk = Disk::with(LOG, &commits);
        let total: usize = disk.segments.iter().map(Vec::len).sum();
        let dead = flip(&mut disk, at.index(total), bit);
        check_flip(&disk, &commits, dead);
    }

    /// A segment that held another generation: whatever is not overwritten does not parse.
    #[test]
    fn recycled_bytes_never_parse(old in any_commits(), new in any_commits()) {
        let stale = Disk::with(LOG, &old);
        let fresh = Disk::with(LOG, &new);
        let mut disk = Disk::with(LOG, &[]);
        disk.segments.clone_from(&fresh.segments);
        // Old segments under new ones' headers: the first old segment lies below the last new one.
        let (last, used) = fresh.commits.last().map(|(segment, range)| (*segment, range.end)).expect("one commit");
        let below = &stale.segments[if last == 0 { stale.segments.len() - 1 } else { 0 }];
        if last > 0 || stale.segments.len() > 1 {
            let reach = below.len().min(disk.segments[last].len());
            if used < reach {
                disk.segments[last][used..reach].copy_from_slice(&below[used..reach]);
            }
            prop_assert_eq!(disk.records().expect("stale bytes are no commits").0, new.concat());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK), len in 0..3 * BLOCK) {
        let mut disk = Disk::with(LOG, &small_log());
        let at = BLOCK + bytes.len() % BLOCK;
        let segment = &mut disk.segments[0];
        let end = (at + bytes.len()).min(segment.len());
        segment[at..end].copy_from_slice(&bytes[..end - at]);
        let _either = disk.records();
        disk.segments[0].truncate(len);
        prop_assert!(disk.records().is_err());
        let mut payload = &bytes[..];
        let _either = record::decode(&mut payload, &mut 0, LOG);
    }
}

/// Flips a bit and says whether the byte is dead: behind the last commit of a sealed segment, where a torn tail may
/// have been left for good. Nothing is ever read from there.
fn flip(disk: &mut Disk, mut at: usize, bit: u8) -> bool {
    let (last, commits) = (disk.segments.len() - 1, &disk.commits);
    for (number, segment) in disk.segments.iter_mut().enumerate() {
        if at < segment.len() {
            segment[at] ^= 1 << bit;
            let used = commits.iter().any(|(segment, range)| *segment == number && range.contains(&at));
            return number < last && at >= BLOCK && !used;
        }
        at -= segment.len();
    }
    unreachable!("the byte is in some segment")
}

fn check_flip(disk: &Disk, commits: &[Vec<Record>], dead: bool) {
    let Ok((records, _, tail)) = disk.records() else {
        assert!(!dead, "dead bytes do no harm");
        return;
    };
    if dead {
        assert_eq!((records, tail), (commits.concat(), Tail::Clean));
        return;
    }
    assert_ne!(tail, Tail::Clean, "the flipped bit was noticed");
    let without_last = commits[..commits.len() - 1].concat();
    assert!(
        records == commits.concat() || records == without_last,
        "only the last commit may be taken for torn"
    );
}

#[test]
fn no_bit_of_a_small_log_flips_unseen() {
    let commits = small_log();
    let mut disk = Disk::with(LOG, &commits);
    let total: usize = disk.segments.iter().map(Vec::len).sum();
    for at in 0..total {
        // Every bit of the first bytes of a block, where headers are; elsewhere one bit of each byte.
        let bits = if at % BLOCK < 64 { 0..8 } else { at as u8 % 8..at as u8 % 8 + 1 };
        for bit in bits {
            let dead = flip(&mut disk, at, bit);
            check_flip(&disk, &commits, dead);
            flip(&mut disk, at, bit);
        }
    }
    assert_eq!(disk.records().expect("all bits are back").0, commits.concat());
}

#[test]
fn a_lost_commit_before_later_ones_is_a_hole() {
    let commits = small_log();
    for (number, (segment, range)) in
        Disk::with(LOG, &commits).commits.iter().enumerate().take(commits.len() - 1)
    {
        let mut disk = Disk::with(LOG, &commits);
        disk.segments[*segment][range.clone()].fill(0);
        let error = disk.records().expect_err("later commits are intact");
        let Fault::Hole { missing, .. } = error.fault else { panic!("a hole, not {error}") };
        assert_eq!(missing, CommitNo(number as u64 + 1));
        assert!(error.to_string().contains("is damaged or missing, but commit"), "{error}");
    }
}

#[test]
fn a_lost_segment_is_refused() {
    let mut disk = Disk::with(LOG, &small_log());
    assert!(disk.segments.len() >= 3, "the small log spans segments");
    disk.segments.remove(1);
    let error = disk.records().expect_err("a segment is missing");
    assert_eq!(error.fault, Fault::OtherGeneration(Generation(3)));
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let other = Disk::with(LogId(0xf00d), &small_log());
    let mut disk = Disk::with(LOG, &small_log());
    disk.segments[0].clone_from(&other.segments[0]);
    let error = disk.records().expect_err("the log id differs");
    assert_eq!(error.to_string(), "log segment 1 at byte 0: the segment belongs to another store");
}

/// A user sends a copy of the log's blocks as a message, and a crash tears the commit that holds it.
#[test]
fn log_blocks_inside_a_message_are_no_commits_of_another_log() {
    let evil = Disk::with(LogId(0xbad), &small_log());
    let body = evil.segments[0][BLOCK..3 * BLOCK].to_vec();
    for shift in [0, 1, 64] {
        let mut padded_body = vec![0; BLOCK - layout::COMMIT_HEADER - 16 - 32 + shift];
        padded_body.extend_from_slice(&body);
        let big = Entry { index: 1, term: 1, data: padded_body.into(), ..Entry::default() };
        let mut disk = Disk::with(
            LOG,
            &[vec![Record { shard: ShardId(0), hard_state: None, mark: None, entries: vec![big] }]],
        );
        let (segment, range) = disk.commits[0].clone();
        disk.segments[segment][range.start] ^= 1;
        let (records, _, tail) = disk.records().expect("a torn tail, no hole");
        assert!(records.is_empty() && tail != Tail::Clean);
    }
}

#[test]
fn a_spare_segment_is_no_part_of_the_log() {
    let mut disk = Disk::with(LOG, &small_log());
    let before = disk.records().expect("intact");
    disk.prepare(CAPACITY);
    assert_eq!(disk.records().expect("intact"), before);
}

#[test]
fn a_commit_beyond_the_limit_is_refused() {
    let mut disk = Disk::new(LOG);
    let half = Bytes::from(vec![0; limits::COMMIT_BYTES_MAX / 2]);
    let huge = Entry { index: 1, term: 1, data: half.clone(), context: half, ..Entry::default() };
    let record = Record { shard: ShardId(0), hard_state: None, mark: None, entries: vec![huge] };
    let appender = disk.appender.as_mut().expect("made in new");
    let before = *appender.end();
    appender.stage([&record], &mut Vec::new()).expect_err("too large");
    assert_eq!(*appender.end(), before, "nothing was staged");
}

fn contents_tell(records: &[Record]) -> Result<Contents, String> {
    let mut contents = Contents::new(4);
    for record in records {
        let (mut bytes, link) = (Vec::new(), commit_link());
        commit::encode(&link, &Begin::of_new(LOG), [record], &mut bytes);
        let commit = commit::decode(&bytes, 0, &link).expect("just encoded");
        contents.replay(link.generation, &commit.records[0])?;
    }
    Ok(contents)
}

#[test]
fn replay_keeps_what_raft_keeps_and_the_writer_is_held_to_it() {
    let at =
        |term, index| Entry { term, index, data: Bytes::from(format!("{term}.{index}")), ..Entry::default() };
    let state = |term, commit| Some(HardState { term, vote: 1, commit });
    let shard = ShardId(2);
    let good = [
        Record { shard, hard_state: state(1, 0), mark: None, entries: vec![at(1, 1), at(1, 2), at(1, 3)] },
        Record { shard, hard_state: state(2, 1), mark: None, entries: vec![at(2, 2)] },
    ];
    let contents = contents_tell(&good).expect("a new leader replaces 2 and 3");
    let bad = [
        ("3 is missing", Record { shard, hard_state: None, mark: None, entries: vec![at(2, 4)] }),
        ("a term never falls", Record { shard, hard_state: state(1, 1), mark: None, entries: vec![] }),
        ("a commit never falls", Record { shard, hard_state: state(2, 0), mark: None, entries: vec![] }),
        ("shards are 0..4", Record { shard: ShardId(4), hard_state: None, mark: None, entries: vec![] }),
    ];
    Contents::new(4).check(&good).expect("the writer may write what a replay accepts");
    for (why, record) in bad {
        let all = [&good[..], core::slice::from_ref(&record)].concat();
        assert!(contents_tell(&all).is_err(), "{why}");
        assert!(contents.check([&record]).is_err(), "{why}");
        assert!(Contents::new(4).check(&all).is_err(), "{why}, in one commit");
    }
    let gap = Record { shard, hard_state: None, mark: None, entries: vec![at(2, 3), at(2, 5)] };
    assert!(contents.check([&gap]).is_err(), "entries of a record are contiguous");

    let places = contents.places(shard).expect("there are some");
    assert_eq!(contents.hard_state(shard), HardState { term: 2, vote: 1, commit: 1 });
    assert_eq!(contents.bounds(shard), (1, 3));
    assert_eq!(places.get(2).expect("there").generation(), Generation(7));
    assert!(places.get(3).is_none() && places.range(1, 4).is_none());
    assert!(places.get(0).is_none() && places.range(0, 2).is_none());
    assert_eq!(places.term_runs(3), [(1, 1), (2, 2)]);
    assert_eq!(places.term_runs(2), [(1, 1)]);
    assert!(contents.bounds(ShardId(0)) == (1, 1) && contents.places(ShardId(0)).is_none());
}

fn commit_link() -> commit::Link {
    commit::Link { log: LOG, generation: Generation(7), number: CommitNo(1), previous: 0 }
}

#[test]
fn an_entry_is_checked_when_it_is_read_alone() {
    let (mut bytes, link) = (Vec::new(), commit_link());
    commit::encode(&link, &Begin::of_new(LOG), [&record(5, vec![entry(1, 50)])], &mut bytes);
    let commit = commit::decode(&bytes, 0, &link).expect("just encoded");
    let view = commit.records[0].entries[0];
    let alone = &bytes[view.offset..view.offset + view.len];
    assert_eq!(
        record::decode_entry(&mut &*alone, &mut 0, ShardId(5), LOG).expect("intact").to_entry(),
        entry(1, 50)
    );
    assert!(record::decode_entry(&mut &*alone, &mut 0, ShardId(6), LOG).is_err(), "another shard's");
    for at in 0..alone.len() {
        let mut damaged = alone.to_vec();
        damaged[at] ^= 0x10;
        assert!(record::decode_entry(&mut &damaged[..], &mut 0, ShardId(5), LOG).is_err(), "byte {at}");
    }
}

/// The writer's places of entries are those that recovery finds.
#[test]
fn the_writer_knows_where_its_entries_lie() {
    let commits = small_log();
    let disk = Disk::with(LOG, &commits);
    let (mut written, mut read) = (Contents::new(4), Contents::new(4));
    for (records, (segment, range)) in commits.iter().zip(&disk.commits) {
        let staged = Staged { generation: Generation(*segment as u64 + 1), offset: range.start as u64 };
        written.append(staged, records).expect("contiguous");
    }
    let mut recovery = Recovery::new(LOG, Generation::FIRST);
    for segment in &disk.segments {
        recovery.segment(segment, |generation, record| read.replay(generation, &record)).expect("intact");
    }
    for shard in [ShardId(0), ShardId(3)] {
        assert_eq!(written.bounds(shard), (1, commits.len() as u64 + 1));
        let places = |contents: &Contents| {
            let places = contents.places(shard).expect("there are some");
            places.range(1, 11).expect("ten").collect::<Vec<_>>()
        };
        assert_eq!(places(&written), places(&read));
        assert_eq!(written.hard_state(shard), read.hard_state(shard));
    }
}
