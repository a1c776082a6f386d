//! Leaving without a storm.

use std::time::Duration;

use throng_gateway_core::{GatewayConfig, SessionKey, Transport};
use throng_wire::Code;

use crate::harness::{LOCALHOST, SHARDS, World, publish};

#[test]
fn goaway_goes_out_in_paced_batches_and_close_in_the_same_order() {
    let config = GatewayConfig {
        shards: SHARDS,
        drain_after: Duration::from_secs(3),
        endpoints: vec!["ws://there/v1/ws".to_owned()],
        ..GatewayConfig::default()
    };
    let mut world = World::with(config);
    world.router.add(1, &["user 0"]);
    let keys: Vec<SessionKey> = (0..1_200).map(|n| world.login(&format!("user {n}"))).collect();
    let waiting = world.connect(Transport::Stream);
    world.gateway.handle_drain(world.now);
    world.gateway.handle_drain(world.now);
    world.pump();
    let told = |world: &mut World| {
        let told = keys.iter().filter(|key| world.received(**key).iter().any(|f| f.starts_with("GOAWAY")));
        told.count()
    };
    assert_eq!(told(&mut world), 500);
    world.pass(Duration::from_millis(49));
    assert_eq!(told(&mut world), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(told(&mut world), 500);
    world.pass(Duration::from_millis(50));
    assert_eq!(told(&mut world), 200);
    assert_eq!(world.received(waiting), ["CLOSE GOING_AWAY"]);
    // SPEC W-GO-1: until then the session works as before.
    world.send(keys[0], publish(1, 1, "still"));
    assert_eq!(world.received(keys[0]), ["ACK 1 is 1"]);
    let refused = world.gateway.handle_connect(world.now, Transport::Stream, LOCALHOST);
    assert_eq!((refused, world.gateway.is_draining()), (Err(Code::GOING_AWAY), true));
    world.pass(Duration::from_millis(2_900));
    assert_eq!(world.closed.len(), 501);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.closed.len(), 1_201);
    assert_eq!(world.received(keys[1_199]), ["CLOSE GOING_AWAY"]);
}
