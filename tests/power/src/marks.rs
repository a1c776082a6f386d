//! Marks: what the workload writes into the recording, between the writes of the disk.

use std::fmt;
use std::fs::File;
use std::io::Write;

use crate::Result;
use crate::acks::Ack;
use crate::kernel::{TEXT_MAX, send_message};

/// What happened at this place of the recording. As text it has no spaces, at which the kernel would split it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A run begins: the data directory is about to be opened, the first time to be formatted.
    Opening,
    /// The node serves.
    Serving,
    /// These sends were acknowledged: for each channel the newest, and all of its sends before.
    Acks(Vec<Ack>),
    /// The run's load is over, the node is about to close.
    Closing,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("opening"),
            Self::Serving => f.write_str("serving"),
            Self::Closing => f.write_str("closing"),
            Self::Acks(acks) => {
                f.write_str("acks")?;
                acks.iter().try_for_each(|ack| write!(f, ":{ack}"))
            }
        }
    }
}

impl Mark {
    /// Reads what `Display` writes; `None` for the kernel's own mark at the end.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        Ok(Some(match text {
            "dm-log-writes-end" => return Ok(None),
            "opening" => Self::Opening,
            "serving" => Self::Serving,
            "closing" => Self::Closing,
            _ => match text.strip_prefix("acks:") {
                Some(acks) => Self::Acks(acks.split(':').map(Ack::parse).collect::<Result<_>>()?),
                None => return Err(format!("{text} is no mark")),
            },
        }))
    }
}

/// Where marks go.
#[derive(Debug)]
pub(crate) enum Marks {
    /// Into the recording of this device.
    Device(File, String),
    /// Into a file, one a line.
    Lines(File),
}

/// The kernel keeps this much of a mark: a sector less the entry's head.
const MARK_MAX: usize = 512 - 32 - 1;

impl Marks {
    /// `dm:NAME` or a file.
    pub(crate) fn open(place: &str) -> Result<Self> {
        let failed = |error| format!("{place}: {error}");
        match place.strip_prefix("dm:") {
            Some(name) => {
                let control = File::options().read(true).write(true).open("/dev/mapper/control");
                Ok(Self::Device(control.map_err(failed)?, name.to_owned()))
            }
            None => {
                let file = File::options().append(true).create(true).open(place);
                Ok(Self::Lines(file.map_err(failed)?))
            }
        }
    }

    /// Makes a mark. When this returns, it has its place: whatever the disk completed before is before it.
    pub(crate) fn make(&mut self, mark: &Mark) -> Result<()> {
        let text = mark.to_string();
        assert!(text.len() <= MARK_MAX, "{text} is cut by the kernel");
        match self {
            Self::Device(control, name) => send_message(control, name, &format!("mark {text}"))
                .map_err(|error| format!("mark {text} on {name}: {error}")),
            Self::Lines(file) => writeln!(file, "{text}").map_err(|error| format!("mark {text}: {error}")),
        }
    }
}

const _: () = assert!("mark ".len() + MARK_MAX <= TEXT_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::CHANNELS;

    #[test]
    fn they_are_read_as_written() {
        let acks = (0..CHANNELS).map(|channel| Ack { channel, n: 99_999_999, seq: 100_000_000 }).collect();
        for mark in [Mark::Opening, Mark::Serving, Mark::Closing, Mark::Acks(acks)] {
            let text = mark.to_string();
            assert!(text.len() <= MARK_MAX && !text.contains(' '));
            assert_eq!(Mark::parse(&text), Ok(Some(mark)));
        }
        assert_eq!(Mark::parse("dm-log-writes-end"), Ok(None));
        assert!(Mark::parse("acks:1.2").is_err() && Mark::parse("what").is_err());
    }
}
