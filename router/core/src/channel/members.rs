//! Who is and who was in a channel.

use bytes::BufMut;
use throng_wire::frame::{Member, Role};
use throng_wire::ids::{MemberNo, Seq, UserId};

use crate::codec::{Corrupt, Reader, put_var};
use crate::hash::{Keyed, Table};

/// Up to this many members a walk over the records beats a table.
const SCAN_MAX: usize = 8;

/// Where a former member's view of the channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The LEFT event: the last one that member may read (contract C7).
    pub(crate) seq: Seq,
    /// Messages in the channel up to it.
    pub(crate) messages: u64,
}

/// One user's place in a channel. It stays when the user leaves: the number is never another user's, and a user who
/// comes back has the old one, so a number means one user in all of the channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRecord {
    pub(crate) user: UserId,
    pub(crate) role: Role,
    /// `None` while the user is a member.
    pub(crate) left: Option<Left>,
    /// Devices that the channel keeps dedup records of.
    pub(crate) devices: u16,
}

impl MemberRecord {
    /// A user who has just joined.
    pub(crate) fn new(user: UserId, role: Role) -> Self {
        Self { user, role, left: None, devices: 0 }
    }

    /// Whether the user is a member.
    pub(crate) fn is_present(&self) -> bool {
        self.left.is_none()
    }

    /// Appends the row.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.user.0);
        out.put_u8(u8::from(self.role == Role::Owner));
        out.put_u16(self.devices);
        put_var(out, self.left.map_or(0, |left| left.seq.0));
        put_var(out, self.left.map_or(0, |left| left.messages));
    }

    /// Reads a row.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        let user = UserId(reader.array("member.user")?);
        let role = match reader.u8("member.role")? {
            0 => Role::Member,
            1 => Role::Owner,
            _ => return Err(Corrupt("member.role")),
        };
        let devices = reader.u16("member.devices")?;
        let (seq, messages) = (Seq(reader.var("member.left")?), reader.var("member.messages")?);
        reader.end("member")?;
        // Number 0 is no event, so it stands for "has not left".
        let left = (seq != Seq(0)).then_some(Left { seq, messages });
        Ok(Self { user, role, left, devices })
    }
}

/// All members, present and former.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// By number, from 1. Invariant: users are distinct.
    records: Vec<MemberRecord>,
    /// Filled above [`SCAN_MAX`] members.
    number_by_user: Table<UserId, MemberNo>,
    /// Invariant: records without `left`.
    present: usize,
}

