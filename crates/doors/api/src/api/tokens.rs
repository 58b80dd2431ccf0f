//! `/v1/tokens`: tokens with which an app's clients join channels.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use tidings_model::clock::rfc3339;
use tidings_model::token::IssueError;

use crate::auth::Caller;
use crate::body;
use crate::door::ApiDoor;
use crate::problem::{Code, Problem};
use crate::wire::token::{self, Issued};

pub(super) async fn issue(
    State(door): State<ApiDoor>,
    Caller { app }: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Issued>), Problem> {
    let body = body::optional(&headers, body).await?;
    let now = door.bus().clock().wall_ms();
    let claims = token::read(&body, &app, now)?;
    let token = app.tokens.issue(&claims, now).map_err(|error| match error {
        IssueError::NoSecret => Problem::saying(Code::Conflict, error),
        IssueError::BadInfo => Problem::saying(Code::InvalidField, error).field("info"),
        IssueError::TooLong => Problem::saying(Code::InvalidField, error).field("channels"),
    })?;
    let expires_at = rfc3339(claims.exp.unwrap_or(now));
    Ok((StatusCode::CREATED, Json(Issued { token, expires_at })))
}
