//! The operator's proxy: a tunnel to the vetted address, and no other proxy.

use std::process::Stdio;

use super::kit::{Client, allow, eventually};
use super::receiver::{Receiver, read_request};
use tidings_courier::egress::{Egress, EgressConfig, EgressError};
use tokio::net::TcpSocket;
use url::Url;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A proxy that opens the tunnels it is asked for.
async fn tunnelling() -> Receiver {
    Receiver::start(|mut conn| async move {
        let Some(seen) = conn.read_request().await else {
            return;
        };
        let target = seen.head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut there = TcpSocket::new_v4().unwrap().connect(target).await.unwrap();
        conn.send("HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n").await;
        drop(tokio::io::copy_bidirectional(&mut conn.io, &mut there).await);
    })
    .await
}

fn through(proxy: &str, allowed: &[&str]) -> Client {
    Client::new(EgressConfig { proxy: Some(Url::parse(proxy).unwrap()), ..allow(allowed) })
}

// covers: S12
#[tokio::test]
async fn the_proxy_is_told_the_vetted_address_and_the_receiver_the_name() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let proxy = tunnelling().await;
    let client = through(&proxy.url(), &["127.0.0.1/32"]);
    client.names.set("hooks.test", &[&["127.0.0.1"]]);
    let response = client.post(&receiver.url_as("hooks.test")).await.unwrap();
    assert_eq!(response.status, 204);
    assert_eq!(response.remote, Some(receiver.addr), "the receiver, not the proxy");
    assert_eq!(client.log.dialled(), [proxy.addr]);

    let asked = proxy.requests().remove(0);
    assert!(asked.head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", receiver.addr)));
    assert_eq!(asked.header("host"), Some(receiver.addr.to_string().as_str()));
    assert_eq!(asked.header("proxy-authorization"), None);

    let seen = receiver.requests().remove(0);
    assert!(seen.head.starts_with("POST / HTTP/1.1\r\n"), "not the absolute form");
    assert!(seen.header("host").unwrap().starts_with("hooks.test:"));
}

// covers: S12
#[tokio::test]
async fn the_guard_applies_to_the_target_and_not_to_the_proxy() {
    let proxy = tunnelling().await;
    // Nothing is allowed, so the proxy on this machine is reached only because the operator named it.
    let client = through(&proxy.url(), &[]);
    client.names.set("internal.test", &[&["10.0.0.1"]]);
    client.names.set("mixed.test", &[&["93.184.215.14", "127.0.0.1"]]);
    for url in
        ["http://127.0.0.1:1/", "https://[::1]/", "http://localhost/", "http://internal.test/", "https://mixed.test/"]
    {
        client.assert_blocked(url).await;
    }
    assert_eq!(proxy.accepted(), 0);
    // The same way stays closed when a receiver's URL is the proxy's.
    client.assert_blocked(&proxy.url()).await;
}

// covers: S12
#[tokio::test]
async fn credentials_go_to_the_proxy_alone_and_into_no_error() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let proxy = tunnelling().await;
    let url = format!("http://us%40er:p%3Aw@{}", proxy.addr);
    let client = through(&url, &["127.0.0.1/32"]);
    client.post(&receiver.url()).await.unwrap();
    let asked = proxy.requests().remove(0);
    assert_eq!(asked.header("proxy-authorization"), Some("Basic dXNAZXI6cDp3"));
    assert_eq!(receiver.requests()[0].header("proxy-authorization"), None);

    let refusing = Receiver::answering("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let client = through(&format!("http://user:secret@{}", refusing.addr), &["127.0.0.1/32"]);
    let error = client.post(&receiver.url()).await.expect_err("407");
    assert_eq!(error.code(), "proxy");
    assert!(!format!("{error} {error:?} {:?}", client.egress).contains("secret"));
}

// covers: S12
#[tokio::test]
async fn a_proxy_that_fails_is_a_proxy_failure() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let answers: [&[u8]; 8] = [
        b"",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 \xff\xff\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nand more",
        &[b'a'; 20_000],
    ];
    for answer in answers {
        let proxy = Receiver::start(move |mut conn| async move {
            conn.read_request().await;
            conn.send(answer).await;
        })
        .await;
        let client = through(&proxy.url(), &["127.0.0.1/32"]);
        let error = client.post(&receiver.url()).await.expect_err("no tunnel");
        assert_eq!(error.code(), "proxy", "{error}");
    }
    let nobody = through("http://127.0.0.1:1", &["127.0.0.1/32"]);
    let error = nobody.post(&receiver.url()).await.expect_err("no proxy");
    assert_eq!(error.code(), "proxy", "{error}");
    assert_eq!(receiver.accepted(), 0, "there is no way around the proxy");
}

// covers: S12
#[tokio::test]
async fn a_proxy_may_have_a_name() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let proxy = tunnelling().await;
    let client = through(&proxy.url_as("proxy.internal"), &["127.0.0.1/32"]);
    client.names.set("proxy.internal", &[&["127.0.0.1"]]);
    assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    let lost = through("http://nowhere.internal:3128", &["127.0.0.1/32"]);
    assert_eq!(lost.post(&receiver.url()).await.expect_err("lost").code(), "proxy");
}

// covers: S12
#[test]
fn only_http_proxies_are_taken() {
    for url in
        ["https://127.0.0.1:3128", "socks5://127.0.0.1:1080", "http://127.0.0.1:3128/path", "http://127.0.0.1:3128/?x"]
    {
        let config = EgressConfig { proxy: Some(Url::parse(url).unwrap()), ..EgressConfig::default() };
        assert!(matches!(Egress::new(config), Err(EgressError::Proxy)), "{url}");
    }
}

// covers: S12
#[tokio::test]
async fn the_environment_names_no_proxy() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let proxy = tunnelling().await;
    // Variables can be set safely for a process that is about to start only, so this very test runs once more in one.
    if let Some(target) = std::env::args().find_map(|arg| arg.strip_prefix("--skip=to ").map(str::to_owned)) {
        let client = Client::allowing(&["127.0.0.0/8"]);
        assert_eq!(client.post(&target).await.unwrap().status, 204);
        return;
    }
    let name = "egress::proxy::the_environment_names_no_proxy";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, &format!("--skip=to {}", receiver.url())]);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        child.env(variable, proxy.url());
    }
    child.stdin(Stdio::null()).stdout(Stdio::null());
    let running = tokio::task::spawn_blocking(move || child.status());
    let status = eventually("the child process", running).await.unwrap().unwrap();
    assert!(status.success());
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(proxy.accepted(), 0);

    // And none takes a destination from the configured proxy.
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "egress::proxy::the_proxy_is_told_the_vetted_address_and_the_receiver_the_name"]);
    child.env("NO_PROXY", "*").env("no_proxy", "127.0.0.1,hooks.test");
    child.stdin(Stdio::null()).stdout(Stdio::null());
    let running = tokio::task::spawn_blocking(move || child.status());
    assert!(eventually("the child process", running).await.unwrap().unwrap().success());
}

// covers: S12
#[tokio::test]
async fn a_silent_proxy_is_bounded_by_the_connect_timeout() {
    let proxy = Receiver::start(|mut conn| async move {
        read_request(&mut conn.io).await;
        conn.closed().await;
    })
    .await;
    let client = Client::new(EgressConfig {
        proxy: Some(Url::parse(&proxy.url()).unwrap()),
        connect_timeout: std::time::Duration::from_millis(100),
        ..allow(&["127.0.0.1/32"])
    });
    let error = client.post("http://127.0.0.1:8/").await.expect_err("silent");
    assert_eq!(error.code(), "timeout");
    proxy.ended(1).await;
}
