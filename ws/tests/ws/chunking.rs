//! Any way of cutting the bytes gives the same events, for legal traffic and for garbage.

use super::peer::{Event, Peer, frame};
use proptest::prelude::*;
use throng_ws::{Opcode, Role};

/// What one side sends: a message in fragments with a control frame somewhere between, and what arrives.
#[derive(Clone, Debug)]
struct Sent {
    text: Option<String>,
    binary: Vec<u8>,
    cuts: Vec<usize>,
    ping: Option<(usize, Vec<u8>)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..300);
    (
        proptest::option::of(".{0,60}"),
        payload(),
        proptest::collection::vec(any::<usize>(), 0..7),
        proptest::option::of((0..8usize, proptest::collection::vec(any::<u8>(), 0..=125))),
    )
        .prop_map(|(text, binary, cuts, ping)| Sent { text, binary, cuts, ping })
}

impl Sent {
    fn frames(&self, mask: Option<[u8; 4]>, out: &mut Vec<u8>, expected: &mut Vec<Event>) {
        let (first, payload, event) = match &self.text {
            Some(text) => (Opcode::Text, text.as_bytes(), Event::Text(text.clone())),
            None => (Opcode::Binary, &self.binary[..], Event::Binary(self.binary.clone())),
        };
        let mut ends: Vec<usize> = self.cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let mut from = 0;
        for (i, &to) in ends.iter().enumerate() {
            if let Some((at, ping)) = &self.ping
                && *at == i
            {
                out.extend(frame(true, Opcode::Ping, ping, mask));
                expected.push(Event::Ping(ping.clone()));
            }
            let opcode = if i == 0 { first } else { Opcode::Continuation };
            out.extend(frame(i + 1 == ends.len(), opcode, &payload[from..to], mask));
            from = to;
        }
        expected.push(event);
    }
}

/// Feeds the bytes in pieces whose lengths repeat `lengths`.
fn in_chunks(role: Role, bytes: &[u8], lengths: &[usize]) -> Vec<Event> {
    let (mut peer, mut events, mut rest) = (Peer::new(role), vec![], bytes);
    for &length in lengths.iter().cycle() {
        let (chunk, after) = rest.split_at(length.clamp(1, rest.len().max(1)).min(rest.len()));
        peer.feed(chunk, &mut events);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    events
}

proptest! {
    #[test]
    fn legal_traffic_survives_any_chunking(
        messages in proptest::collection::vec(sent(), 0..6),
        mask in proptest::option::of(any::<[u8; 4]>()),
        lengths in proptest::collection::vec(1..40usize, 1..8),
    ) {
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let (mut bytes, mut expected) = (vec![], vec![]);
        messages.iter().for_each(|message| message.frames(mask, &mut bytes, &mut expected));
        prop_assert_eq!(&in_chunks(role, &bytes, &[usize::MAX]), &expected);
        prop_assert_eq!(&in_chunks(role, &bytes, &[1]), &expected);
        prop_assert_eq!(&in_chunks(role, &bytes, &lengths), &expected);
    }

    #[test]
    fn damaged_traffic_fails_alike_in_any_chunking(
        messages in proptest::collection::vec(sent(), 1..4),
        mask in proptest::option::of(any::<[u8; 4]>()),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        lengths in proptest::collection::vec(1..40usize, 1..8),
    ) {
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let mut bytes = vec![];
        messages.iter().for_each(|message| message.frames(mask, &mut bytes, &mut vec![]));
        for (at, bits) in damage {
            let at = at % bytes.len();
            bytes[at] ^= bits;
        }
        let whole = in_chunks(role, &bytes, &[usize::MAX]);
        prop_assert_eq!(&in_chunks(role, &bytes, &[1]), &whole);
        prop_assert_eq!(&in_chunks(role, &bytes, &lengths), &whole);
    }

    #[test]
    fn garbage_never_panics_and_fails_alike(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        lengths in proptest::collection::vec(1..9usize, 1..8),
    ) {
        for role in [Role::Server, Role::Client] {
            prop_assert_eq!(in_chunks(role, &bytes, &lengths), in_chunks(role, &bytes, &[usize::MAX]));
        }
    }
}
