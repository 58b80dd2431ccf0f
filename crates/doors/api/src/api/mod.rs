//! The routes. Every path also exists with a trailing slash, and below `/a/{app id}`.

mod apps;
mod channels;
mod deliveries;
mod destination;
mod events;
mod hooks;
mod listeners;
mod tokens;

use axum::Router;
use axum::routing::{MethodRouter, any, delete, get, patch, post};
use http::{Method, Uri};

use crate::door::ApiDoor;
use crate::problem::{Code, Problem, shown};
use crate::stream;

/// The API as a service. It answers everything below `/v1` and `/a/{app}/v1`, and nothing else.
pub(crate) fn router(door: ApiDoor) -> Router {
    let routes: [(&str, MethodRouter<ApiDoor>); 21] = [
        ("/events", post(events::publish).get(events::list)),
        ("/events/{id}", get(events::one)),
        ("/hooks", post(hooks::create).get(hooks::list)),
        ("/hooks/{id}", get(hooks::one).merge(patch(hooks::change)).merge(delete(hooks::remove))),
        ("/listeners", post(listeners::create).get(listeners::list)),
        ("/listeners/{id}", get(listeners::one).merge(patch(listeners::change)).merge(delete(listeners::remove))),
        ("/listeners/{id}/rotate_secret", post(listeners::rotate_secret)),
        ("/listeners/{id}/test", post(listeners::test)),
        ("/deliveries", get(deliveries::list)),
        ("/deliveries/{id}", get(deliveries::one)),
        ("/deliveries/{id}/attempts", get(deliveries::attempts)),
        ("/deliveries/{id}/retry", post(deliveries::retry)),
        ("/channels", get(channels::list)),
        ("/channels/{id}", get(channels::one)),
        ("/channels/{id}/members", get(channels::members)),
        ("/channels/{id}/history", get(channels::history)),
        ("/apps", post(apps::create).get(apps::list)),
        ("/apps/{id}", get(apps::one).merge(patch(apps::change)).merge(delete(apps::remove))),
        ("/tokens", post(tokens::issue)),
        ("/stream", get(stream::open).options(stream::preflight)),
        ("", any(no_such_path)),
    ];
    let mut router = Router::new();
    for base in ["/v1", "/a/{app}/v1"] {
        for (path, methods) in &routes {
            let methods = if path.is_empty() { methods.clone() } else { methods.clone().fallback(no_such_method) };
            router = router.route(&format!("{base}{path}"), methods.clone()).route(&format!("{base}{path}/"), methods);
        }
        router = router.route(&format!("{base}/{{*rest}}"), any(no_such_path));
    }
    router.with_state(door)
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is no path {:?}", shown(uri.path()))).remedy(
        "the paths are /v1/events, /v1/hooks, /v1/listeners, /v1/deliveries, /v1/channels, /v1/apps, /v1/tokens and \
        /v1/stream",
    )
}

/// The router adds `Allow`.
async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!("{} is not allowed at {:?}", shown(method.as_str()), shown(uri.path())),
    )
    .remedy("the header `Allow` lists the methods that are")
}
