//! Loops whose router is another process: links over TCP, with a router node that only these tests have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use throng_gateway::{RemoteRouters, Routers};
use throng_wire::frame::{Split, split};
use throng_wire::limits::PEER_FRAME_MAX;
use throng_wire::peer::{PEER_PROTOCOL, PeerHello, PeerRefused, PeerRole};
use throng_wire::{ChannelId, Code, Epoch, PeerFrame};

use crate::client::{Carrier, Client, quic, websocket};
use crate::fixture::{config, identity, machine, quic_over, run, tcp_over};
use crate::router::{FakeRouter, NODE, SHARDS};

const CLUSTER: [u8; 16] = [9; 16];

/// How a node answers a hello.
#[derive(Clone, Copy, PartialEq)]
enum Greeting {
    Accept,
    Refuse,
    OtherCluster,
}

/// A router node that serves one link at a time; a connection to `kill` makes it drop the current one.
struct Node {
    address: SocketAddr,
    links: Arc<AtomicU64>,
    current: Arc<std::sync::Mutex<Option<TcpStream>>>,
}

impl Node {
    fn start(greeting: Greeting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let (links, current) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let node = Self { address, links, current };
        let (links, current) = (node.links.clone(), node.current.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accepted");
                *current.lock().expect("no panic") = Some(stream.try_clone().expect("cloned"));
                links.fetch_add(1, Ordering::SeqCst);
                serve(stream, greeting);
            }
        });
        node
    }

    fn links(&self) -> u64 {
        self.links.load(Ordering::SeqCst)
    }

    fn cut(&self) {
        let stream = self.current.lock().expect("no panic").take().expect("a link");
        stream.shutdown(std::net::Shutdown::Both).expect("it was open");
    }

    fn routers(&self) -> Routers {
        Routers::Remote(RemoteRouters {
            nodes: vec![(NODE, self.address)],
            cluster: CLUSTER,
            shards: SHARDS,
            epoch: Epoch(1),
            name: "test".to_owned(),
            tls: None,
        })
    }
}

fn serve(mut stream: TcpStream, greeting: Greeting) {
    let (mut input, mut router) = (Vec::new(), FakeRouter::default());
    let mut chunk = [0u8; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut chunk) {
        input.extend_from_slice(&chunk[..bytes]);
        while let Split::Frame { consumed, payload } = split(&input, PEER_FRAME_MAX).expect("well formed") {
            let frame = PeerFrame::decode(&input[payload]).expect("well formed").expect("known");
            input.drain(..consumed);
            let mut out = BytesMut::new();
            answer(frame, greeting, &mut router).iter().for_each(|frame| frame.encode(&mut out));
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn answer(frame: PeerFrame, greeting: Greeting, router: &mut FakeRouter) -> Vec<PeerFrame> {
    match frame {
        PeerFrame::Hello(hello) => {
            assert_eq!((hello.protocol, hello.cluster, hello.shards), (PEER_PROTOCOL, CLUSTER, SHARDS));
            assert!(matches!(hello.role, PeerRole::Gateway(_)));
            let cluster = if greeting == Greeting::OtherCluster { [1; 16] } else { CLUSTER };
            let ack = PeerHello { role: PeerRole::Node(NODE), cluster, node_name: "n1".to_owned(), ..hello };
            match greeting {
                Greeting::Refuse => {
                    let reason = "another cluster".to_owned();
                    vec![PeerFrame::Refused(PeerRefused { code: Code::PROTOCOL, reason })]
                }
                _ => vec![PeerFrame::HelloAck(ack), PeerFrame::ToGateway(vec![FakeRouter::leads()])],
            }
        }
        PeerFrame::ToRouter(messages) => {
            let answers = messages.into_iter().flat_map(|message| router.handle(message)).collect();
            vec![PeerFrame::ToGateway(answers)]
        }
        PeerFrame::Ping(nonce) => vec![PeerFrame::Pong(nonce)],
        other => panic!("no gateway sends {other:?}"),
    }
}

/// A session works, the link is cut, and the session works again after it was made anew.
async fn survives_a_cut<C: Carrier>(mut client: Client<C>, node: &Node) {
    client.greet_and_expect_welcome("alice:1").await;
    client.publish_and_receive(ChannelId([1; 16]), 50, 300).await;
    client.publish_and_receive(ChannelId([2; 16]), 10, 60_000).await;
    let before = node.links();
    node.cut();
    while node.links() == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.publish_and_receive(ChannelId([3; 16]), 50, 300).await;
}

#[test]
fn a_tcp_loop_reaches_its_router_and_heals_the_link() {
    let node = Node::start(Greeting::Accept);
    let gateway = tcp_over(config(machine(), node.routers()), None, true);
    run(async { survives_a_cut(websocket(gateway.address).await, &node).await });
}

#[test]
fn a_quic_loop_reaches_its_router_and_heals_the_link() {
    let (node, identity) = (Node::start(Greeting::Accept), identity());
    let gateway = quic_over(config(machine(), node.routers()), &identity);
    run(async { survives_a_cut(quic(gateway.address, &identity).await, &node).await });
}

#[test]
fn a_node_that_refuses_or_is_of_another_cluster_is_left_alone_for_a_while() {
    for greeting in [Greeting::Refuse, Greeting::OtherCluster] {
        let node = Node::start(greeting);
        let gateway = tcp_over(config(machine(), node.routers()), None, true);
        while node.links() == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(500));
        assert_eq!(node.links(), 1, "it came back at once");
        drop(gateway);
    }
}
