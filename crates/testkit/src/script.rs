//! A script of `tests/clients` that drives a real client: one JSON line in per command, one line out per answer, and
//! between the answers lines that report events.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::Location;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::process::Process;
use crate::server::{clients_dir, repository};

/// How long a script may take to start (a browser takes its time), and to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end after its input has been closed.
const END_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// How many of the received lines a failed wait prints.
const PRINTED: usize = 20;

/// The language of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    Node,
    Python,
}

/// A running script. Dropped, it is asked to end, and killed if it doesn't.
pub(crate) struct Script {
    process: Mutex<Process>,
    stdin: Mutex<Option<ChildStdin>>,
    lines: Mutex<Lines>,
    commands: AtomicU64,
}

/// The lines of its output that were read and not taken yet.
#[derive(Default)]
struct Lines {
    read: usize,
    waiting: Vec<Value>,
}

impl Script {
    /// Starts a script and waits until it is ready.
    ///
    /// # Panics
    /// When it cannot be started or isn't ready in time, with its output; or when the client libraries aren't
    /// installed.
    pub(crate) async fn start(language: Language, name: &str, env: &[(&str, &str)]) -> Self {
        let clients = clients_dir().unwrap_or_else(|e| panic!("{e:#}"));
        let (program, variable, library) = match language {
            Language::Node => ("node", "NODE_PATH", clients.join("node/node_modules")),
            Language::Python => ("python3", "PYTHONPATH", clients.join("python")),
        };
        let path = repository().join("tests/clients").join(name);
        let mut process = Process::start(program.as_ref(), &[], |command| {
            command.arg(path).env(variable, library).envs(env.iter().copied()).stdin(Stdio::piped());
        })
        .unwrap_or_else(|e| panic!("cannot start {program} {name}: {e}"));
        let stdin = Mutex::new(process.take_stdin());
        let script = Self { process: Mutex::new(process), stdin, lines: Mutex::default(), commands: AtomicU64::new(0) };
        script.take("its being ready", |line| line["on"] == "ready", PATIENCE).await;
        script
    }

    /// Sends a command (an object with `do`) and returns the answer.
    ///
    /// # Errors
    /// The answer, when it is an error.
    ///
    /// # Panics
    /// When there is no answer.
    pub(crate) async fn run(&self, mut command: Value) -> Result<Value, Value> {
        let number = self.commands.fetch_add(1, Ordering::SeqCst) + 1;
        command["number"] = json!(number);
        if let Some(stdin) = self.stdin.lock().as_mut() {
            stdin.write_all(format!("{command}\n").as_bytes()).unwrap_or_else(|e| panic!("{command}: {e}; {self:?}"));
        }
        let answer = self.take(format!("an answer to {command}"), |line| line["answer"] == number, PATIENCE).await;
        if answer.get("error").is_some() { Err(answer) } else { Ok(answer) }
    }

    /// Takes the first line that fits.
    ///
    /// # Panics
    /// When there was none within `deadline`, with the received lines.
    #[track_caller]
    pub(crate) fn take(
        &self,
        what: impl Into<String>,
        fits: impl Fn(&Value) -> bool,
        deadline: Duration,
    ) -> impl Future<Output = Value> {
        let (caller, what) = (Location::caller(), what.into());
        async move {
            let end = Instant::now() + deadline;
            loop {
                if let Some(line) = self.take_now(&fits) {
                    return line;
                }
                let gone = !self.process.lock().runs();
                if Instant::now() >= end || gone {
                    // Its last lines may have come since the first look.
                    match self.take_now(&fits) {
                        Some(line) => return line,
                        None => panic!("{caller}: no {what} within {deadline:?} (ended: {gone}); {self:?}"),
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The lines that fit and were not taken yet. They stay.
    pub(crate) fn waiting(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.read_on();
        self.lines.lock().waiting.iter().filter(|line| fits(line)).cloned().collect()
    }

    fn take_now(&self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        self.read_on();
        let mut lines = self.lines.lock();
        let place = lines.waiting.iter().position(fits)?;
        Some(lines.waiting.remove(place))
    }

    fn read_on(&self) {
        let mut lines = self.lines.lock();
        let text = self.process.lock().stdout_from(lines.read);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        lines.read += whole;
        for line in text[..whole].lines() {
            let line = serde_json::from_str(line).unwrap_or_else(|_| json!({"on": "noise", "line": line}));
            lines.waiting.push(line);
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.waiting(|_| true);
        let last: Vec<_> = lines[lines.len().saturating_sub(PRINTED)..].iter().map(Value::to_string).collect();
        let stderr = self.process.lock().stderr();
        write!(f, "{} lines are not taken, the last of them:\n  {}\nstderr:\n{stderr}", lines.len(), last.join("\n  "))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Closing its input asks it to end: a browser then removes its files from the disk.
        drop(self.stdin.lock().take());
        let end = Instant::now() + END_PATIENCE;
        while self.process.lock().runs() && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
    }
}
