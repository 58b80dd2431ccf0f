//! The paths that machines ask.

/// What other systems ask to learn whether requests may be sent: `/` by most load balancers, the others by the
/// platforms of other push servers' users.
pub(super) const READY_PATHS: [&str; 4] = ["/", "/ready", "/up", "/accept-traffic"];
/// Every path there is here; each is there with a trailing slash, too.
pub(crate) const PATHS: [&str; 7] = ["/", "/ready", "/up", "/accept-traffic", "/healthz", "/readyz", "/metrics"];
