//! Joining and leaving channels.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::{DeliveryMode, JoinRefused, Recovery, Since, Welcome};
use tidings_live::{Context, JoinRequest, LeaveFailed, Proof, Refused, SessionRequest};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::policy::{SERVER_TO_USER, canonical};

use tidings_wire::Encoding;

use crate::auth;
use crate::channel::{is_presence, is_valid, is_valid_user, needs_auth, shown};
use crate::limits::{self, echo};
use crate::wire::incoming::{Frame, Subscribe, Unsubscribe, User};
use crate::wire::{self, FORMAT, POSITIONED, json};

use super::{PendingJoin, Session};

/// Why a channel is not joined, with the fields of `pusher:subscription_error`.
struct SubscribeError {
    kind: &'static str,
    status: u16,
    message: String,
}

impl SubscribeError {
    fn new(kind: &'static str, status: u16, message: impl Into<String>) -> Self {
        Self { kind, status, message: message.into() }
    }

    fn auth(message: impl Into<String>) -> Self {
        Self::new("AuthError", 401, message)
    }
}

impl From<&JoinRefused> for SubscribeError {
    fn from(refused: &JoinRefused) -> Self {
        match refused {
            JoinRefused::NoProof | JoinRefused::OtherUser => Self::auth(refused.to_string()),
            JoinRefused::TooManyMembers { .. } => Self::new("LimitReached", 403, refused.to_string()),
            JoinRefused::Unavailable => Self::new("Unavailable", 503, refused.to_string()),
        }
    }
}

impl Session {
    pub(super) fn subscribe(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) {
        let text = frame.text();
        let Some(request) = text.as_deref().and_then(|text| json::object::<Subscribe<'_>>(text).ok()) else {
            return self.fault(cx, "Invalid subscription: `data` needs the string `channel`");
        };
        let name = canonical(&request.channel);
        if self.memberships.has(&name) {
            return Self::error(cx, &format!("Existing subscription to channel {}", request.channel.0));
        }
        match self.join(cx, &request) {
            Ok(join) => {
                let user = join.member.clone();
                let request_id = cx.request(SessionRequest::Join(join));
                let format = format_of(&request);
                self.pending = Some(Box::new(PendingJoin { request_id, user, format }));
            }
            Err(error) => self.refuse(cx, &request.channel, &error),
        }
    }

    /// Checks everything that the session can check, and returns the join to request.
    fn join(&self, cx: &Context<'_>, request: &Subscribe<'_>) -> Result<JoinRequest, SubscribeError> {
        let name = &*request.channel;
        if !is_valid(name) {
            return Err(SubscribeError::new("InvalidChannel", 400, format!("Invalid channel name: '{}'", echo(name))));
        }
        let user = self.user.as_deref().map(|member| &*member.user);
        if name.strip_prefix(SERVER_TO_USER).is_some_and(|own| user != Some(own)) {
            return Err(SubscribeError::auth("Only connections that have signed in as this user may join the channel"));
        }
        let limit = self.app.limits.channels_per_session;
        if self.memberships.len() >= limit {
            return Err(SubscribeError::new(
                "LimitReached",
                403,
                format!("The connection is at its limit of {limit} channels"),
            ));
        }
        let proven = match request.auth() {
            Some(auth) => auth::channel(&self.app, cx.session(), name, request.channel_data(), auth),
            None => Err(auth::AuthError::Missing),
        };
        let proof = match proven {
            Ok(()) => Proof::Channel,
            Err(error) if needs_auth(name) => return Err(SubscribeError::auth(error.to_string())),
            // For a channel that needs no auth string, a wrong one does not matter.
            Err(_) => Proof::None,
        };
        let member = if is_presence(name) { Some(self.member(request)?) } else { None };
        let since = self.since(request)?;
        Ok(JoinRequest {
            channel: Arc::from(name),
            proof,
            member,
            since,
            mode: DeliveryMode::Shared(format_of(request)),
        })
    }

    /// Which past events the session gets: those after a position, else the last ones, if the namespace replays them to
    /// every session.
    fn since(&self, request: &Subscribe<'_>) -> Result<Option<Since>, SubscribeError> {
        if let Some(since) = request.since().filter(|since| !since.is_empty()) {
            let position = since
                .parse()
                .map_err(|error| SubscribeError::new("InvalidSince", 400, format!("Invalid since: {error}")));
            return position.map(|position| Some(Since::Position(position)));
        }
        let replay = self.app.namespaces.options(&canonical(&request.channel)).replay;
        Ok((replay > 0).then_some(Since::Last(replay)))
    }

