//! The number of files and sockets that the process may have open, and how many connections fit under it.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What the store, logs and the system itself may have open.
const OWN: usize = 256;

/// Raises the limit as far as it goes, and gives it: every connection takes a descriptor, and the usual soft limit of 1,024
/// is a relic of `select`. A system that refuses leaves us with what we had, which is worth a line and no more.
pub(crate) fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    if before != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files stays low; raise it with `ulimit -n`");
            limit.current = before;
        }
    }
    // A system that says nothing sets no limit.
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// How many of the `wanted` attempts may be under way under the `limit`: a quarter of it at most. Connections that deliveries
/// keep for later are closed when new ones would need more, so all of them together stay within this.
pub(crate) fn attempts(wanted: usize, limit: usize) -> usize {
    let fit = wanted.min(limit / 4);
    if fit < wanted {
        tracing::warn!(
            max_in_flight = wanted,
            attempts = fit,
            open_files = limit,
            "the limit on open files leaves room for fewer attempts than courier.max_in_flight says; raise it with `ulimit -Hn` or systemd's LimitNOFILE"
        );
    }
    fit
}

/// How many of the `wanted` connections fit under the `limit` beside as many `attempts` and what is our own. Where the limit
/// is so low that this leaves little, connections get half of it.
pub(crate) fn connections(wanted: usize, limit: usize, attempts: usize) -> usize {
    let kept = OWN.saturating_add(attempts).min(limit / 2);
    let fit = limit - kept;
    if fit < wanted {
        tracing::warn!(
            max_connections = wanted,
            connections = fit,
            open_files = limit,
            "the limit on open files leaves room for fewer connections than max_connections says; raise it with `ulimit -Hn` or systemd's LimitNOFILE"
        );
    }
    fit.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::{attempts, connections};

    // covers: G068
    #[test]
    fn attempts_take_a_quarter_at_most() {
        assert_eq!(attempts(4_096, usize::MAX), 4_096);
        assert_eq!(attempts(4_096, 65_536), 4_096);
        assert_eq!(attempts(4_096, 1_024), 256);
        // With what is our own, connections still have half.
        assert_eq!(connections(100_000, 1_024, attempts(4_096, 1_024)), 512);
    }

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(connections(100_000, usize::MAX, 4_096), 100_000);
        assert_eq!(connections(100_000, 524_288, 4_096), 100_000);
        assert_eq!(connections(100_000, 65_536, 4_096), 61_184);
        assert_eq!(connections(100_000, 4_096, 4_096), 2_048);
        assert_eq!(connections(100, 4_096, 4_096), 100);
    }
}
