//! The setup of every phase: a fresh server on the measured core, a receiver, hooks and listeners.

use serde_json::json;
use tidings_testkit::{Server, server};

use super::{CONNECTIONS, Plan};
use crate::receiver::Receiver;

/// A fresh server and a receiver.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) receiver: Receiver,
}

impl Bed {
    /// Starts both, the server on the measured core, under `wrapper` if that isn't empty.
    pub(crate) async fn start(plan: &Plan, wrapper: &[&str]) -> anyhow::Result<Self> {
        let receiver = Receiver::start().await?;
        let words = plan.cores.measured().into_iter().chain(wrapper.iter().map(|word| (*word).to_owned()));
        let server = server().egress_allow("127.0.0.0/8").wrapper(words).try_start().await?;
        Ok(Self { server, receiver })
    }

    /// Makes a hook.
    pub(crate) async fn hook(&self, name: &str) {
        self.server.api().post("/v1/hooks", json!({"name": name})).await.expect_status(201);
    }

    /// Makes a listener to a hook at the receiver's `tag`.
    pub(crate) async fn listener(&self, hook: &str, tag: &str) {
        self.listener_at(hook, &self.receiver.url(tag)).await;
    }

    /// Makes listeners to a hook at `tag`, each at a host of its own, as real receivers are; so they do not compete for
    /// one host's connections.
    pub(crate) async fn listeners(&self, hook: &str, tag: &str, count: usize) {
        for n in 0..count {
            self.listener_at(hook, &self.receiver.url_at(n, tag)).await;
        }
    }

    async fn listener_at(&self, hook: &str, url: &str) {
        let listener = json!({"url": url, "hooks": [hook], "concurrency": CONNECTIONS, "timeout": "60s"});
        self.server.api().post("/v1/listeners", listener).await.expect_status(201);
    }
}
