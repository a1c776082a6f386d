//! Memory and descriptor limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Resident memory of this process in bytes (`/proc/self/statm`, second field); 0 if /proc is not mounted.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = statm.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// How many descriptors this process may open; `u64::MAX` = no limit.
pub fn nofile_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft descriptor limit to the hard one and returns what holds then. A failure leaves it as it was.
pub fn raise_nofile_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    nofile_limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_limits_are_plausible() {
        let resident = resident_bytes();
        assert!((1 << 16..1 << 40).contains(&resident), "{resident}");
        assert!(raise_nofile_limit() >= nofile_limit());
    }
}
