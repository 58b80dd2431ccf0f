//! Keep-alive: which connections are reused, which never are, and connections that close while idle.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kit::{AMPLE, Client, allow, eventually};
use super::receiver::Receiver;
use tidings_courier::egress::{EgressConfig, SendError};

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Gives the pool time to take a connection back, or to notice that it closed. No test depends on how long that takes.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

// covers: S10
#[tokio::test]
async fn a_connection_is_reused_for_its_own_authority() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    eventually("a reused connection", async {
        for sent in 1.. {
            let response = client.post(&receiver.url()).await.unwrap();
            assert_eq!(response.remote, Some(receiver.addr));
            if receiver.accepted() < sent {
                return;
            }
            settle().await;
        }
    })
    .await;
}

// covers: S10
#[tokio::test]
async fn a_connection_is_never_reused_for_another_authority() {
    let receiver = Receiver::start(|mut conn| async move {
        let mut hosts = BTreeSet::new();
        while let Some(seen) = conn.read_request().await {
            hosts.insert(seen.header("host").unwrap().to_owned());
            let status = if hosts.len() == 1 { "204 No Content" } else { "500 Mixed" };
            conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    client.names.set("one.test", &[&["127.0.0.1"]]);
    client.names.set("two.test", &[&["127.0.0.1"]]);
    for _ in 0..5 {
        for host in ["one.test", "two.test", "127.0.0.1", "localhost"] {
            let response = client.post(&receiver.url_as(host)).await.unwrap();
            assert_eq!(response.status, 204, "{host}");
        }
        settle().await;
    }
    assert!(receiver.accepted() >= 4);
}

// covers: S10
#[tokio::test]
async fn a_connection_that_the_peer_closed_meanwhile_is_replaced_unnoticed() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send(NO_CONTENT).await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    for sent in 1..=20 {
        let response = client.post(&receiver.url()).await.unwrap();
        assert_eq!(response.status, 204);
        receiver.ended(sent).await;
        settle().await;
    }
    assert_eq!(receiver.requests().len(), 20, "nothing was sent twice");
}

// covers: S10
#[tokio::test]
async fn unused_connections_are_closed_after_a_while() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let config = EgressConfig { pool_idle_timeout: Duration::from_millis(100), ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    client.post(&receiver.url()).await.unwrap();
    receiver.ended(1).await;
}

// covers: S10
#[tokio::test]
async fn keep_alive_can_be_turned_off() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let config = EgressConfig { pool_max_idle_per_destination: 0, ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    for sent in 1..=3 {
        client.post(&receiver.url()).await.unwrap();
        receiver.ended(sent).await;
    }
    assert_eq!(receiver.accepted(), 3);
}

// covers: S10, R08
#[tokio::test]
async fn a_connection_with_an_unread_request_is_not_reused() {
    let receiver = Receiver::start(|mut conn| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::io::AsyncReadExt::read_u8(&mut conn.io).await.unwrap());
        }
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
        // The rest of the request is read only after the next one had its chance to be sent.
        conn.proceed().await;
        conn.closed().await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    for sent in 1..=3 {
        let mut request = super::kit::request(&receiver.url());
        request.body = vec![b'x'; 16 << 20].into();
        let response = client.egress.send(request, AMPLE).await.unwrap();
        assert_eq!(response.status, 413);
        assert_eq!(receiver.accepted(), sent);
    }
    receiver.let_proceed();
}

// covers: S10
#[tokio::test]
async fn no_more_unused_connections_are_kept_than_configured() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let config = EgressConfig { pool_max_idle_per_destination: 3, ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let egress = client.egress.clone();
        let request = super::kit::request(&receiver.url());
        at_once.spawn(async move { egress.send(request, AMPLE).await.unwrap().status });
    }
    assert!(at_once.join_all().await.iter().all(|status| *status == 204));
    let surplus = receiver.accepted() - 3;
    receiver.ended(surplus).await;
    for _ in 0..5 {
        settle().await;
        assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    }
}

// covers: R15
#[tokio::test]
async fn a_hanging_destination_does_not_delay_another() {
    let hanging = Receiver::start(|mut conn| async move { conn.closed().await }).await;
    let healthy = Receiver::answering(NO_CONTENT).await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let egress = client.egress.clone();
        let request = super::kit::request(&hanging.url());
        stuck.spawn(async move { egress.send(request, AMPLE).await.map(drop) });
    }
    eventually("200 hanging exchanges", async {
        while hanging.accepted() < 200 {
            settle().await;
        }
    })
    .await;
    assert_eq!(client.post(&healthy.url()).await.unwrap().status, 204);
    stuck.abort_all();
    hanging.ended(200).await;
}

// covers: G131
#[tokio::test]
async fn a_kept_connection_that_closes_without_an_answer_is_no_failure_of_the_receiver() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send(NO_CONTENT).await;
        // It had closed before, but the end comes only when the next request is on its way.
        conn.read_request().await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    settle().await;
    let error = client.post(&receiver.url()).await.unwrap_err();
    assert!(matches!(error, SendError::Stale), "{error:?}");
    let mut again = super::kit::request(&receiver.url());
    again.fresh = true;
    assert_eq!(client.egress.send(again, AMPLE).await.unwrap().status, 204);
    // From now on it gets a connection for each.
    for _ in 0..3 {
        assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    }
    assert_eq!(receiver.accepted(), 5);
}

// covers: G131
#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send(NO_CONTENT).await;
        conn.read_request().await;
        conn.send("HTTP/1.1 2").await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    settle().await;
    let error = client.post(&receiver.url()).await.unwrap_err();
    assert!(matches!(error, SendError::Protocol { .. }), "{error:?}");
}

// covers: G261
#[tokio::test]
async fn names_of_headers_leave_as_they_are_asked_to() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let send = async |title_case| {
        let mut request = super::kit::request(&receiver.url());
        request.title_case = title_case;
        let name = if title_case { "x-pusher-key" } else { "webhook-id" };
        request.headers.insert(name, "v".parse().unwrap());
        client.egress.send(request, AMPLE).await.unwrap();
        settle().await;
    };
    for title_case in [true, false, true, false] {
        send(title_case).await;
    }
    let names: Vec<Vec<String>> = receiver
        .requests()
        .iter()
        .map(|seen| seen.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect())
        .collect();
    for (names, title_case) in names.iter().zip([true, false, true, false]) {
        let expected = if title_case { ["X-Pusher-Key", "User-Agent"] } else { ["webhook-id", "user-agent"] };
        assert!(expected.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
    }
    assert_eq!(receiver.accepted(), 2, "a connection for each spelling");
}

// covers: G068
#[tokio::test]
async fn unused_connections_make_room_for_new_ones() {
    let (one, two) = (Receiver::answering(NO_CONTENT).await, Receiver::answering(NO_CONTENT).await);
    let config = EgressConfig { max_connections: 1, ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    client.post(&one.url()).await.unwrap();
    settle().await;
    client.post(&two.url()).await.unwrap();
    one.ended(1).await;
}
