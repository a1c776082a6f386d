//! HELLO, AUTH and WELCOME.

use core::time::Duration;

use throng_base::{Instant, Key};
use throng_wire::frame::{Auth, Hello, Welcome};
use throng_wire::limits::INFLIGHT_PER_CHANNEL_MAX;
use throng_wire::{Code, DeviceId, Frame, UserId};

use crate::gateway::Gateway;
use crate::session::phase::{Input, Step, react};
use crate::{Output, Phase};

/// The protocol version this gateway speaks, lowest and highest at once.
pub const VERSION: u16 = 1;

/// What a good token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// When the token expires, Unix milliseconds.
    pub expires_ms: u64,
}

impl Gateway {
    pub(crate) fn hello(&mut self, now: Instant, key: Key, hello: &Hello<'_>) {
        if hello.version_min > VERSION || hello.version_max < VERSION {
            self.close(now, key, Code::VERSION);
        }
    }

    pub(crate) fn authenticate(&mut self, key: Key, auth: &Auth<'_>) {
        self.outputs.push_back(Output::Authenticate { session: key, token: auth.token.to_vec() });
    }

    /// What became of [`Output::Authenticate`]: the token's claims, or `TOKEN_INVALID`, `TOKEN_EXPIRED` or another
    /// code to close with.
    pub fn handle_authenticated(&mut self, now: Instant, session: Key, verdict: Result<Claims, Code>) {
        let Some(record) = self.sessions.get(session) else { return };
        let step = react(record.phase, Input::Verified);
        match (verdict, step) {
            (Ok(claims), Step::Go(Phase::Open)) => self.open(now, session, claims),
            (Err(code), Step::Go(_)) => self.close(now, session, code),
            _ => {} // it was closed meanwhile
        }
    }

    fn open(&mut self, now: Instant, key: Key, claims: Claims) {
        let left_ms = claims.expires_ms.saturating_sub(self.clock.wall_ms(now));
        if left_ms == 0 {
            return self.close(now, key, Code::TOKEN_EXPIRED);
        }
        let expiry = self.clock.deadline(now, Duration::from_millis(left_ms));
        self.admission.leave(key.index);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.phase = Phase::Open;
        session.user = claims.user;
        session.device = claims.device;
        session.deadline = expiry;
        if expiry < session.armed {
            self.arm(key, expiry);
        }
        self.counters.authenticated += 1;
        self.welcome(now, key, claims);
        // Before anything the client asks: its own SYNC then comes behind the registration on the same link.
        self.register(now, key, true);
    }

    fn welcome(&mut self, now: Instant, key: Key, claims: Claims) {
        let server = self.config.server.clone();
        let welcome = Welcome {
            version: VERSION,
            version_max: VERSION,
            server: &server,
            user: claims.user,
            device: claims.device,
            heartbeat_ms: self.config.heartbeat.as_millis() as u32,
            body_max: self.config.body_max as u32,
            frame_max: self.config.frame_max() as u32,
            inflight_max: INFLIGHT_PER_CHANNEL_MAX as u16,
            epoch: self.config.epoch,
            time_ms: self.clock.wall_ms(now),
            ticket: &[],
        };
        self.answer(now, key, &Frame::Welcome(welcome));
    }
}
