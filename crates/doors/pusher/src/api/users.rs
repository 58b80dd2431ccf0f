//! `POST /users/{user}/terminate_connections`: ends all connections that have signed in as a user.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use tidings_broker::{SessionOrder, Who};

use crate::channel::is_valid_user;
use crate::door::PusherDoor;
use crate::limits;

use super::refusal::Refusal;
use super::signed::{Signed, json};

pub(super) async fn terminate_connections(
    State(door): State<PusherDoor>,
    request: Request,
) -> Result<Response, Refusal> {
    let signed = Signed::take(&door, request, |_| 0).await?;
    if !is_valid_user(&signed.name) {
        return Err(Refusal::bad(format!("Invalid user id: {:?}", limits::echo(&signed.name))));
    }
    let who = Who::User(Arc::from(signed.name.as_str()));
    door.bus().order(SessionOrder::disconnect(signed.app.id.clone(), who)).await?;
    Ok(json(StatusCode::OK, "{}"))
}
