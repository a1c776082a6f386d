//! Finding marked blocks in Markdown, and matching their output.

/// What to do with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Serve,
}

/// A marked block and the output shown below it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// Line of its first command.
    pub(super) line: usize,
    pub(super) script: String,
    pub(super) output: Vec<String>,
}

/// All marked blocks in their order.
pub(super) fn parse(markdown: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(info)) => {
                fence = Some(info.trim());
                if let Some(kind) = kind_of(info.trim()) {
                    blocks.push(Block { kind, line: index + 2, script: String::new(), output: Vec::new() });
                }
            }
            (Some(_), Some(_)) => fence = None,
            (Some(info), None) => take(&mut blocks, info, line),
            (None, None) => {}
        }
    }
    blocks
}

fn kind_of(info: &str) -> Option<Kind> {
    match info {
        "sh run" => Some(Kind::Run),
        "sh serve" => Some(Kind::Serve),
        _ => None,
    }
}

/// Adds a line inside a fence to the newest block, as command or as output.
fn take(blocks: &mut [Block], info: &str, line: &str) {
    let Some(block) = blocks.last_mut() else { return };
    if kind_of(info).is_some() {
        block.script.push_str(line);
        block.script.push('\n');
    } else if info == "text output" && !line.trim().is_empty() {
        block.output.push(line.trim_end().to_owned());
    }
}

/// Lines that are still to come, in order.
pub(super) struct Expected<'a> {
    lines: std::iter::Peekable<std::slice::Iter<'a, String>>,
}

impl<'a> Expected<'a> {
    pub(super) fn of(lines: &'a [String]) -> Self {
        Self { lines: lines.iter().peekable() }
    }

    /// Takes note of a printed line; lines that are not shown may stand between those that are.
    pub(super) fn see(&mut self, printed: &str) {
        self.lines.next_if(|pattern| matches(pattern, printed.trim_end()));
    }

    pub(super) fn is_met(&mut self) -> bool {
        self.lines.peek().is_none()
    }

    /// The first line that has not been printed.
    pub(super) fn missing(mut self) -> Option<String> {
        self.lines.next().cloned()
    }
}

/// `…` stands for any text, also none.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('…') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_are_taken() {
        let text = "# T\n```sh run\n./x a\n./x b\n```\n\n```text output\none\n\ntwo …\n```\n```sh\nrm x\n```\n```sh serve\n./x c\n```\n";
        let run = Block {
            kind: Kind::Run,
            line: 3,
            script: "./x a\n./x b\n".into(),
            output: vec!["one".into(), "two …".into()],
        };
        let serve = Block { kind: Kind::Serve, line: 16, script: "./x c\n".into(), output: vec![] };
        assert_eq!(parse(text), vec![run, serve]);
    }

    #[test]
    fn an_ellipsis_is_any_text() {
        for (pattern, text) in
            [("a", "a"), ("a …", "a b"), ("… c", "a b c"), ("a … c … e", "a b c d e"), ("…", "")]
        {
            assert!(matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a …", "b"), ("a … c", "a b")] {
            assert!(!matches(pattern, text), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn lines_are_expected_in_order() {
        let lines = ["one".to_owned(), "two".to_owned()];
        let mut expected = Expected::of(&lines);
        for line in ["two", "one", "other"] {
            expected.see(line);
        }
        assert_eq!(expected.missing(), Some("two".to_owned()));
    }
}
