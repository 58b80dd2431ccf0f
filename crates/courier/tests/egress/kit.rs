//! Helpers for the tests of this folder: a client with a dial log, and a scripted resolver.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use tidings_courier::egress::{DialLog, Egress, EgressConfig, Request, Resolve, Response, SendError};
use url::Url;

/// A timeout that no exchange of these tests reaches unless something hangs.
pub(super) const AMPLE: Duration = Duration::from_secs(20);

/// A resolver that gives its answers in order, and repeats the last one. Unknown names do not exist.
#[derive(Default)]
pub(super) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl Names {
    pub(super) fn set(&self, host: &str, answers: &[&[&str]]) {
        let parse = |set: &&[&str]| set.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().map(parse).collect();
        self.answers.lock().insert(host.to_owned(), answers);
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.answers.lock();
        let Some(script) = answers.get_mut(host) else {
            return Err(io::Error::other("no such name"));
        };
        if script.len() > 1 {
            return Ok(script.remove(0));
        }
        Ok(script[0].clone())
    }
}

/// A client under test, and the log of its lookups and dials.
pub(super) struct Client {
    pub(super) egress: Egress,
    pub(super) log: Arc<DialLog>,
    pub(super) names: Arc<Names>,
}

impl Client {
    pub(super) fn new(config: EgressConfig) -> Client {
        let names = Arc::new(Names::default());
        let log = Arc::new(DialLog::default());
        let egress = Egress::with_observer(config, names.clone(), log.clone()).unwrap();
        Client { egress, log, names }
    }

    /// A client that may dial the networks `cidrs`.
    pub(super) fn allowing(cidrs: &[&str]) -> Client {
        Client::new(allow(cidrs))
    }

    pub(super) async fn post(&self, url: &str) -> Result<Response, SendError> {
        self.post_within(url, AMPLE).await
    }

    pub(super) async fn post_within(&self, url: &str, timeout: Duration) -> Result<Response, SendError> {
        self.egress.send(request(url), timeout).await
    }

    /// Posts, and asserts that the policy stopped it before any packet was sent.
    pub(super) async fn assert_blocked(&self, url: &str) -> SendError {
        let before = self.log.dialled();
        let error = self.post(url).await.expect_err(url);
        assert_eq!(error.code(), "blocked_address", "{url}: {error}");
        assert_eq!(self.log.dialled(), before, "{url} was dialled");
        error
    }
}

pub(super) fn allow(cidrs: &[&str]) -> EgressConfig {
    EgressConfig { allow: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(), ..EgressConfig::default() }
}

pub(super) fn request(url: &str) -> Request {
    Request {
        method: Method::POST,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"type\":\"person.created\"}"),
        title_case: false,
        fresh: false,
    }
}

pub(super) fn at(addr: SocketAddr) -> String {
    format!("http://{addr}/")
}

/// Awaits `condition`, and fails after [`AMPLE`].
pub(super) async fn eventually<F: Future>(what: &str, condition: F) -> F::Output {
    match tokio::time::timeout(AMPLE, condition).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}
