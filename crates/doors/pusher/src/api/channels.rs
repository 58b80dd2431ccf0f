//! `GET /channels`, `/channels/{name}`, `/channels/{name}/users`: occupancy and presence.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::StatusCode;
use tidings_broker::{ChannelFilter, ChannelState};
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;
use tidings_model::policy::{SERVER_TO_USER, canonical};

use crate::channel::{is_presence, is_valid, shown};
use crate::door::PusherDoor;
use crate::limits;
use crate::wire::json::{Object, member};

use super::info::{self, Info};
use super::refusal::Refusal;
use super::signed::{Signed, json, json_body};

/// The occupied channels, sorted by name. Only channels whose names Pusher's libraries accept, because programs request
/// the details of each channel in the list. Users' own channels are listed only for a prefix that begins with `#`.
pub(super) async fn all(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let query = signed.query();
    let prefix = query.get("filter_by_prefix").unwrap_or_default();
    let info = query.get("info").map(Info::read).unwrap_or_default();
    if info.user_count && !is_presence(prefix) {
        return Err(Refusal::bad(
            "user_count may only be requested for presence channels - please supply filter_by_prefix begining with \
            presence-",
        ));
    }
    let listing = Listing { app: signed.app.id.clone(), prefix: prefix.to_owned(), info, after: None, begun: false };
    let (first, rest) = listing.next(&door).await?;
    let Some(rest) = rest else { return Ok(json(StatusCode::OK, first)) };
    // The protocol has no pages: each part of the list is sent before the next is read, so that no response is held in
    // memory whole. If the broker fails meanwhile, the response is truncated and is not valid JSON.
    let rest = stream::try_unfold(Some(rest), move |listing| {
        let door = door.clone();
        async move {
            let Some(listing) = listing else { return Ok(None) };
            let next = listing.next(&door).await.map_err(|refusal| std::io::Error::other(refusal.text().to_owned()))?;
            Ok::<_, std::io::Error>(Some(next))
        }
    });
    Ok(json_body(StatusCode::OK, Body::from_stream(stream::once(async { Ok(first) }).chain(rest))))
}

/// The progress of the list of an app's channels.
struct Listing {
    app: AppId,
    prefix: String,
    info: Info,
    /// The last channel that was read.
    after: Option<String>,
    /// Whether a channel has been written.
    begun: bool,
}

impl Listing {
    /// The next part of the response, and the rest of the list; `None` after the last part.
    async fn next(mut self, door: &PusherDoor) -> Result<(String, Option<Self>), Refusal> {
        let mut text = if self.after.is_none() { "{\"channels\":{".to_owned() } else { String::new() };
        let filter = ChannelFilter {
            prefix: stored_prefix(&self.prefix),
            after: self.after.take(),
            limit: limits::CHANNELS_PAGE,
        };
        let page = door.bus().channels(&self.app, filter).await?;
        for state in &page {
            let name = shown(&state.name);
            let is_askable = is_valid(&name) && (!name.starts_with('#') || self.prefix.starts_with('#'));
            if state.occupancy.subscriptions > 0 && name.starts_with(&self.prefix) && is_askable {
                if std::mem::replace(&mut self.begun, true) {
                    text.push(',');
                }
                member(&mut text, &name, &attributes(state, self.info));
            }
        }
        match page.last() {
            Some(last) if page.len() == limits::CHANNELS_PAGE => {
                self.after = Some(last.name.as_ref().to_owned());
                Ok((text, Some(self)))
            }
            _ => {
                text.push_str("}}");
                Ok((text, None))
            }
        }
    }
}

