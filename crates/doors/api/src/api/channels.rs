//! `/v1/channels`: who is where, and what was said there.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use tidings_broker::{ChannelFilter, ChannelState, HistoryRange, Occupancy};
use tidings_model::channel::ChannelKey;
use tidings_model::policy::canonical;

use crate::auth::{Caller, Id};
use crate::door::ApiDoor;
use crate::limits;
use crate::paging::{ChannelName, List, Paging};
use crate::problem::{Problem, shown};
use crate::query::{self, Query};
use crate::wire::channel::{Listed, Present, Shown, past};
use crate::wire::event::{CHANNEL_REMEDY, can_be_a_channel};

pub(super) async fn list(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<List<Listed>>, Problem> {
    let query = Query::read(query.as_deref(), &["prefix"])?;
    let paging = Paging::<ChannelName>::read(&query)?;
    let filter = ChannelFilter {
        prefix: query.get("prefix").map(|prefix| canonical(prefix).into_owned()).unwrap_or_default(),
        after: paging.after.as_ref().map(|name| name.0.clone()),
        limit: paging.limit + 1,
    };
    let channels = door.bus().broker().channels(&app.id, filter).await?;
    Ok(Json(paging.page(channels, |last| ChannelName(last.name.as_ref().to_owned()), Listed::from)))
}

pub(super) async fn one(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    Id(name): Id,
    RawQuery(query): RawQuery,
) -> Result<Json<Shown>, Problem> {
    let asked = history(query.as_deref())?;
    if !can_be_a_channel(&name) {
        return Err(Problem::not_found("channel", &name).remedy(CHANNEL_REMEDY));
    }
    let name = canonical(&name);
    let options = app.namespaces.options(&name);
    let (channel, broker) = (ChannelKey::new(app.id.clone(), name.as_ref()), door.bus().broker());
    // Every channel is there, and most are empty.
    let empty = || ChannelState { name: Arc::clone(&channel.name), occupancy: Occupancy::default(), position: None };
    let state = broker.channel(&channel).await?.unwrap_or_else(empty);
    let members = match options.presence {
        true => Some(broker.members(&channel).await?.iter().map(|member| Present::from(&**member)).collect()),
        false => None,
    };
    let history = match asked {
        Some(limit) => {
            let range = HistoryRange { since: None, reverse: true, limit };
            Some(past(&broker.history(&channel, range).await?))
        }
        None => None,
    };
    Ok(Json(Shown { channel: state.into(), members, history }))
}

/// How much of the history is asked for.
fn history(query: Option<&str>) -> Result<Option<usize>, Problem> {
    let query = Query::read_one(query, &["history"])?;
    let Some(text) = query.get("history") else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=limits::HISTORY_MAX).contains(number));
    let number = number.ok_or_else(|| {
        query::wrong("history", format!("{:?} is not a number of publications", shown(text)))
            .remedy(format!("write a whole number from 1 to {}", limits::HISTORY_MAX))
    })?;
    Ok(usize::try_from(number).ok())
}
