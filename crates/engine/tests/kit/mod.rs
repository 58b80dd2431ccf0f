//! An engine in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidings_courier::egress::EgressConfig;
use tidings_door_api::Api;
use tidings_door_pusher::Pusher;
use tidings_engine::{Config, Door, Engine};
use tidings_model::app::App;
use tidings_model::clock::Stopwatch;
use tidings_model::secret::SecretString;

/// How long a test waits at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn doors() -> Vec<Arc<dyn Door>> {
    vec![Arc::new(Api::new(SecretString::from("operator"))), Arc::new(Pusher::default())]
}

pub(crate) fn config(folder: &Path) -> Config {
    let app =
        App { api_keys: vec![SecretString::from("key")], default: true, ..App::new("1", "public", "secret".into()) };
    let egress = EgressConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], ..EgressConfig::default() };
    Config::in_folder(folder).shards(2).egress(egress).apps(vec![app])
}

pub(crate) async fn engine(folder: &Path) -> Engine {
    Engine::build(config(folder), doors()).await.unwrap()
}

/// Waits until `is_so`, and fails with the message of `told`.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool, told: impl FnOnce() -> String) {
    let waited = Stopwatch::start();
    while !is_so() {
        if waited.elapsed() > PATIENCE {
            panic!("{}", told());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
