//! Measures how long real clients are disconnected, and what they lose, while servers restart and databases fail over.
//! Each scenario prints a table; none asserts a time.

mod failovers;
mod publisher;
mod readers;
mod restarts;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tidings_testkit::eventually;

/// How long a client may take to reconnect, and a database to serve again. With version 0.1.0 it took longer.
const PATIENCE: Duration = Duration::from_secs(45);

/// Config lines: channels of the namespace `kept` have a history.
const KEEPING: &str = "[apps.channels]\npublic = true\n[[apps.namespaces]]\nname = \"kept\"\nmatch = [\"kept\"]\n\
    public = true\nhistory_size = 5000\nhistory_ttl = \"1h\"\n";
/// A channel with history.
const KEPT: &str = "kept";

/// Whether the condition holds within [`PATIENCE`]. It does not panic, because the table is printed before anything is
/// asserted.
async fn in_time<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) -> bool {
    let looking = eventually(2 * PATIENCE, move || {
        let holds = holds();
        async move { holds.await.then_some(()) }
    });
    tokio::time::timeout(PATIENCE, looking).await.is_ok()
}

/// A time in a table.
struct Seconds(Option<Duration>);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{:.1} s", time.as_secs_f64()),
            None => write!(f, "more than {} s", PATIENCE.as_secs()),
        }
    }
}
