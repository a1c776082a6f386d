//! Truncation, and logs that begin later than at their first segment.

use bytes::Bytes;
use throng_wire::ids::ShardId;

use super::*;
use crate::entry::{Conf, Mark};

const LOG: LogId = LogId(0xbe91);
const CAPACITY: u64 = 5 * BLOCK as u64;
const SHARD: ShardId = ShardId(1);

fn entry(term: u64, index: u64) -> Entry {
    Entry { term, index, data: Bytes::from(vec![index as u8; 50]), ..Entry::default() }
}

fn entries(term: u64, range: core::ops::RangeInclusive<u64>) -> Record {
    let entries: Vec<Entry> = range.map(|index| entry(term, index)).collect();
    Record { shard: SHARD, entries, ..Record::default() }
}

fn state(term: u64, commit: u64) -> Record {
    Record { shard: SHARD, hard_state: Some(HardState { term, vote: 1, commit }), ..Record::default() }
}

fn mark(index: u64, term: u64) -> Mark {
    Mark { index, term, peer: 1, replica: 1, conf: Conf::of_voters([1, 2, 3]), ..Mark::default() }
}

fn marked(mark: Mark) -> Record {
    Record { shard: SHARD, mark: Some(mark), ..Record::default() }
}

fn reset(mark: Mark) -> Mark {
    Mark { reset: true, ..mark }
}

/// A log in memory: segments by generation, the writer, and what it holds.
struct World {
    segments: Vec<(Generation, Vec<u8>)>,
    appender: Appender,
    contents: Contents,
}

impl World {
    fn new() -> Self {
        let segments = vec![(Generation::FIRST, segment(Generation::FIRST, Generation::FIRST))];
        let (found, contents) = read(&segments).expect("an empty log");
        Self { segments, appender: Appender::new(LOG, found.end, found.segments), contents }
    }

    fn commit(&mut self, records: &[Record]) {
        self.contents.check(records).expect("the test writes what may be written");
        let len = commit::encoded_len(records);
        if !self.appender.fits(len) {
            let next = self.appender.end().generation.next();
            self.segments.push((next, segment(next, self.appender.segments().begin().generation)));
            self.appender.rotate(next, CAPACITY);
        }
        let mut bytes = Vec::new();
        let staged = self.appender.stage(records, &mut bytes).expect("small");
        let (_, segment) = self.segments.iter_mut().find(|(at, _)| *at == staged.generation).expect("there");
        segment[staged.offset as usize..][..len].copy_from_slice(&bytes);
        self.contents.append(staged, records).expect("checked");
    }

    /// What the log thread does after a truncation.
    fn truncate(&mut self, mark: Mark) {
        assert!(self.contents.truncate([(SHARD, mark)]).is_empty(), "the entry is there");
        let active = self.appender.end().generation;
        let needed = self.contents.pinned().unwrap_or(active);
        if needed > self.appender.segments().begin().generation {
            let records = self.contents.rewrites(needed);
            self.appender.begin_at(needed);
            self.commit(&records);
        }
    }

    fn recycle(&mut self) {
        let begin = self.appender.segments().begin().generation;
        self.segments.retain(|(generation, _)| *generation >= begin);
    }

    /// Seven segments of four commits, one entry each; 20 is the last that is not needed.
    fn truncated() -> Self {
        let mut world = Self::new();
        world.commit(&[state(3, 1)]);
        for index in 1..=26 {
            world.commit(&[entries(3, index..=index)]);
        }
        world.truncate(mark(20, 3));
        world
    }

    fn refused(&self) -> Fault {
        read(&self.segments).map(|_| ()).expect_err("this log must not be used").fault
    }
}

fn segment(generation: Generation, begin: Generation) -> Vec<u8> {
    let mut bytes = vec![0; CAPACITY as usize];
    let header = SegmentHeader { log: LOG, generation, capacity: CAPACITY, begin };
    bytes[..BLOCK].copy_from_slice(&header.encode());
    bytes
}

