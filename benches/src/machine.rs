//! The environment of a run, on which its figures depend.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Kernel, processor, compiler and commit.
pub(crate) fn facts() -> Value {
    let uname = rustix::system::uname();
    json!({
        "kernel": uname.release().to_string_lossy(),
        "cpu": line_of("/proc/cpuinfo", "model name").unwrap_or_default(),
        "cores": fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count(),
        "memory": line_of("/proc/meminfo", "MemTotal").unwrap_or_default(),
        "rustc": said("rustc", &["--version"]),
        "commit": said("git", &["rev-parse", "HEAD"]),
        "changed_files": said("git", &["status", "--porcelain", "--untracked-files=no"]).lines().count(),
    })
}

/// Today's date, for a file's name.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
