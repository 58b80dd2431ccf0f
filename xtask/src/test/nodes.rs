//! Runs the end-to-end tests once more with each server as two nodes behind a balancer, which share PostgreSQL and
//! Redis. Everything that holds for one node with SQLite holds there too.

use std::path::Path;
use std::process::Command;

use crate::run::cargo;

/// Tells the tests how many nodes a server has.
const VARIABLE: (&str, &str) = ("TIDINGS_TEST_NODES", "2");

/// The test programs that are run again. They are selected from the whole workspace: for their package alone, cargo
/// would build its dependencies again, with fewer features.
const SUITES: [&str; 3] = ["crash", "live", "webhooks"];

/// Modules that are not run again, and what they test: all of their servers are `alone()`, so nothing would differ.
const SAME_AGAIN: [(&str, &str); 8] = [
    ("disk::", "SQLite on a full disk"),
    ("failover::", "makes its nodes itself"),
    ("files::", "SQLite's files, and a node beside another that it makes itself"),
    ("locked::", "SQLite in the hands of another process"),
    ("memory::", "the memory of one process"),
    ("nodes::", "makes its nodes itself"),
    ("powercut::", "SQLite's files"),
    ("sync::", "SQLite's syncs, as strace sees them"),
];

/// Runs them, or those that a filter names.
pub(super) fn again(root: &Path, filters: &[String]) -> Command {
    let mut command = cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    for suite in SUITES {
        command.args(["--test", suite]);
    }
    command.arg("--").args(filters);
    for (module, _) in SAME_AGAIN {
        command.args(["--skip", module]);
    }
    command.env(VARIABLE.0, VARIABLE.1);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::shown;

    #[test]
    fn filters_go_before_what_is_left_out() {
        let command = again(Path::new("/"), &["fanout".to_owned()]);
        let line = shown(&command);
        assert!(line.contains("--test webhooks -- fanout --skip disk:: --skip failover::"), "{line}");
        assert!(command.get_envs().any(|(name, value)| name == VARIABLE.0 && value == Some(VARIABLE.1.as_ref())));
    }

    #[test]
    fn what_is_left_out_is_there() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("tests");
        for (module, _) in SAME_AGAIN {
            let name = module.trim_end_matches("::");
            let forms = [format!("{name}.rs"), format!("{name}/mod.rs")];
            let is_in = |suite: &&str| forms.iter().any(|form| tests.join(suite).join(form).is_file());
            let there = SUITES.iter().any(is_in);
            assert!(there, "no test is in {module}");
        }
    }
}
