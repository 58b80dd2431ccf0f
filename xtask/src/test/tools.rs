//! The programs that the tests need, and their Debian packages.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::run::{must_run, on_path, output_of, runs};

/// A program, by its name on the PATH or by its absolute path, and its Debian package.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// strace shows that a sync precedes each acknowledgement; faketime moves a server's clock; chromium is the browser;
/// redis-server is the broker of several nodes; the store's tests run against PostgreSQL, whose programs Debian keeps
/// off the PATH, and PgBouncer; nginx and HAProxy are proxies between clients and servers; php is a receiver that is
/// sensitive to the spelling of headers; the rest runs the official client libraries.
const TOOLS: [Tool; 12] = [
    Tool { program: "strace", package: "strace" },
    Tool { program: "faketime", package: "faketime" },
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "redis-server", package: "redis-server" },
    Tool { program: "/usr/lib/postgresql/15/bin/postgres", package: "postgresql-15" },
    Tool { program: "/usr/sbin/pgbouncer", package: "pgbouncer" },
    Tool { program: "/usr/sbin/nginx", package: "nginx" },
    Tool { program: "/usr/sbin/haproxy", package: "haproxy" },
    Tool { program: "php", package: "php-cli" },
    Tool { program: "node", package: "nodejs" },
    Tool { program: "npm", package: "npm" },
    Tool { program: "python3", package: "python3" },
];
/// Debian packages pip apart from Python. pip may also be installed as a module only.
const PIP_PACKAGE: &str = "python3-pip";

/// Whether all tools are there. With `install`, missing packages are installed first; otherwise they are printed.
///
/// # Errors
/// When an installation fails.
pub(super) fn ready(install: bool) -> anyhow::Result<bool> {
    let missing = missing_packages(is_there, has_pip);
    if missing.is_empty() {
        return Ok(true);
    }
    if !install {
        eprintln!("the tests need Debian packages that are not installed; as root, run");
        eprintln!("    apt-get install -y {}", missing.join(" "));
        eprintln!("or let `cargo xtask test --install` do it");
        return Ok(false);
    }
    if !on_path("apt-get") {
        bail!("there is no apt-get here; install these by hand: {}", missing.join(" "));
    }
    must_run(apt_get()?.arg("update"))?;
    must_run(apt_get()?.args(["install", "-y", "--no-install-recommends"]).args(&missing))?;
    let still_missing = missing_packages(is_there, has_pip);
    if !still_missing.is_empty() {
        bail!("installed, but their programs are still missing: {}", still_missing.join(" "));
    }
    Ok(true)
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { on_path(program) }
}

fn missing_packages(there: impl Fn(&str) -> bool, has_pip: impl Fn() -> bool) -> Vec<&'static str> {
    let mut missing: Vec<_> = TOOLS.iter().filter(|tool| !there(tool.program)).map(|tool| tool.package).collect();
    if missing.contains(&"python3") || !has_pip() {
        missing.push(PIP_PACKAGE);
    }
    missing
}

fn has_pip() -> bool {
    output_of(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
}

/// apt-get without questions, with sudo unless we are root.
fn apt_get() -> anyhow::Result<Command> {
    let is_root = output_of(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        if !runs(Command::new("sudo").arg("--validate"))? {
            bail!("installing Debian packages needs root or sudo");
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        assert!(missing_packages(|_| true, || true).is_empty());
        assert_eq!(missing_packages(|program| program != "faketime", || true), ["faketime"]);
        assert_eq!(missing_packages(|program| program != "node", || false), ["nodejs", "python3-pip"]);
        assert_eq!(missing_packages(|program| !program.ends_with("/postgres"), || true), ["postgresql-15"]);
        assert_eq!(missing_packages(|program| program != "chromium", || true), ["chromium"]);
        assert_eq!(missing_packages(|program| program != "python3", || true), ["python3", "python3-pip"]);
    }
}
