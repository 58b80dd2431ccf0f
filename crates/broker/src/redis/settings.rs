//! Where Redis is, and how patient a node is with it.

use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

/// Why a URL names no Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// It has another scheme.
    #[error("the broker's URL must be memory://, or begin with redis:// or rediss:// (TLS)")]
    Scheme,
    /// It cannot be read.
    #[error("this is no URL of a Redis server (redis://[user:password@]host[:port][/database]): {0}")]
    Unreadable(String),
}

/// Where Redis is, and how patient a node is with it.
#[derive(Clone)]
pub struct RedisSettings {
    pub(super) server: ConnectionInfo,
    /// A node that has not shown for so long that it lives is taken for dead: its sessions are taken out of their channels.
    pub lease: Duration,
    /// How long a call may take.
    pub patience: Duration,
    /// How many calls may be under way.
    pub calls: usize,
    /// The longest time between two attempts to connect. The first comes at once, later ones after longer times each.
    pub retry: Duration,
}

impl RedisSettings {
    /// The server at `url`, with the usual patience.
    ///
    /// # Errors
    /// [`RedisUrlError`].
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(RedisUrlError::Scheme);
        }
        let unreadable = |error: redis::RedisError| RedisUrlError::Unreadable(error.to_string());
        let server = url.into_connection_info().map_err(unreadable)?;
        let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            server: server.set_redis_settings(settings),
            lease: Duration::from_secs(15),
            patience: Duration::from_secs(5),
            calls: 4_096,
            retry: Duration::from_secs(2),
        })
    }
}

impl std::fmt::Debug for RedisSettings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { server, lease, patience, calls, retry } = self;
        let mut out = f.debug_struct("RedisSettings");
        out.field("server", &server.addr().to_string()).field("lease", lease).field("patience", patience);
        out.field("calls", calls).field("retry", retry).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_and_other_schemes_are_refused() {
        let settings = RedisSettings::new("redis://ann:secret@127.0.0.1:7000/2").unwrap();
        let shown = format!("{settings:?}");
        assert!(shown.contains("127.0.0.1:7000") && !shown.contains("secret"), "{shown}");
        for other in ["", "memory://", "http://127.0.0.1", "redis:127.0.0.1", "redis+sentinel://a", "unix:///tmp/x"] {
            assert_eq!(RedisSettings::new(other).unwrap_err(), RedisUrlError::Scheme, "{other}");
        }
        assert!(matches!(RedisSettings::new("redis://127.0.0.1/x"), Err(RedisUrlError::Unreadable(_))));
        assert!(RedisSettings::new("rediss://redis.example.com").is_ok());
    }
}
