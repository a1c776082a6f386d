//! Measuring with the floor beside it: every figure is a median over rounds and is printed as a ratio to what the
//! machine needs for the bare minimum of the same work, measured in the same run.

use std::hint::black_box;
use std::time::Instant;

/// Rounds of which the median counts.
const ROUNDS: usize = 21;

/// Nanoseconds that one call takes: the median over rounds of `calls` calls each.
pub fn nanos_per_call(calls: u32, mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..calls {
                work();
            }
            begin.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Prints a figure with its floor.
pub fn report(name: &str, nanos: f64, floor_name: &str, floor: f64) {
    println!("{name:<44} {nanos:>9.1} ns   {:>6.1} × {floor_name} ({floor:.1} ns)", nanos / floor.max(0.1));
}

/// Keeps the optimiser from seeing through a value.
pub fn opaque<T>(value: T) -> T {
    black_box(value)
}
