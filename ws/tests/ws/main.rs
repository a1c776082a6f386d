//! Behaviour through the public surface.

mod chunking;
mod decoder;
mod handshake;
mod peer;