    /// The member that joins a presence channel: the one that the app signed, else the signed-in user.
    fn member(&self, request: &Subscribe<'_>) -> Result<Arc<Member>, SubscribeError> {
        let Some(data) = request.channel_data() else {
            return self.user.clone().ok_or_else(|| {
                SubscribeError::auth(
                    "Presence channels need channel_data with a user_id, or a connection that has signed in",
                )
            });
        };
        let user = User::of_channel_data(data).filter(|user| is_valid_user(&user.id)).ok_or_else(|| {
            SubscribeError::auth(
                "Invalid channel_data: it needs a user_id, a string of 1 to 200 characters or a number",
            )
        })?;
        self.member_of(&user).map_err(|message| SubscribeError::new("LimitReached", 413, message))
    }

    pub(super) fn has_joined(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u32,
        channel: &ChannelKey,
        outcome: Result<Welcome, JoinRefused>,
    ) {
        let pending = self.pending.take_if(|pending| pending.request_id == request_id);
        let (member, format) = pending.map_or((None, &FORMAT), |pending| (pending.user, pending.format));
        let name = shown(&channel.name);
        let welcome = match outcome {
            Ok(welcome) => welcome,
            Err(refused) => return self.refuse(cx, &name, &SubscribeError::from(&refused)),
        };
        if let Some(member) = member.as_ref().filter(|_| !self.is_known) {
            // So that the session is found when the app terminates the user's connections. It is not a sign-in.
            cx.set_user(Arc::clone(member.user.text()));
            self.is_known = true;
        }
        if needs_auth(&name) {
            self.prove_by = super::NEVER;
        }
        self.memberships.add(Arc::clone(&channel.name), member);
        let Welcome { position, recovery, publications, members, cached, .. } = welcome;
        let position = position.filter(|_| std::ptr::eq(format, &POSITIONED));
        // Missed events carry their own positions, so a client that disconnects among them can resume there.
        let now = position.as_ref().filter(|_| publications.is_empty());
        cx.write(wire::subscription_succeeded(&name, &members, now));
        if recovery == Recovery::Lost {
            cx.write(wire::lost(&name, now));
        }
        let frames: Vec<_> = publications.iter().filter_map(|prepared| prepared.bytes(format)).collect();
        // Recovered events are not limited: a client that is too slow for them resumes from its last position. A replay
        // is limited, because the client would be disconnected by the same replay every time.
        let first = if recovery == Recovery::NotAsked { first_of(&frames, limits::REPLAY) } else { 0 };
        frames[first..].iter().for_each(|&bytes| cx.write(bytes.clone()));
        if recovery != Recovery::NotAsked || !publications.is_empty() {
            // The cached event is the last of these, or the client received it before.
            return;
        }
        let caches = self.app.namespaces.options(&channel.name).cache_ttl.is_some();
        match cached.as_ref().and_then(|cached| cached.bytes(format)) {
            Some(bytes) => cx.write(bytes.clone()),
            None if caches => cx.write(wire::cache_miss(&name)),
            None => {}
        }
    }

    /// Reports a failed join twice: to handlers that are bound to the channel, and as `pusher:error`.
    fn refuse(&mut self, cx: &mut Context<'_>, channel: &str, error: &SubscribeError) {
        cx.write(wire::subscription_error(channel, error.kind, &error.message, error.status));
        cx.write(wire::error(None, &error.message));
        match error.kind {
            "AuthError" => self.count_refusal(cx, Refused::FailedProof),
            "LimitReached" => self.count_refusal(cx, Refused::Quota),
            "InvalidChannel" | "InvalidSince" => self.count_refusal(cx, Refused::Channel),
            _ => {}
        }
    }

    pub(super) fn unsubscribe(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) {
        let text = frame.text();
        let Some(request) = text.as_deref().and_then(|text| json::object::<Unsubscribe<'_>>(text).ok()) else {
            return self.fault(cx, "Invalid unsubscription: `data` needs the string `channel`");
        };
        if !self.memberships.has(&canonical(&request.channel)) {
            let channel = echo(&request.channel);
            return Self::error(
                cx,
                &format!("No current subscription to channel {channel}, or subscription in progress"),
            );
        }
        cx.request(SessionRequest::Leave(Arc::from(&*request.channel)));
    }

    pub(super) fn has_left(&mut self, cx: &mut Context<'_>, channel: &ChannelKey, outcome: Result<(), LeaveFailed>) {
        match outcome {
            Ok(()) => self.memberships.remove(&channel.name),
            Err(failed) => {
                let name = shown(&channel.name);
                Self::error(cx, &format!("The subscription to channel {name} could not be ended: {failed}"));
            }
        }
    }
}

/// The index from which on the last frames have at most `most` bytes together.
fn first_of(frames: &[&Bytes], most: usize) -> usize {
    let mut bytes = 0;
    let fits = frames.iter().rev().take_while(|frame| {
        bytes += frame.len();
        bytes <= most
    });
    frames.len() - fits.count()
}

/// The encoding in which a session receives a channel.
fn format_of(request: &Subscribe<'_>) -> &'static Encoding {
    if request.since().is_some() { &POSITIONED } else { &FORMAT }
}
