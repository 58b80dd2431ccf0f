//! Commands: each block is run in a shell line by line, with a server of its own; each example in docs/cli.md is parsed
//! by its command.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidings_testkit::{Cli, Receiver, Running, Server, server, tidings};

use crate::blocks::{Block, blocks, pages};

const SOON: Duration = Duration::from_secs(30);

/// The command lines of a block: after `$ ` if it shows output too. Comments are removed and continued lines joined.
fn commands(block: &Block) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.text.lines() {
        let typed = match (goes_on, block.language.as_str()) {
            (true, _) => line.trim(),
            (false, "console") => match line.strip_prefix("$ ") {
                Some(typed) => typed,
                None => continue,
            },
            (false, _) => line,
        };
        let typed = typed.split("  #").next().unwrap_or_default().trim();
        if typed.is_empty() || typed.starts_with('#') {
            continue;
        }
        let (typed, more) = typed.strip_suffix('\\').map_or((typed, false), |typed| (typed, true));
        match (goes_on, found.last_mut()) {
            (true, Some(last)) => last.push_str(typed),
            _ => found.push(typed.to_owned()),
        }
        goes_on = more;
    }
    found
}

/// The words of a line, as a shell splits them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => (quote, is_word) = (Some(c), true),
            None if c.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            None => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// The state that the commands of one block share.
struct Story {
    server: Server,
    receiver: Receiver,
    /// The secret that the last listener was given.
    secret: String,
    running: Vec<Running>,
}

impl Story {
    async fn begin() -> Self {
        let server = server().alone().egress_allow("127.0.0.0/8").start().await;
        Self { server, receiver: Receiver::start(), secret: String::new(), running: Vec::new() }
    }

    /// Runs one command.
    async fn types(&mut self, line: &str, block: &Block) {
        let mut words = words(line);
        match words.first().map(String::as_str) {
            Some("tidings") => {
                words.remove(0);
                self.tidings(words, block).await;
            }
            Some("curl") => self.curl(line, block).await,
            // The build, the tests and the benchmarks have tests of their own; here their names are held against them.
            Some("cargo") => known_to_cargo(&words, block),
            _ => panic!("a command that nothing here can run: {line}\nin {block}"),
        }
    }

    async fn tidings(&mut self, mut words: Vec<String>, block: &Block) {
        let port = self.receiver.addr().port().to_string();
        for word in &mut words {
            *word = word.replace("127.0.0.1:9000", &format!("127.0.0.1:{port}"));
            if word == "whsec_…" {
                word.clone_from(&self.secret);
            }
        }
        match words.first().map(String::as_str) {
            None | Some("--egress-allow" | "--listen" | "serve") => {
                // The server that runs already has the folder: this one is started elsewhere, to see that it does.
                let started = Cli::elsewhere().args(words).args(["--listen", "127.0.0.1:0"]).start();
                started.wait_for_line(|line| line.contains("listening on"), SOON).await;
                started.terminate().await.expect_code(0);
            }
            Some("subscribe") => self.running.push(tidings(&self.server).args(words).start()),
            Some("listen") => {
                words[1] = "0".to_owned();
                let listening = tidings(&self.server).args(words).start();
                listening.wait_for_line(|line| line.contains("receiving webhooks on"), SOON).await;
                self.running.push(listening);
            }
            // The server of the page is nobody's: what is looked at is that the command is understood, and says so.
            Some("doctor") => {
                let exit = Cli::elsewhere().args(words).run().await;
                assert_eq!(exit.code, Some(1), "{}{}\nin {block}", exit.stdout, exit.stderr);
            }
            Some("migrate") => {
                let dir = folder_with_a_store();
                let exit = Cli::in_dir(dir.path()).args(words).run().await;
                assert_ne!(exit.code, Some(2), "{}\nin {block}", exit.stderr);
            }
            Some(_) => {
                let exit = tidings(&self.server).args(words).run().await;
                assert_eq!(exit.code, Some(0), "{}{}\nin {block}", exit.stdout, exit.stderr);
                let secret = exit.stdout.split_whitespace().find(|word| word.starts_with("whsec_"));
                self.secret = secret.map_or_else(|| self.secret.clone(), str::to_owned);
            }
        }
    }

    async fn curl(&self, line: &str, block: &Block) {
        let line = line.replacen("curl ", "curl -sS --fail-with-body ", 1);
        let line = line.replace("http://127.0.0.1:8000", &self.server.url);
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &line]).env("API_KEY", &self.server.credentials.api_key);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}\nin {block}");
        let answer: Result<Value, _> = serde_json::from_slice(&output.stdout);
        assert!(answer.is_ok(), "{output:?}\nin {block}");
    }
}

/// A data folder of a stopped server, for commands that read its store.
fn folder_with_a_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("kept/0.1.0/sqlite");
    std::fs::create_dir(dir.path().join("tidings-data")).unwrap();
    for file in ["tidings.db", "main.key"] {
        std::fs::copy(kept.join(file), dir.path().join("tidings-data").join(file)).unwrap();
    }
    dir
}

/// Asserts that this `cargo` command, or this command of xtask, exists.
fn known_to_cargo(words: &[String], block: &Block) {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cargo", "run", "--release", ..] | ["cargo", "xtask", "test" | "check" | "tidy" | "powercut" | "soak", ..] => {
        }
        ["cargo", "xtask", "bench", name, ..] => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let scenarios = std::fs::read_to_string(root.join("benches/src/main.rs")).unwrap().to_lowercase();
            assert!(scenarios.contains(&format!("\n    {name}(")), "no scenario {name}\nin {block}");
        }
        ["cargo", "build" | "install", ..] => {}
        _ => panic!("nothing knows {words:?}\nin {block}"),
    }
}

// covers: G391
#[tokio::test]
async fn every_shell_block_does_what_it_says() {
    let blocks = blocks(&["console", "sh", "shell", "bash"]);
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        let commands = commands(&block);
        assert!(!commands.is_empty(), "no command in {block}");
        let mut story = Story::begin().await;
        for command in commands {
            story.types(&command, &block).await;
        }
    }
}

/// The examples in tables: `tidings …` between backticks.
fn examples(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let pieces = rows.flat_map(|row| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    pieces.filter(|piece| piece.starts_with("tidings ")).collect()
}

// covers: G391
#[tokio::test]
async fn every_example_of_the_command_lines_page_is_understood() {
    let (_, page) = pages().into_iter().find(|(name, _)| name == "docs/cli.md").unwrap();
    let examples = examples(&page);
    assert!(examples.len() > 30, "{examples:?}");
    // It answers anything, so that a command ends once it has been understood.
    let receiver = Receiver::start();
    receiver.respond_otherwise(tidings_testkit::Answer::status(404).body("{}"));
    for example in examples {
        let mut words = words(&example);
        words.remove(0);
        match words[0].as_str() {
            "--listen" => continue,
            "listen" => words[1] = "not-a-port".to_owned(),
            _ => {}
        }
        let dir = folder_with_a_store();
        std::fs::write(dir.path().join("said.json"), "{}").unwrap();
        let cli = Cli::in_dir(dir.path()).args(words.clone());
        let exit = cli.env("TIDINGS_URL", &receiver.url("")).env("TIDINGS_API_KEY", "the-key").run().await;
        let expected = if words[0] == "listen" { exit.code == Some(2) } else { exit.code != Some(2) };
        assert!(expected, "{example}: {:?}\n{}", exit.code, exit.stderr);
    }
}
