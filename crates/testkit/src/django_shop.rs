//! A Django shop that publishes changes of its items through PyPI's `drf_model_pusher`.

use serde_json::{Value, json};

use crate::pusher::PusherApp;
use crate::script::{Language, Script};
use crate::server::Server;

/// The shop, connected as an app.
#[derive(Debug)]
pub struct DjangoShop {
    script: Script,
}

impl DjangoShop {
    /// Starts Django, whose Pusher is `app` of `server`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(server: &Server, app: &PusherApp) -> Self {
        let shop = Self { script: Script::start(Language::Python, "django_shop.py", &[]).await };
        let arguments = json!({
            "app_id": app.id, "key": app.key, "secret": app.secret,
            "host": server.addr.ip().to_string(), "port": server.addr.port(), "ssl": false,
        });
        shop.call("open", arguments).await;
        shop
    }

    /// Creates, updates or deletes an item through the shop's own API; returns the answer.
    ///
    /// # Panics
    /// When it refused.
    pub async fn call(&self, what: &str, item: Value) -> Value {
        let answer = self.script.run(json!({"do": what, "with": item})).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error}"))["said"].take()
    }
}
