//! `/v1/channels`: occupancy, presence and history.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use tidings_broker::{ChannelFilter, ChannelState, HistoryRange, Occupancy};
use tidings_model::app::App;
use tidings_model::channel::{ChannelKey, Position};
use tidings_model::policy::canonical;

use crate::auth::{Caller, Id};
use crate::door::ApiDoor;
use crate::limits;
use crate::paging::{ChannelName, List, Paging, UserId};
use crate::problem::{Problem, shown};
use crate::query::{self, Query};
use crate::wire::channel::{ChannelSummary, Shown, ShownMember, shown_publication};
use crate::wire::event::{CHANNEL_REMEDY, can_be_a_channel};

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let query = Query::read(query.as_deref(), &["prefix"])?;
    let paging = Paging::<ChannelName>::read(&query)?;
    let filter = ChannelFilter {
        prefix: query.get("prefix").map(|prefix| canonical(prefix).into_owned()).unwrap_or_default(),
        after: paging.after.as_ref().map(|name| name.0.clone()),
        limit: paging.limit + 1,
    };
    let channels = door.bus().channels(&app.id, filter).await?;
    let cursor = |channel: &ChannelState| ChannelName(channel.name.as_ref().to_owned());
    Ok(Json(paging.page(channels, false, cursor, ChannelSummary::from)?))
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<Shown>, Problem> {
    let asked = history_asked(query.as_deref())?;
    let channel = key(&app, &name)?;
    // Every channel exists, and most are empty.
    let empty = || ChannelState { name: Arc::clone(&channel.name), occupancy: Occupancy::default(), position: None };
    let state = door.bus().channel(&channel).await?.unwrap_or_else(empty);
    let members = match app.namespaces.options(&channel.name).presence {
        true => Some(members_of(&door, &channel, &Paging { limit: limits::PAGE_MAX, after: None }).await?),
        false => None,
    };
    let history = match asked {
        Some(limit) => Some(history_of(&door, &channel, &Paging { limit, after: None }).await?),
        None => None,
    };
    Ok(Json(Shown::of(state.into(), members, history)))
}

pub(super) async fn members(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let paging = Paging::<UserId>::read(&Query::read(query.as_deref(), &[])?)?;
    Ok(Json(members_of(&door, &key(&app, &name)?, &paging).await?))
}

pub(super) async fn history(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, Problem> {
    let paging = Paging::<Position>::read(&Query::read(query.as_deref(), &[])?)?;
    Ok(Json(history_of(&door, &key(&app, &name)?, &paging).await?))
}

/// The channel that the path names.
fn key(app: &App, name: &str) -> Result<ChannelKey, Problem> {
    if !can_be_a_channel(name) {
        return Err(Problem::not_found("channel", name).remedy(CHANNEL_REMEDY));
    }
    Ok(ChannelKey::new(app.id.clone(), canonical(name).as_ref()))
}

/// A page of a channel's members, by user id.
async fn members_of(door: &ApiDoor, channel: &ChannelKey, paging: &Paging<UserId>) -> Result<List, Problem> {
    let after = paging.after.as_ref().map(|last| last.0.as_str());
    let members = door.bus().members(channel).await?;
    let members = members.iter().filter(|member| after.is_none_or(|after| *member.user > *after));
    paging.page(members, false, |member| UserId(member.user.as_ref().to_owned()), |member| ShownMember::from(&**member))
}

/// A page of a channel's history, the newest first.
async fn history_of(door: &ApiDoor, channel: &ChannelKey, paging: &Paging<Position>) -> Result<List, Problem> {
    let range = HistoryRange { since: paging.after.clone(), reverse: true, limit: paging.limit + 1 };
    let history = door.bus().history(channel, range).await?;
    let publications = history.publications.iter().filter_map(|message| shown_publication(message));
    paging.page(publications, false, |(position, _)| position.clone(), |(_, shown)| shown)
}

/// How many publications of the history the query asks for.
fn history_asked(query: Option<&str>) -> Result<Option<usize>, Problem> {
    let query = Query::read_one(query, &["history"])?;
    let Some(text) = query.get("history") else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=limits::PAGE_MAX).contains(number));
    let number = number.ok_or_else(|| {
        query::wrong("history", format!("{:?} is not a number of publications", shown(text)))
            .remedy(format!("write a whole number from 1 to {}", limits::PAGE_MAX))
    })?;
    Ok(Some(number))
}
