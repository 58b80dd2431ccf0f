//! The door's proofs: what an app's servers have signed with its secret. Requests to the HTTP API, joins to channels, sign-ins.

use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::signing;

use crate::api::query::Query;
use crate::api::refusal::Refusal;
use crate::limits;

/// Why an auth string proves nothing. Pusher's texts, since that is what people search for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// There is none.
    #[error("Invalid signature: this needs an auth string, and none was sent")]
    Missing,
    /// It is of another app, or not `KEY:signature`.
    #[error("Invalid key in subscription auth data: '{0}'")]
    Key(String),
    /// It signs something else: another session's id after a reconnect, most often.
    #[error("Invalid signature: Expected HMAC SHA256 hex digest of {expected}, but got {got}")]
    Signature {
        /// What should have been signed.
        expected: String,
        /// The signature that came.
        got: String,
    },
}

/// Checks that the app lets a session into a channel. What the app says of the session (`channel_data`) is signed too,
/// in whatever kind of channel.
pub(crate) fn channel(
    app: &App,
    session: SessionId,
    channel: &str,
    channel_data: Option<&str>,
    auth: &str,
) -> Result<(), AuthError> {
    verify(app, auth, || signing::channel_string(&session.to_string(), channel, channel_data))
}

/// Checks that the app says who a session's user is.
pub(crate) fn user(app: &App, session: SessionId, user_data: &str, auth: &str) -> Result<(), AuthError> {
    verify(app, auth, || signing::user_string(&session.to_string(), user_data))
}

/// An auth string is `KEY:signature`; those of encrypted channels may carry more, which isn't for us.
fn verify(app: &App, auth: &str, expected: impl FnOnce() -> String) -> Result<(), AuthError> {
    if auth.is_empty() {
        return Err(AuthError::Missing);
    }
    let Some((_, signature)) = auth.split_once(':').filter(|(key, _)| *key == app.key) else {
        return Err(AuthError::Key(echo(auth)));
    };
    let expected = expected();
    if signing::verify_hex(&app.secret, &expected, signature) {
        return Ok(());
    }
    let expected = echo(&expected);
    Err(AuthError::Signature { expected, got: echo(signature) })
}

/// Checks a request to the HTTP API: its key, age, signature and body. `paths` are what may have been signed: the path as it
/// was sent, and without what our own mount point puts in front.
pub(crate) fn request(
    app: &App,
    method: &str,
    paths: &[&str],
    query: &Query<'_>,
    body: &[u8],
    now: Millis,
) -> Result<(), Refusal> {
    let needed = |name: &'static str| {
        query.get(name).ok_or_else(|| Refusal::unauthorized(format!("Missing required parameter: {name}")))
    };
    let (key, timestamp, version) = (needed("auth_key")?, needed("auth_timestamp")?, needed("auth_version")?);
    let signature = needed("auth_signature")?;
    if key != app.key {
        return Err(Refusal::unauthorized(format!("Unknown auth_key: {}", limits::echo(key))));
    }
    if version != signing::AUTH_VERSION {
        return Err(Refusal::unauthorized("Version not supported: auth_version must be 1.0"));
    }
    check_age(timestamp, now)?;
    if !paths.iter().any(|path| signing::verify_request(&app.secret, method, path, query.all())) {
        let path = paths.first().copied().unwrap_or_default();
        let text = signing::request_string_to_sign(method, path, query.all());
        return Err(Refusal::unauthorized(format!(
            "Invalid signature: you should have sent HmacSHA256Hex({text:?}, your_secret_key), but you sent {:?}",
            limits::echo(signature)
        )));
    }
    match query.get("body_md5") {
        Some(given) if given.eq_ignore_ascii_case(&signing::body_md5(body)) => Ok(()),
        Some(_) => Err(Refusal::unauthorized("Invalid body_md5: it is not the MD5 of the body that arrived")),
        None if body.is_empty() => Ok(()),
        None => Err(Refusal::unauthorized("Missing required parameter: body_md5")),
    }
}

fn check_age(timestamp: &str, now: Millis) -> Result<(), Refusal> {
    let given: i64 = timestamp
        .parse()
        .map_err(|_| Refusal::unauthorized("Invalid auth_timestamp: it must be the Unix time in seconds"))?;
    if given.saturating_sub(now.div_euclid(1_000)).saturating_abs() < signing::REQUEST_TOLERANCE_SECS {
        return Ok(());
    }
    let shown = |ms: Millis| rfc3339(ms).replace(".000Z", "Z");
    Err(Refusal::unauthorized(format!(
        "Timestamp expired: Given timestamp ({}) not within {}s of server time ({})",
        shown(given.saturating_mul(1_000)),
        signing::REQUEST_TOLERANCE_SECS,
        shown(now - now.rem_euclid(1_000)),
    )))
}

fn echo(text: &str) -> String {
    limits::echo(text).to_owned()
}
