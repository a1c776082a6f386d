//! The head of an HTTP/1.1 message: start line and header fields (RFC 9112 §2–5), read strictly and without a copy.

use crate::limits::{HEAD_MAX, HEADER_FIELDS_MAX};

/// A head whose lines are all well formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    /// The start line.
    pub(crate) start: &'a str,
    /// The field lines, each ended by CRLF.
    fields: &'a str,
    /// Length with the empty line.
    pub(crate) len: usize,
}

/// Why no head can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// Above [`HEAD_MAX`] bytes or [`HEADER_FIELDS_MAX`] fields.
    TooLarge,
    /// Not HTTP as it should be.
    Malformed,
}

impl<'a> Head<'a> {
    /// Reads a head; `None` if its end is not there yet.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Option<Self>, HeadError> {
        let window = &input[..input.len().min(HEAD_MAX)];
        let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
            check_beginning(window)?;
            return if input.len() >= HEAD_MAX { Err(HeadError::TooLarge) } else { Ok(None) };
        };
        let head = core::str::from_utf8(&window[..end + 2]).map_err(|_| HeadError::Malformed)?;
        let (start, fields) = head.split_once("\r\n").ok_or(HeadError::Malformed)?;
        check_text(start)?;
        let head = Self { start, fields, len: end + 4 };
        let mut count = 0;
        for line in head.lines() {
            parse_field(line).ok_or(HeadError::Malformed)?;
            count += 1;
            if count > HEADER_FIELDS_MAX {
                return Err(HeadError::TooLarge);
            }
        }
        Ok(Some(head))
    }

    /// The values of all fields of this name, in order.
    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        let lines = self.lines().filter_map(parse_field);
        lines.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of a field that must not be repeated: `None` if absent, an error if there are two.
    pub(crate) fn value(&self, name: &'static str) -> Result<Option<&'a str>, HeadError> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            _ => Err(HeadError::Malformed),
        }
    }

    /// The elements of a comma-separated field, repeated fields joined (RFC 9110 §5.6.1).
    pub(crate) fn elements(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values(name).flat_map(|value| value.split(',')).map(trim).filter(|element| !element.is_empty())
    }

    /// Whether a comma-separated field has this element, whatever its case.
    pub(crate) fn has_element(&self, name: &'static str, element: &str) -> bool {
        self.elements(name).any(|candidate| candidate.eq_ignore_ascii_case(element))
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields.split_terminator("\r\n")
    }
}

/// Splits a field line; `None` if it is malformed: no colon, a name that is no token (so also a space before the
/// colon), a folded line, or a control character in the value (RFC 9112 §5).
fn parse_field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let well_formed = is_token(name) && check_text(value).is_ok();
    well_formed.then(|| (name, trim(value)))
}

/// A token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// No control characters except the tab; in particular no lone CR or LF.
fn check_text(text: &str) -> Result<(), HeadError> {
    let clean = text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if clean { Ok(()) } else { Err(HeadError::Malformed) }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// What is no HTTP at all is told at its first bytes rather than after 8 KiB or a deadline: a start line consists of
/// printable ASCII.
fn check_beginning(window: &[u8]) -> Result<(), HeadError> {
    let line = window.iter().take(64).take_while(|byte| **byte != b'\r');
    let clean = line.into_iter().all(|byte| (b' '..0x7f).contains(byte));
    if clean { Ok(()) } else { Err(HeadError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Head<'_>>, HeadError> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn fields_are_found_whatever_their_case_and_lists_are_joined() {
        let head = parse("GET / HTTP/1.1\r\nA: 1 \r\nlist: x,, y\r\nLIST:\tz\r\n\r\nrest")
            .expect("legal")
            .expect("whole");
        assert_eq!((head.start, head.len), ("GET / HTTP/1.1", 47));
        assert_eq!(head.value("a"), Ok(Some("1")));
        assert_eq!(head.value("b"), Ok(None));
        assert_eq!(head.value("list"), Err(HeadError::Malformed));
        assert_eq!(head.elements("list").collect::<Vec<_>>(), ["x", "y", "z"]);
        assert!(head.has_element("list", "Y") && !head.has_element("list", ""));
    }

    #[test]
    fn malformed_lines() {
        for field in [
            "no colon",
            ": empty name",
            "na me: x",
            "name : x",
            " folded: x",
            "a: b\0",
            "a: b\nc: d",
            "a: b\rc",
        ] {
            let text = format!("GET / HTTP/1.1\r\n{field}\r\n\r\n");
            assert_eq!(parse(&text).map(|_| ()), Err(HeadError::Malformed), "{field:?}");
        }
        assert_eq!(Head::parse(b"GET / HTTP/1.1\r\na: \xff\r\n\r\n").map(|_| ()), Err(HeadError::Malformed));
        // A TLS ClientHello, and a line that ends with LF alone.
        assert_eq!(Head::parse(&[0x16, 3, 1]).map(|_| ()), Err(HeadError::Malformed));
        assert_eq!(parse("GET / HTTP/1.1\nHost: x\n\n").map(|_| ()), Err(HeadError::Malformed));
    }

    #[test]
    fn incomplete_until_the_empty_line() {
        let text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..text.len() {
            assert!(matches!(parse(&text[..cut]), Ok(None)), "{cut}");
        }
    }

    #[test]
    fn size_and_count_are_limited() {
        let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(HEAD_MAX));
        assert_eq!(parse(&long).map(|_| ()), Err(HeadError::TooLarge));
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(matches!(parse(&fields(HEADER_FIELDS_MAX)), Ok(Some(_))));
        assert_eq!(parse(&fields(HEADER_FIELDS_MAX + 1)).map(|_| ()), Err(HeadError::TooLarge));
    }
}
