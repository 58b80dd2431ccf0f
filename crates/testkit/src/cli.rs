//! Runs the `tidings` command as a user does, in the folder of a server, so that it finds the credentials there.

use std::future::Future;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::process::{Exit, Process};
use crate::server::{Server, command_binary};

/// The default timeout of a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `tidings` command in the server's folder, talking to that server.
pub fn tidings(server: &Server) -> Cli {
    Cli {
        dir: server.dir.clone(),
        own: None,
        args: Vec::new(),
        // The credentials file has the URL of one start; each start has another port.
        env: vec![("TIDINGS_URL".to_owned(), server.url.clone())],
        patience: PATIENCE,
    }
}

/// A command to be run.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before run() or start()"]
pub struct Cli {
    dir: PathBuf,
    /// The folder, if it was made for this command; it is removed with it.
    own: Option<Arc<TempDir>>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    patience: Duration,
}

impl Cli {
    /// A command in any folder, without a server.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), own: None, args: Vec::new(), env: Vec::new(), patience: PATIENCE }
    }

    /// A command in an empty folder of its own: it finds no server, whatever else runs on this machine.
    ///
    /// # Panics
    /// When no folder can be made.
    pub fn elsewhere() -> Self {
        let own = tempfile::Builder::new().prefix("tidings-cli-").tempdir();
        let own = own.unwrap_or_else(|e| panic!("no temporary folder: {e}"));
        Self { own: Some(Arc::new(own)), ..Self::in_dir("") }
    }

    /// With one more argument.
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// With more arguments.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With an environment variable; `TIDINGS_URL` is set to the server's address unless named here.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets another timeout than 30 s.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started, or still runs after the deadline.
    pub async fn run(self) -> Exit {
        let patience = self.patience;
        self.start().process.wait(patience).await
    }

    /// Starts it, for commands that run until they are stopped (`listen`, `subscribe`).
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(self) -> Running {
        let binary = command_binary().unwrap_or_else(|e| panic!("{e:#}"));
        let dir = self.own.as_ref().map_or(self.dir.as_path(), |own| own.path());
        let process = Process::start(&binary, &[], |command| {
            command.current_dir(dir).args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        })
        .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary.display()));
        Running { process, _own: self.own }
    }
}

/// A command that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// Its folder, which must outlive it.
    _own: Option<Arc<TempDir>>,
}

impl Running {
    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits for a whole line on standard output that `fits`, and returns it.
    ///
    /// # Panics
    /// With both outputs, when none came within `deadline`.
    #[track_caller]
    pub fn wait_for_line(&self, fits: impl Fn(&str) -> bool, deadline: Duration) -> impl Future<Output = String> {
        let caller = Location::caller();
        async move {
            let end = Instant::now() + deadline;
            loop {
                let text = self.stdout();
                let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
                if let Some(line) = whole_lines.lines().find(|line| fits(line)) {
                    return line.to_owned();
                }
                if Instant::now() >= end {
                    panic!(
                        "{caller}: no such line within {deadline:?}\n--- stdout\n{text}\n--- stderr\n{}",
                        self.stderr()
                    );
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Stops it with SIGTERM and waits for its end.
    pub async fn terminate(mut self) -> Exit {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE).await
    }

    /// Stops it with SIGINT, as Ctrl-C does, and waits for its end.
    pub async fn interrupt(mut self) -> Exit {
        self.process.signal(Signal::INT);
        self.process.wait(PATIENCE).await
    }
}
