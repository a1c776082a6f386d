//! Reading applied state.

use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::event::Event;
use throng_wire::frame::{Member, SyncEntry};
use throng_wire::ids::{ChannelId, MemberNo, Seq, ShardId, UserId, UserSeq};

use super::Machines;
use crate::channel::PageLimits;
use crate::fatal::Fatal;

/// A channel as a present or former member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadChannel {
    /// The member's number.
    pub member: MemberNo,
    /// Whether the user is a member.
    pub is_present: bool,
    /// The newest event the user may read.
    pub head: Seq,
    /// The oldest event that can be read.
    pub floor: Seq,
}

/// Events of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageView {
    /// As the user may see it.
    pub head: Seq,
    /// Consecutive.
    pub events: Vec<Event>,
}

/// Rows of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxView {
    /// The newest position.
    pub user_seq: UserSeq,
    /// Whether more rows follow.
    pub more: bool,
    /// In the order they moved.
    pub entries: Vec<SyncEntry>,
}

impl<S: StateRead> Machines<S> {
    /// A channel as `user` sees it; `None` if there is none or the user never was a member: nobody is told which.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn read_channel(&mut self, id: &ChannelId, user: &UserId) -> Result<Option<ReadChannel>, Fatal> {
        let Some(key) = self.find_channel(id)? else { return Ok(None) };
        let channel = self.channels.get(key).expect("it was found");
        Ok(channel.members.number_of(user).map(|member| ReadChannel {
            member,
            is_present: channel.members.given(member).is_present(),
            head: channel.visible_head(member),
            floor: channel.floor,
        }))
    }

    /// Events after `after` as `member` may see them.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn read_page(
        &mut self,
        id: &ChannelId,
        member: MemberNo,
        after: Seq,
        limit: u16,
        body_max: usize,
    ) -> Result<PageView, Fatal> {
        let key = self.find_channel(id)?.expect("the caller read the channel before");
        let replica = self.shard(ShardId::of_channel(id, self.shard_count())).replica;
        let channel = self.channels.get(key).expect("it was found");
        let page = channel.page(&self.state, replica, member, after, PageLimits::new(limit, body_max))?;
        Ok(PageView { head: channel.visible_head(member), events: page.events })
    }

    /// Present members for a present member of the channel.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn read_members(
        &mut self,
        id: &ChannelId,
        user: &UserId,
        after: MemberNo,
        limit: usize,
    ) -> Result<Result<(bool, Vec<Member>), Code>, Fatal> {
        let Some(key) = self.find_channel(id)? else { return Ok(Err(Code::NOT_FOUND)) };
        let channel = self.channels.get(key).expect("it was found");
        let present = channel.present_number(user).ok_or(Code::NOT_FOUND);
        Ok(present.map(|_| channel.members.page(after, limit)))
    }

    /// Inbox rows after `after`.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn read_inbox(&mut self, user: &UserId, after: UserSeq, limit: usize) -> Result<InboxView, Fatal> {
        let key = self.find_user(user)?;
        let user = self.users.get(key).expect("it was found");
        let (more, entries) = user.moved_after(after, limit);
        Ok(InboxView { user_seq: user.user_seq, more, entries })
    }

    /// A channel's head and the rolling hash of its content, to compare replicas; `None` if there is no such channel.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn read_chain(&mut self, id: &ChannelId) -> Result<Option<(Seq, [u8; 16])>, Fatal> {
        let Some(key) = self.find_channel(id)? else { return Ok(None) };
        Ok(self.channels.get(key).map(|channel| (channel.head, channel.chain)))
    }
}
