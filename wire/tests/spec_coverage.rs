//! SPEC.md against the code and the tests: nothing normative without an id, no id without a test (or a stated reason),
//! no table that differs from its source.
//!
//! `THRONG_REWRITE=1 cargo test -p throng-wire --test spec_coverage` rewrites the generated parts of SPEC.md.

#[path = "support/spec.rs"]
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use throng_wire::code::{CODES, ClientRule, Code};
use throng_wire::frame::{FRAME_TYPES, RESERVED_TYPES, Sender};
use throng_wire::limits::*;

#[test]
fn every_must_stands_in_a_requirement_with_an_id() {
    let text = spec::read("SPEC.md");
    for line in spec::prose(&text) {
        let defines = line.starts_with("**MUST**") || line.contains("Every MUST belongs");
        assert!(defines || !line.contains("MUST"), "a MUST without an id: {line}");
    }
    for requirement in spec::requirements(&text) {
        let binds = ["MUST", "SHOULD", "MAY", "PROTOCOL", "ends", "counts"];
        assert!(binds.iter().any(|word| requirement.text.contains(word)), "{} binds nobody", requirement.id);
    }
}

#[test]
fn ids_are_unique_and_numbered_without_gaps() {
    let mut numbers: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for requirement in spec::requirements(&spec::read("SPEC.md")) {
        let (group, number) = requirement.id.rsplit_once('-').expect("an id ends in a number");
        let number = number.parse().expect("a number");
        assert!(numbers.entry(group.to_owned()).or_default().insert(number), "{} twice", requirement.id);
    }
    for (group, numbers) in numbers {
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{group} has gaps: {numbers:?}");
    }
}

#[test]
fn every_id_is_cited_by_a_test_or_excepted_with_a_reason() {
    let requirements = spec::requirements(&spec::read("SPEC.md"));
    let known: BTreeSet<&str> = requirements.iter().map(|requirement| requirement.id.as_str()).collect();
    let citations = spec::citations();
    let exceptions = spec::exceptions();

    for (id, reason) in &exceptions {
        assert!(known.contains(id.as_str()), "the exception {id} is no requirement");
        assert!(reason.len() > 10, "{id}: a reason, please");
        if citations.tests.contains(id) {
            println!("{id} has a test; its exception can go");
        }
    }
    for (id, file) in &citations.anywhere {
        assert!(known.contains(id.as_str()), "{} cites {id}, which SPEC.md does not have", file.display());
    }
    let missing: Vec<&&str> =
        known.iter().filter(|id| !citations.tests.contains(**id) && !exceptions.contains_key(**id)).collect();
    assert!(missing.is_empty(), "neither test nor exception: {missing:?}");
}

#[test]
fn generated_parts_equal_their_sources() {
    let text = spec::read("SPEC.md");
    let mut wanted = spec::with_block(&text, "types", &types());
    wanted = spec::with_block(&wanted, "codes", &codes());
    wanted = spec::with_block(&wanted, "limits", &limits());
    wanted = with_examples(&wanted);
    if text == wanted {
        return;
    }
    if std::env::var_os("THRONG_REWRITE").is_some() {
        return std::fs::write(spec::wire().join("SPEC.md"), wanted).expect("SPEC.md is writable");
    }
    let different = text.lines().zip(wanted.lines()).find(|(is, wanted)| is != wanted);
    panic!("SPEC.md is stale (THRONG_REWRITE=1 rewrites it): {different:?}");
}

#[test]
fn websocket_codes_tell_codes_apart() {
    // SPEC W-WS-6, W-CODE-1: a WebSocket close code names one code.
    let numbers: BTreeSet<u16> = CODES.iter().map(|row| row.websocket).collect();
    assert_eq!(numbers.len(), CODES.len());
    for row in CODES {
        let standard = (1000..=1013).contains(&row.websocket);
        assert!(standard || row.websocket == 4000 + row.code.0, "{}", row.name);
        assert_eq!((row.code.websocket(), row.code.rule()), (row.websocket, row.rule));
    }
    // SPEC W-ERR-3: a code of a later version.
    assert_eq!((Code(999).websocket(), Code(999).rule()), (4999, ClientRule::Resume));
}

