//! Tests of the router's core through its public surface.

mod channels;
mod copies;
mod dedup;
mod harness;
mod inbox;
mod keeping;
mod members;
mod membership;
mod model;
mod node;
mod replay;
mod retention;
mod snapshot;
mod speed;
mod verify;
mod world;
