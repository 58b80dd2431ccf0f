//! `[egress]`: where deliveries may go. The defaults are courier's own.

use std::path::PathBuf;

use serde::Deserialize;
use tidings_courier::egress::EgressConfig;

use super::check::Check;
use super::unbuilt::Unbuilt;
use super::value::RawDuration;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEgress {
    allow: Vec<String>,
    deny: Vec<String>,
    proxy: Option<String>,
    https_only: bool,
    deny_ports: Option<Vec<u16>>,
    ca_file: Option<PathBuf>,
    connect_timeout: Option<RawDuration>,
    topics: Option<Unbuilt>,
    callbacks: Option<Unbuilt>,
}

impl RawEgress {
    pub(super) fn resolve(self, check: &mut Check) -> EgressConfig {
        let default = EgressConfig::default();
        let key = |name: &str| format!("egress.{name}");
        let proxy = check.http_url(&key("proxy"), self.proxy.as_deref());
        if proxy.as_ref().is_some_and(|proxy| proxy.scheme() != "http") {
            check.wrong(
                &key("proxy"),
                "the proxy's own URL must begin with http://; requests through it may still use https",
            );
        }
        let ca_file = self.ca_file.filter(|file| !file.as_os_str().is_empty());
        if let Some(file) = &ca_file
            && let Err(error) = std::fs::metadata(file)
        {
            check.wrong(&key("ca_file"), format!("the certificate file {} cannot be read: {error}", file.display()));
        }
        let connect_timeout = self.connect_timeout.map_or(default.connect_timeout, |raw| raw.0);
        if connect_timeout.is_zero() {
            check.wrong(&key("connect_timeout"), format!("{} must be longer than 0s", key("connect_timeout")));
        }
        EgressConfig {
            allow: check.networks(&key("allow"), &self.allow),
            deny: check.networks(&key("deny"), &self.deny),
            proxy,
            https_only: self.https_only,
            deny_ports: self.deny_ports.unwrap_or_else(|| default.deny_ports.clone()),
            ca_file,
            connect_timeout,
            ..default
        }
    }
}
