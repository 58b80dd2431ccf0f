//! `[live]`: how live connections are served. Read and checked; without effect in this version.

use serde::Deserialize;

use super::check::Check;
use super::value::RawSize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLive {
    shards: Option<u32>,
    session_queue: Option<RawSize>,
}

impl RawLive {
    pub(super) fn check(&self, check: &mut Check) {
        check.bounded("live.shards", self.shards, 0, 0, 1024);
        check.bounded("live.session_queue", self.session_queue.map(|size| size.0), 1 << 20, 4 << 10, 1 << 30);
        check.without_effect("live");
    }
}
