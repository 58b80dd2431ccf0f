//! `[admin]`: the operator's credentials.

use serde::Deserialize;
use tidings_model::secret::SecretString;

use super::check::Check;
use super::secret::RawSecret;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    password_hash: Option<RawSecret>,
    operator_key: Option<RawSecret>,
}

impl RawAdmin {
    /// The operator key, if one is set.
    pub(super) fn resolve(&self, check: &mut Check) -> Option<SecretString> {
        let password_hash = check.secret("admin.password_hash", self.password_hash.as_ref());
        if password_hash.is_some_and(|hash| !hash.expose().starts_with("$argon2id$")) {
            check.wrong(
                "admin.password_hash",
                "admin.password_hash must be an argon2id hash, which begins with \
                $argon2id$; a password itself does not belong here",
            );
        }
        let operator_key = check.secret("admin.operator_key", self.operator_key.as_ref());
        if let Some(key) = &operator_key {
            super::apps::check_bearer("admin.operator_key", key, check);
        }
        operator_key
    }
}
