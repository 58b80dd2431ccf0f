//! Unauthenticated requests cost little, and nothing is read or done before the signature is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::iter;
use http::Request;

use crate::kit::{KEY, door};

// covers: G025
#[tokio::test]
async fn more_parameters_than_a_request_has_are_refused() {
    let door = door().await;
    let many = "aaa[]&".repeat(10_000);
    let query = format!("auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&auth_signature=x&{many}");
    for (method, path) in
        [("GET", "/apps/3/channels"), ("POST", "/apps/3/events"), ("POST", "/users/u/terminate_connections")]
    {
        let request = Request::builder().method(method).uri(format!("{path}?{query}")).body(Body::empty()).unwrap();
        assert_eq!(door.send(request).await.refused(400), "Too many parameters: send at most 128", "{path}");
    }
    let form = Request::post("/pusher/auth").body(Body::from(many)).unwrap();
    assert_eq!(door.send(form).await.refused(400), "Too many parameters: send at most 128");
}

// covers: G025
#[tokio::test]
async fn an_event_in_a_hundred_channels_may_come_in_the_query() {
    let door = door().await;
    let channels: Vec<_> = (0..100).map(|n| format!("channel-{n}")).collect();
    let mut params = vec![("name", "e"), ("data", "1")];
    params.extend(channels.iter().map(|channel| ("channels[]", channel.as_str())));
    let answer = door.call_as("POST", "/apps/3/events", "/apps/3/events", &params, "", &[]).await;
    assert_eq!(answer.ok(), "{}");
}

// covers: G029
#[tokio::test]
async fn a_signature_is_judged_before_the_body() {
    let door = door().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    // An endless body, of which no more is taken than it takes for the client to see the answer.
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let pieces = iter(std::iter::repeat_with(move || {
        count.fetch_add(piece.len(), Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece.clone())
    }));
    let query = format!("auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&auth_signature=x&body_md5=x");
    let request = Request::post(format!("/apps/3/events?{query}")).body(Body::from_stream(pieces)).unwrap();
    let answer = door.send(request).await;
    assert!(answer.refused(401).starts_with("Invalid signature"), "{}", answer.text);
    assert!(taken.load(Ordering::Relaxed) <= 2 << 20, "{taken:?} bytes");
}

#[tokio::test]
async fn what_should_have_been_signed_is_quoted_within_bounds() {
    let door = door().await;
    let query =
        format!("auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&auth_signature=x&a={}", "y".repeat(60_000));
    let request = Request::get(format!("/apps/3/channels?{query}")).body(Body::empty()).unwrap();
    assert!(door.send(request).await.refused(401).len() < 1_000);
}
