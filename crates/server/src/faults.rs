//! Fault points for tests, in builds with debug assertions: `TIDINGS_FAULTS` names a file whose lines arm them.

use std::path::PathBuf;
use std::time::Duration;

use tidings_supervisor::{Supervisor, fault};

use crate::config::environment::Env;

const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Follows the file, if the variable is set: each line arms one point ([`fault::arm`]).
pub(crate) fn follow(env: &dyn Env, supervisor: &Supervisor) {
    let Some(file) = env.get("TIDINGS_FAULTS").map(PathBuf::from) else { return };
    supervisor.service("faults", async move {
        loop {
            fault::arm(&std::fs::read_to_string(&file).unwrap_or_default());
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    });
}
