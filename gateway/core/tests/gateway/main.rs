//! Scenarios through the public surface of the gateway machine, with a router played by the harness.

mod bad_input;
mod chaos;
mod drain;
mod harness;
mod healing;
mod hub;
mod life;
mod property;
mod requests;
mod show;
mod slow;
mod table;
mod upgrade;
