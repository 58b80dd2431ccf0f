//! The number of files and sockets that the process may have open, and how many connections fit under it.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What the store, logs and the system itself may have open.
const OWN: usize = 256;
/// Connections that sessions leave to requests, where there are enough.
const REQUESTS: usize = 1_024;

/// Raises the limit as far as it goes, and gives it: every connection takes a descriptor, and the usual soft limit of
/// 1,024 is a relic of `select`. A system that refuses leaves us with what we had, which is worth a line and no more.
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

/// What the process may have open, shared out, so that neither connections nor attempts take what the other needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections that are accepted, sessions among them.
    pub(crate) connections: usize,
    /// Attempts that have a socket.
    pub(crate) attempts: usize,
}

impl Shares {
    /// Fits as many connections and attempts as are wanted under the `limit`, beside what is our own and `aside` for
    /// connections without a place. Where the limit is too low, attempts go first, down to what half of the limit for
    /// connections leaves.
    pub(crate) fn of(limit: usize, wanted: Self, aside: usize) -> Self {
        let own = OWN.min(limit / 8).saturating_add(aside.min(limit / 8));
        let room = limit - own;
        let least = (limit / 2).min(wanted.connections);
        let connections = room.saturating_sub(wanted.attempts).max(least).min(wanted.connections);
        let shares = Self { connections, attempts: wanted.attempts.min(room - connections) };
        if shares != wanted {
            tracing::warn!(
                max_connections = wanted.connections,
                connections = shares.connections,
                max_in_flight = wanted.attempts,
                attempts = shares.attempts,
                open_files = limit,
                "the limit on open files leaves room for less than max_connections and courier.max_in_flight say; \
                raise it with `ulimit -Hn` or systemd's LimitNOFILE"
            );
        }
        shares
    }

    /// How many of the connections may be sessions: the rest is for requests, which come and go.
    pub(crate) fn sessions(self) -> usize {
        self.connections - (self.connections / 16).min(REQUESTS)
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN, Shares};

    // covers: G061, G068
    #[test]
    fn connections_and_attempts_leave_room_for_each_other_and_the_rest() {
        let of = |connections, attempts, limit| {
            let Shares { connections, attempts } = Shares::of(limit, Shares { connections, attempts }, 128);
            let rest = OWN.min(limit / 8) + 128.min(limit / 8);
            assert!(connections + attempts + rest <= limit, "{connections} {attempts} under {limit}");
            (connections, attempts)
        };
        assert_eq!(of(100_000, 4_096, 1 << 40), (100_000, 4_096));
        assert_eq!(of(100_000, 4_096, 524_288), (100_000, 4_096));
        assert_eq!(of(100_000, 4_096, 65_536), (61_056, 4_096));
        assert_eq!(of(100_000, 4_096, 4_096), (2_048, 1_664));
        assert_eq!(of(100_000, 4_096, 1_024), (512, 256));
        assert_eq!(of(100, 4_096, 4_096), (100, 3_612));
        assert_eq!(of(10, 10, 1_024), (10, 10));
    }

    #[test]
    fn sessions_leave_connections_for_requests() {
        let of = |connections| Shares { connections, attempts: 1 }.sessions();
        assert_eq!(of(100_000), 98_976);
        assert_eq!(of(512), 480);
        assert_eq!(of(10), 10);
    }
}
