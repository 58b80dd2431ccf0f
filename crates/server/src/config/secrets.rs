//! `[secrets]`: the key file that secrets in the store are sealed with.

use std::path::PathBuf;

use serde::Deserialize;

use super::check::Check;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSecrets {
    main_key_file: Option<PathBuf>,
}

impl RawSecrets {
    pub(super) fn resolve(self, check: &mut Check) -> PathBuf {
        let file = self.main_key_file.unwrap_or_else(|| "tidings-data/main.key".into());
        check.exposed("secrets.main_key_file", &file);
        file
    }
}
