//! `[machines]`: an address of their own for the health endpoints.

use std::net::SocketAddr;

use serde::Deserialize;

use super::check::Check;
use super::top;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMachines {
    listen: Option<String>,
}

impl RawMachines {
    pub(super) fn resolve(&self, check: &mut Check) -> Option<SocketAddr> {
        let given = self.listen.as_deref().filter(|text| !text.is_empty())?;
        top::address(given).map_err(|message| check.wrong("machines.listen", message)).ok()
    }
}
