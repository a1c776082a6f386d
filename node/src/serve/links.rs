//! Glue between loops of one process: a gateway's way to the router, the router's way to a gateway.

use std::net::SocketAddr;

use throng_base::Full;
use throng_gateway::{GatewayHandle, LoopInput, RouterSink};
use throng_router::{GatewaySink, RouterHandle, RouterInput};
use throng_wire::NodeId;
use throng_wire::link::{GatewayId, ToGateway, ToRouter};

use crate::config::Config;

/// Gateway to router.
pub(crate) struct ToLocalRouter {
    pub(crate) gateway: GatewayId,
    pub(crate) router: RouterHandle,
}

impl RouterSink for ToLocalRouter {
    fn send(&mut self, _node: NodeId, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>> {
        self.router.try_send(RouterInput::Gateway(self.gateway, messages)).map_err(
            |Full(input)| match input {
                RouterInput::Gateway(_, messages) => Full(messages),
                _ => unreachable!("a full queue gives back what it was given"),
            },
        )
    }
}

/// Router to gateway.
pub(crate) struct ToLocalGateway {
    pub(crate) node: NodeId,
    pub(crate) gateway: GatewayHandle,
}

impl GatewaySink for ToLocalGateway {
    fn try_send(&mut self, batch: Vec<ToGateway>) -> Result<(), Vec<ToGateway>> {
        self.gateway.send(LoopInput::Router { node: self.node, messages: batch }).map_err(|Full(input)| {
            match input {
                LoopInput::Router { messages, .. } => messages,
                _ => unreachable!("a full queue gives back what it was given"),
            }
        })
    }
}

/// The other nodes' routers, which a gateway reaches over their peer ports.
pub(crate) fn other_nodes(config: &Config) -> Vec<(NodeId, SocketAddr)> {
    let others = config.peers.iter().filter(|(node, _)| **node != config.node);
    others.map(|(node, address)| (*node, *address)).collect()
}
