//! The paths of the health endpoints.

/// Paths that answer like a short `/readyz`: most load balancers probe `/`, and the others are probed by platforms that
/// were set up for other push servers.
pub(super) const READY_PATHS: [&str; 4] = ["/", "/ready", "/up", "/accept-traffic"];
/// All paths. Each is also served with a trailing slash.
pub(crate) const PATHS: [&str; 7] = ["/", "/ready", "/up", "/accept-traffic", "/healthz", "/readyz", "/metrics"];
