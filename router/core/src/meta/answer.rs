//! What a command came to, as it travels from the group's leader to whoever asked.

use bytes::{BufMut, Bytes, BytesMut};
use throng_wire::ids::NodeId;

use super::{MetaDone, MetaRefused};
use crate::codec::{Corrupt, Reader, put_var};

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// The machine refused it.
    Refused(MetaRefused),
    /// Nobody leads the metadata group, or its leader changed before the outcome was known. The command may still be
    /// carried out; asking again is safe.
    Unavailable,
}

impl core::fmt::Display for MetaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Unavailable => f.write_str("the metadata group has no leader at the moment; ask again"),
        }
    }
}

impl std::error::Error for MetaError {}

/// Refusals by number. Numbers are for ever.
const REFUSED: [MetaRefused; 12] = [
    MetaRefused::Founding,
    MetaRefused::UnknownNode,
    MetaRefused::NumberTaken,
    MetaRefused::UnknownShard,
    MetaRefused::NotActive,
    MetaRefused::NotThere,
    MetaRefused::Transition,
    MetaRefused::HoldsShards,
    MetaRefused::LastNode,
    MetaRefused::Replicas,
    MetaRefused::Version,
    MetaRefused::Full,
];

/// Writes an answer.
pub fn write_answer(answer: &Result<MetaDone, MetaError>) -> Bytes {
    let mut out = BytesMut::new();
    let (kind, value) = match answer {
        Err(MetaError::Unavailable) => (0, 0),
        Ok(MetaDone::Registered(node)) => (1, node.0),
        Ok(MetaDone::Changed(epoch)) => (2, *epoch),
        Ok(MetaDone::Unchanged) => (3, 0),
        Err(MetaError::Refused(refused)) => {
            (4, REFUSED.iter().position(|known| known == refused).expect("all are listed") as u64)
        }
    };
    out.put_u8(kind);
    put_var(&mut out, value);
    out.freeze()
}

/// Reads an answer; `None` if it is none that this program knows.
pub fn read_answer(bytes: &[u8]) -> Option<Result<MetaDone, MetaError>> {
    let mut reader = Reader::new(bytes);
    let mut parts = || Ok::<_, Corrupt>((reader.u8("answer")?, reader.var("answer")?));
    let (kind, value) = parts().ok()?;
    reader.end("answer").ok()?;
    Some(match kind {
        0 => Err(MetaError::Unavailable),
        1 => Ok(MetaDone::Registered(NodeId(value))),
        2 => Ok(MetaDone::Changed(value)),
        3 => Ok(MetaDone::Unchanged),
        4 => Err(MetaError::Refused(*REFUSED.get(usize::try_from(value).ok()?)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_and_others_are_none() {
        let done = [MetaDone::Registered(NodeId(7)), MetaDone::Changed(300), MetaDone::Unchanged];
        let refused = REFUSED.map(|refused| Err(MetaError::Refused(refused)));
        let all = done.map(Ok).into_iter().chain(refused).chain([Err(MetaError::Unavailable)]);
        for answer in all {
            let bytes = write_answer(&answer);
            assert_eq!(read_answer(&bytes), Some(answer));
            assert_eq!(read_answer(&bytes[..bytes.len() - 1]), None);
        }
        for bytes in [&[][..], &[9, 0], &[4, 12], &[0, 0, 0]] {
            assert_eq!(read_answer(bytes), None);
        }
    }
}
