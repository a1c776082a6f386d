//! One QUIC session: a task that moves bytes between its stream and the machine. It holds no buffer: input passes
//! through the loop's, output is written from the machine's outbox.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use throng_base::Key;
use throng_wire::Code;

use super::shared::{Order, Shared};
use crate::limits::QUIC_READS_PER_POLL;

/// Resolves when the peer has acknowledged everything, or is gone.
type Acknowledged = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Session {
    shared: Rc<Shared>,
    key: Key,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// The client has ended its side of the stream; the machine knows.
    ended: bool,
    /// The stream is finished.
    acknowledged: Option<Acknowledged>,
}

/// The session is over; close with this code.
struct Over(Code);

impl Session {
    pub(super) fn new(
        shared: Rc<Shared>,
        key: Key,
        connection: Connection,
        (send, recv): (SendStream, RecvStream),
    ) -> Self {
        Self { shared, key, connection, send, recv, ended: false, acknowledged: None }
    }

    /// Feeds the machine, a bounded number of reads.
    fn read(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        let shared = self.shared.clone();
        let mut engine = shared.engine.borrow_mut();
        if self.ended || engine.is_congested() {
            return Ok(()); // woken when it is over
        }
        let mut buffer = shared.buffer.borrow_mut();
        let now = engine.clock.now();
        for _ in 0..QUIC_READS_PER_POLL {
            match self.recv.poll_read(context, &mut buffer) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    engine.machine.handle_bytes(now, self.key, &mut buffer[..bytes]);
                    shared.notify.notify_one();
                }
                Poll::Ready(Ok(_)) => {
                    self.ended = true;
                    engine.machine.handle_end(now, self.key);
                    shared.notify.notify_one();
                    return Ok(());
                }
                Poll::Ready(Err(_)) => return Err(Over(Code::NORMAL)),
                Poll::Pending => return Ok(()),
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Sends what the outbox holds and the windows allow. Ready when the outbox is empty.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let shared = self.shared.clone();
        let mut engine = shared.engine.borrow_mut();
        let now = engine.clock.now();
        loop {
            let Some(chunk) = engine.machine.chunks(self.key).next() else { return Poll::Ready(Ok(())) };
            match ready!(Pin::new(&mut self.send).poll_write(context, chunk)) {
                Ok(bytes) => engine.machine.handle_written(now, self.key, bytes),
                Err(_) => return Poll::Ready(Err(Over(Code::NORMAL))),
            }
            // What is owed for dropped deliveries may have been queued just now.
            shared.notify.notify_one();
        }
    }

    /// Ends the stream and waits until the peer has it all: closing throws away what is not acknowledged.
    fn finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let send = &mut self.send;
        let acknowledged = self.acknowledged.get_or_insert_with(|| {
            // Fails if it was stopped, and then `stopped` resolves at once.
            let _ = send.finish();
            let stopped = send.stopped();
            Box::pin(async move {
                let _ = stopped.await;
            })
        });
        acknowledged.as_mut().poll(context)
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        let order = self.shared.order(self.key, context.waker());
        match order {
            Order::Abort => return Poll::Ready(Over(Code::NORMAL)),
            Order::Serve => {
                if let Err(over) = self.read(context) {
                    return Poll::Ready(over);
                }
            }
            Order::Close(_) => {}
        }
        if let Err(over) = ready!(self.write(context)) {
            return Poll::Ready(over);
        }
        match order {
            Order::Close(code) => {
                ready!(self.finish(context));
                Poll::Ready(Over(code))
            }
            _ => Poll::Pending,
        }
    }
}

impl Future for Session {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let session = self.get_mut();
        let Over(code) = ready!(session.advance(context));
        // The QUIC application error code is the code itself (SPEC: codes).
        session.connection.close(VarInt::from_u32(u32::from(code.0)), b"");
        session.shared.leave(session.key);
        Poll::Ready(())
    }
}
