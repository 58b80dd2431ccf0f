//! The routes. Every path also exists with a trailing slash, and below `/a/{app}`.

mod channels;
mod cors;
mod events;
mod info;
mod proofs;
mod publish;
pub(crate) mod refusal;
mod signed;
mod users;

use axum::Router;
use axum::routing::{MethodRouter, any, get, post};
use http::{Method, Uri};

use crate::connect::{connect, no_such_path as no_such_app_path};
use crate::door::PusherDoor;
use crate::limits;
use refusal::Refusal;

/// The Pusher door as a service: `/app/{key}` and `/pusher/…` for clients, `/apps/{id}/…` for servers, and the same
/// below `/a/{app}`.
pub(crate) fn router(door: PusherDoor) -> Router {
    let routes: [(&str, MethodRouter<PusherDoor>); 12] = [
        ("/app/{key}", get(connect)),
        ("/apps/{id}/events", post(events::one)),
        ("/apps/{id}/batch_events", post(events::batch)),
        ("/apps/{id}/channels", get(channels::all)),
        ("/apps/{id}/channels/{name}", get(channels::one)),
        ("/apps/{id}/channels/{name}/users", get(channels::users)),
        ("/apps/{id}/channels/{name}/events", post(events::in_channel)),
        ("/apps/{id}/channels/{name}/stats", get(channels::stats)),
        ("/apps/{id}/users/{name}/terminate_connections", post(users::terminate_connections)),
        ("/pusher/auth", post(proofs::channels).options(proofs::channels)),
        ("/pusher/user-auth", post(proofs::user).options(proofs::user)),
        ("/users/{name}/terminate_connections", post(users::terminate_connections)),
    ];
    let mut router = Router::new();
    for base in ["", "/a/{app}"] {
        for (path, methods) in &routes {
            let methods = methods.clone().fallback(no_such_method);
            router = router.route(&format!("{base}{path}"), methods.clone()).route(&format!("{base}{path}/"), methods);
        }
        for path in ["/app", "/app/", "/app/{key}/{*rest}"] {
            router = router.route(&format!("{base}{path}"), get(no_such_app_path));
        }
        // pusher-js would request these again and again without a pause if they answered anything but an error.
        router = router.route(&format!("{base}/pusher/app/{{*rest}}"), any(no_fallback_transport));
        router = router.route(&format!("{base}/apps/{{id}}/{{*rest}}"), any(no_such_path));
    }
    router.with_state(door)
}

async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::not_found(format!("Pusher's API has no path {:?}", limits::echo(uri.path())))
}

async fn no_fallback_transport() -> Refusal {
    Refusal::not_found("Only WebSockets are supported; set enabledTransports to ['ws', 'wss']")
}

/// The router adds `Allow`.
async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::method(format!("{} is not allowed at {:?}", limits::echo(method.as_str()), limits::echo(uri.path())))
}
