//! Tests of the router's core through its public surface.

mod channels;
mod dedup;
mod harness;
mod inbox;
mod membership;
mod model;
mod node;
mod replay;
mod speed;
mod world;
