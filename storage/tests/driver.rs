//! The drivers on a real file system, in one binary because each links RocksDB.

#[path = "driver/crash.rs"]
mod crash;
#[path = "driver/damage.rs"]
mod damage;
#[path = "driver/kit.rs"]
mod kit;
#[path = "driver/log.rs"]
mod log;
#[path = "driver/open.rs"]
mod open;
#[path = "driver/recycle.rs"]
mod recycle;
#[path = "driver/space.rs"]
mod space;
#[path = "driver/state.rs"]
mod state;
#[path = "driver/views.rs"]
mod views;
