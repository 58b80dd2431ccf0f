//! `/app/{key}`: a client connects.
//!
//! A WebSocket client is refused inside the WebSocket, with a close code, because browsers show scripts nothing else. A
//! refused connection never becomes a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tidings_bus::{AppBy, NotServed, check_served};
use tidings_live::{ClientAddr, NotAdmitted, Refused, SessionPermit, Socket, upgrade};
use tidings_model::app::App;
use tidings_model::origin;
use tidings_model::signed_query::first;
use tidings_wire::ws::{self, handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::refusal::Refusal;
use crate::door::PusherDoor;
use crate::limits;
use crate::name::NAME;
use crate::session::Session;
use crate::wire;
use crate::wire::codes::Code;

/// The supported versions of the protocol (Pusher itself has long dropped 1 to 3).
const PROTOCOLS: std::ops::RangeInclusive<u8> = 4..=7;
/// The version of clients that name none.
const NEWEST: u8 = 7;
/// How long a refused client may take to close the connection.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a client is refused, with the close code.
#[derive(Debug, PartialEq, Eq)]
struct Rejection {
    code: Code,
    reason: String,
    /// The refusal to count and log; `None` if that is already done.
    why: Option<Refused>,
}

impl Rejection {
    fn new(code: Code, why: impl Into<Option<Refused>>, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), why: why.into() }
    }

    fn frames(&self) -> Vec<u8> {
        [wire::error(Some(self.code), &self.reason), ws::close(self.code.number(), &self.reason)].concat()
    }
}

/// The parts of a session for an admitted client, or the rejection.
type Admitted = Result<(SessionPermit, Arc<App>, Session), Rejection>;

/// Upgrades a request, and starts a session on its connection.
pub(crate) async fn connect(State(door): State<PusherDoor>, path: RawPathParams, request: Request) -> Response {
    let found = app(&door, &path);
    if found.as_ref().is_some_and(|app| check_served(app, NAME) == Err(NotServed::DoorShut)) {
        return Refusal::not_found("This app does not speak Pusher's protocol").into_response();
    }
    let admit = |request: &Request| {
        let client = client(request);
        admit(&door, found.clone(), request, &path).inspect_err(|rejection| {
            if let Some(why) = rejection.why {
                door.live().refused(found.as_deref().map(|app| &app.id), why, client);
            }
        })
    };
    upgrade(&door, request, admit)
}

/// Refuses a WebSocket whose path is not one of the protocol's.
pub(crate) async fn no_such_path(State(door): State<PusherDoor>, request: Request) -> Response {
    let wrong = |request: &Request| {
        let path = limits::echo(request.uri().path());
        door.live().refused(None, Refused::WrongPath, client(request));
        Err(Rejection::new(
            Code::PathNotFound,
            None,
            format!("Path not found: connect to /app/KEY, not to {}", short(path)),
        ))
    };
    upgrade(&door, request, wrong)
}

/// The client's address, if it is known.
fn client(request: &Request) -> Option<IpAddr> {
    request.extensions().get().map(|ClientAddr(client)| *client)
}

/// The start of a path, short enough to fit into the reason of a close frame together with the message.
fn short(path: &str) -> &str {
    &path[..path.floor_char_boundary(60)]
}

fn upgrade(door: &PusherDoor, mut request: Request, admit: impl FnOnce(&Request) -> Admitted) -> Response {
    let accept = match handshake::check(request.method(), request.headers()) {
        Ok(accept) => accept,
        Err(refusal) => return refused(refusal),
    };
    let Some(on) = upgrade::take(request.extensions_mut()) else {
        return Refusal::bad("This connection cannot be upgraded to a WebSocket").into_response();
    };
    let admitted = admit(&request);
    let door = door.clone();
    tokio::spawn(async move {
        match upgrade::upgraded(on).await {
            Err(error) => tracing::debug!(%error, "client left before the upgrade"),
            Ok((socket, early)) => match admitted {
                Ok((permit, app, session)) => door.live().attach(permit, app, socket, early, Box::new(session)),
                Err(rejection) => turn_away(socket, &rejection).await,
            },
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept.accept).unwrap_or(HeaderValue::from_static(""))),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn refused(refusal: handshake::Refusal) -> Response {
    let text = refusal.to_string();
    let mut response = match refusal.status() {
        StatusCode::METHOD_NOT_ALLOWED => Refusal::method(text),
        StatusCode::UPGRADE_REQUIRED => Refusal::upgrade(text),
        _ => Refusal::bad(text),
    }
    .into_response();
    if refusal.status() == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    response
}

/// The app that the path's key names; below `/a/{app}`, only if it is that one.
fn app(door: &PusherDoor, path: &RawPathParams) -> Option<Arc<App>> {
    let app = door.apps().find(AppBy::Key(parameter(path, "key")))?;
    let tenant = parameter(path, "app");
    (tenant.is_empty() || tenant == app.id.as_str()).then_some(app)
}

fn parameter<'a>(path: &'a RawPathParams, name: &str) -> &'a str {
    path.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
}

