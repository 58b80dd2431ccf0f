//! The configuration of the Redis broker: servers, lease, timeouts and limits.

use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

/// Why a URL cannot be used for Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// The URL has another scheme.
    #[error(
        "the broker's URL must be memory://, or begin with redis:// or redis+cluster:// (with TLS rediss:// or \
        rediss+cluster://)"
    )]
    Scheme,
    /// The URL cannot be parsed.
    #[error("the broker's URL is not valid (redis://[user:password@]host[:port][/database]): {0}")]
    Unreadable(String),
    /// The URL names a database, and a cluster has only one.
    #[error("a Redis Cluster has only one database: end the broker's URL after host and port")]
    Database,
    /// There is no random number for the node's name.
    #[error("the operating system provides no random numbers")]
    NoRandomness,
}

/// The configured servers.
#[derive(Clone)]
pub(super) enum Topology {
    /// A single server.
    Alone(Box<ConnectionInfo>),
    /// A cluster, found through these servers of it (seeds).
    Cluster(Vec<ConnectionInfo>),
}

impl Topology {
    fn read(url: &str) -> Result<Self, RedisUrlError> {
        let Some((scheme, rest)) = url.split_once("://") else { return Err(RedisUrlError::Scheme) };
        match scheme {
            "redis" | "rediss" => Ok(Self::Alone(Box::new(server(url)?))),
            "redis+cluster" | "rediss+cluster" => {
                let (login, hosts) = match rest.rsplit_once('@') {
                    Some((login, hosts)) => (format!("{login}@"), hosts),
                    None => (String::new(), rest),
                };
                let (hosts, query) = hosts.split_once('?').unwrap_or((hosts, ""));
                let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
                if hosts.contains('/') {
                    return Err(RedisUrlError::Database);
                }
                let scheme = scheme.trim_end_matches("+cluster");
                let all = hosts.split(',').map(|host| server(&format!("{scheme}://{login}{host}/?{query}")));
                Ok(Self::Cluster(all.collect::<Result<_, _>>()?))
            }
            _ => Err(RedisUrlError::Scheme),
        }
    }
}

fn server(url: &str) -> Result<ConnectionInfo, RedisUrlError> {
    let unreadable = |error: redis::RedisError| RedisUrlError::Unreadable(error.to_string());
    let server = url.into_connection_info().map_err(unreadable)?;
    let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(server.set_redis_settings(settings))
}

/// The same login and TLS settings with another address.
pub(super) fn at(server: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let addr = match server.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    };
    server.clone().set_addr(addr)
}

/// The configuration of the Redis broker.
#[derive(Clone)]
pub struct RedisSettings {
    pub(super) topology: Topology,
    /// A node that sends no heartbeat for this long is considered dead: other nodes remove its sessions from their
    /// channels.
    pub lease: Duration,
    /// The timeout of a call.
    pub timeout: Duration,
    /// The largest number of calls in flight.
    pub calls: usize,
    /// The longest pause between two attempts to connect (backoff).
    pub retry: Duration,
}

impl RedisSettings {
    /// The server or the cluster at `url`, with the default timeouts and limits.
    ///
    /// # Errors
    /// [`RedisUrlError`].
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        Ok(Self {
            topology: Topology::read(url)?,
            lease: Duration::from_secs(15),
            timeout: Duration::from_secs(5),
            calls: 4_096,
            retry: Duration::from_secs(2),
        })
    }
}

impl std::fmt::Debug for RedisSettings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { topology, lease, timeout, calls, retry } = self;
        let servers = match topology {
            Topology::Alone(server) => std::slice::from_ref(&**server),
            Topology::Cluster(seeds) => seeds,
        };
        let servers: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
        let mut out = f.debug_struct("RedisSettings");
        out.field("servers", &servers).field("lease", lease).field("timeout", timeout);
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

    #[test]
    fn a_cluster_is_named_by_some_of_its_servers() {
        let named = |url: &str| format!("{:?}", RedisSettings::new(url).unwrap());
        assert!(named("redis+cluster://ann:s@cret@a:1,b").contains(r#"["a:1", "b:6379"]"#));
        assert!(named("rediss+cluster://a").contains(r#"["a:6379"]"#));
        let Topology::Cluster(seeds) = RedisSettings::new("rediss+cluster://ann:secret@a").unwrap().topology else {
            panic!()
        };
        let other = at(&seeds[0], "b", 7);
        assert!(matches!(other.addr(), ConnectionAddr::TcpTls { host, port: 7, insecure: false, .. } if host == "b"));
        assert_eq!(
            (other.redis_settings().username(), other.redis_settings().password()),
            (Some("ann"), Some("secret"))
        );
        assert_eq!(RedisSettings::new("redis+cluster://a/1").unwrap_err(), RedisUrlError::Database);
        assert!(matches!(RedisSettings::new("redis+cluster://"), Err(RedisUrlError::Unreadable(_))));
    }
}
