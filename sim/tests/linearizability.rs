//! Sends and linearizable reads of simulated runs, judged by a checker that is not ours (`stateright`), beside the
//! model that judges every run. Per channel: a send returns its number, a read returns the head.
//!
//! The tester tries all orders that real time allows. What is specified leaves only one: numbers rise, and a head lies
//! at or above every number before it and below every number behind it. So the specification knows the sorted answers and
//! lets nothing but the next one pass, which spares the search dead ends without allowing more or less.

use std::collections::BTreeMap;
use std::rc::Rc;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use throng_sim::check::{Op, Returned, Step};
use throng_sim::{Scenario, run};

/// Runs that are judged; the simulator's own model has judged them before.
const SEEDS: u64 = 24;

/// Longer histories are cut here: the tester copies what is left of one at every step.
const STEPS_MAX: usize = 240;

/// A channel as its users see it.
#[derive(Clone, Debug)]
struct Log {
    /// All answers, sorted.
    answers: Rc<[u64]>,
    next: usize,
}

/// Answers as numbers: a head stands behind the event that has its number.
fn place(returned: Returned) -> u64 {
    match returned {
        Returned::Seq(seq) => 2 * seq,
        Returned::Head(head) => 2 * head + 1,
    }
}

impl SequentialSpec for Log {
    type Op = Op;
    type Ret = Returned;

    fn invoke(&mut self, op: &Op) -> Returned {
        // Only for calls that never returned, and those are left out.
        if *op == Op::Publish { Returned::Seq(0) } else { Returned::Head(0) }
    }

    fn is_valid_step(&mut self, op: &Op, returned: &Returned) -> bool {
        let fits = matches!((op, returned), (Op::Publish, Returned::Seq(_)) | (Op::Read, Returned::Head(_)));
        let at = place(*returned);
        let is_taken = *op == Op::Publish && self.next > 0 && self.answers[self.next - 1] == at;
        let is_next = self.answers.get(self.next) == Some(&at);
        self.next += 1;
        fits && is_next && !is_taken
    }
}

/// Whether some order that real time allows explains all answers. Calls without an answer may have happened or not.
fn is_linearizable(steps: &[Step]) -> bool {
    let answered: BTreeMap<usize, Returned> = steps
        .iter()
        .filter_map(|(call, step)| step.as_ref().err().map(|returned| (*call, *returned)))
        .collect();
    let mut answers: Vec<u64> = answered.values().copied().map(place).collect();
    answers.sort_unstable();
    let mut tester = LinearizabilityTester::new(Log { answers: answers.into(), next: 0 });
    // A thread makes one call at a time; which one it is says nothing that real time does not.
    let (mut idle, mut threads, mut busy) = (Vec::new(), 0_usize, BTreeMap::new());
    for (call, step) in steps.iter().filter(|(call, _)| answered.contains_key(call)) {
        match step {
            Ok(op) => {
                let thread = idle.pop().unwrap_or_else(|| {
                    threads += 1;
                    threads
                });
                busy.insert(*call, thread);
                tester.on_invoke(thread, *op).expect("it is idle");
            }
            Err(returned) => {
                let thread = busy.remove(call).expect("calls come before their answers");
                tester.on_return(thread, *returned).expect("it is busy");
                idle.push(thread);
            }
        }
    }
    tester.is_consistent()
}

/// `p1` calls a send, `p1=3` returns its number; `r2` calls a read, `r2=3` returns the head.
fn history(text: &str) -> Vec<Step> {
    let step = |word: &str| {
        let (name, answer) = word.split_once('=').map_or((word, None), |(name, answer)| (name, Some(answer)));
        let (kind, call) = name.split_at(1);
        let call = call.parse().expect("a call has a number");
        let answer = answer.map(|answer| answer.parse().expect("an answer is a number"));
        match (kind, answer) {
            ("p", None) => (call, Ok(Op::Publish)),
            ("p", Some(seq)) => (call, Err(Returned::Seq(seq))),
            ("r", None) => (call, Ok(Op::Read)),
            ("r", Some(head)) => (call, Err(Returned::Head(head))),
            _ => panic!("no step: {word}"),
        }
    };
    text.split_whitespace().map(step).collect()
}

