//! The client machine against a scripted server on virtual time.

mod scenarios;
mod server;
mod swarm;
mod world;
