//! What a server makes at its first start and finds again at the next: an app, keys, a password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidings_model::app::{App, Token};
use tidings_model::token::TokenKeys;

use crate::credentials::Credentials;
use crate::keys::random_key;
use crate::settings::Settings;

/// Completes settings and credentials with each other.
///
/// With apps in the config, the credentials become theirs, so that commands work beside the server. Without, the app is the
/// one that the credentials hold; whatever they lack is made.
pub(crate) fn complete(settings: &mut Settings, kept: Credentials, configured: bool) -> anyhow::Result<Credentials> {
    let mut credentials = kept;
    if let Some(app) = settings.apps.iter().find(|app| app.default).or(settings.apps.first()) {
        credentials.app_id = app.id.to_string();
        credentials.key = app.key.clone();
        credentials.secret = app.secret.expose().to_owned();
        credentials.api_key = app.api_keys.first().map(|key| key.expose().to_owned()).unwrap_or_default();
        // The config has it, and no command needs it: tokens are asked of the server.
        credentials.token_hmac_secret.clear();
    } else {
        let made = [
            &mut credentials.key,
            &mut credentials.secret,
            &mut credentials.api_key,
            &mut credentials.token_hmac_secret,
        ];
        for key in made.into_iter().filter(|key| key.is_empty()) {
            *key = random_key()?;
        }
        if credentials.app_id.is_empty() {
            credentials.app_id = "1".to_owned();
        }
        settings.apps = vec![kept_app(&credentials)];
    }
    match (&settings.operator_key, configured) {
        (Some(key), _) => credentials.operator_key = key.expose().to_owned(),
        // A config that names no operator key means that there is none.
        (None, true) => credentials.operator_key.clear(),
        (None, false) => {
            if credentials.operator_key.is_empty() {
                credentials.operator_key = random_key()?;
            }
            settings.operator_key = Some(Token::from(credentials.operator_key.as_str()));
        }
    }
    match configured {
        true => credentials.admin_password.clear(),
        false if credentials.admin_password.is_empty() => credentials.admin_password = random_key()?,
        false => {}
    }
    Ok(credentials)
}

fn kept_app(credentials: &Credentials) -> App {
    App {
        api_keys: vec![Token::from(credentials.api_key.as_str())],
        tokens: TokenKeys::new(Token::from(credentials.token_hmac_secret.as_str()), Vec::new()),
        default: true,
        ..App::new(credentials.app_id.as_str(), credentials.key.clone(), Token::from(credentials.secret.as_str()))
    }
}

/// The URL that commands on this machine reach a server by that listens on `bound`.
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

    #[test]
    fn a_config_says_what_the_credentials_are() {
        let text = "[[apps]]\nid = \"a\"\nkey = \"ka\"\n[[apps]]\nid = \"b\"\nkey = \"kb\"\ndefault = true\napi_keys = [\"api-key-of-b-app\"]";
        let old = Credentials { operator_key: "old".into(), admin_password: "old".into(), ..Credentials::default() };
        let credentials = complete(&mut settings(text), old, true).unwrap();
        assert_eq!(
            (credentials.app_id.as_str(), credentials.key.as_str(), credentials.api_key.as_str()),
            ("b", "kb", "api-key-of-b-app")
        );
        assert!(credentials.operator_key.is_empty() && credentials.admin_password.is_empty());
    }

    #[test]
    fn the_url_is_one_that_can_be_dialled() {
        let check = |bound: &str, url: &str| assert_eq!(local_url("http", bound.parse().unwrap()), url);
        check("0.0.0.0:80", "http://127.0.0.1:80");
        check("[::]:80", "http://[::1]:80");
        check("10.0.0.1:80", "http://10.0.0.1:80");
    }
}