#[test]
fn sound_histories_are_accepted() {
    for text in [
        "",
        "p1 p1=1 r2 r2=1",
        "p1 p2 p2=1 p1=2 r3 r3=2", // overlapping sends take any order
        "p1 r2 r2=0 p1=1 r3 r3=1", // a read beside a send sees it or not
        "p1 r2 r2=1 p1=1 r3 r3=1",
        "p1 p1=1 p2 r3 r3=2 r4 r4=2 p2=2", // seen before its sender knows
        "p1 r2 r2=5",                      // a send without an answer, numbers that others took
        "p1 p1=1 p2 p2=7 r3 r4 r4=9 r3=9",
        "r1 p2 p2=1 r3 r3=1 r1=0", // a slow read may be old
        "p1 p2 p3 p3=3 p2=2 p1=1 r4 r4=3",
    ] {
        assert!(is_linearizable(&history(text)), "{text}");
    }
}

#[test]
fn bad_histories_are_rejected() {
    let bad = [
        ("two sends, one number", "p1 p1=1 p2 p2=1"),
        ("the same, overlapping", "p1 p2 p1=1 p2=1"),
        ("number falls", "p1 p1=2 p2 p2=1"),
        ("number falls much later", "p1 p1=1 p2 p2=5 p3 p3=6 p4 p4=4"),
        ("into the past, three at once", "p1 p1=3 p2 p3 p4 p2=4 p3=2 p4=5"),
        ("read misses a send", "p1 p1=1 r2 r2=0"),
        ("read misses the second send", "p1 p1=1 p2 p2=2 r3 r3=1"),
        ("read misses a send, another sees it", "p1 p1=1 r2 r3 r3=1 r2=0"),
        ("head falls", "r1 r1=4 r2 r2=3"),
        ("head falls while a send is open", "p1 r2 r2=1 r3 r3=0 p1=1"),
        ("head falls for a third reader", "r1 r1=2 r2 r2=4 r3 r3=3"),
        ("a send below a head that was shown", "r1 r1=5 p2 p2=4"),
        ("a send at a head that was shown", "r1 r1=5 p2 p2=5"),
        ("read sees what is not yet called", "r1 r1=1 p2 p2=1"),
        ("read forgets a restart", "p1 p1=7 r2 r2=7 r3 r3=0"),
        ("acknowledged, then overwritten", "p1 p1=3 p2 p2=3 r3 r3=3"),
        ("acknowledged early, by a leader that lost", "p1 p1=2 p2 p2=1 r3 r3=2"),
        ("stale leader serves a read", "p1 p1=1 p2 p2=2 p3 r4 r4=1 p3=3"),
        ("two readers disagree about the order", "p1 p2 r3 r3=1 r4 r4=2 r5 r5=1 p1=1 p2=2"),
        ("long: one number twice, far apart", "p1 p1=1 p2 p2=2 p3 p3=3 p4 p4=4 r5 r5=4 p6 p6=2"),
        ("long: stale in the middle", "p1 p1=1 p2 p2=2 r3 r3=2 p4 p4=3 r5 r5=2 p6 p6=4 r7 r7=4"),
        ("a send answered with nothing", "r1 r1=1 p2 p2=0"),
        ("a read before a slow send that began later", "r1 r1=3 p2 p3 p3=4 p2=2"),
        ("counts from one again", "p1 p1=8 p2 p2=9 p3 p3=1 r4 r4=9"),
    ];
    assert!(bad.len() >= 20);
    for (name, text) in bad {
        assert!(!is_linearizable(&history(text)), "{name}: {text}");
    }
}

#[test]
fn channels_of_simulated_clusters_are_linearizable() {
    let (mut channels, mut calls) = (0, 0);
    for seed in 1..=SEEDS {
        let outcome = run(&Scenario::draw(seed));
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        for (channel, steps) in &outcome.history.channels {
            let steps = &steps[..steps.len().min(STEPS_MAX)];
            assert!(is_linearizable(steps), "seed {seed}, channel {channel}");
            channels += 1;
            calls += steps.len() / 2;
        }
    }
    assert!(channels > 50 && calls > 2_000, "{channels} channels, {calls} calls");
}
