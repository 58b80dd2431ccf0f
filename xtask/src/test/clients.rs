//! Installs client libraries from npm and PyPI into `target/clients`, apart from the system's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::run::must_run;

/// A copy of the list that was installed, kept in the folder.
const STAMP: &str = ".installed";

/// Installs what `tests/clients/package.json` and `tests/clients/requirements.txt` list, if the lists have changed
/// since.
///
/// # Errors
/// When an installation fails.
pub(super) fn install(root: &Path, clients: &Path) -> anyhow::Result<()> {
    let lists = root.join("tests/clients");
    for (list, folder, fill) in [
        ("package.json", "node", npm_install as fn(&Path, &Path) -> anyhow::Result<()>),
        ("requirements.txt", "python", pip_install),
    ] {
        let (list, folder) = (lists.join(list), clients.join(folder));
        if is_current(&list, &folder) {
            continue;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fill(&list, &folder).with_context(|| format!("cannot install the packages of {}", list.display()))?;
        fs::copy(&list, folder.join(STAMP)).context("cannot write the stamp of the installation")?;
    }
    Ok(())
}

fn is_current(list: &Path, folder: &Path) -> bool {
    match (fs::read(list), fs::read(folder.join(STAMP))) {
        (Ok(wanted), Ok(installed)) => wanted == installed,
        _ => false,
    }
}

fn npm_install(list: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::copy(list, folder.join("package.json")).context("cannot copy the list")?;
    let flags = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"];
    must_run(Command::new("npm").args(flags).current_dir(folder))
}

fn pip_install(list: &Path, folder: &Path) -> anyhow::Result<()> {
    let flags = ["--quiet", "--no-input", "--disable-pip-version-check", "--root-user-action=ignore"];
    must_run(
        Command::new("python3")
            .args(["-m", "pip", "install"])
            .args(flags)
            .arg("--target")
            .arg(folder)
            .arg("-r")
            .arg(list),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_list_is_installed_anew() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let list = dir.join("list.txt");
        fs::write(&list, "one==1\n").unwrap();
        assert!(!is_current(&list, dir), "nothing was installed yet");
        fs::copy(&list, dir.join(STAMP)).unwrap();
        assert!(is_current(&list, dir));
        fs::write(&list, "one==2\n").unwrap();
        assert!(!is_current(&list, dir));
    }
}
