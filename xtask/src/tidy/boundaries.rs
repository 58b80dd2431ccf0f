//! Rules about what may occur only in certain crates: SQL, I/O, outgoing connections, the environment, time.

use super::source::{Source, uses};
use super::{Finding, Tree};

/// Every statement of ours contains one of these.
const SQL_STARTS: [&str; 3] = ["SELECT ", "INSERT INTO", "DELETE FROM"];

/// SQL is in the store only.
pub(super) fn sql(tree: &Tree) -> Vec<Finding> {
    let is_sql = |text: &str| {
        let has_word = |word: &str| {
            text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        SQL_STARTS.iter().any(|start| has_word(start)) || (has_word("UPDATE ") && has_word("SET "))
    };
    shipped(tree)
        .filter(|source| !source.is_below(&["crates/store/"]))
        .flat_map(|source| {
            source.shipped_strings.iter().filter(|piece| is_sql(&piece.text)).map(|piece| {
                Finding::error(&source.path, piece.line, "SQL outside crates/store; move the statement there")
            })
        })
        .collect()
}

/// Names in code that does I/O or waits.
const IO_WORDS: [&str; 14] = [
    "tokio::",
    "tokio_util::",
    "hyper::",
    "hyper_util::",
    "axum::",
    "mio::",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "async fn",
];
const IO_CRATES: [&str; 10] =
    ["tokio", "tokio-util", "hyper", "hyper-util", "hyper-rustls", "axum", "mio", "rusqlite", "reqwest", "socket2"];

/// The model, the codecs and every door's `wire` do no I/O.
pub(super) fn pure_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in ["crates/model/", "crates/wire/"] {
        let path = format!("{folder}Cargo.toml");
        let manifest = tree.text(&path).unwrap_or_default();
        for name in super::layers::dependency_names(manifest, &["dependencies"]) {
            if IO_CRATES.contains(&name.as_str()) {
                findings.push(Finding::error(
                    &path,
                    0,
                    format!("this crate does no I/O, so it must not depend on {name}"),
                ));
            }
        }
    }
    let is_pure = |source: &&Source| {
        let is_doors_frames = source.is_below(&["crates/doors/"])
            && (source.path.ends_with("/wire.rs") || source.path.contains("/wire/"));
        source.is_below(&["crates/model/", "crates/wire/"]) || is_doors_frames
    };
    for source in shipped(tree).filter(is_pure) {
        for (line, word) in source.shipped_uses(&IO_WORDS) {
            findings.push(Finding::error(&source.path, line, format!("`{word}`: code here must do no I/O")));
        }
    }
    findings
}

/// Names in code that opens outgoing connections.
const DIALLING: [&str; 8] = [
    "TcpStream::connect",
    "UnixStream::connect",
    "TcpSocket::new",
    "UdpSocket::bind",
    "HttpConnector",
    "hyper::client",
    "client::legacy",
    "lookup_host",
];

/// Egress opens every outgoing connection, because it checks the address. The commands of the command line are exempt:
/// they connect to the server that their user names.
pub(super) fn outgoing_connections(tree: &Tree) -> Vec<Finding> {
    let allowed = ["crates/courier/src/egress", "crates/server/src/cli/"];
    forbidden(tree, &allowed, &DIALLING, "only crates/courier/src/egress opens outgoing connections")
}

