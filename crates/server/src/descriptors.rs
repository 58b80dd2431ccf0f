//! The number of files and sockets that the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as it goes: every connection takes a descriptor, and the usual soft limit of 1,024 is a relic of
/// `select`. A system that refuses leaves us with what we had, which is worth a line and no more.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays low; raise it with `ulimit -n`");
    }
}
