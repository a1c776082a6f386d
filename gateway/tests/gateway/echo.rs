//! The echo listener against tungstenite. The whole of RFC 6455 is Autobahn's business.

use futures_util::{SinkExt, StreamExt};
use throng_runtime::{ListenOptions, listen};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::run;

#[test]
fn messages_of_all_sizes_come_back() {
    let listener =
        listen("127.0.0.1:0".parse().expect("an address"), ListenOptions::default()).expect("listening");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(|| throng_gateway::echo::serve(listener));
    run(async {
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut socket, _) =
            tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await.expect("upgraded");
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20] {
            let message = Message::Binary(vec![7; size].into());
            socket.send(message.clone()).await.expect("open");
            let back = socket.next().await.expect("open").expect("legal");
            assert!(back == message, "{size} bytes");
        }
        socket.send(Message::text("κόσμε")).await.expect("open");
        assert_eq!(socket.next().await.expect("open").expect("legal"), Message::text("κόσμε"));
        socket.close(None).await.expect("open");
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    });
}