fn read(segments: &[(Generation, Vec<u8>)]) -> Result<(Recovered, Contents), LogError> {
    let mut contents = Contents::before_replay(4, segments[0].0);
    let mut recovery = Recovery::new(LOG, segments[0].0);
    for (_, bytes) in segments {
        recovery.segment(bytes, |at, record| contents.replay(at, &record))?;
    }
    let found = recovery.finish()?.expect("a segment was read");
    let generation = found.segments.begin().generation;
    contents.complete().map_err(|why| LogError { generation, offset: 0, fault: Fault::Records(why) })?;
    Ok((found, contents))
}

#[test]
fn a_truncated_log_is_found_as_it_was_left() {
    let mut world = World::truncated();
    for recycled in [false, true] {
        let (found, contents) = read(&world.segments).expect("legal with leftovers and without");
        assert_eq!(&found.segments, world.appender.segments(), "{recycled}");
        assert_eq!(&found.end, world.appender.end());
        assert_eq!((contents.bounds(SHARD), contents.hard_state(SHARD).term), ((21, 27), 3));
        assert_eq!(contents.mark(SHARD), Some(&mark(20, 3)));
        assert_eq!(found.segments.begin().generation, Generation(6));
        world.recycle();
    }
    assert_eq!(world.segments[0].0, Generation(6));
    // It goes on and is truncated again, also to the very end.
    for index in 27..=40 {
        world.commit(&[entries(3, index..=index)]);
    }
    world.truncate(mark(40, 3));
    world.recycle();
    let (found, contents) = read(&world.segments).expect("legal");
    assert_eq!((contents.bounds(SHARD), contents.hard_state(SHARD).term), ((41, 41), 3));
    assert_eq!((found.segments.live_bytes(), found.tail), (CAPACITY, Tail::Clean));
}

#[test]
fn a_segment_lost_from_the_front_is_refused() {
    let mut world = World::truncated();
    world.recycle();
    world.segments.remove(0);
    assert_eq!(world.refused(), Fault::FrontLost { begin: Generation(6), oldest: Generation(7) });
    // Also before anything was recycled.
    let mut world = World::new();
    for index in 1..=9 {
        world.commit(&[entries(1, index..=index)]);
    }
    world.segments.remove(0);
    assert_eq!(world.refused(), Fault::FrontLost { begin: Generation(1), oldest: Generation(2) });
}

#[test]
fn a_lost_statement_of_the_begin_is_refused_when_a_header_knows_it() {
    let mut world = World::truncated();
    // The spare was made after the statement was durable; nothing was recycled yet.
    let spare = Generation(world.segments.last().expect("there").0.0 + 1);
    world.segments.push((spare, segment(spare, Generation(6))));
    read(&world.segments).expect("legal");
    let end = world.appender.end().offset as usize;
    let at = world.segments.len() - 2;
    world.segments[at].1[end - BLOCK..end].fill(0);
    assert_eq!(world.refused(), Fault::BeginLost { known: Generation(6) });
}

#[test]
fn the_first_commit_of_a_recycled_log_is_anchored() {
    let mut world = World::truncated();
    world.recycle();
    let whole = world.segments.clone();
    // Its first commit damaged, then all of its commits, then all but for one that is not the first.
    for damaged in [BLOCK..2 * BLOCK, BLOCK..5 * BLOCK] {
        world.segments[0].1[damaged].fill(0x77);
        let fault = world.refused();
        assert!(matches!(fault, Fault::Hole { .. } | Fault::OtherBegin), "{fault:?}");
        world.segments.clone_from(&whole);
    }
}

