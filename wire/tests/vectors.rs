//! The golden vectors, which a Python program made from SPEC.md alone, against the codec.

#[path = "support/json.rs"]
mod json;
#[path = "support/order.rs"]
mod order;

use std::collections::BTreeSet;
use std::path::Path;

use json::{str, unhex};
use serde_json::{Map, Value};
use throng_wire::code::CODES;
use throng_wire::frame::{FRAME_TYPES, Frame, Split, Unknown, request_of, split};
use throng_wire::limits::{BODY_MAX_CAP, FRAME_OVERHEAD_MAX};
use throng_wire::{ChannelId, Code, DecodeError, ShardId, UserId, varint};

const FRAME_MAX: usize = BODY_MAX_CAP + FRAME_OVERHEAD_MAX;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rows(name: &str) -> Vec<Map<String, Value>> {
    let Value::Array(rows) = read(name) else { panic!("{name} is no list") };
    rows.into_iter().map(|row| row.as_object().expect("rows are objects").clone()).collect()
}

fn code_named(name: &str) -> Code {
    let row = CODES.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no code {name}")).code
}

/// The payload of the only frame in `bytes`.
fn payload(bytes: &[u8], frame_max: usize) -> Result<&[u8], DecodeError> {
    match split(bytes, frame_max)? {
        Split::Frame { consumed, payload } => {
            assert_eq!(consumed, bytes.len(), "one frame");
            Ok(&bytes[payload])
        }
        Split::NeedMore { at_least } => panic!("a whole frame expected, {at_least} bytes needed"),
    }
}

#[test]
fn varints_are_those_of_the_vectors() {
    for row in rows("varint.json") {
        let bytes = unhex(str(&row, "hex"));
        let found = varint::decode(&mut &bytes[..]);
        match row.get("value") {
            None => {
                assert_eq!(found.expect_err("malformed").code(), code_named(str(&row, "error")), "{row:?}")
            }
            Some(value) => {
                let found = found.expect("valid");
                let mut again = Vec::new();
                varint::encode(found, &mut again);
                assert_eq!((json::num(found), again), (value.clone(), bytes), "{row:?}");
            }
        }
    }
}

#[test]
fn valid_frames_have_the_fields_and_bytes_of_the_vectors() {
    let mut types = BTreeSet::new();
    for row in rows("valid.json") {
        let name = str(&row, "name");
        let bytes = unhex(str(&row, "hex"));
        let frame = payload(&bytes, FRAME_MAX).and_then(Frame::decode);
        let frame = frame.unwrap_or_else(|error| panic!("{name}: {error}")).expect("a known type");
        types.insert(frame.type_name());
        assert_eq!(frame.type_name(), str(&row, "type"), "{name}");
        assert_eq!(json::fields(&frame), row["fields"], "{name}");
        // Frames of a later version decode, too, but version 1 would write them shorter.
        assert_eq!(frame.encoded() == bytes, !name.starts_with("later-"), "{name}");
    }
    let all: BTreeSet<&str> = FRAME_TYPES.iter().map(|row| row.name).collect();
    assert_eq!(types, all, "every type has a vector");
}

#[test]
fn malformed_frames_have_the_codes_of_the_vectors() {
    for row in rows("malformed.json") {
        let name = str(&row, "name");
        let bytes = unhex(str(&row, "hex"));
        let frame_max = row.get("frame_max").and_then(Value::as_u64).map_or(FRAME_MAX, |max| max as usize);
        let found = payload(&bytes, frame_max).and_then(Frame::decode);
        let error = found.map(|frame| frame.map(|frame| frame.type_name())).expect_err(name);
        assert_eq!(error.code(), code_named(str(&row, "code")), "{name}: {error}");
        // SPEC W-ERR-4: whom to tell, if it is a request.
        let request = row.get("request").and_then(Value::as_u64);
        let told = payload(&bytes, frame_max).ok().and_then(request_of);
        assert_eq!(told.map(|request| request.0), request, "{name}");
    }
}

#[test]
fn unknown_types_are_those_of_the_vectors() {
    for row in rows("unknown.json") {
        let bytes = unhex(str(&row, "hex"));
        let payload = payload(&bytes, FRAME_MAX).expect("well-formed");
        assert_eq!(Frame::decode(payload), Ok(None), "{row:?}");
        let unknown = Unknown::read(payload).expect("well-formed");
        assert_eq!(unknown.request.map(|request| request.0), row["request"].as_u64(), "{row:?}");
    }
}

#[test]
fn ids_are_those_of_the_vectors() {
    let user = |text: &str| UserId::from_hex(text).unwrap_or_else(|| panic!("{text} is no id"));
    for row in rows("ids.json") {
        match str(&row, "spec") {
            "W-ID-1" => {
                assert_eq!(UserId::of(str(&row, "issuer"), str(&row, "subject")), user(str(&row, "user")));
            }
            "W-ID-2" => {
                let users = row["users"].as_array().expect("two users");
                let [a, b] = [&users[0], &users[1]].map(|text| user(text.as_str().expect("hexadecimal")));
                assert_eq!(ChannelId::direct(a, b).to_string(), str(&row, "channel"));
            }
            _ => {
                let slot = user(str(&row, "id")).slot();
                assert_eq!(Some(u64::from(slot.0)), row["slot"].as_u64(), "{row:?}");
                for (shards, shard) in row["shard"].as_object().expect("by shard count") {
                    let shards = shards.parse().expect("a number");
                    assert_eq!(Some(u64::from(ShardId::of_slot(slot, shards).0)), shard.as_u64(), "{row:?}");
                }
            }
        }
    }
}

#[test]
fn traces_follow_the_order_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/traces");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let name = format!("traces/{}", entry.expect("readable").file_name().to_string_lossy());
        let trace = read(&name);
        let mut order = order::Order::new();
        for (at, step) in trace["steps"].as_array().expect("steps").iter().enumerate() {
            let step = step.as_object().expect("a step");
            let bytes = unhex(str(step, "hex"));
            let payload = payload(&bytes, FRAME_MAX).unwrap_or_else(|error| panic!("{name} {at}: {error}"));
            if let Some(type_name) = step["type"].as_str() {
                let frame = Frame::decode(payload).expect("valid").expect("known");
                assert_eq!(frame.type_name(), type_name, "{name} {at}");
            }
            let done =
                if str(step, "from") == "client" { order.client(payload) } else { order.server(payload) };
            done.unwrap_or_else(|why| panic!("{name}, step {at}: {why}"));
        }
        order.finish().unwrap_or_else(|why| panic!("{name}: {why}"));
        count += 1;
    }
    assert!(count >= 16, "only {count} traces");
}

#[test]
fn the_generator_still_makes_these_vectors() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/make.py");
    let run = std::process::Command::new("python3").arg("-B").arg(script).arg("--check").output();
    // Rust alone must do for `cargo test`; whoever has Python checks more.
    let Ok(run) = run else { return eprintln!("no python3: the generator was not checked") };
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}
