use bytes::Bytes;
use throng_base::Rng;
use throng_wire::{EventKind, MemberNo, ServerTs};

use super::*;

const MAX: HeldMax = HeldMax { events: 4, bytes: 1000 };

fn event(seq: u64) -> Event {
    Event {
        seq: Seq(seq),
        kind: EventKind::MESSAGE,
        sender: MemberNo(1),
        ts: ServerTs(0),
        origin: None,
        body: Bytes::from_static(b"body"),
    }
}

fn feed(after: u64) -> Feed {
    Feed::new(Start::After(Cursor::after(Seq(after))))
}

fn offer(feed: &mut Feed, seqs: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut handed = Vec::new();
    for seq in seqs {
        handed.extend(feed.offer(event(seq), MAX).map(|event| event.seq.0));
    }
    handed.extend(core::iter::from_fn(|| feed.next_held()).map(|event| event.seq.0));
    handed
}

fn no_delay(_: u32) -> Duration {
    Duration::ZERO
}

#[test]
fn in_order_passes_through_and_old_ones_are_dropped() {
    let mut feed = feed(3);
    feed.subscribed(Seq(3));
    assert_eq!(offer(&mut feed, [4, 5, 4, 2, 6]), [4, 5, 6]);
    assert_eq!(feed.missing(Instant::ZERO), None);
}

#[test]
fn a_gap_is_fetched_and_the_held_events_follow() {
    let mut feed = feed(0);
    feed.subscribed(Seq(0));
    assert_eq!(offer(&mut feed, [1, 5, 6]), [1]);
    assert_eq!(feed.missing(Instant::ZERO), Some(Missing { after: Seq(1), limit: 3, through: Seq(4) }));
    assert_eq!(offer(&mut feed, [2, 3, 4]), [2, 3, 4, 5, 6]);
    assert_eq!(feed.missing(Instant::ZERO), None);
}

#[test]
fn what_does_not_fit_is_dropped_and_fetched_again() {
    let mut feed = feed(0);
    feed.subscribed(Seq(0));
    assert_eq!(offer(&mut feed, 3..=20), []);
    assert_eq!(offer(&mut feed, [1, 2]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(feed.missing(Instant::ZERO), Some(Missing { after: Seq(6), limit: 14, through: Seq(20) }));
}

#[test]
fn a_user_without_room_gets_nothing_and_nothing_is_fetched() {
    let mut feed = feed(0);
    feed.subscribed(Seq(9));
    feed.set_room(0);
    assert_eq!(offer(&mut feed, 1..=9), []);
    assert_eq!(feed.missing(Instant::ZERO), None);
    feed.set_room(5);
    assert_eq!(offer(&mut feed, []), [1, 2, 3, 4]);
    assert_eq!(feed.missing(Instant::ZERO), Some(Missing { after: Seq(4), limit: 5, through: Seq(9) }));
    assert_eq!(offer(&mut feed, 5..=9), [5]);
}

#[test]
fn from_head_skips_what_was_before() {
    let mut feed = Feed::new(Start::Head);
    assert_eq!(offer(&mut feed, [7]), []);
    assert_eq!(feed.cursor(), None);
    feed.subscribed(Seq(7));
    assert_eq!(feed.missing(Instant::ZERO), None);
    assert_eq!(offer(&mut feed, [8]), [8]);
}

#[test]
fn an_empty_page_below_the_head_waits_and_a_former_member_stops() {
    let mut feed = feed(0);
    feed.subscribed(Seq(10));
    assert_eq!(offer(&mut feed, 1..=4), [1, 2, 3, 4]);
    feed.page_done(Instant::ZERO, Seq(4), false, |_| Duration::from_secs(1));
    assert_eq!(feed.missing(Instant::ZERO), None);
    assert_eq!(feed.missing(Instant::from_millis(1000)), None, "the history ends at 4 for this user");
}

#[test]
fn resets_in_a_row_wait() {
    let mut feed = feed(50);
    feed.reset(Instant::ZERO, (Epoch(2), Seq(5), Seq(9)), no_delay);
    assert_eq!((feed.cursor(), feed.pause), (Some(Cursor { after: Seq(4), epoch: Some(Epoch(2)) }), None));
    feed.reset(Instant::ZERO, (Epoch(3), Seq(5), Seq(9)), |_| Duration::from_secs(1));
    assert_eq!(feed.pause, Some(Instant::from_millis(1000)));
}

/// Whatever is lost, repeated or reordered on the way: with fetches answered, the user gets 1, 2, 3 … n.
#[test]
fn every_order_of_arrival_ends_continuous() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut feed = feed(0);
        let mut handed = Vec::new();
        feed.subscribed(Seq(0));
        let n = rng.between(1, 60);
        for _ in 0..rng.between(0, 80) {
            handed.extend(offer(&mut feed, [rng.between(1, n)]));
        }
        feed.raise_head(Seq(n));
        while let Some(missing) = feed.missing(Instant::ZERO) {
            let short = rng.between(1, u64::from(missing.limit));
            handed.extend(offer(&mut feed, missing.after.0 + 1..=missing.after.0 + short));
        }
        assert_eq!(handed, (1..=n).collect::<Vec<_>>(), "seed {seed}");
    }
}
