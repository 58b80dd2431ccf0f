//! One Pusher client: the state machine behind a WebSocket.
//!
//! Every message of a client gets a response, and an error leaves the connection open: a session ends only by silence,
//! a flood of invalid messages or refusals, or the server's decision. A client has at most one open request, since its
//! next messages wait until the request has ended.

mod activity;
mod client_event;
mod membership;
mod signin;
mod subscribe;
#[cfg(test)]
mod tests;
mod watch;
mod watchlist;

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::{JoinRefused, Lost, Welcome};
use tidings_bus::{Bucket, Rate};
use tidings_live::{CloseReason, Context, LeaveFailed, Message, PublishRefused, Refused, SessionProtocol};
use tidings_model::app::App;
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::{Millis, millis};
use tidings_model::policy::user_online;
use tidings_wire::{EncodedMessage, Encoding};

use crate::channel::{is_presence, shown};
use crate::door::KeepAlive;
use crate::limits::echo;
use crate::wire;
use crate::wire::codes::Code;
use crate::wire::incoming::Frame;
use activity::Activity;
use membership::Memberships;
use watch::Watchlist;

/// From this version of the protocol on, clients act on close codes. Clients of earlier versions are sent a
/// `pusher:error` first. Version 6 has close codes too, but its clients act on the event: Pysher decides by it when to
/// reconnect.
const CLOSE_CODES_SINCE: u8 = 7;
/// From this version on, clients answer `pusher:ping`.
const PINGS_SINCE: u8 = 5;
/// The deadline of a session that has none.
const NEVER: Millis = Millis::MAX;
/// How many invalid messages a client may send before it is disconnected.
const FAULTS: Rate = Rate { count: 50, per: Duration::from_secs(50) };
/// The smallest burst of refused joins and sign-ins that is allowed; one more is allowed each second. The burst is as
/// large as the app's limit of channels, if that is larger: a client that has reconnected may send the auth strings of
/// its earlier connection for every channel.
const REFUSALS: usize = 100;

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    app: Arc<App>,
    /// The user that it has signed in as.
    user: Option<Arc<Member>>,
    /// The deadline to authenticate, if its app sets one; [`NEVER`] once it has.
    prove_by: Millis,
    /// The session has a user for live: of its first presence channel, or of its sign-in.
    is_known: bool,
    /// The users that its user watches.
    watch: Option<Box<Watchlist>>,
    /// The subscription that is being joined.
    pending: Option<Box<PendingJoin>>,
    memberships: Memberships,
    activity: Activity,
    client_events: Bucket,
    faults: Bucket,
    refusals: Bucket,
    protocol: u8,
}

/// A join that has been requested and has not ended.
#[derive(Debug)]
struct PendingJoin {
    request_id: u32,
    user: Option<Arc<Member>>,
    format: &'static Encoding,
}

impl Session {
    pub(crate) fn new(app: Arc<App>, protocol: u8, keep_alive: KeepAlive) -> Self {
        Self {
            app,
            user: None,
            prove_by: NEVER,
            is_known: false,
            watch: None,
            pending: None,
            memberships: Memberships::default(),
            activity: Activity::new(keep_alive),
            client_events: Bucket::default(),
            faults: Bucket::default(),
            refusals: Bucket::default(),
            protocol,
        }
    }

    /// Sends an error; the session goes on.
    fn error(cx: &mut Context<'_>, message: &str) {
        cx.write(wire::error(None, message));
    }

    /// Responds to an invalid message. A flood of them ends the session.
    fn fault(&mut self, cx: &mut Context<'_>, message: &str) {
        Self::error(cx, message);
        cx.refused(Refused::Malformed);
        if self.faults.take(1, FAULTS, cx.now()).is_err() {
            cx.refused(Refused::Flood);
            self.end(cx, Code::ProtocolError, "Too many messages that are not of the protocol");
        }
    }

    /// Counts a refused join or sign-in. A flood of them ends the session. A client that sends wrong signatures is
    /// closed with "not authorized", after which libraries do not reconnect.
    fn count_refusal(&mut self, cx: &mut Context<'_>, why: Refused) {
        cx.refused(why);
        let count = u32::try_from(self.app.limits.channels_per_session.max(REFUSALS)).unwrap_or(u32::MAX);
        let rate = Rate { count, per: Duration::from_secs(count.into()) };
        if self.refusals.take(1, rate, cx.now()).is_err() {
            cx.refused(Refused::Flood);
            let code = if why == Refused::FailedProof { Code::NotAuthorized } else { Code::ProtocolError };
            self.end(cx, code, "Too many subscriptions and sign-ins that were refused");
        }
    }