#[test]
fn hard_states_of_idle_groups_are_written_again_before_their_segment_goes() {
    let mut world = World::new();
    let idle = ShardId(3);
    let vote = HardState { term: 9, vote: 2, commit: 0 };
    world.commit(&[Record { shard: idle, hard_state: Some(vote), ..Record::default() }]);
    for index in 1..=30 {
        world.commit(&[entries(1, index..=index)]);
        world.truncate(mark(index, 1));
        world.recycle();
        let (_, contents) = read(&world.segments).expect("legal at every step");
        assert_eq!(contents.hard_state(idle), vote, "entry {index}");
        assert_eq!(contents.bounds(SHARD).1, index + 1);
    }
    assert!(world.segments.len() <= 2, "{} segments", world.segments.len());
}

#[test]
fn marks_forget_what_they_say_and_nothing_else() {
    let base = [state(2, 0), entries(1, 1..=4), entries(2, 5..=8)];
    let good: [(&[Record], (u64, u64)); 6] = [
        (&[marked(mark(6, 2))], (7, 9)),
        (&[marked(mark(8, 2))], (9, 9)),
        (&[marked(mark(6, 2)), marked(mark(3, 1))], (7, 9)),
        (&[marked(reset(mark(20, 2))), entries(2, 21..=22)], (21, 23)),
        (&[marked(reset(mark(2, 1)))], (3, 3)),
        (&[marked(mark(0, 0))], (1, 9)),
    ];
    for (records, bounds) in good {
        let mut world = World::new();
        world.commit(&base);
        world.commit(records);
        let (_, contents) = read(&world.segments).expect("legal");
        assert_eq!((world.contents.bounds(SHARD), contents.bounds(SHARD)), (bounds, bounds), "{records:?}");
    }
    let bad: [(&str, &[Record]); 6] = [
        ("no such entry", &[marked(mark(9, 2))]),
        ("another term", &[marked(mark(6, 1))]),
        ("entries behind a reset follow it", &[marked(reset(mark(20, 2))), entries(2, 22..=23)]),
        ("what was forgotten does not come back", &[marked(mark(6, 2)), entries(2, 6..=9)]),
        (
            "a reset of the same replica",
            &[marked(mark(6, 2)), Record { mark: Some(reset(mark(7, 2))), ..state(1, 0) }],
        ),
        ("a mark in front of the first mark", &[marked(reset(mark(6, 2))), marked(mark(9, 9))]),
    ];
    for (why, records) in bad {
        let mut world = World::new();
        world.commit(&base);
        assert!(world.contents.check(records).is_err(), "{why}");
    }
    // Another replica may begin with a younger past.
    let mut world = World::new();
    world.commit(&base);
    world.commit(&[marked(mark(6, 2))]);
    let anew = Mark { peer: 7 << 24 | 1, replica: 9, ..reset(mark(0, 0)) };
    world.commit(&[Record { mark: Some(anew), ..state(1, 0) }]);
    assert_eq!((world.contents.bounds(SHARD), world.contents.hard_state(SHARD).term), ((1, 1), 1));
    assert!(world.contents.truncate([(SHARD, mark(8, 2))]).len() == 1, "of the replica that is gone");
}

#[test]
fn a_truncation_waits_for_its_entry() {
    let mut world = World::new();
    world.commit(&[state(2, 0), entries(1, 1..=4)]);
    assert_eq!(world.contents.truncate([(SHARD, mark(6, 2))]).len(), 1, "6 is not written here yet");
    assert_eq!(world.contents.truncate([(SHARD, mark(4, 2))]).len(), 1, "4 is not the committed one");
    world.commit(&[entries(2, 4..=7)]);
    assert!(world.contents.truncate([(SHARD, mark(6, 2))]).is_empty());
    assert!(world.contents.truncate([(SHARD, mark(5, 2))]).is_empty(), "passed already");
    assert_eq!(world.contents.bounds(SHARD), (7, 8));
}

#[test]
fn memory_is_given_back_with_the_entries() {
    let mut places = Places::default();
    for index in 1..=100_000 {
        places.add(index, Place::new(Generation(1), 4096, 100, 1)).expect("in order");
    }
    places.drop_through(99_990);
    assert_eq!((places.first(), places.next()), (99_991, 100_001));
    assert!(places.held() < 1000, "{} places are held", places.held());
}
