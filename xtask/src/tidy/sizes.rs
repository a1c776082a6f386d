//! Sizes as a report: large files and functions are where to look for a seam, never a failure.

use super::sources::Source;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Prints what is larger than we would like.
pub(crate) fn report(sources: &[Source]) {
    let rust = sources.iter().filter(|source| source.is_rust());
    for source in rust {
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            println!("size {}: {lines} lines", source.path);
        }
        for (name, at, lines) in
            functions(&source.text).into_iter().filter(|function| function.2 > FUNCTION_LINES)
        {
            println!("size {}:{at}: fn {name} has {lines} lines", source.path);
        }
    }
}

/// Name, first line and length of every function. rustfmt closes a function at the indentation it began with.
fn functions(text: &str) -> Vec<(&str, usize, usize)> {
    let mut open: Vec<(&str, usize, usize)> = Vec::new();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = name_of(line.trim_start()) {
            if !line.ends_with(';') && !line.ends_with('}') {
                open.push((name, indent, index));
            }
        } else if line.trim() == "}"
            && let Some((name, _, start)) = open.pop_if(|(_, depth, _)| *depth == indent)
        {
            found.push((name, start + 1, index - start + 1));
        }
    }
    found
}

fn name_of(line: &str) -> Option<&str> {
    let qualifiers = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe ", "extern \"C\" "];
    let mut rest = line;
    while let Some(shorter) = qualifiers.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter;
    }
    rest.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_signature_to_closing_brace() {
        let text = "impl A {\n    pub fn one(&self) {\n        if x {\n        }\n    }\n\n    fn two() -> u8 { 2 }\n}\n";
        assert_eq!(functions(text), vec![("one", 2, 4)]);
    }
}