/// Only the server reads the environment: a program that embeds the libraries would not expect it.
pub(super) fn environment(tree: &Tree) -> Vec<Finding> {
    let words = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os(", "env::set_var(", "env::remove_var("];
    forbidden(tree, &["crates/server/"], &words, "only crates/server reads the environment")
}

/// Time comes from `Clock`, so that tests can set it. Tokio's `Instant` is allowed, for deadlines of I/O: tests can
/// pause it. clippy tells it from the standard library's by its path; this rule looks at the import.
pub(super) fn time(tree: &Tree) -> Vec<Finding> {
    let words = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "Utc::now", "Local::now"];
    let mut findings =
        forbidden(tree, &["crates/model/src/clock.rs"], &words, "time comes from a Clock (crates/model/src/clock.rs)");
    findings.retain(|finding| {
        let is_instant = finding.message.starts_with("`Instant::now`");
        let source = tree.rust.iter().find(|source| source.path == finding.path);
        !(is_instant && source.is_some_and(|source| imports_tokio_instant(&source.code)))
    });
    findings
}

fn imports_tokio_instant(code: &str) -> bool {
    let imports = code.match_indices("use tokio::time::").map(|(at, _)| &code[at..]);
    imports.map(|import| import.split(';').next().unwrap_or(import)).any(|import| import.contains("Instant"))
}

/// Tests use folders of their own: a shared one has files of other servers and other runs.
pub(super) fn own_folders(tree: &Tree) -> Vec<Finding> {
    let words = ["temp_dir()", "temp_dir;", "set_current_dir"];
    let code = tree.rust.iter().filter(|source| !source.is_below(&["xtask/src/tidy/"]));
    code.flat_map(|source| {
        let why = "this folder is shared with other programs; make one with tempfile::tempdir()";
        let found = uses(&source.code, &words).into_iter();
        found.map(move |(line, word)| Finding::error(&source.path, line, format!("`{word}`: {why}")))
    })
    .collect()
}

/// Libraries install nothing of which a process has only one (allocator, logger, signal handlers).
pub(super) fn quiet_libraries(tree: &Tree) -> Vec<Finding> {
    let words = [
        "#[global_allocator]",
        "set_global_default",
        "set_logger",
        "panic::set_hook",
        "install_default",
        "signal::ctrl_c",
        "process::exit",
        "process::abort",
    ];
    forbidden(tree, &["crates/server/"], &words, "only crates/server installs what a process has only one of")
}

fn forbidden(tree: &Tree, allowed: &[&str], words: &[&str], why: &str) -> Vec<Finding> {
    shipped(tree)
        .filter(|source| !source.is_below(allowed))
        .flat_map(|source| {
            let uses = source.shipped_uses(words);
            uses.into_iter().map(|(line, word)| Finding::error(&source.path, line, format!("`{word}`: {why}")))
        })
        .collect()
}

/// The source files that are shipped, without tests and tools.
fn shipped(tree: &Tree) -> impl Iterator<Item = &Source> {
    tree.rust.iter().filter(|source| source.is_below(&["crates/"]) && !source.is_test())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `rule` finds in a file of that path and text.
    fn found(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn sql_is_the_stores() {
        let query = "let q = \"SELECT id FROM events\";";
        assert_eq!(found(sql, "crates/bus/src/a.rs", query), 1);
        assert_eq!(found(sql, "crates/store/src/a.rs", query), 0);
        assert_eq!(found(sql, "crates/bus/src/a.rs", "let q = r#\"UPDATE x\n SET y = 1\"#;"), 1);
        assert_eq!(found(sql, "crates/bus/src/a.rs", "let q = \"Please UPDATE it\"; // SELECT x"), 0);
        assert_eq!(found(sql, "crates/bus/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{query}\n}}")), 0);
    }

    #[test]
    fn the_model_does_no_io() {
        assert_eq!(found(pure_code, "crates/model/src/a.rs", "use std::net::IpAddr;"), 0);
        assert_eq!(found(pure_code, "crates/model/src/a.rs", "use std::net::TcpStream;"), 1);
        assert_eq!(found(pure_code, "crates/doors/pusher/src/wire.rs", "use tokio::sync::mpsc;"), 1);
        assert_eq!(found(pure_code, "crates/doors/pusher/src/wire/json.rs", "use tokio::sync::mpsc;"), 1);
        assert_eq!(found(pure_code, "crates/doors/pusher/src/api.rs", "use tokio::sync::mpsc;"), 0);
        assert_eq!(found(pure_code, "crates/model/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"), 1);
        assert_eq!(found(pure_code, "crates/model/Cargo.toml", "[dev-dependencies]\ntokio.workspace = true\n"), 0);
    }

    #[test]
    fn one_folder_dials() {
        let dial = "let s = TcpStream::connect(addr).await;";
        assert_eq!(found(outgoing_connections, "crates/courier/src/egress/dial.rs", dial), 0);
        assert_eq!(found(outgoing_connections, "crates/server/src/cli/http.rs", dial), 0);
        assert_eq!(found(outgoing_connections, "crates/server/src/tls.rs", dial), 1);
        assert_eq!(
            found(outgoing_connections, "crates/courier/src/worker.rs", "use hyper_util::client::legacy::Client;"),
            1
        );
    }

    #[test]
    fn nobody_uses_a_folder_that_others_use() {
        assert_eq!(found(own_folders, "tests/live/a.rs", "let d = std::env::temp_dir();"), 1);
        assert_eq!(found(own_folders, "crates/server/src/a.rs", "#[cfg(test)]\nmod t { use std::env::temp_dir; }"), 1);
        assert_eq!(found(own_folders, "tests/live/a.rs", "let d = tempfile::tempdir().unwrap(); // no temp_dir()"), 0);
    }

    #[test]
    fn environment_and_globals_are_the_servers() {
        let read = "let v = std::env::var(\"X\");";
        assert_eq!(found(environment, "crates/engine/src/a.rs", read), 1);
        assert_eq!(found(environment, "crates/engine/src/a.rs", "let v = env!(\"X\");"), 0);
        assert_eq!(found(environment, "crates/server/src/config/env.rs", read), 0);
        assert_eq!(found(quiet_libraries, "crates/engine/src/a.rs", "std::process::exit(1)"), 1);
    }

    #[test]
    fn one_file_reads_the_time() {
        let now = "let t = Instant::now();";
        assert_eq!(found(time, "crates/model/src/clock.rs", now), 0);
        assert_eq!(found(time, "crates/bus/src/a.rs", now), 1);
        assert_eq!(found(time, "crates/testkit/src/a.rs", now), 0);
        assert_eq!(found(time, "tests/tests/a.rs", now), 0);
        let deadline = format!("use tokio::time::{{\n    Instant, timeout_at,\n}};\n{now}");
        assert_eq!(found(time, "crates/courier/src/a.rs", &deadline), 0);
        assert_eq!(found(time, "crates/courier/src/a.rs", &format!("use tokio::time::timeout;\n{now}")), 1);
    }
}
