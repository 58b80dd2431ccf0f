//! Runs other programs, and prints their command lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command with our own outputs; `true` if it succeeded.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn runs(command: &mut Command) -> anyhow::Result<bool> {
    let line = shown(command);
    eprintln!("» {line}");
    Ok(command.status().with_context(|| format!("cannot run `{line}`"))?.success())
}

/// Runs a command that must succeed.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn must_run(command: &mut Command) -> anyhow::Result<()> {
    ensure!(runs(command)?, "`{}` failed", shown(command));
    Ok(())
}

/// What a command prints.
///
/// # Errors
/// When it cannot be started, fails, or prints something that isn't text.
pub(crate) fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let line = shown(command);
    let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that isn't text"))
}

/// A command line for people: without the program's folder.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Whether a program of that name is on the PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether this is a CI run.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The folder that cargo builds in.
///
/// # Errors
/// When cargo cannot say.
pub(crate) fn target_dir(root: &Path) -> anyhow::Result<PathBuf> {
    let text = output_of(cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let dir = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(dir))
}