    fn end(&self, cx: &mut Context<'_>, code: Code, reason: &str) {
        debug_assert!(code.closes(), "{code:?} would keep the client away for good");
        if self.protocol < CLOSE_CODES_SINCE {
            cx.write(wire::error(Some(code), reason));
        }
        cx.close(code.number(), reason);
    }
}

impl SessionProtocol for Session {
    fn opened(&mut self, cx: &mut Context<'_>) {
        cx.write(wire::connection_established(cx.session(), self.activity.told()));
        if let Some(time) = self.app.authorize_within {
            self.prove_by = cx.now().saturating_add(millis(time));
        }
        let next = self.activity.begin(cx);
        cx.wake_at(next.min(self.prove_by));
    }

    fn received(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let Message::Text(text) = message else {
            return self.fault(cx, "Binary WebSocket frames are not supported");
        };
        let Some(frame) = Frame::read(text) else {
            return self.fault(cx, "Invalid message: send a JSON object with a string \"event\"");
        };
        match &*frame.event {
            "pusher:ping" => cx.write(wire::PONG.clone()),
            "pusher:pong" => {}
            "pusher:subscribe" => self.subscribe(cx, &frame),
            "pusher:unsubscribe" => self.unsubscribe(cx, &frame),
            "pusher:signin" => self.sign_in(cx, &frame),
            name if name.starts_with("client-") => self.client_event(cx, name, &frame),
            name => self.fault(cx, &format!("Unsupported event received on socket: {}", echo(name))),
        }
    }

    fn joined(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u32,
        channel: &ChannelKey,
        outcome: Result<Welcome, JoinRefused>,
    ) {
        match user_online(&channel.name) {
            Some(user) => self.has_looked(cx, request_id, user, &outcome),
            None => self.has_joined(cx, request_id, channel, outcome),
        }
    }

    fn left(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<(), LeaveFailed>) {
        // Leaves of online channels are requested by the watchlist, not by the client.
        if user_online(&channel.name).is_none() {
            self.has_left(cx, channel, outcome);
        }
    }

    fn published(&mut self, cx: &mut Context<'_>, _: u32, outcome: Result<(), PublishRefused>) {
        Self::has_published(cx, outcome);
    }

    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        self.has_heard(cx, message);
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost) {
        if lost.publications {
            cx.write(wire::lost(&shown(&lost.channel.name), lost.position.as_ref()));
        }
        // The client would keep members that have left for ever.
        match user_online(&lost.channel.name) {
            Some(user) if lost.members => self.look_again(cx, user),
            None if lost.members && is_presence(&lost.channel.name) => {
                self.end(cx, Code::ReconnectAtOnce, "Comings and goings were missed; please reconnect");
            }
            _ => {}
        }
    }

    fn woken(&mut self, cx: &mut Context<'_>) {
        let ping = if self.protocol < PINGS_SINCE { &wire::SOCKET_PING } else { &wire::PING };
        if cx.now() >= self.prove_by {
            cx.refused(Refused::NothingProved);
            let reason = "Connection not authorized within timeout: sign in, or join a private or presence channel";
            return self.end(cx, Code::NotAuthorized, reason);
        }
        match self.activity.woken(cx, ping) {
            Some(next) => {
                cx.wake_at(next.min(self.prove_by));
                self.look_for_unknown(cx);
            }
            None => {
                self.end(cx, Code::PongMissing, "Pong reply not received in time: answer pusher:ping with pusher:pong")
            }
        }
    }

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        let (code, reason) = match why {
            CloseReason::GoingAway => (Code::ReconnectAtOnce, "The server is going away; please reconnect"),
            // Not a code that means "reconnect at once": the server would not be up yet, and libraries would then wait
            // for the timeout of that attempt.
            CloseReason::Restarting => (Code::OverCapacity, "The server restarts; please reconnect in a moment"),
            CloseReason::Slow => {
                (Code::OverCapacity, "The client reads too slowly: more is waiting for it than is kept")
            }
            CloseReason::Shut => (Code::AppDisabled, "The app is disabled"),
            CloseReason::Disconnected => (Code::NotAuthorized, "The app has ended this connection"),
        };
        self.end(cx, code, reason);
    }
}
