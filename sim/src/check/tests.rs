//! The checker must reject: each history breaks one promise.

use super::*;

/// Name, what the verdict must say, and the history.
type Case = (&'static str, &'static str, fn(&mut Model));

fn query(freshness: Freshness) -> Query {
    Query { channel: 0, after: 0, freshness, foreign: false, member: true }
}

fn page(m: &mut Model, request: u64, head: u64, bodies: &[&[u8]]) {
    let events: Vec<_> = bodies.iter().zip(1..).map(|(body, seq)| (seq, 1, body.to_vec())).collect();
    m.read(0, request, head, &events);
}

/// `a` is sent by client 0 as its first; most cases go wrong from there.
const CASES: [Case; 29] = [
    ("lost", "C2", |m| m.acked(b"a", 1)),
    ("gap", "C1/C4", |m| m.delivered(0, 0, 2, 1, b"a")),
    ("double delivery", "C1/C4", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.delivered(0, 0, 1, 1, b"a");
    }),
    ("falls back", "C1/C4", |m| {
        m.delivered(0, 0, 1, 1, b"x");
        m.delivered(0, 0, 2, 1, b"a");
        m.delivered(0, 0, 1, 1, b"x");
    }),
    ("two bodies", "C1: channel", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.delivered(1, 0, 1, 1, b"b");
    }),
    ("two bodies in a page", "C1: channel", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.asked(0, 1, query(Freshness::Stale));
        page(m, 1, 1, &[b"b"]);
    }),
    ("second copy", "C2", |m| {
        m.acked(b"a", 1);
        m.delivered(0, 0, 1, 1, b"a");
        m.delivered(0, 0, 2, 1, b"a");
    }),
    ("second copy, never acknowledged", "C3", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.delivered(0, 0, 2, 1, b"a");
    }),
    ("elsewhere", "C2", |m| {
        m.acked(b"a", 2);
        m.delivered(0, 0, 1, 1, b"a");
    }),
    ("two numbers", "C3", |m| {
        m.acked(b"a", 1);
        m.acked(b"a", 2);
    }),
    ("ack for nothing", "nobody sent", |m| m.acked(b"never sent", 1)),
    ("clock falls", "server_ts", |m| {
        m.delivered(0, 0, 1, 5, b"x");
        m.delivered(0, 0, 2, 4, b"a");
    }),
    ("two stamps", "two stamps", |m| {
        m.delivered(0, 0, 1, 5, b"a");
        m.delivered(1, 0, 1, 6, b"a");
    }),
    ("unanswered", "liveness", |_| {}),
    ("refused", "refused", |m| m.refused(b"a", "CONFLICT")),
    ("reset without a restore", "C5", |m| m.reset(0, 0, 1, 0, false)),
    ("more deleted than retention may", "C5", |m| {
        m.keep = Some(3);
        m.reset(0, 0, 4, 5, false);
    }),
    ("reset where retention deleted nothing", "C5", |m| {
        m.keep = Some(3);
        m.reset(0, 0, 1, 9, false);
    }),
    ("deleted while held", "held", |m| {
        m.keep = Some(3);
        m.held(0, Some(2));
        m.reset(0, 0, 4, 9, false);
    }),
    ("skipped behind a floor", "C4", |m| {
        m.keep = Some(3);
        m.reset(0, 0, 4, 6, false);
        m.delivered(0, 0, 5, 1, b"a");
    }),
    ("gone above the floor", "C2", |m| {
        m.keep = Some(1);
        m.reset(0, 0, 4, 6, false);
        m.acked(b"a", 4);
    }),
    ("out of order", "order", |m| {
        m.acked(b"a", 2);
        m.sent(0, 0, b"later");
        m.delivered(0, 0, 1, 1, b"later");
        m.delivered(0, 0, 2, 1, b"a");
        m.acked(b"later", 1);
    }),
    ("stale linearizable read", "C6", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.acked(b"a", 1);
        m.asked(0, 1, query(Freshness::Linearizable));
        page(m, 1, 0, &[]);
    }),
    ("read that another read has passed", "C6", |m| {
        m.asked(0, 1, query(Freshness::Linearizable));
        page(m, 1, 1, &[b"a"]);
        m.asked(0, 2, query(Freshness::Linearizable));
        page(m, 2, 0, &[]);
    }),
    ("not as fresh as asked", "C6", |m| {
        m.asked(0, 1, query(Freshness::AtLeast(7)));
        page(m, 1, 6, &[b"a"]);
    }),
    ("page with a hole", "C1: client", |m| {
        m.asked(0, 1, query(Freshness::Stale));
        m.read(0, 1, 9, &[(1, 1, b"a".to_vec()), (3, 1, b"c".to_vec())]);
    }),
    ("other history taken", "C5", |m| {
        m.asked(0, 1, Query { foreign: true, ..query(Freshness::Stale) });
        page(m, 1, 1, &[b"a"]);
    }),
    ("removed member served", "C7", |m| {
        m.removed(3, 0, 1);
        m.delivered(0, 0, 1, 1, b"left");
        m.delivered(0, 0, 2, 1, b"a");
        m.asked(3, 1, Query { member: false, ..query(Freshness::Stale) });
        m.read(3, 1, 2, &[(1, 1, b"left".to_vec()), (2, 1, b"a".to_vec())]);
        m.acked(b"a", 2);
        m.inbox(0, 0, 2);
    }),
    ("inbox forgotten", "C4", |m| {
        m.delivered(0, 0, 1, 1, b"a");
        m.acked(b"a", 1);
    }),
];

