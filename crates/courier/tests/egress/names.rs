//! Host names: several addresses, rebinding, and what a refusal reveals.

use std::time::Duration;

use super::kit::{AMPLE, Client, allow};
use super::receiver::Receiver;
use tidings_courier::egress::EgressConfig;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

// covers: S07, S08, S19
#[tokio::test]
async fn a_name_with_any_address_that_is_not_public_is_refused() {
    let client = Client::allowing(&[]);
    let sets: [(&str, &[&str]); 10] = [
        ("a.test", &["127.0.0.1"]),
        ("aaaa.test", &["::1"]),
        ("mixed.test", &["93.184.215.14", "10.0.0.7"]),
        ("mixed-v6.test", &["2606:4700::1111", "93.184.215.14", "fe80::1"]),
        (
            "last-of-many.test",
            &[
                "8.8.8.8",
                "8.8.4.4",
                "1.1.1.1",
                "1.0.0.1",
                "9.9.9.9",
                "9.9.9.10",
                "4.4.4.4",
                "5.5.5.5",
                "6.6.6.6",
                "192.168.1.1",
            ],
        ),
        ("mapped.test", &["::ffff:169.254.169.254"]),
        // What a chain of aliases or a wildcard service ends in is all that the resolver tells.
        ("alias-of-internal.test", &["172.20.3.4"]),
        ("127.0.0.1.nip.io", &["127.0.0.1"]),
        ("backend", &["172.18.0.2"]),
        ("host.docker.internal", &["192.168.65.2"]),
    ];
    for (name, set) in sets {
        client.names.set(name, &[set]);
        client.assert_blocked(&format!("http://{name}/")).await;
        client.assert_blocked(&format!("https://{name}:8443/")).await;
    }
    assert!(client.log.dialled().is_empty());
    assert_eq!(client.log.resolved().len(), 2 * sets.len(), "one lookup for each attempt");
}

// covers: S07, S09
#[tokio::test]
async fn the_vetted_address_is_the_one_dialled() {
    let receiver = Receiver::start_at("127.0.0.2:0", |mut conn| async move {
        while conn.read_request().await.is_some() {
            conn.send(NO_CONTENT).await;
        }
    })
    .await;
    let client = Client::allowing(&["127.0.0.2/32"]);
    client.names.set("hooks.test", &[&["127.0.0.2"]]);
    let response = client.post(&receiver.url_as("hooks.test")).await.unwrap();
    assert_eq!(response.remote, Some(receiver.addr));
    assert_eq!(client.log.dialled(), [receiver.addr]);
    assert_eq!(client.log.resolved(), ["hooks.test"]);
    let host = format!("hooks.test:{}", receiver.addr.port());
    assert_eq!(receiver.requests()[0].header("host"), Some(host.as_str()));
}

