//! Hands the settings to the engine. The only file that knows it.

use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};

use crate::machines::Vitals;
use crate::settings::Settings;

/// A running engine.
pub(crate) struct Assembled {}

/// Builds the engine.
pub(crate) async fn build(settings: Settings) -> anyhow::Result<Assembled> {
    drop(settings);
    Ok(Assembled {})
}

impl Assembled {
    pub(crate) fn router(&self) -> Router {
        Router::new()
    }

    pub(crate) fn vitals(&self) -> impl Vitals + use<> {
        Nothing
    }

    pub(crate) async fn stop(self, _grace: Duration) {}
}

struct Nothing;

impl Vitals for Nothing {
    fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>> {
        Box::pin(async { (true, json!({"ready": true})) })
    }

    fn metrics(&self) -> Result<String, std::fmt::Error> {
        Ok("# EOF\n".to_owned())
    }
}