fn admit(door: &PusherDoor, app: Option<Arc<App>>, request: &Request, path: &RawPathParams) -> Admitted {
    let app = app.ok_or_else(|| {
        let key = short(parameter(path, "key"));
        Rejection::new(
            Code::UnknownApp,
            Refused::UnknownKey,
            format!("There is no app with the key {key}; check the key and the host"),
        )
    })?;
    if check_served(&app, NAME).is_err() {
        return Err(Rejection::new(Code::AppDisabled, Refused::AppDisabled, "The app is disabled"));
    }
    let protocol = protocol(request.uri().query())?;
    check_origin(&app, request.headers())?;
    let permit = door.live().admit(&app, client(request)).map_err(|no| {
        let reason = match no {
            NotAdmitted::Stopping => "The server is going away; please come back in a moment",
            NotAdmitted::App | NotAdmitted::Node => "As many clients are connected as may be; try again in a moment",
        };
        Rejection::new(Code::OverCapacity, None, reason)
    })?;
    let session = Session::new(Arc::clone(&app), protocol, door.keep_alive());
    Ok((permit, app, session))
}

/// The protocol version that a client asks for.
fn protocol(query: Option<&str>) -> Result<u8, Rejection> {
    let Some(given) = first(query, "protocol") else { return Ok(NEWEST) };
    if given.is_empty() {
        return Err(Rejection::new(Code::NoVersion, Refused::Version, "No protocol version supplied; add ?protocol=7"));
    }
    let known = given.parse().ok().filter(|version| PROTOCOLS.contains(version));
    known.ok_or_else(|| {
        Rejection::new(
            Code::UnsupportedVersion,
            Refused::Version,
            "Unsupported protocol version; versions 4 to 7 are spoken here",
        )
    })
}

/// Checks the origin. A client that sends none is not a browser, so no foreign page can be using it.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(given) = headers.get(ORIGIN) else { return Ok(()) };
    match given.to_str() {
        Ok(given) if origin::is_allowed(&app.allowed_origins, given) => Ok(()),
        _ => Err(Rejection::new(
            Code::NotAuthorized,
            Refused::Origin,
            "This page's origin is not among the app's allowed_origins",
        )),
    }
}

/// Sends the rejection, and waits a moment for the client to close: closing a socket with unread bytes resets the
/// connection, and the client could lose the rejection.
async fn turn_away(mut socket: Socket, rejection: &Rejection) {
    let farewell = async {
        socket.write_all(&rejection.frames()).await?;
        socket.shutdown().await?;
        let mut unread = [0; 1024];
        while socket.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It does not matter whether the client closes in time.
    drop(tokio::time::timeout(GOODBYE, farewell).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_spoken_is_refused() {
        let of = |query| protocol(Some(query)).map_err(|rejection| rejection.code);
        assert_eq!(of("protocol=7&client=js&version=8.6.0&flash=false"), Ok(7));
        assert_eq!(of("protocol=4"), Ok(4));
        assert_eq!(of("client=js"), Ok(7));
        assert_eq!(of("protocol="), Err(Code::NoVersion));
        for unknown in ["protocol=3", "protocol=8", "protocol=99", "protocol=x", "protocol=-7", "protocol=7.0"] {
            assert_eq!(of(unknown), Err(Code::UnsupportedVersion), "{unknown}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let mut app = App::new("1", "key", "secret".into());
        app.allowed_origins = vec!["https://a.example".to_owned()];
        let of = |origin: &'static [u8]| {
            let value = HeaderValue::from_bytes(origin).unwrap();
            check_origin(&app, &HeaderMap::from_iter([(ORIGIN, value)])).map_err(|rejection| rejection.code)
        };
        assert_eq!(check_origin(&app, &HeaderMap::new()), Ok(()));
        assert_eq!(of(b"https://a.example"), Ok(()));
        for other in [&b"https://b.example"[..], b"null", b"\xff"] {
            assert_eq!(of(other), Err(Code::NotAuthorized));
        }
    }

    #[test]
    fn who_is_turned_away_is_told_in_an_event_and_in_the_close() {
        let frames = Rejection::new(Code::UnknownApp, None, "no").frames();
        let expected = br#"{"event":"pusher:error","data":{"code":4001,"message":"no"}}"#;
        assert_eq!(frames[2..2 + expected.len()], expected[..]);
        assert_eq!(frames[2 + expected.len()..], b"\x88\x04\x0f\xa1no"[..]);
    }
}