#[test]
fn planted_bad_histories_are_rejected() {
    for (name, verdict, history) in CASES {
        let mut model = Model::default();
        model.sent(0, 0, b"a");
        history(&mut model);
        model.finish(&[(0, 0)]);
        let found = model.violations.iter().any(|violation| violation.contains(verdict));
        assert!(found, "{name} went unnoticed: {:?}", model.violations);
    }
}

/// Cases must fail for their own reason, not because the rest of the story is missing.
#[test]
fn the_same_histories_without_their_fault_pass() {
    let mut model = Model::default();
    model.sent(0, 0, b"a");
    model.sent(0, 0, b"later");
    model.delivered(0, 0, 1, 1, b"joined");
    model.asked(0, 1, query(Freshness::Linearizable));
    page(&mut model, 1, 1, &[b"joined"]);
    model.delivered(0, 0, 2, 1, b"a");
    model.acked(b"a", 2);
    model.acked(b"a", 2);
    model.asked(0, 2, query(Freshness::Linearizable));
    model.asked(1, 2, query(Freshness::Stale));
    model.read(1, 2, 0, &[]);
    model.removed(3, 0, 2);
    model.delivered(0, 0, 3, 1, b"later");
    model.acked(b"later", 3);
    page(&mut model, 2, 3, &[b"joined", b"a", b"later"]);
    model.asked(0, 3, Query { foreign: true, ..query(Freshness::Stale) });
    model.read_reset(0, 3);
    model.asked(3, 4, Query { member: false, ..query(Freshness::Linearizable) });
    model.read(3, 4, 2, &[(1, 1, b"joined".to_vec()), (2, 1, b"a".to_vec())]);
    model.inbox(0, 0, 3);
    model.finish(&[(0, 0)]);
    assert_eq!(model.violations, Vec::<String>::new());
}

#[test]
fn what_retention_may_delete_is_not_missed() {
    let mut model = Model::new(Some(2));
    model.sent(0, 0, b"a");
    model.acked(b"a", 1);
    model.held(0, Some(1));
    model.held(0, None);
    model.held(0, Some(3));
    model.reset(0, 0, 3, 4, false);
    model.delivered(0, 0, 3, 1, b"x");
    model.delivered(0, 0, 4, 1, b"y");
    model.asked(0, 1, query(Freshness::Stale));
    model.read_reset(0, 1);
    model.inbox(0, 0, 4);
    model.finish(&[(0, 0)]);
    assert_eq!(model.violations, Vec::<String>::new());
}
