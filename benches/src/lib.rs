//! Wall-clock benches with their floors beside them.
