//! Scenarios: a cluster of stores in one thread, and what must hold of it.

mod basics;
mod changes;
mod copies;
mod disk;
mod faults;
mod guards;
mod members;
mod silence;
mod snapshots;
mod suspects;
mod world;
