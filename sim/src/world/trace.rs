//! The trace of a run: a hash over all events, and their lines for those who look.

use throng_base::Instant;

use super::{Event, Watch, links};

/// Hash and lines of all events so far.
pub(crate) struct Trace {
    hash: u64,
    handled: u64,
    watch: Watch,
    lines: Vec<String>,
}

/// A run that keeps its lines keeps at most this many.
const LINES_MAX: usize = 2_000_000;

impl Trace {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, handled: 0, watch, lines: Vec::new() }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Folds an event into the trace.
    pub(crate) fn record(&mut self, now: Instant, event: &Event) {
        let encoded;
        let mut content: &[u8] = &[];
        let (kind, a, b) = match event {
            Event::NodeTimer { node, life, .. } => (0, *node as u64, u64::from(*life)),
            Event::ActorTimer { actor, .. } => (1, *actor as u64, 0),
            Event::Written { node, life } => (2, *node as u64, u64::from(*life)),
            // 3 is free.
            Event::Flushed { node, token, .. } => (4, *node as u64, token.0),
            Event::Imported { node, token, .. } => (28, *node as u64, token.0),
            Event::ViewOpened { node, view, .. } => (29, *node as u64, view.0),
            Event::ViewRead { node, view, .. } => (30, *node as u64, view.0),
            Event::Peer { from, to, message } => {
                encoded = links::encode(message);
                content = &encoded;
                (5, *from as u64, *to as u64)
            }
            Event::LinkTry { gateway, router, .. } => (6, *gateway as u64, *router as u64),
            Event::ToRouter { gateway, router, .. } => (7, *gateway as u64, *router as u64),
            Event::ToGateway { gateway, router, .. } => (8, *gateway as u64, *router as u64),
            Event::Accept { actor, connection } => (9, *actor as u64, *connection),
            Event::Connected { actor, connection } => (10, *actor as u64, *connection),
            Event::ToServer { actor, bytes, .. } => {
                content = bytes;
                (11, *actor as u64, bytes.len() as u64)
            }
            Event::ToClient { actor, bytes, .. } => {
                content = bytes;
                (12, *actor as u64, bytes.len() as u64)
            }
            Event::Broken { actor, connection } => (13, *actor as u64, *connection),
            Event::Left { node, session, .. } => (14, *node as u64, session.to_u64()),
            Event::Send { actor } => (15, *actor as u64, 0),
            Event::Start { node } => (16, *node as u64, 0),
            Event::Crash => (17, 0, 0),
            Event::Partition => (18, 0, 0),
            Event::Heal => (19, 0, 0),
            Event::Clog => (20, 0, 0),
            Event::Pause => (21, 0, 0),
            Event::Cut => (22, 0, 0),
            Event::Jump => (23, 0, 0),
            Event::EndFaults => (24, 0, 0),
            Event::Change => (31, 0, 0),
            Event::Upgrade { node } => (33, *node as u64, 0),
            Event::Hold => (34, 0, 0),
            Event::Full => (35, 0, 0),
            Event::Space { node, life } => (36, *node as u64, u64::from(*life)),
            Event::Die { node, life } => (32, *node as u64, u64::from(*life)),
            Event::Read { actor } => (25, *actor as u64, 0),
            Event::Visit { number } => (26, *number as u64, 0),
            Event::Sync => (27, 0, 0),
        };
        for word in [now.0, kind as u64, a, b, content.len() as u64] {
            self.fold(word);
        }
        let mut chunks = content.chunks_exact(8);
        for chunk in &mut chunks {
            self.fold(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        }
        let mut rest = [0; 8];
        rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.fold(u64::from_le_bytes(rest));
        self.handled += 1;
        if self.watch.print || self.watch.keep {
            self.show(now, KINDS[kind], (a, b), content);
        }
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn show(&mut self, now: Instant, kind: &str, (a, b): (u64, u64), content: &[u8]) {
        let line = format!(
            "{:>8} {:>14} ns {kind:<11} {a} {b} ({} bytes) {:016x}",
            self.handled,
            now.0,
            content.len(),
            self.hash
        );
        if self.watch.print {
            println!("{line}");
        }
        if self.watch.keep && self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }
}

const KINDS: [&str; 37] = [
    "node timer",
    "actor timer",
    "written",
    "persisted",
    "flushed",
    "peer",
    "link try",
    "to router",
    "to gateway",
    "accept",
    "connected",
    "to server",
    "to client",
    "broken",
    "left",
    "send",
    "start",
    "crash",
    "partition",
    "heal",
    "clog",
    "pause",
    "cut",
    "jump",
    "end faults",
    "read",
    "visit",
    "sync",
    "imported",
    "view opened",
    "view read",
    "change",
    "die",
    "upgrade",
    "hold",
    "full",
    "space",
];

/// Where two traces part: the place and the two lines there, each `None` where its trace has ended.
pub fn first_difference<'a>(
    a: &'a [String],
    b: &'a [String],
) -> Option<(usize, Option<&'a String>, Option<&'a String>)> {
    let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at))?;
    Some((at, a.get(at), b.get(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_part_where_they_first_differ() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b, c) = (lines("x y z"), lines("x q z"), lines("x y"));
        assert_eq!(first_difference(&a, &a), None);
        assert_eq!(first_difference(&a, &b).map(|found| found.0), Some(1));
        assert_eq!(first_difference(&a, &c), Some((2, Some(&a[2]), None)));
    }
}
