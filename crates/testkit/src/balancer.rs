//! nginx and HAProxy from Debian's packages, in front of servers under test.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually;
use crate::port::free_port;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);
const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";

/// A proxy on a free port of this machine, ended when dropped.
#[derive(Debug)]
pub struct Balancer {
    /// The address that it listens on.
    pub addr: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Starts nginx in front of these servers, with its defaults and the directives in `location`.
///
/// # Panics
/// When it is not installed, or does not listen.
pub async fn nginx(servers: &[SocketAddr], location: &str) -> Balancer {
    let upstream: String = servers.iter().map(|server| format!("server {server};")).collect();
    start(NGINX, |folder, port| {
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; {paths}\n\
             map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
             upstream servers {{ {upstream} }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://servers; proxy_http_version 1.1; \
             proxy_buffering off;\nproxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $connection_upgrade; {location} }} }} }}\n"
        );
        (config, vec!["-p".to_owned(), folder.to_owned(), "-c".to_owned()])
    })
    .await
}

/// Starts HAProxy in front of these servers, with these lines among its defaults. It checks each server's `/readyz`.
///
/// # Panics
/// When it is not installed, or does not listen.
pub async fn haproxy(servers: &[SocketAddr], defaults: &str) -> Balancer {
    let lines = servers.iter().enumerate().map(|(n, server)| format!("  server s{n} {server} check\n"));
    let backend: String = lines.collect();
    start(HAPROXY, |_, port| {
        let config = format!(
            "defaults\n  mode http\n{defaults}\n\
             frontend clients\n  bind 127.0.0.1:{port}\n  default_backend servers\n\
             backend servers\n  option httpchk GET /readyz\n  http-check send hdr Host localhost\n{backend}"
        );
        (config, vec!["-db".to_owned(), "-f".to_owned()])
    })
    .await
}

/// Starts a program with its own config file. `config` makes the file's text, and the arguments before its path.
async fn start(program: &str, config: impl FnOnce(&str, u16) -> (String, Vec<String>)) -> Balancer {
    assert!(Path::new(program).exists(), "{program} is not installed; `cargo xtask test --install` installs it");
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("no folder for {program}: {e}"));
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (text, mut args) = config(&folder.path().to_string_lossy(), addr.port());
    let file = folder.path().join("config");
    std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    args.push(file.to_string_lossy().into_owned());
    let process = Process::start(Path::new(program), &[], |command| {
        command.args(&args);
    });
    let mut process = process.unwrap_or_else(|e| panic!("{program} does not start: {e}"));
    let mut ended = false;
    eventually(PATIENCE, || {
        ended = !process.runs();
        let listens = TcpStream::connect(addr).is_ok();
        async move { (listens || ended).then_some(()) }
    })
    .await;
    assert!(!ended, "{program} ended:\n{}{}", process.stdout(), process.stderr());
    Balancer { addr, _process: process, _folder: folder }
}
