use proptest::collection::vec;
use proptest::prelude::*;
use throng_wire::ids::ServerTs;

use super::*;

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn command() -> impl Strategy<Value = Command> {
    let publish = (id(), id(), any::<u64>(), any::<u64>(), any::<u8>(), vec(any::<u8>(), 0..64)).prop_map(
        |(channel, user, device, client, kind, body)| {
            Command::Publish(Publish {
                channel: ChannelId(channel),
                user: UserId(user),
                device: DeviceId(device),
                client_msg_id: ClientMsgId(client),
                kind: EventKind(kind),
                body: body.into(),
            })
        },
    );
    let create = (id(), id(), 0..3u8, vec(id(), 0..5)).prop_map(|(channel, user, class, members)| {
        Command::Create(Create {
            channel: ChannelId(channel),
            user: UserId(user),
            class: class_of(class).expect("0 to 2 are classes"),
            members: members.into_iter().map(UserId).collect(),
        })
    });
    let change = (id(), id(), id(), any::<bool>()).prop_map(|(channel, actor, user, join)| {
        let change = Change { channel: ChannelId(channel), actor: UserId(actor), user: UserId(user) };
        if join { Command::Join(change) } else { Command::Leave(change) }
    });
    let row = (id(), id(), any::<u64>(), any::<u64>()).prop_map(|(user, channel, head, count)| InboxRow {
        user: UserId(user),
        channel: ChannelId(channel),
        head: Seq(head),
        count,
    });
    let inbox = (any::<u32>(), vec(row, 0..5))
        .prop_map(|(from, rows)| Command::InboxUpdate(InboxUpdate { from: ShardId(from), rows }));
    let clear = (any::<u32>(), vec((id(), any::<u64>()), 0..5)).prop_map(|(dest, rows)| {
        let rows = rows.into_iter().map(|(channel, head)| (ChannelId(channel), Seq(head))).collect();
        Command::OutboxClear(OutboxClear { dest: ShardId(dest), rows })
    });
    let retain = (id(), any::<u64>())
        .prop_map(|(id, floor)| Command::Retain(Retain { channel: ChannelId(id), floor: Seq(floor) }));
    let hold = (id(), any::<bool>())
        .prop_map(|(id, is_held)| Command::Hold(Hold { channel: ChannelId(id), is_held }));
    prop_oneof![Just(Command::Noop), publish, create, change, inbox, clear, retain, hold]
}

fn read_all(payload: &Bytes) -> Result<(ServerTs, Vec<Command>), EntryError> {
    let mut reader = EntryReader::new(payload)?;
    let mut commands = Vec::new();
    while let Some(command) = reader.read()? {
        commands.push(command);
    }
    Ok((reader.ts(), commands))
}

proptest! {
    #[test]
    fn entries_come_back_and_truncated_ones_are_refused(commands in vec(command(), 0..8), ts in 0..=crate::limits::TS_MAX) {
        let mut builder = EntryBuilder::new();
        commands.iter().for_each(|command| builder.push(command));
        prop_assert_eq!(builder.len(), commands.len());
        let payload = builder.seal(ServerTs(ts));
        prop_assert_eq!(read_all(&payload), Ok((ServerTs(ts), commands)));
        for len in 1..payload.len() {
            prop_assert!(read_all(&payload.slice(..len)).is_err());
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(mut bytes in vec(any::<u8>(), 0..200), version: bool) {
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let _ = read_all(&bytes.into());
    }

    #[test]
    fn a_flipped_byte_never_panics(commands in vec(command(), 1..4), at: proptest::sample::Index, bits in 1..=255u8) {
        let mut builder = EntryBuilder::new();
        commands.iter().for_each(|command| builder.push(command));
        let mut bytes = builder.seal(ServerTs(1)).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let _ = read_all(&bytes.into());
    }
}

#[test]
fn newer_versions_unknown_commands_and_rests_are_errors() {
    let entry = |tail: &[u8], count: u32| {
        let mut bytes = vec![VERSION];
        bytes.extend(7u64.to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes.extend(tail);
        Bytes::from(bytes)
    };
    assert_eq!(read_all(&Bytes::from_static(&[VERSION + 1])), Err(EntryError::Version(VERSION + 1)));
    assert_eq!(read_all(&Bytes::from_static(&[0])), Err(EntryError::Version(0)));
    assert_eq!(read_all(&entry(&[99], 1)), Err(EntryError::UnknownCommand(99)));
    assert_eq!(read_all(&entry(&[tag::NOOP, 0], 1)), Err(EntryError::Corrupt("end of entry")));
    assert_eq!(read_all(&entry(&[], u32::MAX)), Err(EntryError::Corrupt("count")));
    assert_eq!(read_all(&Bytes::new()), Ok((ServerTs(0), vec![])));
}

#[test]
fn an_entry_carries_the_lowest_version_that_knows_its_commands() {
    let (channel, floor) = (ChannelId([1; 16]), Seq(1));
    let commands = [
        (Command::Noop, 1),
        (Command::Retain(Retain { channel, floor }), 2),
        (Command::Hold(Hold { channel, is_held: true }), 2),
    ];
    for (command, version) in commands {
        let mut builder = EntryBuilder::new();
        builder.push(&Command::Noop);
        builder.push(&command);
        builder.push(&Command::Noop);
        let entry = builder.seal(ServerTs(1));
        assert_eq!(entry[0], version, "{command:?}");
        let mut older = entry.to_vec();
        older[0] = version - 1;
        assert!(read_all(&older.into()).is_err(), "a writer of version {} knew no {command:?}", version - 1);
    }
    assert_eq!(EntryBuilder::new().seal(ServerTs(1))[0], 1);
}
