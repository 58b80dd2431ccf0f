//! Another process that uses the database: SQLite's own command line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A process that holds the database in a write transaction until this is dropped.
pub(crate) struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Holder {
    /// Begins the write transaction, when no other one is running.
    pub(crate) fn take(database: &Path) -> Self {
        let mut child = sqlite3(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run sqlite3 ({e}): apt-get install sqlite3"));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b".timeout 10000\nBEGIN IMMEDIATE;\nSELECT 'held';\n").unwrap();
        stdin.flush().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        // Made before the assertion: so it ends the child also then.
        let holder = Self { child, stdin: Some(stdin) };
        // `.timeout` says its value in some versions.
        assert!(said.trim() == "held", "sqlite3 did not get the database: {said:?}");
        holder
    }

    /// Ends the transaction without changes.
    pub(crate) fn release(self) {}
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input ends it, and that its transaction.
        self.stdin.take();
        self.child.wait().unwrap();
    }
}

/// Runs a statement and returns its output.
pub(crate) fn query(database: &Path, sql: &str) -> String {
    let done = sqlite3(database)
        .arg(sql)
        .output()
        .unwrap_or_else(|e| panic!("cannot run sqlite3 ({e}): apt-get install sqlite3"));
    assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn sqlite3(database: &Path) -> Command {
    let mut command = Command::new("sqlite3");
    command.args(["-batch", "-bail"]).arg(database);
    command
}
