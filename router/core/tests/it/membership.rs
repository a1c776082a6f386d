//! Who may change a channel, and C7: a removed member reads nothing after the removal.

use throng_router_core::Outcome;
use throng_router_core::limits::GROUP_MEMBERS_MAX;
use throng_wire::code::Code;
use throng_wire::event::{EventKind, Membership};
use throng_wire::frame::{ChannelClass, Role};
use throng_wire::ids::*;

use crate::harness::*;

fn state(head: u64, member: u32) -> Outcome {
    Outcome::Channel { class: ChannelClass::Group, head: Seq(head), member: MemberNo(member) }
}

fn direct(a: u8, b: u8) -> ChannelId {
    ChannelId::direct(user(a), user(b))
}

#[test]
fn creation_tells_of_every_member_in_order() {
    let mut replica = Replica::new();
    assert_eq!(replica.one(group(1, &[5, 6, 7, 6, 5])), state(3, 1));
    let history = replica.history(channel(1), user(7));
    let joined: Vec<_> =
        history.iter().map(|event| Membership::decode(&event.body).expect("a membership")).collect();
    let expected =
        [(5, 1), (6, 2), (7, 3)].map(|(n, member)| Membership { user: user(n), member: MemberNo(member) });
    assert_eq!(joined, expected);
    assert!(history.iter().all(|event| event.kind == EventKind::JOINED && event.sender == MemberNo(1)));
}

#[test]
fn a_repeated_create_is_harmless_and_another_one_a_conflict() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2, 3]));
    assert_eq!(replica.one(group(1, &[1, 3, 2])), state(3, 1), "the order of the list says nothing");
    assert_eq!(replica.one(group(1, &[1, 2])), refused(Code::CONFLICT));
    assert_eq!(replica.one(group(1, &[2, 1, 3])), refused(Code::CONFLICT), "another creator");
    let open = create(channel(1), user(1), ChannelClass::Open, &[user(2), user(3)]);
    assert_eq!(replica.one(open), refused(Code::CONFLICT));
    replica.one(send(channel(1), user(1), 1, "x"));
    assert_eq!(replica.one(group(1, &[1, 2, 3])), state(4, 1), "the head is today's");
}

#[test]
fn either_of_two_opens_their_direct_channel() {
    let mut replica = Replica::new();
    let opened = |head, member| Outcome::Channel {
        class: ChannelClass::Direct,
        head: Seq(head),
        member: MemberNo(member),
    };
    let open = |by: u8, with: &[u8]| {
        let with: Vec<_> = with.iter().map(|&n| user(n)).collect();
        create(direct(1, 2), user(by), ChannelClass::Direct, &with)
    };
    assert_eq!(replica.one(open(2, &[1])), opened(2, 1));
    assert_eq!(replica.one(open(1, &[2])), opened(2, 2));
    assert_eq!(replica.one(open(2, &[1])), opened(2, 1));
    assert_eq!(replica.one(open(3, &[1])), refused(Code::CONFLICT), "the id is that of a pair");
    assert_eq!(replica.one(open(1, &[2, 3])), refused(Code::CONFLICT));
    assert_eq!(replica.one(join(direct(1, 2), user(1), user(3))), refused(Code::UNSUPPORTED));
    assert_eq!(replica.one(leave(direct(1, 2), user(1), user(1))), refused(Code::UNSUPPORTED));
    assert_eq!(replica.one(join(direct(1, 2), user(3), user(3))), refused(Code::NOT_FOUND));
    assert!(is_new(&replica.one(send(direct(1, 2), user(1), 1, "hi"))));
}

#[test]
fn nobody_makes_a_group_where_two_users_would_meet() {
    // SPEC W-CH-6: whoever knows two users knows their channel's id.
    let mut replica = Replica::new();
    for (a, b) in [(1, 2), (1, 3), (2, 2)] {
        let grab = |class| create(direct(a, b), user(9), class, &[user(8)]);
        let grabs = [ChannelClass::Group, ChannelClass::Open];
        for class in grabs {
            assert_eq!(replica.one(grab(class)), refused(Code::LIMIT));
        }
        let with: &[_] = if a == b { &[] } else { &[user(b)] };
        let open = create(direct(a, b), user(a), ChannelClass::Direct, with);
        let opened = replica.one(open);
        assert!(matches!(opened, Outcome::Channel { class: ChannelClass::Direct, .. }), "{opened:?}");
        for class in grabs {
            assert_eq!(replica.one(grab(class)), refused(Code::LIMIT), "the same when it exists");
        }
        let drawn = ChannelId::group(direct(a, b).0);
        let open = create(drawn, user(a), ChannelClass::Direct, with);
        assert_eq!(replica.one(open), refused(Code::CONFLICT), "not the id of a pair");
    }
}

#[test]
fn a_self_channel_has_one_member() {
    let mut replica = Replica::new();
    for peers in [vec![], vec![user(1)]] {
        let outcome = replica.one(create(direct(1, 1), user(1), ChannelClass::Direct, &peers));
        assert!(matches!(outcome, Outcome::Channel { head: Seq(1), member: MemberNo(1), .. }), "{outcome:?}");
    }
    assert!(is_new(&replica.one(send(direct(1, 1), user(1), 1, "a note"))));
}

#[test]
fn members_add_members_and_strangers_learn_nothing() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    assert_eq!(replica.one(join(channel(1), user(2), user(3))), state(3, 3));
    assert_eq!(replica.one(join(channel(1), user(2), user(3))), state(3, 3), "again");
    assert_eq!(replica.one(join(channel(1), user(9), user(9))), refused(Code::NOT_FOUND));
    assert_eq!(replica.one(join(channel(1), user(9), user(8))), refused(Code::NOT_FOUND));
    assert_eq!(replica.one(join(channel(2), user(1), user(3))), refused(Code::NOT_FOUND));
    assert_eq!(replica.one(leave(channel(1), user(9), user(2))), refused(Code::NOT_FOUND));
}

