//! Checks of a URL before anything is looked up.

use tidings_courier::egress::{Egress, EgressConfig, Refusal};
use url::Url;

use super::kit::{Client, allow, request};
use super::receiver::Receiver;

fn check(egress: &Egress, url: &str) -> Result<(), Refusal> {
    egress.check_url(&Url::parse(url).unwrap())
}

// covers: S01, S02
#[tokio::test]
async fn this_machine_in_every_spelling_is_refused_and_not_dialled() {
    let client = Client::allowing(&[]);
    let hosts = [
        "127.0.0.1",
        "127.255.255.254",
        "[::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "foo.localhost",
        "foo.LocalHost.",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0x7f000001",
        "017700000001",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::]",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "loc\talhost",
    ];
    for host in hosts {
        let url = format!("http://{host}/");
        let refusal = check(&client.egress, &url).expect_err(&url);
        assert_eq!(refusal.code(), "blocked_address", "{url}");
        assert!(refusal.to_string().contains("--egress-allow"), "{refusal}");
        client.assert_blocked(&url).await;
    }
    for url in ["http:///127.0.0.1/", "http:127.0.0.1/", "http:\\\\127.0.0.1\\", "http://127.0.0.1:80\\@evil.com/"] {
        client.assert_blocked(url).await;
    }
    assert!(client.log.resolved().is_empty(), "localhost names and literals are not looked up");
}

// covers: S02
#[test]
fn hosts_that_no_address_can_be_made_of_are_no_urls() {
    for url in ["http://[fe80::1%25eth0]/", "http://256.1.1.1/", "http://1.2.3.4.5/", "http://0x100000000/", "http:///"]
    {
        assert!(Url::parse(url).is_err(), "{url}");
    }
}

// covers: S13
#[tokio::test]
async fn other_schemes_are_refused() {
    let client = Client::allowing(&["127.0.0.0/8"]);
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "ws://example.com/",
        "data:,x",
        "unix:/run/x.sock",
    ] {
        let error = client.post(url).await.expect_err(url);
        assert_eq!(error.code(), "invalid_url", "{url}");
    }
    assert!(client.log.dialled().is_empty());
}

// covers: S13
#[test]
fn https_only_refuses_http() {
    let config = EgressConfig { https_only: true, ..EgressConfig::default() };
    let egress = Egress::new(config).unwrap();
    assert_eq!(check(&egress, "http://example.com/"), Err(Refusal::HttpsOnly));
    assert_eq!(check(&egress, "https://example.com/"), Ok(()));
}

// covers: S13
#[tokio::test]
async fn denied_ports_are_not_dialled_and_the_list_is_the_operators() {
    let client = Client::allowing(&["127.0.0.0/8"]);
    for port in [22, 25, 6379] {
        for host in ["127.0.0.1", "example.com", "[2606:4700::1111]"] {
            let error = client.assert_blocked(&format!("http://{host}:{port}/")).await;
            assert!(error.to_string().contains("deny_ports"), "{error}");
        }
    }
    assert_eq!(check(&client.egress, "http://example.com:0/"), Err(Refusal::Port(0)));

    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let only_this = EgressConfig { deny_ports: vec![receiver.addr.port()], ..allow(&["127.0.0.0/8"]) };
    Client::new(only_this).assert_blocked(&receiver.url()).await;
    assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
}

// covers: S14
#[tokio::test]
async fn user_info_is_turned_away_and_never_shown() {
    let client = Client::allowing(&["127.0.0.0/8"]);
    for url in [
        "http://alice:hunter2@127.0.0.1:1/",
        "http://hunter2@example.com/",
        "https://:hunter2@example.com/",
        "http://a@b:hunter2@example.com/",
    ] {
        let parsed = Url::parse(url).unwrap();
        assert_eq!(client.egress.check_url(&parsed), Err(Refusal::Userinfo), "{url}");
        let error = client.post(url).await.expect_err(url);
        assert_eq!(error.code(), "invalid_url");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!format!("{:?}", request(url)).contains("hunter2"));
    }
    assert!(client.log.dialled().is_empty());
}

// covers: S15
#[tokio::test]
async fn an_allowed_network_opens_nothing_else() {
    let script = "HTTP/1.1 204 No Content\r\n\r\n";
    let receiver = Receiver::answering(script).await;
    let port = receiver.addr.port();
    let client = Client::allowing(&["127.0.0.1/32"]);
    assert_eq!(client.post(&receiver.url()).await.unwrap().status, 204);
    let dialled = client.log.dialled();
    assert_eq!(dialled, [receiver.addr]);
    for host in ["127.0.0.2", "[::1]", "10.0.0.1", "169.254.169.254"] {
        client.assert_blocked(&format!("http://{host}:{port}/")).await;
    }
}

// covers: S15
#[tokio::test]
async fn deny_wins_over_allow_and_over_public() {
    let config = EgressConfig {
        deny: vec!["127.0.0.1/32".parse().unwrap(), "1.1.1.0/24".parse().unwrap()],
        ..allow(&["127.0.0.0/8"])
    };
    let client = Client::new(config);
    client.assert_blocked("http://127.0.0.1:1/").await;
    client.assert_blocked("http://[::ffff:127.0.0.1]:1/").await;
    client.assert_blocked("http://1.1.1.1/").await;
    client.assert_blocked("http://localhost:1/").await;
    assert_eq!(check(&client.egress, "http://127.0.0.2/"), Ok(()));
}

// covers: S01, S15
#[tokio::test]
async fn localhost_works_when_either_loopback_address_is_allowed() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = Client::allowing(&["127.0.0.0/8"]);
    for host in ["localhost", "hooks.localhost", "LOCALHOST."] {
        let response = client.post(&receiver.url_as(host)).await.unwrap();
        assert_eq!(response.remote, Some(receiver.addr));
    }
    assert!(client.log.resolved().is_empty());

    let v6_only = Client::allowing(&["::1/128"]);
    let error = v6_only.post(&receiver.url_as("localhost")).await.expect_err("nobody listens on ::1");
    assert_eq!(error.code(), "connect");
    assert_eq!(v6_only.log.dialled()[0].ip().to_string(), "::1");
}

// covers: S14
#[test]
fn a_url_that_the_two_parsers_read_differently_is_refused() {
    // None is known; each of these must be either refused or lead to the host that was vetted.
    let egress = Egress::new(EgressConfig::default()).unwrap();
    for url in ["http://evil.com\\@127.0.0.1/", "http://127.0.0.1#@example.com/", "http://127.0.0.1?@example.com/"] {
        let parsed = Url::parse(url).unwrap();
        if parsed.host_str() == Some("127.0.0.1") {
            assert!(egress.check_url(&parsed).is_err(), "{url}");
        }
    }
}