fn types() -> String {
    let mut rows: Vec<_> = FRAME_TYPES.iter().map(|row| (row, "")).collect();
    rows.extend(RESERVED_TYPES.iter().map(|row| (row, "reserved")));
    rows.sort_by_key(|(row, _)| row.number);
    let mut table = String::from("| Type | Name | Sent by | |\n|--:|---|---|---|\n");
    for (row, note) in rows {
        let sender = match row.sender {
            Sender::Client => "client",
            Sender::Server => "server",
            Sender::Both => "both",
        };
        let is_request = throng_wire::frame::REQUEST_TYPES.contains(&row.number);
        let note = if note.is_empty() && is_request { "request" } else { note };
        writeln!(table, "| 0x{:02x} | {} | {sender} | {note} |", row.number, row.name)
            .expect("a string grows");
    }
    table
}

fn codes() -> String {
    let mut table = String::from(
        "| Code | Name | WebSocket | HTTP | Rule | Label | Meaning |\n|--:|---|--:|--:|---|---|---|\n",
    );
    for row in CODES {
        let (rule, code) = (row.rule.as_str(), row.code.0);
        let (name, label, meaning) = (row.name, row.label, row.meaning);
        let (websocket, http) = (row.websocket, row.http);
        writeln!(table, "| {code} | {name} | {websocket} | {http} | {rule} | `{label}` | {meaning} |")
            .expect("a string grows");
    }
    table
}

fn limits() -> String {
    let rows = [
        ("body, smallest and largest limit", format!("{BODY_MAX_FLOOR} and {BODY_MAX_CAP} bytes")),
        ("body, default limit", format!("{BODY_MAX_DEFAULT} bytes")),
        ("frame beside a body", format!("{FRAME_OVERHEAD_MAX} bytes")),
        ("frame before WELCOME", format!("{FRAME_MAX_BEFORE_WELCOME} bytes")),
        ("unacknowledged sends of a device in a channel", INFLIGHT_PER_CHANNEL_MAX.to_string()),
        ("events in a PAGE", PAGE_EVENTS_MAX.to_string()),
        ("entries in a SYNCED", SYNC_ENTRIES_MAX.to_string()),
        ("members in a MEMBERS_PAGE", MEMBERS_PAGE_MAX.to_string()),
        ("members in a CREATE", CREATE_MEMBERS_MAX.to_string()),
        ("endpoints in a GOAWAY", ENDPOINTS_MAX.to_string()),
        ("token", format!("{TOKEN_MAX} bytes")),
        ("ticket", format!("{TICKET_MAX} bytes")),
        ("any text", format!("{TEXT_MAX} bytes")),
    ];
    let mut table = String::from("| What | At most |\n|---|--:|\n");
    for (what, most) in rows {
        writeln!(table, "| {what} | {most} |").expect("a string grows");
    }
    table
}

/// Sets every example (`` `name`: `bytes` ``) to the bytes of the vector of that name.
fn with_examples(text: &str) -> String {
    let vectors: serde_json::Value =
        serde_json::from_str(&spec::read("tests/vectors/valid.json")).expect("the vectors are JSON");
    let mut text = text.to_owned();
    let mut count = 0;
    for row in vectors.as_array().expect("a list") {
        let (name, hex) = (row["name"].as_str().expect("a name"), row["hex"].as_str().expect("bytes"));
        let Some(at) = text.find(&format!("`{name}`:")) else { continue };
        let start = at + name.len() + 3;
        let open = start + text[start..].find('`').expect("the example is quoted") + 1;
        let close = open + text[open..].find('`').expect("the example ends");
        text.replace_range(open..close, hex);
        count += 1;
    }
    assert!(count >= 30, "every frame has an example, found {count}");
    text
}
