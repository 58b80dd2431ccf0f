//! The top level of the config file as it is written, and its conversion to [`Settings`].

use std::time::Duration;

use serde::Deserialize;

use super::admin::RawAdmin;
use super::apps::{self, RawApp};
use super::broker::RawBroker;
use super::check::Check;
use super::courier::RawCourier;
use super::egress::RawEgress;
use super::live::RawLive;
use super::machines::RawMachines;
use super::retention::RawRetention;
use super::secrets::RawSecrets;
use super::store::RawStore;
use super::tls::RawTls;
use super::top;
use super::unbuilt::{self, Unbuilt};
use super::value::RawDuration;
use crate::settings::{ConnectionSettings, Settings};

/// The keys outside any section, and the sections.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) listen: Option<String>,
    pub(super) public_url: Option<String>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_connections_per_ip: Option<u32>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) header_timeout: Option<RawDuration>,
    pub(super) request_timeout: Option<RawDuration>,
    pub(super) shutdown_delay: Option<RawDuration>,
    pub(super) shutdown_grace: Option<RawDuration>,
    pub(super) machines: RawMachines,
    pub(super) tls: RawTls,
    pub(super) store: RawStore,
    pub(super) broker: RawBroker,
    pub(super) admin: RawAdmin,
    pub(super) live: RawLive,
    pub(super) courier: RawCourier,
    pub(super) egress: RawEgress,
    pub(super) retention: RawRetention,
    pub(super) secrets: RawSecrets,
    pub(super) apps: Vec<RawApp>,
    websub: Option<Unbuilt>,
    pages: Option<Unbuilt>,
    outbox: Option<Unbuilt>,
}

impl RawConfig {
    /// Checks every section. Problems go to `check`, and defaults replace wrong values.
    pub(super) fn resolve(self, check: &mut Check) -> Settings {
        unbuilt::warn(check);
        let broker = self.broker.resolve(check);
        let live = self.live.resolve(check);
        // Event streams are HTTP connections, so the timeout of `[live]` holds for every connection.
        let connections = ConnectionSettings { user_timeout: live.sessions.user_timeout, ..connections(&self, check) };
        let tls = self.tls.resolve(check);
        Settings {
            listen: top::listen(self.listen.as_deref(), check),
            public_url: check.http_url("public_url", self.public_url.as_deref()),
            machines_listen: self.machines.resolve(check),
            shutdown_delay: top::shutdown_delay(self.shutdown_delay, check),
            connections,
            tls,
            store: self.store.resolve(&broker, check),
            broker,
            live,
            operator_key: self.admin.resolve(check),
            courier: self.courier.resolve(check),
            egress: self.egress.resolve(check),
            keep: self.retention.resolve(check),
            main_key_file: self.secrets.resolve(check),
            apps: apps::resolve(&self.apps, check),
        }
    }
}

/// The limits on connections and their timeouts.
fn connections(raw: &RawConfig, check: &mut Check) -> ConnectionSettings {
    let default = ConnectionSettings::default();
    let mut some_time = |key: &str, given: Option<RawDuration>, default: Duration| {
        let given = given.map_or(default, |raw| raw.0);
        if given.is_zero() {
            check.wrong(key, format!("{key} must be longer than 0s"));
        }
        given
    };
    ConnectionSettings {
        header_timeout: some_time("header_timeout", raw.header_timeout, default.header_timeout),
        request_timeout: some_time("request_timeout", raw.request_timeout, default.request_timeout),
        shutdown_grace: raw.shutdown_grace.map_or(default.shutdown_grace, |raw| raw.0),
        max: check.bounded("max_connections", raw.max_connections, default.max, 1, 10_000_000),
        max_per_ip: raw.max_connections_per_ip,
        trusted_proxies: check.networks("trusted_proxies", &raw.trusted_proxies),
        ..default
    }
}
