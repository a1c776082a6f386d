//! What the tasks of a QUIC loop share. They run on one thread, so a `RefCell` is enough; no borrow is held across an
//! await.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use throng_base::Key;
use throng_wire::Code;
use tokio::sync::Notify;

use crate::engine::{Control, Effect, Engine};
use crate::limits::READ_BUFFER_BYTES;

/// What a session's task has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// Send what the outbox holds, then close with this code.
    Close(Code),
    /// Close at once.
    Abort,
}

/// One session's task, as the loop knows it.
struct Slot {
    generation: u32,
    order: Order,
    waker: Option<Waker>,
}

pub(super) struct Shared {
    pub(super) engine: RefCell<Engine>,
    /// Ends the wait of the loop's main task.
    pub(super) notify: Arc<Notify>,
    /// All sessions read into this.
    pub(super) buffer: RefCell<Box<[u8]>>,
    /// Connections whose stream is not open yet.
    pub(super) handshakes: Cell<usize>,
    /// By index of the session's key.
    slots: RefCell<Vec<Option<Slot>>>,
}

impl Shared {
    pub(super) fn new(engine: Engine, notify: Arc<Notify>) -> Self {
        Self {
            engine: RefCell::new(engine),
            notify,
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            handshakes: Cell::new(0),
            slots: RefCell::new(Vec::new()),
        }
    }

    /// A session has begun.
    pub(super) fn enter(&self, key: Key) {
        let mut slots = self.slots.borrow_mut();
        let index = key.index as usize;
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        let slot = Slot { generation: key.generation, order: Order::Serve, waker: None };
        let before = slots[index].replace(slot);
        assert!(before.is_none(), "the machine reuses an index only after the disconnect");
    }

    /// A session has ended; tells the machine.
    pub(super) fn leave(&self, key: Key) {
        self.slots.borrow_mut()[key.index as usize] = None;
        let mut engine = self.engine.borrow_mut();
        let now = engine.clock.now();
        engine.machine.handle_disconnect(now, key);
        self.notify.notify_one();
    }

    /// What the session has been told; its task is woken when that changes.
    pub(super) fn order(&self, key: Key, waker: &Waker) -> Order {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots[key.index as usize].as_mut() else { return Order::Abort };
        assert_eq!(slot.generation, key.generation, "a task ends before its index is reused");
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        slot.order
    }

    /// One turn of the engine, and what comes of it told to the sessions.
    pub(super) fn turn(&self) -> Control {
        let mut engine = self.engine.borrow_mut();
        let was_congested = engine.is_congested();
        let now = engine.clock.now();
        if engine.turn(now) == Control::Stop {
            return Control::Stop;
        }
        let mut slots = self.slots.borrow_mut();
        while let Some(effect) = engine.poll_effect() {
            let (key, order) = match effect {
                Effect::Write(key) => (key, None),
                Effect::Close(key, code) => (key, Some(Order::Close(code))),
                Effect::Abort(key) => (key, Some(Order::Abort)),
            };
            let slot = slots.get_mut(key.index as usize).and_then(Option::as_mut);
            if let Some(slot) = slot.filter(|slot| slot.generation == key.generation) {
                slot.order = order.unwrap_or(slot.order);
                wake(slot);
            }
        }
        engine.flush_routers(now);
        if was_congested && !engine.is_congested() {
            // Sessions that were not read meanwhile do not know that they may go on.
            slots.iter_mut().flatten().for_each(wake);
        }
        Control::Run
    }
}

fn wake(slot: &mut Slot) {
    if let Some(waker) = &slot.waker {
        waker.wake_by_ref();
    }
}
