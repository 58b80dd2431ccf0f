//! Fault points for tests, in builds with debug assertions: `TIDINGS_FAULTS` names a file, and what it says is armed.

use std::path::PathBuf;
use std::time::Duration;

use tidings_supervisor::{Supervisor, fault};

use crate::config::environment::Strings;

const LOOK: Duration = Duration::from_millis(10);

/// Follows the file, if one is named: each line of it arms a point ([`fault::arm`]).
pub(crate) fn follow(env: &dyn Strings, supervisor: &Supervisor) {
    let Some(file) = env.get("TIDINGS_FAULTS").map(PathBuf::from) else { return };
    supervisor.service("faults", async move {
        loop {
            fault::arm(&std::fs::read_to_string(&file).unwrap_or_default());
            tokio::time::sleep(LOOK).await;
        }
    });
}
