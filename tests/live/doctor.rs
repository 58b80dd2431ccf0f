//! `tidings doctor`: explains why clients cannot use a server.

use std::net::SocketAddr;

use serde_json::Value;
use tidings_testkit::{Answer, Cli, Receiver, Server, dial, server, tidings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpListener;

/// Runs the doctor with these flags, in the server's folder or with its URL: the exit code, and both outputs.
async fn asked(cli: Cli, flags: &[&str]) -> (i32, String) {
    let exit = cli.arg("doctor").args(flags.iter().copied()).run().await;
    (exit.code.unwrap(), exit.stdout + &exit.stderr)
}

/// Asserts that one check fails, and that the output has all of these words.
async fn finds(server: &Server, flags: &[&str], words: &[&str]) {
    let (code, said) = asked(tidings(server), flags).await;
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.matches("WRONG").count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
    assert!(!said.contains(&server.credentials.secret), "the secret is shown");
}

// covers: D03
#[tokio::test]
async fn a_server_that_is_well_is_said_to_be() {
    let server = server().start().await;
    let (code, said) = asked(tidings(&server), &[]).await;
    assert_eq!((code, said.matches("  ok ").count()), (0, 5), "{said}");
    let (code, said) = asked(tidings(&server), &["--json", "--origin", "https://example.com"]).await;
    let checks: Value = serde_json::from_str(&said).unwrap();
    let results: Vec<_> = checks["checks"].as_array().unwrap().iter().map(|check| check["result"].clone()).collect();
    assert_eq!((code, results), (0, vec!["ok".into(); 5]), "{said}");
    // From elsewhere, knowing nothing but what a page knows.
    let known = ["--url", &server.url, "--app-key", &server.credentials.key];
    let (code, said) = asked(Cli::elsewhere(), &known).await;
    assert_eq!((code, said.matches("  ok ").count()), (0, 3), "{said}");
    assert!(said.contains("--secret"), "{said}");
}

// covers: D03, G381
#[tokio::test]
async fn the_option_that_is_wrong_is_named() {
    let server = server().start().await;
    let (key, id, secret) = (&server.credentials.key, &server.credentials.app_id, &server.credentials.secret);
    let (code, said) = asked(tidings(&server), &["--app-key", "other-key"]).await;
    assert!(code == 1 && said.contains("4001") && said.contains("new Pusher("), "{said}");
    finds(&server, &["--app-key", key, "--app-id", "77", "--secret", secret], &["404", "appId"]).await;
    let (code, said) = asked(tidings(&server), &["--app-key", key, "--app-id", id, "--secret", "another-secret"]).await;
    assert_eq!((code, said.matches("WRONG").count()), (1, 2), "{said}");
    assert!(said.contains("PUSHER_APP_SECRET") && said.contains("channelAuthorization"), "{said}");
    assert!(!said.contains("another-secret"), "{said}");
    let (code, said) = asked(Cli::elsewhere(), &[]).await;
    assert!(code == 1 && said.contains("--url"), "{said}");
}

// covers: D03
#[tokio::test]
async fn a_page_from_elsewhere_is_told_where_to_be_let_in() {
    let config = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"app-secret-of-some-length\"\n\
        allowed_origins = [\"https://a.example\"]\n";
    let server = server().config(config).start().await;
    finds(&server, &["--origin", "https://b.example"], &["4009", "allowed_origins", "https://b.example"]).await;
    let (code, said) = asked(tidings(&server), &["--origin", "https://a.example"]).await;
    assert_eq!(code, 0, "{said}");
}

// covers: D03
#[tokio::test]
async fn what_stands_in_the_way_is_told_from_what_is_wrong_with_the_app() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let elsewhere = Cli::elsewhere;
    let (code, said) = asked(elsewhere(), &["--url", &format!("http://{closed}"), "--app-key", "k"]).await;
    assert!(code == 1 && said.contains("refused") && said.contains("wsPort"), "{said}");
    // Something that passes requests on, but no WebSockets, and whose clock is wrong.
    let proxy = Receiver::start();
    proxy.respond_otherwise(Answer::status(200).header("date", "Thu, 01 Jan 2026 00:00:00 GMT"));
    let (code, said) = asked(elsewhere(), &["--url", &proxy.url(""), "--app-key", "k"]).await;
    assert!(code == 1 && said.contains("proxy_set_header Upgrade") && said.contains("NTP"), "{said}");
    let secured = server().tls().start().await;
    let (code, said) = asked(elsewhere(), &["--url", &secured.url, "--app-key", "k"]).await;
    assert!(code == 1 && said.contains("NODE_EXTRA_CA_CERTS"), "{said}");
    let plainly = format!("http://{}", secured.addr);
    let (code, said) = asked(elsewhere(), &["--url", &plainly, "--app-key", "k"]).await;
    assert!(code == 1 && said.contains("forceTLS: true"), "{said}");
    let plain = server().start().await;
    let (code, said) = asked(elsewhere(), &["--url", &format!("https://{}", plain.addr), "--app-key", "k"]).await;
    assert!(code == 1 && said.contains("forceTLS: false"), "{said}");
}

/// A proxy as in front of a Laravel application: `/app` and `/apps` go to the server, everything else to the
/// application.
async fn passing_on_pusher(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                if head.starts_with(b"GET /app/") || head.starts_with(b"GET /apps/") {
                    let mut server = dial(to).await;
                    server.write_all(&head).await?;
                    copy_bidirectional(&mut client, &mut server).await?;
                } else {
                    client
                        .write_all(
                            b"HTTP/1.1 404 Not Found\r\nserver: nginx\r\ncontent-length: 2\r\n\
                            connection: close\r\n\r\nno",
                        )
                        .await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    addr
}

// covers: G311
#[tokio::test]
async fn a_deployment_that_passes_on_pusher_alone_is_found_working() {
    let server = server().start().await;
    let (key, id, secret) = (&server.credentials.key, &server.credentials.app_id, &server.credentials.secret);
    let front = format!("http://{}", passing_on_pusher(server.addr).await);
    let elsewhere = tempfile::tempdir().unwrap();
    let ask = |more: &[&str]| {
        let known = ["--url", &front, "--app-key", key].map(str::to_owned);
        let flags: Vec<String> = known.into_iter().chain(more.iter().map(|flag| (*flag).to_owned())).collect();
        let dir = elsewhere.path().to_owned();
        async move { asked(Cli::in_dir(dir), &flags.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (code, said) = ask(&["--app-id", id, "--secret", secret]).await;
    assert_eq!((code, said.matches("  ok ").count()), (0, 4), "{said}");
    assert!(said.contains("note") && said.contains("404") && !said.contains("WRONG"), "{said}");
    assert!(said.trim_end().lines().last().unwrap().starts_with("verdict: "), "{said}");
    // Each check has its own say, whatever another one found.
    let (code, said) = ask(&["--app-id", "77", "--secret", secret]).await;
    assert_eq!((code, said.matches("WRONG").count()), (1, 1), "{said}");
    assert!(said.contains("appId") && said.contains("verdict: to be fixed: servers"), "{said}");
    // Where nothing of it is there, that is said at the end too.
    let other = Receiver::start();
    other.respond_otherwise(Answer::status(404));
    let flags = ["--url", &other.url(""), "--app-key", key, "--app-id", id, "--secret", secret];
    let (code, said) = asked(Cli::in_dir(elsewhere.path()), &flags).await;
    assert!(code == 1 && said.contains("not as Tidings does") && said.contains("proxy_set_header Upgrade"), "{said}");
}