#[test]
fn owners_remove_and_anybody_leaves() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2, 3]));
    assert_eq!(replica.one(leave(channel(1), user(2), user(3))), refused(Code::NOT_FOUND));
    assert_eq!(replica.one(leave(channel(1), user(2), user(2))), state(4, 2));
    assert_eq!(replica.one(leave(channel(1), user(2), user(2))), state(4, 2), "again");
    assert_eq!(replica.one(leave(channel(1), user(1), user(3))), state(5, 3));
    assert_eq!(replica.one(leave(channel(1), user(1), user(3))), state(5, 3), "again");
    assert_eq!(replica.one(leave(channel(1), user(1), user(9))), refused(Code::NOT_FOUND));
    assert_eq!(replica.one(leave(channel(1), user(2), user(1))), refused(Code::NOT_FOUND));
}

#[test]
fn the_last_owner_is_succeeded_by_the_longest_serving_member() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2, 3]));
    replica.one(leave(channel(1), user(1), user(1)));
    assert_eq!(replica.one(leave(channel(1), user(2), user(3))), state(5, 3));
    let (_, members) = replica
        .machines
        .read_members(&channel(1), &user(2), MemberNo(0), 10)
        .expect("readable")
        .expect("a member");
    assert_eq!(members.iter().map(|m| (m.user, m.role)).collect::<Vec<_>>(), [(user(2), Role::Owner)]);
}

#[test]
fn a_number_is_one_users_for_ever() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    replica.one(leave(channel(1), user(1), user(2)));
    assert_eq!(replica.one(join(channel(1), user(1), user(3))), state(4, 3), "2 is not given again");
    assert_eq!(replica.one(join(channel(1), user(1), user(2))), state(5, 2), "but its user has it back");
}

#[test]
fn an_open_channel_lets_anybody_in() {
    let mut replica = Replica::new();
    replica.one(create(channel(1), user(1), ChannelClass::Open, &[]));
    let joined = |head, member| Outcome::Channel {
        class: ChannelClass::Open,
        head: Seq(head),
        member: MemberNo(member),
    };
    assert_eq!(replica.one(join(channel(1), user(2), user(2))), joined(2, 2));
    assert_eq!(replica.one(join(channel(1), user(3), user(4))), refused(Code::NOT_FOUND), "not yet in");
    assert_eq!(replica.one(join(channel(1), user(2), user(4))), joined(3, 3));
    assert_eq!(replica.history(channel(1), user(4))[1].sender, MemberNo(2), "who joins is the actor");
}

#[test]
fn a_removed_member_reads_nothing_after_the_removal() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), send(channel(1), user(1), 1, "before")]);
    replica.one(leave(channel(1), user(1), user(2)));
    replica.one(send(channel(1), user(1), 2, "secret"));
    let seen = replica.history(channel(1), user(2));
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[3].kind, EventKind::LEFT);
    let view = replica.machines.read_channel(&channel(1), &user(2)).expect("readable").expect("was a member");
    assert_eq!((view.head, view.is_present), (Seq(4), false));
    let members = replica.machines.read_members(&channel(1), &user(2), MemberNo(0), 10).expect("readable");
    assert_eq!(members, Err(Code::NOT_FOUND));
    // Nor does the disk reveal more than memory does.
    replica.flush();
    replica.crash_and_replay();
    assert_eq!(replica.history(channel(1), user(2)).len(), 4);
    assert_eq!(replica.history(channel(1), user(1)).len(), 5);
}

#[test]
fn strangers_and_unknown_channels_are_answered_alike() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    for unknown in [channel(1), channel(2)] {
        assert_eq!(replica.one(send(unknown, user(9), 1, "x")), refused(Code::NOT_FOUND));
        assert_eq!(replica.one(join(unknown, user(9), user(9))), refused(Code::NOT_FOUND));
        assert_eq!(replica.one(leave(unknown, user(9), user(1))), refused(Code::NOT_FOUND));
        assert_eq!(replica.machines.read_channel(&unknown, &user(9)), Ok(None));
        assert_eq!(
            replica.machines.read_members(&unknown, &user(9), MemberNo(0), 5),
            Ok(Err(Code::NOT_FOUND))
        );
    }
}

#[test]
fn a_group_has_so_many_members_and_no_more() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    let nth = |n: usize| {
        let mut id = [7u8; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        UserId(id)
    };
    let joins: Vec<_> = (1..GROUP_MEMBERS_MAX).map(|n| join(channel(1), user(1), nth(n))).collect();
    for joins in joins.chunks(1_000) {
        assert!(replica.apply(joins).iter().all(|outcome| matches!(outcome, Outcome::Channel { .. })));
    }
    assert_eq!(replica.one(join(channel(1), user(1), user(2))), refused(Code::LIMIT));
    replica.one(leave(channel(1), user(1), nth(5)));
    assert_eq!(replica.one(join(channel(1), user(1), user(2))), state(10_002, 10_001));
    replica.flush();
    replica.crash_and_replay();
    let (more, page) = replica
        .machines
        .read_members(&channel(1), &user(2), MemberNo(3), 200)
        .expect("readable")
        .expect("a member");
    assert!(more);
    assert_eq!((page.len(), page[0].member, page[2].member), (200, MemberNo(4), MemberNo(7)));
}
