//! PUBLISH at apply.

use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::event::{EventKind, Origin};
use throng_wire::ids::{MemberNo, ServerTs};

use super::dedup::{Sent, Verdict};
use super::devices::DeviceKey;
use super::{Chain, Channel, Draft, content_hash};
use crate::entry::Publish;
use crate::fatal::Fatal;
use crate::limits::DEVICES_PER_MEMBER_MAX;
use crate::outcome::Outcome;
use crate::state::keys::Replica;

/// Largest client message id (SPEC: it travels as a varint).
const CLIENT_MSG_ID_MAX: u64 = throng_wire::varint::MAX;

impl Channel {
    /// Applies a send.
    ///
    /// The dedup record answers before membership is asked for, because it outlives membership: a removed member's
    /// retry of a send that was stored gets its number (C3), which reveals nothing beyond the own message (C7). Whoever
    /// never was a member has no record and learns nothing.
    pub(crate) fn publish(
        &mut self,
        state: &impl StateRead,
        replica: Replica,
        ts: ServerTs,
        publish: Publish,
    ) -> Result<Outcome, Fatal> {
        let Some(number) = self.members.number_of(&publish.user) else {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        };
        if publish.kind != EventKind::MESSAGE {
            return Ok(Outcome::Refused(Code::UNSUPPORTED));
        }
        if publish.client_msg_id.0 > CLIENT_MSG_ID_MAX {
            return Ok(Outcome::Refused(Code::LIMIT));
        }
        let key = (number, publish.device);
        let hash = content_hash(publish.kind, &publish.body);
        let id = self.id;
        let verdict = match self.devices.load(state, replica, &id, key)? {
            Some(record) => record.verdict(publish.client_msg_id, short(&hash)),
            None => Verdict::New,
        };
        let verdict = match verdict {
            Verdict::Remembered { ts: stored, .. }
                if is_planted(Bug::DedupByWallClock) && ts.0 > stored.0 + 60_000 =>
            {
                Verdict::New
            }
            Verdict::Remembered { ts, .. } if is_planted(Bug::DuplicateAnsweredWithHead) => {
                Verdict::Remembered { seq: self.head, ts }
            }
            other => other,
        };
        Ok(match verdict {
            Verdict::Remembered { seq, ts } => Outcome::Published { seq, ts, duplicate: true },
            Verdict::Conflict => Outcome::Refused(Code::CONFLICT),
            Verdict::Forgotten => Outcome::Refused(Code::UNKNOWN_OUTCOME),
            Verdict::New => self.publish_new(ts, key, publish, hash),
        })
    }

    fn publish_new(&mut self, ts: ServerTs, key: DeviceKey, publish: Publish, hash: Chain) -> Outcome {
        if !self.members.given(key.0).is_present() {
            return Outcome::Refused(Code::NOT_FOUND);
        }
        if !self.devices.has(key) && !self.admit_device(key.0) {
            return Outcome::Refused(Code::LIMIT);
        }
        let origin = Origin { device: publish.device, client_msg_id: publish.client_msg_id };
        let draft =
            Draft { kind: publish.kind, sender: key.0, origin: Some(origin), body: publish.body, hash };
        let seq = self.append(ts, draft);
        let ts = self.last_ts;
        self.devices.change(key).remember(Sent { id: publish.client_msg_id, seq, ts, hash: short(&hash) });
        Outcome::Published { seq, ts, duplicate: false }
    }

    /// Counts a device that sends here for the first time; false if the member has too many.
    fn admit_device(&mut self, number: MemberNo) -> bool {
        if self.members.given(number).devices >= DEVICES_PER_MEMBER_MAX {
            return false;
        }
        self.members.add_device(number);
        self.member_changed(number);
        true
    }
}

fn short(hash: &Chain) -> u64 {
    u64::from_be_bytes(hash[..8].try_into().expect("16 bytes hold 8"))
}
