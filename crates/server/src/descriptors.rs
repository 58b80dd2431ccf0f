//! The limit on open files and sockets, and how many connections fit under it.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors for the store, logs and everything else of our own.
const OWN: usize = 256;
/// The most connections that are kept free of sessions, for requests.
const REQUESTS: usize = 1_024;

/// Raises the soft limit to the hard one, and returns it: every connection takes a descriptor, and the usual soft limit
/// of 1,024 is a relic of `select`. If the system refuses, the server warns and goes on with the old limit.
pub(crate) fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    if before != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "raising the limit on open files failed; raise it with `ulimit -n`");
            limit.current = before;
        }
    }
    // `None` is "unlimited".
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// How the descriptors are divided, so that neither connections nor attempts take what the other needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Accepted connections, sessions included.
    pub(crate) connections: usize,
    /// Delivery attempts at the same time.
    pub(crate) attempts: usize,
}

impl Shares {
    /// Fits the `wanted` connections and attempts under the `limit`, next to our own descriptors and those `reserved`
    /// for connections beyond the limits. If the limit is too low, connections are reduced first, down to half of the
    /// limit, and then attempts.
    pub(crate) fn of(limit: usize, wanted: Self, reserved: usize) -> Self {
        let own = OWN.min(limit / 8).saturating_add(reserved.min(limit / 8));
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

    /// How many of the connections may be sessions. The rest is kept for requests, which come and go.
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
