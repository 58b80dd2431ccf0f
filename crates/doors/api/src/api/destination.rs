//! Checks where deliveries may go, when a URL is stored. Egress checks again at each attempt.

use serde_json::Value;
use tidings_bus::Spec;
use tidings_courier::egress::Refusal;
use url::Url;

use crate::door::ApiDoor;
use crate::problem::{Code, Problem};

/// Refuses a URL that egress would not call, as far as that is known without a DNS lookup. `field` is the URL's place
/// in the request.
pub(super) fn check(door: &ApiDoor, url: &Url, field: &str) -> Result<(), Problem> {
    door.egress().check_url(url).map_err(|refusal| {
        let code = match refusal {
            Refusal::Port(_) | Refusal::NotPublic { .. } | Refusal::Denied => Code::BlockedAddress,
            Refusal::Scheme | Refusal::HttpsOnly | Refusal::Userinfo | Refusal::NoHost | Refusal::Malformed => {
                Code::InvalidField
            }
        };
        Problem::saying(code, refusal)
            .field(field)
            .or_remedy("give another URL; docs/egress.md says what is called, and [egress] in the config changes it")
    })
}

/// The same for each webhook of an app. Values that are not URLs are refused where the app is parsed.
pub(super) fn check_webhooks(door: &ApiDoor, app: &Spec) -> Result<(), Problem> {
    let webhooks = app.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    for (n, webhook) in webhooks.enumerate() {
        let url = webhook.get("url").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
        if let Some(url) = url {
            check(door, &url, &format!("webhooks[{n}].url"))?;
        }
    }
    Ok(())
}