// covers: S09, S10, S17
#[tokio::test]
async fn a_rebound_name_is_vetted_again_for_each_dial() {
    let receiver = Receiver::start_at("127.0.0.2:0", |mut conn| async move {
        conn.read_request().await;
        conn.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.2/32"]);
    client.names.set("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let url = receiver.url_as("rebind.test");

    assert_eq!(client.post(&url).await.unwrap().status, 204);
    assert_eq!(client.log.resolved().len(), 1, "a second lookup in one dial could have another answer");
    assert_eq!(client.log.dialled(), [receiver.addr]);

    receiver.ended(1).await;
    client.assert_blocked(&url).await;
    assert_eq!(client.log.resolved().len(), 2);
}

// covers: S17
#[tokio::test]
async fn a_url_that_was_never_checked_is_checked_on_sending() {
    let client = Client::allowing(&["127.0.0.2/32"]);
    client.assert_blocked("http://127.0.0.1:8080/").await;
    client.names.set("moved.test", &[&["10.0.0.1"]]);
    assert!(client.egress.check_url(&"http://moved.test/".parse().unwrap()).is_ok());
    client.assert_blocked("http://moved.test/").await;
}

// covers: S18
#[tokio::test]
async fn a_refusal_does_not_depend_on_what_is_behind_it() {
    let open = Receiver::answering(NO_CONTENT).await;
    let client = Client::allowing(&[]);
    let closed_port = 1;
    let targets = [
        ("open.test", "127.0.0.1", open.addr.port()),
        ("closed.test", "127.0.0.1", closed_port),
        ("filtered.test", "10.255.255.1", 80),
        ("metadata.test", "169.254.169.254", 80),
    ];
    let mut texts = Vec::new();
    for (name, ip, port) in targets {
        client.names.set(name, &[&[ip]]);
        let error = client.assert_blocked(&format!("http://{name}:{port}/")).await;
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(ip), "{shown}");
        assert!(error.to_string().contains("--egress-allow CIDR"), "{error}");
        assert!(error.to_string().contains("[egress] allow"), "{error}");
        texts.push(shown);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(open.accepted(), 0);
}

#[tokio::test]
async fn names_without_addresses_are_dns_failures() {
    let client = Client::allowing(&[]);
    client.names.set("empty.test", &[&[]]);
    for name in ["empty.test", "unknown.test"] {
        let error = client.post(&format!("http://{name}/")).await.expect_err(name);
        assert_eq!(error.code(), "dns");
        assert!(error.to_string().contains(name));
    }
    assert!(client.log.dialled().is_empty());
}

// covers: S09
#[tokio::test]
async fn the_next_vetted_address_is_tried_when_one_does_not_answer() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let client = Client::allowing(&["127.0.0.0/8"]);
    client.names.set("two.test", &[&["127.0.0.3", "127.0.0.1"]]);
    let response = client.post(&receiver.url_as("two.test")).await.unwrap();
    assert_eq!(response.remote, Some(receiver.addr));
    let dialled: Vec<String> = client.log.dialled().iter().map(|addr| addr.ip().to_string()).collect();
    assert_eq!(dialled, ["127.0.0.3", "127.0.0.1"]);
    assert_eq!(client.log.resolved().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let client = Client::allowing(&["127.0.0.0/8"]);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = client.post(&super::kit::at(free)).await.expect_err("nobody listens");
    assert_eq!(error.code(), "connect");
    assert_eq!(error.to_string(), "could not connect: connection refused");
}

/// Never answers.
struct Silent;

#[async_trait::async_trait]
impl tidings_courier::egress::Resolve for Silent {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        std::future::pending().await
    }
}

// covers: R01
#[tokio::test]
async fn resolving_is_within_the_deadline_and_the_connect_timeout() {
    let by_deadline =
        tidings_courier::egress::Egress::with_resolver(EgressConfig::default(), std::sync::Arc::new(Silent)).unwrap();
    let by_connect = tidings_courier::egress::Egress::with_resolver(
        EgressConfig { connect_timeout: Duration::from_millis(50), ..allow(&[]) },
        std::sync::Arc::new(Silent),
    )
    .unwrap();
    for (egress, timeout) in [(by_deadline, Duration::from_millis(50)), (by_connect, AMPLE)] {
        let sending = egress.send(super::kit::request("http://slow.test/"), timeout);
        let error = super::kit::eventually("a timeout", sending).await.expect_err("silent");
        assert_eq!(error.code(), "timeout");
    }
}

// covers: S07
#[tokio::test]
async fn the_systems_resolver_is_vetted_like_any_other() {
    use tidings_courier::egress::{Egress, Resolve, SystemResolver};
    // The one name that every system knows without a network. The client itself never asks for it.
    let found = SystemResolver::default().resolve("localhost").await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|ip| ip.is_loopback()), "{found:?}");
    let egress = Egress::new(EgressConfig::default()).unwrap();
    let error = egress.send(super::kit::request("http://localhost/"), AMPLE).await.expect_err("blocked");
    assert_eq!(error.code(), "blocked_address");
}

// covers: R01
#[tokio::test]
async fn absurd_timeouts_are_only_long() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let config =
        EgressConfig { connect_timeout: Duration::MAX, pool_idle_timeout: Duration::MAX, ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    for _ in 0..3 {
        let response = client.post_within(&receiver.url(), Duration::MAX).await.unwrap();
        assert_eq!(response.status, 204);
    }
}
