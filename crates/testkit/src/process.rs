//! A program under test: its start, its outputs, signals to its process id, and its certain end.
//!
//! It uses `std::process` and two reading threads instead of tokio's process support, so that a process may outlive the
//! runtime of the test that started it, and `Drop` can kill it on any thread.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::Instant;

/// How many bytes of an output are kept; beyond that, the older half is dropped.
const KEPT_OUTPUT: usize = 16 * 1024 * 1024;
/// `setpriv`, which is in an essential package of Debian.
const SETPRIV: &str = "/usr/bin/setpriv";
/// How long the readers may take to read the rest of a dead process's output.
const READERS_PATIENCE: Duration = Duration::from_secs(2);

/// The end of a process, and its outputs.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All that it wrote to standard output.
    pub stdout: String,
    /// All that it wrote to standard error.
    pub stderr: String,
}

impl Exit {
    /// Combines the ends of several nodes: the first failed one, else the first, with the outputs of all.
    pub(crate) fn of_all(exits: Vec<Self>) -> Self {
        let outputs = |of: fn(&Self) -> &str| exits.iter().map(of).collect::<String>();
        let (stdout, stderr) = (outputs(|exit| &exit.stdout), outputs(|exit| &exit.stderr));
        let told = exits.iter().find(|exit| exit.code != Some(0)).or(exits.first());
        let (code, signal) = told.map_or((None, None), |exit| (exit.code, exit.signal));
        Self { code, signal, stdout, stderr }
    }

    /// Asserts the exit code, and returns the value.
    ///
    /// # Panics
    /// With both outputs, when it ended otherwise.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "exit code {:?} (signal {:?}) instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Removes variables from a command's environment that would configure a program under test: the settings of the
/// developer who runs the tests.
pub fn own_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_ascii_lowercase();
        let steers = ["tidings_", "ssl_cert_", "rust_log"].iter().any(|start| lower.starts_with(start));
        if steers || lower.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
}

/// A running program and its outputs.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    program: PathBuf,
    wrapped: bool,
    exited: Option<ExitStatus>,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts `program` with `args` in `dir`, under `wrapper` if that isn't empty.
    pub(crate) fn start(program: &Path, wrapper: &[String], prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = command_line(program, wrapper);
        own_environment(&mut command);
        prepare(&mut command);
        let mut child = spawn_from_lasting_thread(command)?;
        let stdout = Output::read(child.stdout.take());
        let stderr = Output::read(child.stderr.take());
        Ok(Self { child, program: program.to_owned(), wrapped: !wrapper.is_empty(), exited: None, stdout, stderr })
    }

    /// The process id of the program itself, even under a wrapper.
    pub(crate) fn pid(&self) -> u32 {
        let own = self.child.id();
        if self.wrapped { find_in_group(own, &self.program).unwrap_or(own) } else { own }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Its standard output from that byte on. For programs that write less than is kept.
    pub(crate) fn stdout_from(&self, from: usize) -> String {
        let bytes = self.stdout.bytes.lock();
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    /// Its standard input, if `prepare` made it a pipe.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap_or_else(|e| panic!("cannot wait for a child: {e}"));
        }
        self.exited.is_none()
    }

    /// Sends `signal` to the program, if it still runs.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.runs()
            && let Some(pid) = as_pid(self.pid())
        {
            // It may have ended since the check; then there is nothing to signal.
            kill_process(pid, signal).ok();
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended in time.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Exit {
        let end = Instant::now() + patience;
        while self.runs() {
            if Instant::now() >= end {
                panic!(
                    "{} still runs after {patience:?}\n--- stdout\n{}\n--- stderr\n{}",
                    self.program.display(),
                    self.stdout(),
                    self.stderr()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let readers_end = Instant::now() + READERS_PATIENCE;
        while !(self.stdout.ended() && self.stderr.ended()) && Instant::now() < readers_end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        use std::os::unix::process::ExitStatusExt;
        Exit {
            code: self.exited.and_then(|status| status.code()),
            signal: self.exited.and_then(|status| status.signal()),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            // The process group was made for the wrapper and the program, and holds nothing else.
            if let Some(group) = as_pid(self.child.id()) {
                kill_process_group(group, Signal::KILL).ok();
            }
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn as_pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// The command line, through `setpriv` if it is installed: then the kernel kills the program when the test process
/// dies, even by SIGKILL, when no `Drop` runs.
fn command_line(program: &Path, wrapper: &[String]) -> Command {
    let mut words: Vec<std::ffi::OsString> = Vec::new();
    if Path::new(SETPRIV).exists() {
        words.extend([SETPRIV.into(), "--pdeathsig".into(), "KILL".into()]);
    }
    words.extend(wrapper.iter().map(Into::into));
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

type SpawnOrder = (Command, Sender<io::Result<Child>>);

/// Starts the command on a thread that lives as long as this process. The kernel's "parent death" signal comes at the
/// death of the *thread* that started the child, and threads of tests and runtimes end earlier.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<SpawnOrder>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<SpawnOrder>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                answer.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (answer, answered) = channel();
    spawner.send((command, answer)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    answered.recv().map_err(|_| io::Error::other("the spawning thread is gone"))?
}

/// The process of group `group` that executes `program`.
fn find_in_group(group: u32, program: &Path) -> Option<u32> {
    let program = fs::canonicalize(program).ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let same_program = fs::read_link(entry.path().join("exe")).ok()? == program;
        (same_program && stat_field(id, 4)? == u64::from(group)).then_some(id)
    })
}

/// A field of `/proc/ID/stat` after the name; its number is the one in `proc(5)` minus one.
pub(crate) fn stat_field(id: u32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may contain anything; the state after it is field 2.
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(index.checked_sub(2)?)?.parse().ok()
}

/// One output of a process, with the thread that reads it.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = pipe.map(|mut pipe| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut chunk = [0; 8192];
                while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                    let mut kept = bytes.lock();
                    kept.extend_from_slice(&chunk[..len]);
                    if kept.len() > KEPT_OUTPUT {
                        kept.drain(..KEPT_OUTPUT / 2);
                    }
                }
            })
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock()).into_owned()
    }

    fn ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_outputs_and_the_code_are_told() {
        let mut process = Process::start(Path::new("/bin/sh"), &[], |command| {
            command.args(["-c", "echo out; echo err >&2; exit 3"]);
        })
        .unwrap();
        let exit = process.wait(Duration::from_secs(10)).await.expect_code(3);
        assert_eq!((exit.stdout.as_str(), exit.stderr.as_str()), ("out\n", "err\n"));
    }

    #[tokio::test]
    async fn a_dropped_process_is_dead() {
        let process = Process::start(Path::new("/bin/sleep"), &[], |command| {
            command.arg("600");
        })
        .unwrap();
        let id = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[tokio::test]
    async fn behind_a_wrapper_the_program_itself_is_signalled() {
        let wrapper = ["/bin/sh".to_owned(), "-c".to_owned(), "\"$@\"; echo ended $?".to_owned(), "sh".to_owned()];
        let mut process = Process::start(Path::new("/bin/sleep"), &wrapper, |command| {
            command.arg("600");
        })
        .unwrap();
        let wrapper_id = process.child.id();
        crate::eventually(Duration::from_secs(10), || {
            let found = process.pid() != wrapper_id;
            async move { found.then_some(()) }
        })
        .await;
        process.signal(Signal::TERM);
        let exit = process.wait(Duration::from_secs(10)).await;
        assert_eq!(exit.stdout, "ended 143\n");
    }
}