impl Members {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self { records: Vec::new(), number_by_user: Table::with_hasher(keyed), present: 0 }
    }

    /// Present members.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    /// Present and former members.
    pub(crate) fn ever(&self) -> usize {
        self.records.len()
    }

    /// The number of a present or former member.
    pub(crate) fn number_of(&self, user: &UserId) -> Option<MemberNo> {
        if self.records.len() > SCAN_MAX {
            return self.number_by_user.get(user).copied();
        }
        let at = self.records.iter().position(|record| record.user == *user)?;
        Some(MemberNo(at as u32 + 1))
    }

    /// The record of a number.
    pub(crate) fn record(&self, number: MemberNo) -> Option<&MemberRecord> {
        self.records.get((number.0 as usize).checked_sub(1)?)
    }

    /// The record of a number that this channel gave.
    pub(crate) fn given(&self, number: MemberNo) -> &MemberRecord {
        self.record(number).expect("the number was given by this channel")
    }

    /// Counts one more device of a member.
    pub(crate) fn add_device(&mut self, number: MemberNo) {
        self.records[number.0 as usize - 1].devices += 1;
    }

    /// Gives a new user the next number.
    pub(crate) fn add(&mut self, record: MemberRecord) -> MemberNo {
        debug_assert_eq!(self.number_of(&record.user), None, "a user has one number");
        self.present += usize::from(record.is_present());
        self.records.push(record);
        let number = MemberNo(self.records.len() as u32);
        if self.records.len() == SCAN_MAX + 1 {
            let all = self.records.iter().zip(1..).map(|(record, number)| (record.user, MemberNo(number)));
            self.number_by_user.extend(all);
        } else if self.records.len() > SCAN_MAX {
            self.number_by_user.insert(record.user, number);
        }
        number
    }

    /// Makes a former member present again.
    pub(crate) fn rejoin(&mut self, number: MemberNo) {
        let record = &mut self.records[number.0 as usize - 1];
        assert!(!record.is_present(), "only a former member comes back");
        record.left = None;
        record.role = Role::Member;
        self.present += 1;
    }

    /// Makes a present member a former one.
    pub(crate) fn leave(&mut self, number: MemberNo, left: Left) {
        let record = &mut self.records[number.0 as usize - 1];
        assert!(record.is_present(), "only a present member leaves");
        record.left = Some(left);
        record.role = Role::Member;
        self.present -= 1;
    }

    /// After an owner left: if no owner remains, the member with the lowest number becomes one, so that nobody is in a
    /// group from which no one can be removed. Returns who.
    pub(crate) fn succeed_owner(&mut self) -> Option<MemberNo> {
        if self.records.iter().any(|record| record.is_present() && record.role == Role::Owner) {
            return None;
        }
        let at = self.records.iter().position(MemberRecord::is_present)?;
        self.records[at].role = Role::Owner;
        Some(MemberNo(at as u32 + 1))
    }

    /// Present members in rising number.
    pub(crate) fn iter_present(&self) -> impl Iterator<Item = (MemberNo, &MemberRecord)> {
        self.after(MemberNo(0)).filter(|(_, record)| record.is_present())
    }

    /// At most `limit` present members with a number above `after`, and whether more follow.
    pub(crate) fn page(&self, after: MemberNo, limit: usize) -> (bool, Vec<Member>) {
        let mut present = self.after(after).filter(|(_, record)| record.is_present());
        let members = present
            .by_ref()
            .take(limit)
            .map(|(member, record)| Member { member, user: record.user, role: record.role })
            .collect();
        (present.next().is_some(), members)
    }

    fn after(&self, after: MemberNo) -> impl Iterator<Item = (MemberNo, &MemberRecord)> {
        let from = (after.0 as usize).min(self.records.len());
        self.records[from..].iter().zip(from as u32 + 1..).map(|(record, number)| (MemberNo(number), record))
    }

    /// About how much memory the members take.
    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<MemberRecord>() + self.number_by_user.capacity() * 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u8) -> UserId {
        UserId([n; 16])
    }

    #[test]
    fn numbers_are_found_below_and_above_the_table_threshold_and_survive_leaving() {
        let mut members = Members::new(Keyed::new(1));
        for n in 1..=20u8 {
            assert_eq!(members.add(MemberRecord::new(user(n), Role::Member)), MemberNo(u32::from(n)));
            for known in 1..=n {
                assert_eq!(members.number_of(&user(known)), Some(MemberNo(u32::from(known))));
            }
            assert_eq!(members.number_of(&user(n + 1)), None);
        }
        members.leave(MemberNo(3), Left { seq: Seq(9), messages: 0 });
        assert_eq!((members.present(), members.number_of(&user(3))), (19, Some(MemberNo(3))));
        let (more, page) = members.page(MemberNo(1), 2);
        assert!(more);
        assert_eq!(page.iter().map(|m| m.member.0).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(members.page(MemberNo(u32::MAX), 2), (false, vec![]));
        members.rejoin(MemberNo(3));
        assert!(members.given(MemberNo(3)).is_present());
    }

    #[test]
    fn the_last_owner_is_succeeded() {
        let mut members = Members::new(Keyed::new(1));
        let owner = members.add(MemberRecord::new(user(1), Role::Owner));
        let next = members.add(MemberRecord::new(user(2), Role::Member));
        assert_eq!(members.succeed_owner(), None);
        members.leave(owner, Left { seq: Seq(3), messages: 0 });
        assert_eq!(members.succeed_owner(), Some(next));
        members.leave(next, Left { seq: Seq(4), messages: 0 });
        assert_eq!(members.succeed_owner(), None);
    }

    #[test]
    fn rows_come_back() {
        let mut record = MemberRecord::new(user(7), Role::Owner);
        for left in [None, Some(Left { seq: Seq(300), messages: 12 })] {
            record.left = left;
            record.devices = 3;
            let mut row = Vec::new();
            record.encode(&mut row);
            assert_eq!(MemberRecord::decode(&row), Ok(record));
            assert!(MemberRecord::decode(&row[..row.len() - 1]).is_err());
        }
    }
}
