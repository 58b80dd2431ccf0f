//! The server as a process: the files that it makes, its output, and its end.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidings_testkit::{Cli, dial, own_environment, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_secs(10);

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

// covers: K01
#[tokio::test]
async fn the_first_start_makes_what_later_starts_find() {
    let mut server = server().start().await;
    let data = server.data_dir();
    assert_eq!(mode(&data), 0o700);
    for file in ["credentials.toml", "main.key", "lock", "tidings.db"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let first = server.credentials.clone();
    assert_eq!((first.url.as_str(), first.app_id.as_str()), (server.url.as_str(), "1"));

    let said = format!("{}{}", server.stdout(), server.stderr());
    assert!(said.contains(&format!("listening on {}\n", server.url)), "{said}");
    for secret in [&first.secret, &first.api_key, &first.operator_key, &first.admin_password] {
        assert!(secret.len() >= 32 && !said.contains(secret.as_str()), "a secret is short or was printed: {said}");
    }

    server.restart().await;
    let second = &server.credentials;
    assert_eq!(second.url, server.url, "the address is rewritten");
    assert_eq!(
        (&second.api_key, &second.operator_key, &second.secret),
        (&first.api_key, &first.operator_key, &first.secret)
    );
}

#[tokio::test]
async fn a_second_server_says_who_has_the_data() {
    let first = server().start().await;
    let exit = server().dir(&first.dir).run_to_exit().await.expect_code(1);
    let holder = format!("another server (pid {}, {}) has ", first.pid(), first.url);
    assert!(exit.stderr.contains(&holder), "{}", exit.stderr);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = server().start().await;
    let exit = server().listen(&first.addr.to_string()).run_to_exit().await.expect_code(1);
    assert!(
        exit.stderr.contains(&format!("cannot listen on {}", first.addr)) && exit.stderr.contains("--listen"),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn a_config_that_is_wrong_is_not_served() {
    let exit = server().config("listn = \"x\"\n[store]\nurl = \"mysql://x\"").run_to_exit().await.expect_code(1);
    assert!(
        exit.stderr.contains("tidings.toml:1:1: unknown key \"listn\"") && exit.stderr.contains("tidings.toml:3:1: "),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn machines_are_answered_with_and_without_a_slash() {
    let server = server().start().await;
    for path in ["/healthz", "/healthz/", "/readyz", "/readyz/", "/metrics", "/metrics/"] {
        assert_eq!(server.api().get(path).send().await.unwrap().status, 200, "{path}");
    }
    let metrics = server.api().get("/metrics").send().await.unwrap();
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
}

#[tokio::test]
async fn it_stops_when_asked_although_connections_are_idle() {
    let mut server = server().start().await;
    let mut idle = dial(server.addr).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    server.terminate().await.expect_code(0);
}

/// Sends `sent` and waits until the server has closed the connection.
async fn closed(addr: SocketAddr, sent: &[u8]) {
    let mut stream = dial(addr).await;
    stream.write_all(sent).await.unwrap_or_else(|error| panic!("nothing can be sent: {error}"));
    let mut rest = Vec::new();
    // Closed or reset: either way the connection has ended.
    if tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.is_err() {
        panic!("after {sent:?} the connection is still open");
    }
}

#[tokio::test]
async fn a_client_that_dawdles_is_let_go() {
    let server = server().config("header_timeout = \"200ms\"").start().await;
    closed(server.addr, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    closed(server.addr, b"").await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = server().start().await;
    let mut stream = dial(server.addr).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(200_000));
    // The server may close before everything is written.
    stream.write_all(head.as_bytes()).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("no answer").ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn the_log_is_for_machines_when_asked() {
    let mut server = server().args(["--log", "json"]).start().await;
    let exit = server.terminate().await.expect_code(0);
    let lines: Vec<&str> = exit.stderr.lines().collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.starts_with('{') && line.ends_with('}')),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn the_line_to_paste_works_from_another_folder() {
    let server = server().start().await;
    let stdout = server.stdout();
    let line = stdout.lines().find(|line| line.contains(" publish ")).unwrap_or_else(|| panic!("{stdout}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    own_environment(&mut shell);
    let shell = shell.args(["-c", line]).current_dir(elsewhere.path()).output().unwrap();
    let said = String::from_utf8_lossy(&shell.stdout);
    assert!(shell.status.success(), "{said}{}", String::from_utf8_lossy(&shell.stderr));
    assert!(said.contains("hello") && said.contains(r#"{"to":"world"}"#), "{said}");
}

#[tokio::test]
async fn what_init_writes_can_be_served() {
    let dir = tempfile::tempdir().unwrap();
    Cli::in_dir(dir.path()).arg("init").run().await.expect_code(0);
    let config = std::fs::read_to_string(dir.path().join("tidings.toml")).unwrap();
    let server = server().config(config).start().await;
    assert_eq!(server.credentials.api_key.len(), 32);
}

// covers: G162
#[tokio::test]
async fn the_public_url_is_printed_and_kept_for_commands() {
    let server = server().config("public_url = \"https://push.example.com/base/\"\n").start().await;
    assert_eq!(server.credentials.url, "https://push.example.com/base");
    assert!(server.stdout().contains("public url   https://push.example.com/base\n"), "{}", server.stdout());
}

#[tokio::test]
async fn with_a_certificate_connections_are_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.path().join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let config = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let serve = |config: &str| {
        std::fs::write(dir.path().join("tidings.toml"), config).unwrap();
        Cli::in_dir(dir.path()).args(["serve", "--listen", "127.0.0.1:0"]).start()
    };
    let credentials = || std::fs::read_to_string(dir.path().join("tidings-data/credentials.toml")).unwrap();

    let server = serve(config);
    let line = server.wait_for_line(|line| line.contains("listening on https://127.0.0.1:"), SOON).await;
    let url = line.split("listening on ").nth(1).unwrap().to_owned();
    assert!(credentials().contains(&format!("url = \"{url}\"")), "{}", credentials());
    let addr: SocketAddr = url.trim_start_matches("https://").parse().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let stream = dial(addr).await;
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    server.terminate().await.expect_code(0);

    let named = serve(&format!("public_url = \"https://push.example.com/\"\n{config}"));
    named.wait_for_line(|line| line.contains("listening on https://127.0.0.1:"), SOON).await;
    assert!(credentials().contains("url = \"https://push.example.com\""), "{}", credentials());
    named.terminate().await.expect_code(0);
}
