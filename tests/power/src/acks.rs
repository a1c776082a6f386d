//! Acknowledgements: what the node has told its clients is durable.

use std::collections::BTreeMap;
use std::fmt;

use crate::Result;
use crate::plan::CHANNELS;

/// Message `n` of a channel was stored as event `seq`; with `n` 0, the channel was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) channel: u16,
    pub(crate) n: u64,
    pub(crate) seq: u64,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.channel, self.n, self.seq)
    }
}

impl Ack {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut numbers = text.split('.').map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(channel)), Some(Ok(n)), Some(Ok(seq)), None) if channel < u64::from(CHANNELS) => {
                Ok(Self { channel: channel as u16, n, seq })
            }
            _ => Err(format!("{text} is no acknowledgement")),
        }
    }
}

/// All acknowledgements before a point: by channel, the event of each acknowledged message. A channel that is in it at
/// all was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acks {
    pub(crate) by_channel: BTreeMap<u16, BTreeMap<u64, u64>>,
}

impl Acks {
    pub(crate) fn add(&mut self, ack: Ack) {
        let messages = self.by_channel.entry(ack.channel).or_default();
        if ack.n > 0 {
            messages.insert(ack.n, ack.seq);
        }
    }

    /// One acknowledgement a line.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut acks = Self::default();
        for line in text.lines() {
            acks.add(Ack::parse(line)?);
        }
        Ok(acks)
    }

    /// What [`Acks::parse`] reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (&channel, messages) in &self.by_channel {
            text.push_str(&format!("{}\n", Ack { channel, n: 0, seq: 0 }));
            for (&n, &seq) in messages {
                text.push_str(&format!("{}\n", Ack { channel, n, seq }));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_written() {
        let mut acks = Acks::default();
        for (channel, n, seq) in [(3, 0, 1), (3, 1, 4), (3, 2, 5), (11, 0, 1)] {
            acks.add(Ack { channel, n, seq });
        }
        assert_eq!(Acks::parse(&acks.text()), Ok(acks));
        for bad in ["", "1.2", "1.2.3.4", "12.1.1", "a.1.1"] {
            assert!(Ack::parse(bad).is_err(), "{bad}");
        }
    }
}
