//! Holds, moves of leaderships and acquittals: what a node does for an operator.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use crossbeam_channel::bounded;
use throng_router::RouterInput;
use throng_router_core::Operation;
use throng_wire::code::Code;
use throng_wire::{ChannelId, NodeId, ShardId};

use super::{Care, Said, addresses, bad_request, no_answer};
use crate::cli::{AcquitArgs, HoldArgs, Switch};
use crate::connect;
use crate::error::Failure;
use crate::status;

/// How long a command may take to be applied.
const OPERATE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a hold waits for the nodes of a cluster that has just begun to say which versions they speak,
const VERSION_WAIT: Duration = Duration::from_secs(2);
/// and how often it asks meanwhile.
const VERSION_LOOK_EVERY: Duration = Duration::from_millis(50);

/// `throng hold`: asks the nodes one after the other until the leader has done it.
///
/// # Errors
/// [`Failure::Runtime`] if none of them did.
pub(crate) fn hold(args: &HoldArgs) -> Result<(), Failure> {
    let (channel, state) = (channel(&args.channel)?, if args.state == Switch::On { "on" } else { "off" });
    let mut refusals = Vec::new();
    for ops in addresses(&args.nodes)? {
        match status::post(ops, "/hold", &format!("{channel} {state}"), OPERATE_TIMEOUT + OPERATE_TIMEOUT) {
            Ok(text) => {
                print!("{text}");
                return Ok(());
            }
            Err(failure) => refusals.push(failure.to_string()),
        }
    }
    Err(Failure::Runtime(refusals.join("; ")))
}

/// A channel's id, or the two users of a direct conversation.
fn channel(text: &str) -> Result<ChannelId, Failure> {
    if let Some(id) = ChannelId::from_hex(text) {
        return Ok(id);
    }
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => {
            Ok(ChannelId::direct(connect::user(a), connect::user(b)))
        }
        _ => Err(Failure::Config(format!(
            "{text:?} is no channel: say its id (32 hexadecimal digits), or two users with a comma between"
        ))),
    }
}

/// `CHANNEL on|off`
pub(super) fn answer_hold(care: &Care, body: &str) -> Said {
    let usage = || bad_request("say CHANNEL on or CHANNEL off");
    let (id, state) = body.split_once(' ').ok_or_else(usage)?;
    let channel = ChannelId::from_hex(id).ok_or_else(usage)?;
    let is_held = match state {
        "on" => true,
        "off" => false,
        _ => return Err(usage()),
    };
    let until = Instant::now() + VERSION_WAIT;
    loop {
        match operate(care, Operation::Hold { channel, is_held }) {
            Err((StatusCode::CONFLICT, _)) if Instant::now() < until => {
                std::thread::sleep(VERSION_LOOK_EVERY)
            }
            Err(refusal) => return Err(refusal),
            Ok(()) => break,
        }
    }
    Ok(match is_held {
        true => format!("{channel} is held: nothing in it is deleted\n"),
        false => format!("{channel} is no longer held\n"),
    })
}

/// Lines `SHARD NODE`: begins to hand each leadership over. The answer says of how many; what this node does not lead, or
/// hands over already, is left out.
pub(super) fn answer_transfer(care: &Care, body: &str) -> Said {
    let mut moves = Vec::new();
    for line in body.lines().take(care.shards as usize) {
        let numbers = line
            .split_once(' ')
            .and_then(|(shard, node)| Some((shard.parse::<u32>().ok()?, node.parse::<u64>().ok()?)));
        let (shard, node) = numbers.ok_or_else(|| bad_request("say SHARD NODE, a line each"))?;
        moves.push((ShardId(shard), NodeId(node)));
    }
    let asked = moves.len();
    let begun = moves
        .into_iter()
        .filter(|(shard, to)| operate(care, Operation::Transfer { shard: *shard, to: *to }).is_ok());
    Ok(format!("{} of {asked} begun\n", begun.count()))
}

/// `throng acquit`: what is suspect on a node, and if told so, that it is not.
///
/// # Errors
/// [`Failure::Config`] without `--yes`, [`Failure::Runtime`] if the node does not answer.
pub(crate) fn acquit(args: &AcquitArgs) -> Result<(), Failure> {
    let ops = args.ops.ops;
    let status = status::fetch(ops)?;
    let suspects = status.router.map(|router| router.store.suspects).unwrap_or_default();
    if suspects.is_empty() {
        println!("node {} has no suspect replicas", status.ready.node);
        return Ok(());
    }
    let lines: Vec<_> = suspects.iter().map(ToString::to_string).collect();
    if !args.yes {
        return Err(Failure::Config(format!(
            "the replicas of shards {} on node {} may have lost what they had acknowledged, and a leader clears them as soon as a \
             majority is there without them. To let them count without that can lose messages: say --yes if the nodes that \
             are missing never come back",
            lines.join(", "),
            status.ready.node
        )));
    }
    print!("{}", status::post(ops, "/acquit", &lines.join("\n"), OPERATE_TIMEOUT + OPERATE_TIMEOUT)?);
    Ok(())
}

/// Lines `SHARD`: suspects that forgot nothing. The answer says how many were some.
pub(super) fn answer_acquit(care: &Care, body: &str) -> Said {
    let shards: Vec<u32> = body
        .lines()
        .take(care.shards as usize + 1)
        .map(|line| line.parse().map_err(|_| bad_request("say SHARD, a line each")))
        .collect::<Result<_, _>>()?;
    let acquit = |shard| operate(care, Operation::Acquit { shard: ShardId(shard) });
    let done: Vec<_> = shards.into_iter().filter(|shard| acquit(*shard).is_ok()).collect();
    tracing::warn!(shards = ?done, "somebody says that these replicas forgot nothing");
    Ok(format!("{} replicas count again\n", done.len()))
}

fn operate(care: &Care, operation: Operation) -> Result<(), (StatusCode, String)> {
    let (reply, answer) = bounded(1);
    care.router.try_send(RouterInput::Operate(operation, reply)).map_err(|_| no_answer())?;
    let result = answer.recv_timeout(OPERATE_TIMEOUT).map_err(|_| no_answer())?;
    result.map_err(|refusal| match (refusal.code, refusal.leader) {
        (Code::NOT_FOUND, _) => (StatusCode::NOT_FOUND, "there is no such channel or shard".to_owned()),
        (Code::UNSUPPORTED, _) => (
            StatusCode::CONFLICT,
            "not every node of the cluster runs a program that knows this; `throng cluster nodes` shows the version of each, \
             upgrade those that are behind"
                .to_owned(),
        ),
        (_, Some(leader)) => {
            (StatusCode::MISDIRECTED_REQUEST, format!("node {leader} leads the shard; ask it"))
        }
        (code, None) => (StatusCode::SERVICE_UNAVAILABLE, format!("{code}; try again")),
    })
}
