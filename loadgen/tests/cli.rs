//! The exit codes that need no cluster.

use std::path::PathBuf;
use std::process::{Command, Output};

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throng-loadgen")).args(args).output().expect("the binary was just built")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

/// A signing key in a file of its own.
fn key(name: &str) -> PathBuf {
    // Ed25519 in PKCS#8 (RFC 8410 §10.3, the example without attributes).
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let path = std::env::temp_dir().join(format!("throng-loadgen-{}-{name}.pem", std::process::id()));
    std::fs::write(&path, PEM).expect("written");
    path
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    format!("ws://{}", listener.local_addr().expect("bound"))
}

#[test]
fn help_is_no_error_and_nonsense_is_a_usage_error() {
    assert_eq!(code(&loadgen(&["--help"])), 0);
    for args in [&["run"][..], &["run", "nonsense"], &["run", "idle"], &["run", "idle", "--sessions", "x"]] {
        assert_eq!(code(&loadgen(args)), 1, "{args:?}");
    }
}

#[test]
fn a_missing_key_and_a_bad_target_are_usage_errors_with_one_sentence() {
    let output = loadgen(&["run", "idle", "--target", "ws://127.0.0.1:1", "--key", "/nonexistent"]);
    assert_eq!(code(&output), 1);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("throng-loadgen: --key /nonexistent: "), "{text}");
    let key = key("target");
    let output = loadgen(&["run", "idle", "--target", "http://x", "--key", &key.to_string_lossy()]);
    assert_eq!(code(&output), 1);
    let _ = std::fs::remove_file(key);
}

#[test]
fn a_target_that_is_not_there_fails_the_preflight() {
    let key = key("preflight");
    for scenario in ["idle", "messenger", "publish"] {
        let output = loadgen(&[
            "run",
            scenario,
            "--target",
            &nobody(),
            "--key",
            &key.to_string_lossy(),
            "--sessions",
            "2",
            "--connect-timeout",
            "500ms",
            "--quiet",
        ]);
        assert_eq!(code(&output), 2, "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("0 of 2 sessions connected") && text.contains("refused"), "{text}");
    }
    let _ = std::fs::remove_file(key);
}

#[test]
fn more_sessions_than_descriptors_fail_the_preflight() {
    let key = key("descriptors");
    let output = loadgen(&[
        "run",
        "idle",
        "--target",
        &nobody(),
        "--key",
        &key.to_string_lossy(),
        "--sessions",
        "1000000000",
    ]);
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("file descriptors"), "{output:?}");
    let _ = std::fs::remove_file(key);
}
