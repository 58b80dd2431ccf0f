//! Verifies what an app's servers have signed with its secret: requests to the HTTP API, joins to channels, sign-ins.

use std::borrow::Cow;

use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::clock::{Millis, rfc3339};
use tidings_model::signed_query::SignedQuery;
use tidings_model::signing;

use crate::api::refusal::Refusal;
use crate::limits;

/// Why an auth string is invalid. The texts are Pusher's, because people search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// None was sent.
    #[error("Invalid signature: this needs an auth string, and none was sent")]
    Missing,
    /// It has another app's key, or is not `KEY:signature`.
    #[error("Invalid key in subscription auth data: '{0}'")]
    Key(String),
    /// The signature does not match: most often it is for another session's id, after a reconnect.
    #[error("Invalid signature: Expected HMAC SHA256 hex digest of {expected}, but got {got}")]
    Signature {
        /// What should have been signed.
        expected: String,
        /// The signature that was sent.
        got: String,
    },
}

/// Checks the app's signature that lets a session into a channel. If there is `channel_data`, the signature covers it,
/// in any kind of channel.
pub(crate) fn channel(
    app: &App,
    session: SessionId,
    channel: &str,
    channel_data: Option<&str>,
    auth: &str,
) -> Result<(), AuthError> {
    verify(app, auth, || signing::channel_string(&session.to_string(), channel, channel_data))
}

/// Checks the app's signature of a session's user.
pub(crate) fn user(app: &App, session: SessionId, user_data: &str, auth: &str) -> Result<(), AuthError> {
    verify(app, auth, || signing::user_string(&session.to_string(), user_data))
}

/// Verifies an auth string, `KEY:signature`. Those of encrypted channels may carry more, which the server ignores.
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
    tracing::debug!(app = %app.id, %expected, got = limits::echo(signature), "client signature invalid");
    Err(AuthError::Signature { expected, got: echo(signature) })
}

/// Checks a request to the HTTP API: its key, age and signature. `paths` are the paths that the client may have signed,
/// with the path as it was sent first. The check does not need the body; call [`body`] once it is read.
pub(crate) fn request(
    app: &App,
    method: &str,
    paths: &[Cow<'_, str>],
    query: &SignedQuery<'_>,
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
    let canonical = query.canonical();
    if !paths.iter().any(|path| canonical.is_signed(&app.secret, method, path)) {
        let text = canonical.to_sign(method, paths.first().map(|path| &**path).unwrap_or_default());
        return Err(Refusal::unauthorized(format!(
            "Invalid signature: you should have sent HmacSHA256Hex({:?}, your_secret_key), but you sent {:?}",
            limits::echo(&text),
            limits::echo(signature)
        )));
    }
    Ok(())
}

/// Checks that a request's body is the one that was signed.
pub(crate) fn body(query: &SignedQuery<'_>, body: &[u8]) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8".into())
    }

    const BODY: &[u8] = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    const QUERY: &str = "auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c\
        &auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&\
            body_md5=ec365a775a4cd0599faeb73354201b6f";
    const NOW: Millis = 1_353_088_179_000;

    fn judged(query: &str, body: &[u8], now: Millis) -> Result<(), String> {
        let query = SignedQuery::read(Some(query)).unwrap();
        request(&app(), "POST", &["/apps/3/events".into()], &query, now)
            .and_then(|()| super::body(&query, body))
            .map_err(|refusal| refusal.text().to_owned())
    }

    #[test]
    fn pushers_own_example_is_accepted() {
        assert_eq!(judged(QUERY, BODY, NOW), Ok(()));
    }

    #[test]
    fn a_request_is_young_or_refused_with_pushers_text() {
        assert_eq!(judged(QUERY, BODY, NOW + 599_999), Ok(()));
        assert_eq!(judged(QUERY, BODY, NOW - 599_000), Ok(()));
        assert_eq!(
            judged(QUERY, BODY, NOW + 600_123),
            Err("Timestamp expired: Given timestamp (2012-11-16T17:49:39Z) not within 600s of server time \
                 (2012-11-16T17:59:39Z)"
                .to_owned())
        );
        assert!(judged(QUERY, BODY, NOW - 600_000).is_err());
        for bad in ["x", "", "1e9", "99999999999999999999", "-9223372036854775808", "9223372036854775807"] {
            assert!(judged(&QUERY.replace("1353088179", bad), BODY, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_text_to_sign() {
        let other = QUERY.replace("da45", "da46");
        let told = judged(&other, BODY, NOW).unwrap_err();
        assert_eq!(
            told,
            r#"Invalid signature: you should have sent HmacSHA256Hex("POST\n/apps/3/events\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f", your_secret_key), but you sent "da464824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c""#
        );
        let refused = |query: &str, body: &[u8], text: &str| {
            let told = judged(query, body, NOW).unwrap_err();
            assert!(told.contains(text), "{told}");
        };
        refused(QUERY, b"{}", "Invalid body_md5");
        refused(QUERY, b"", "Invalid body_md5");
        refused(&QUERY.replace("278d", "278e"), BODY, "Unknown auth_key");
        refused(&QUERY.replace("1.0", "1.1"), BODY, "auth_version must be 1.0");
        for name in ["auth_key", "auth_timestamp", "auth_version", "auth_signature"] {
            refused(&QUERY.replace(name, "x"), BODY, &format!("Missing required parameter: {name}"));
        }
        refused(&format!("{QUERY}&auth_signature=x"), BODY, "Invalid signature");
    }

    // covers: G044
    #[test]
    fn little_of_what_was_signed_wrong_is_repeated() {
        for filler in ["x", "\u{10ffff}", "%00", "\""] {
            let query = format!("{QUERY}&more={}", filler.repeat(30_000));
            let told = judged(&query, BODY, NOW).unwrap_err();
            assert!(told.starts_with("Invalid signature") && told.len() < 1_000, "{} bytes: {told}", told.len());
        }
    }

    #[test]
    fn a_body_has_to_be_signed_and_no_body_may_be() {
        let sign = |params: &str| {
            let query = SignedQuery::read(Some(params)).unwrap();
            let text = signing::request_string_to_sign("POST", "/apps/3/events", query.all());
            format!("{params}&auth_signature={}", signing::sign_hex(&app().secret, text))
        };
        let params = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";
        assert_eq!(judged(&sign(params), b"", NOW), Ok(()));
        assert!(judged(&sign(params), b"{}", NOW).unwrap_err().contains("body_md5"));
        // As the Python library does with GET.
        let of_nothing = format!("{params}&body_md5=d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(judged(&sign(&of_nothing), b"", NOW), Ok(()));
        assert_eq!(
            judged(
                &sign("auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&info=a%2Cb"),
                b"",
                NOW
            ),
            Ok(())
        );
    }

    #[test]
    fn an_app_without_a_secret_believes_nobody() {
        let app = App::new("3", "k", "".into());
        let session = "1.1".parse().unwrap();
        assert!(matches!(channel(&app, session, "private-a", None, "k:"), Err(AuthError::Signature { .. })));
        assert_eq!(user(&app, session, "{}", ""), Err(AuthError::Missing));
    }
}