/// One channel, occupied or not.
pub(super) async fn one(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let query = signed.query();
    let info = query.get("info").map(Info::read).unwrap_or_default();
    let channel = named(&signed)?;
    if info.user_count && !is_presence(&signed.name) {
        return Err(Refusal::bad("Cannot retrieve the user count unless the channel is a presence channel"));
    }
    let occupancy = info::occupancy(&door, &signed.app, &channel.name).await?;
    let mut answer = Object::new();
    answer.raw("occupied", if occupancy.subscriptions > 0 { "true" } else { "false" });
    if info.user_count {
        answer.raw("user_count", &occupancy.users.to_string());
    }
    if info.subscription_count {
        answer.raw("subscription_count", &occupancy.subscriptions.to_string());
    }
    if info.cache {
        answer.raw("cache", &cache(&door, &channel).await?);
    }
    Ok(json(StatusCode::OK, answer.end()))
}

/// One channel, by the deprecated request (Pusher's HTTP API, "deprecated methods").
pub(super) async fn stats(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let occupancy = info::occupancy(&door, &signed.app, &named(&signed)?.name).await?;
    let mut answer = Object::new();
    answer.raw("occupied", if occupancy.subscriptions > 0 { "true" } else { "false" });
    if is_presence(&signed.name) {
        answer.raw("user_count", &occupancy.users.to_string());
    }
    Ok(json(StatusCode::OK, answer.end()))
}

/// The users in a presence channel.
pub(super) async fn users(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let channel = named(&signed)?;
    if !is_presence(&channel.name) {
        return Err(Refusal::bad("Users can only be retrieved for presence channels"));
    }
    // As above: the response is not held in memory whole.
    let members = door.bus().members(&channel).await?;
    let parts = members.len().div_ceil(limits::CHANNELS_PAGE).max(1);
    let part = move |n: usize| {
        let mut text = if n == 0 { "{\"users\":[".to_owned() } else { String::new() };
        let first = n * limits::CHANNELS_PAGE;
        for (at, one) in members.iter().enumerate().skip(first).take(limits::CHANNELS_PAGE) {
            if at > 0 {
                text.push(',');
            }
            let mut user = Object::new();
            user.text("id", &one.user);
            text.push_str(&user.end());
        }
        if n + 1 == parts {
            text.push_str("]}");
        }
        text
    };
    if parts == 1 {
        return Ok(json(StatusCode::OK, part(0)));
    }
    let all = stream::iter((0..parts).map(move |n| Ok::<_, std::convert::Infallible>(part(n))));
    Ok(json_body(StatusCode::OK, Body::from_stream(all)))
}

/// The channel that a request's path names.
fn named(signed: &Signed) -> Result<ChannelKey, Refusal> {
    let App { id, .. } = &*signed.app;
    if !is_valid(&signed.name) {
        return Err(Refusal::bad(format!("Invalid channel name: {:?}", limits::echo(&signed.name))));
    }
    Ok(ChannelKey::new(id.clone(), &*canonical(&signed.name)))
}

/// The prefix of canonical names for a prefix of client names. It may match more, so the caller filters again.
fn stored_prefix(prefix: &str) -> String {
    match prefix.strip_prefix(SERVER_TO_USER) {
        Some(user) => format!("#{user}"),
        None if SERVER_TO_USER.starts_with(prefix) && !prefix.is_empty() => "#".to_owned(),
        None => prefix.to_owned(),
    }
}

fn attributes(state: &ChannelState, info: Info) -> String {
    let mut object = Object::new();
    if info.user_count {
        object.raw("user_count", &state.occupancy.users.to_string());
    }
    if info.subscription_count {
        object.raw("subscription_count", &state.occupancy.subscriptions.to_string());
    }
    object.end()
}

/// The cached event's data and the seconds until it expires, as JSON; `null` without one.
async fn cache(door: &PusherDoor, channel: &ChannelKey) -> Result<String, Refusal> {
    let Some(cached) = door.bus().cached(channel).await? else { return Ok("null".to_owned()) };
    let tidings_wire::ChannelMessage::Publication(publication) = cached.publication.content() else {
        return Ok("null".to_owned());
    };
    let mut object = Object::new();
    object.text("data", &publication.event.data.as_text()).raw("ttl", &cached.ttl.as_secs().to_string());
    Ok(object.end())
}
