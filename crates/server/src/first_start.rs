//! The app, keys and password that a server makes at its first start and uses again at the next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidings_model::app::App;
use tidings_model::secret::SecretString;
use tidings_model::token::TokenKeys;

use crate::credentials::Credentials;
use crate::keys::random_key;
use crate::settings::Settings;

/// Completes the settings with the credentials that were made before, and makes those that are missing: an app if the
/// config has none, and, for a server without a config, the operator key and the admin password.
///
/// Credentials that were made are kept, even while a config has its own.
pub(crate) fn complete(settings: &mut Settings, made: Credentials, configured: bool) -> anyhow::Result<Credentials> {
    let mut credentials = made;
    if settings.apps.is_empty() {
        let keys = [
            &mut credentials.key,
            &mut credentials.secret,
            &mut credentials.api_key,
            &mut credentials.token_hmac_secret,
        ];
        for key in keys.into_iter().filter(|key| key.is_empty()) {
            *key = random_key()?;
        }
        if credentials.app_id.is_empty() {
            credentials.app_id = "1".to_owned();
        }
        settings.apps = vec![kept_app(&credentials)];
    }
    if settings.operator_key.is_none() {
        if credentials.operator_key.is_empty() && !configured {
            credentials.operator_key = random_key()?;
        }
        let kept = Some(&credentials.operator_key).filter(|key| !key.is_empty());
        settings.operator_key = kept.map(|key| SecretString::from(key.as_str()));
    }
    if credentials.admin_password.is_empty() && !configured {
        credentials.admin_password = random_key()?;
    }
    Ok(credentials)
}

/// Warns if the app of the first start is no longer served, because the config has other apps.
pub(crate) fn warn_of_unserved_app(settings: &Settings, made: &Credentials) {
    if made.has_app() && settings.apps.iter().all(|app| app.id.as_str() != made.app_id) {
        tracing::warn!(
            app = made.app_id,
            "the app of the first start is not in the config, so its clients are refused; `tidings init` in an empty \
            folder beside its credentials writes it as [[apps]]"
        );
    }
}

fn kept_app(credentials: &Credentials) -> App {
    App {
        api_keys: vec![SecretString::from(credentials.api_key.as_str())],
        tokens: TokenKeys::new(SecretString::from(credentials.token_hmac_secret.as_str()), Vec::new()),
        default: true,
        ..App::new(
            credentials.app_id.as_str(),
            credentials.key.clone(),
            SecretString::from(credentials.secret.as_str()),
        )
    }
}

/// The URL by which commands on this machine reach a server that listens on `bound`.
pub(crate) fn local_url(scheme: &str, bound: SocketAddr) -> String {
    let address = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(address, bound.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(text: &str) -> Settings {
        config::parse("tidings.toml", text, &Vec::<(&str, &str)>::new()).unwrap().settings
    }

    #[test]
    fn what_was_made_is_kept() {
        let mut first = settings("");
        let made = complete(&mut first, Credentials::default(), false).unwrap();
        assert!(
            made.app_id == "1"
                && [&made.key, &made.secret, &made.api_key, &made.operator_key, &made.admin_password]
                    .iter()
                    .all(|key| key.len() == 32)
        );
        assert!(made.token_hmac_secret.len() == 32 && first.apps[0].tokens.can_issue());
        assert!(first.apps[0].default && first.apps[0].api_keys[0].matches(&made.api_key));
        let mut second = settings("");
        assert_eq!(complete(&mut second, made.clone(), false).unwrap(), made);
        assert!(second.operator_key.unwrap().matches(&made.operator_key));
        // Of a version that had none yet.
        let older = Credentials { token_hmac_secret: String::new(), ..made.clone() };
        let completed = complete(&mut settings(""), older, false).unwrap();
        assert!(completed.token_hmac_secret.len() == 32 && completed.secret == made.secret);
    }

    // covers: G331
    #[test]
    fn what_was_made_stays_beside_a_config_and_nothing_of_the_config_is_copied() {
        let made = complete(&mut settings(""), Credentials::default(), false).unwrap();
        // A config for the store alone: the app and the operator key of the first start go on.
        let mut stored = settings("[store]\nurl = \"sqlite://elsewhere/tidings.db\"\n");
        assert_eq!(complete(&mut stored, made.clone(), true).unwrap(), made);
        assert!(stored.operator_key.unwrap().matches(&made.operator_key));
        assert!(stored.apps[0].api_keys[0].matches(&made.api_key));
        // One with everything of its own.
        let text = "[admin]\noperator_key = \"the-key-of-the-operator\"\n[[apps]]\nid = \"a\"\nkey = \"ka\"\n\
            secret = \"secret-of-app-a-00000000\"\n";
        let mut own = settings(text);
        assert_eq!(complete(&mut own, made.clone(), true).unwrap(), made);
        assert!(own.operator_key.unwrap().matches("the-key-of-the-operator"));
        assert_eq!(own.apps.len(), 1);
        let fresh = complete(&mut settings(text), Credentials::default(), true).unwrap();
        assert_eq!(fresh, Credentials::default());
        // A config that names no operator key has none, unless one was made before.
        let mut none = settings("[[apps]]\nid = \"a\"\nkey = \"ka\"\nsecret = \"secret-of-app-a-00000000\"\n");
        complete(&mut none, Credentials::default(), true).unwrap();
        assert!(none.operator_key.is_none());
    }

    #[test]
    fn the_url_is_one_that_can_be_dialled() {
        let check = |bound: &str, url: &str| assert_eq!(local_url("http", bound.parse().unwrap()), url);
        check("0.0.0.0:80", "http://127.0.0.1:80");
        check("[::]:80", "http://[::1]:80");
        check("10.0.0.1:80", "http://10.0.0.1:80");
    }
}
