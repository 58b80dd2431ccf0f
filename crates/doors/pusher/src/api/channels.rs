//! `GET /channels`, `/channels/{name}`, `/channels/{name}/users`: who is where.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use tidings_broker::{ChannelFilter, ChannelState};
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;
use tidings_model::policy::{SERVER_TO_USER, canonical};

use crate::channel::{is_presence, is_valid, shown};
use crate::door::PusherDoor;
use crate::limits;
use crate::wire::json::{Array, Object};

use super::info::{self, Info};
use super::refusal::Refusal;
use super::signed::{Signed, json};

/// The channels that somebody is in, sorted by name: those that Pusher's libraries can ask about, since programs ask about each
/// that they are told of. Users' own channels are told to whoever asks for them by their prefix.
pub(super) async fn all(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let query = signed.query();
    let prefix = query.get("filter_by_prefix").unwrap_or_default();
    let info = query.get("info").map(Info::read).unwrap_or_default();
    if info.user_count && !is_presence(prefix) {
        return Err(Refusal::bad(
            "user_count may only be requested for presence channels - please supply filter_by_prefix begining with presence-",
        ));
    }
    let mut channels = Object::new();
    let mut after = None;
    loop {
        let filter = ChannelFilter { prefix: stored_prefix(prefix), after, limit: limits::CHANNELS_PAGE };
        let page = door.bus().broker().channels(&signed.app.id, filter).await?;
        for state in &page {
            let name = shown(&state.name);
            let is_askable = is_valid(&name) && (!name.starts_with('#') || prefix.starts_with('#'));
            if state.occupancy.subscriptions > 0 && name.starts_with(prefix) && is_askable {
                channels.raw(&name, &attributes(state, info));
            }
        }
        match page.last() {
            Some(last) if page.len() == limits::CHANNELS_PAGE => after = Some(last.name.as_ref().to_owned()),
            _ => break,
        }
    }
    let mut answer = Object::new();
    answer.raw("channels", &channels.end());
    Ok(json(StatusCode::OK, answer.end()))
}

/// One channel, whether somebody is in it or not.
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

/// One channel as it was asked for long ago (Pusher's HTTP API, "deprecated methods").
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

/// The users who are in a presence channel.
pub(super) async fn users(State(door): State<PusherDoor>, request: Request) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    let channel = named(&signed)?;
    if !is_presence(&channel.name) {
        return Err(Refusal::bad("Users can only be retrieved for presence channels"));
    }
    let mut users = Array::new();
    for member in door.bus().broker().members(&channel).await? {
        let mut user = Object::new();
        user.text("id", &member.user);
        users.raw(&user.end());
    }
    let mut answer = Object::new();
    answer.raw("users", &users.end());
    Ok(json(StatusCode::OK, answer.end()))
}

/// The channel that a request's path names.
fn named(signed: &Signed) -> Result<ChannelKey, Refusal> {
    let App { id, .. } = &*signed.app;
    if !is_valid(&signed.name) {
        return Err(Refusal::bad(format!("Invalid channel name: {:?}", limits::echo(&signed.name))));
    }
    Ok(ChannelKey::new(id.clone(), &*canonical(&signed.name)))
}

/// A prefix of names as clients write them, as one of canonical names: what it lets through is looked at once more.
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

/// The cached event's data and the seconds for which it will be kept.
async fn cache(door: &PusherDoor, channel: &ChannelKey) -> Result<String, Refusal> {
    let Some(cached) = door.bus().broker().cached(channel).await? else { return Ok("null".to_owned()) };
    let tidings_wire::Said::Publication(publication) = cached.publication.said() else { return Ok("null".to_owned()) };
    let mut object = Object::new();
    object.text("data", &publication.event.data.as_text()).raw("ttl", &cached.ttl.as_secs().to_string());
    Ok(object.end())
}
