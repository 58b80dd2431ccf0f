//! Slows down clients that guess keys, signatures and tokens: failures are counted and logged, and an address with many
//! is delayed.
//!
//! An address may fail in a burst of [`BURST`], and once per [`INTERVAL`] after that (a leaky bucket). Beyond that, its
//! requests that may hold a proof are delayed by [`DELAY`] each, up to [`HELD`] at a time, before anything looks at
//! them; further ones are refused. A right proof is delayed like a wrong one: otherwise the delay would tell which it
//! is. Requests without a proof and other addresses are not slowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{Method, Request};
use parking_lot::Mutex;
use tidings_live::FailedProof;
use tidings_model::clock::{Clock, Millis, SystemClock};
use tidings_wire::{ProblemDetails, ProblemKind};

use super::client::Client;
use super::connection_limiter::network_of;
use super::log_throttle::LogThrottle;
use super::metrics::Metrics;

/// The time that each failure costs, in milliseconds.
const INTERVAL: Millis = 1_000;
/// The cost that an address may run up before it is delayed, in milliseconds.
const BURST: Millis = 20_000;
/// The most that an address can run up, in milliseconds: so long after its last failure at most it is free again.
const MOST: Millis = 60_000;
/// How long each request of an address beyond [`BURST`] is delayed.
const DELAY: Duration = Duration::from_secs(1);
/// Requests of one address that are delayed at the same time.
const HELD: u32 = 16;
/// The most addresses that are remembered. Those without a penalty are forgotten first.
const ADDRESSES: usize = 10_000;

/// Which addresses have failed, and how often.
#[derive(Debug)]
pub(super) struct GuessLimiter {
    addresses: Mutex<HashMap<IpAddr, Penalty>>,
    /// The number of entries in `addresses`, so that requests take no lock while there are none.
    count: AtomicUsize,
    metrics: Metrics,
    throttle: LogThrottle,
    clock: SystemClock,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    /// When the cost of all failures has passed, on the steady clock.
    until: Millis,
    held: u32,
}

impl GuessLimiter {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            addresses: Mutex::default(),
            count: AtomicUsize::new(0),
            metrics,
            throttle: LogThrottle::default(),
            clock: SystemClock::new(),
        }
    }

    /// Whether a request has to go through [`GuessLimiter::hold`]: it may hold a proof, and some address has failed.
    pub(super) fn may_delay<B>(&self, request: &Request<B>) -> bool {
        self.count.load(Relaxed) > 0 && may_prove(request)
    }

    /// Delays a request, if its address has failed too often.
    ///
    /// # Errors
    /// When [`HELD`] requests of the address are delayed already.
    pub(super) async fn hold(&self, address: IpAddr) -> Result<(), TooMany> {
        if let Some(held) = self.judge(address, self.clock.steady_ms())? {
            tokio::time::sleep(DELAY).await;
            drop(held);
        }
        Ok(())
    }

    /// Whether a request of this address has to be delayed; counts it while the result lives.
    fn judge(&self, address: IpAddr, now: Millis) -> Result<Option<Held<'_>>, TooMany> {
        let address = network_of(address);
        let mut addresses = self.addresses.lock();
        let Some(penalty) = addresses.get_mut(&address).filter(|penalty| penalty.until - now > BURST) else {
            return Ok(None);
        };
        if penalty.held >= HELD {
            self.metrics.limited.inc();
            return Err(TooMany);
        }
        penalty.held += 1;
        self.metrics.delayed.inc();
        Ok(Some(Held { guess_limiter: self, address }))
    }

    /// Counts a failed proof.
    pub(super) fn failed(&self, proof: FailedProof, client: Client) {
        self.failed_at(proof, client, self.clock.steady_ms());
    }

    fn failed_at(&self, proof: FailedProof, client: Client, now: Millis) {
        self.metrics.failed(proof);
        if let Some(suppressed) = self.throttle.due() {
            tracing::warn!(client = %client.address, reason = proof.reason(), suppressed,
                "authentication failed");
        }
        if !proof.is_guess() || !client.is_single {
            return;
        }
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES {
            addresses.retain(|_, penalty| penalty.held > 0 || penalty.until > now);
        }
        let address = network_of(client.address);
        if addresses.len() < ADDRESSES || addresses.contains_key(&address) {
            let penalty = addresses.entry(address).or_insert(Penalty { until: now, held: 0 });
            penalty.until = (penalty.until.max(now) + INTERVAL).min(now + MOST);
        }
        self.count.store(addresses.len(), Relaxed);
    }
}

/// A request that is delayed. It is dropped when its client goes away.
struct Held<'a> {
    guess_limiter: &'a GuessLimiter,
    address: IpAddr,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(penalty) = self.guess_limiter.addresses.lock().get_mut(&self.address) {
            penalty.held = penalty.held.saturating_sub(1);
        }
    }
}

/// Whether a request may hold a proof: in a header, a parameter or its body.
fn may_prove<B>(request: &Request<B>) -> bool {
    let in_query = |query: &str| query.contains("auth_") || query.contains("token");
    request.headers().contains_key(AUTHORIZATION)
        || !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.uri().query().is_some_and(in_query)
}

/// [`HELD`] requests of the address are delayed already.
#[derive(Debug)]
pub(super) struct TooMany;

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let problem = ProblemDetails {
            kind: ProblemKind::RATE_LIMITED,
            detail: "this address has sent too many wrong keys, signatures or tokens",
            field: None,
            remedy: Some("try again after Retry-After, with the right one"),
        };
        ([(RETRY_AFTER, "1")], problem.response().map(Body::from)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, is_single: bool) -> Client {
        Client { address: address.parse().unwrap(), is_single }
    }

    /// The delay of a request of the address, if it is delayed; `None` if it is refused. Dropped, the request goes on.
    fn held<'a>(guess_limiter: &'a GuessLimiter, address: &str, now: Millis) -> Option<Option<Held<'a>>> {
        guess_limiter.judge(address.parse().unwrap(), now).ok()
    }

    // covers: G231
    #[test]
    fn an_address_that_fails_often_is_slow_and_others_are_not() {
        let guess_limiter = GuessLimiter::new(Metrics::default());
        let is_free = |address: &str, now| matches!(held(&guess_limiter, address, now), Some(None));
        for _ in 0..20 {
            assert!(is_free("8.8.8.8", 0));
            guess_limiter.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        }
        assert!(is_free("8.8.8.8", 0));
        guess_limiter.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        assert!(is_free("8.8.4.4", 0), "another address");
        // A few at a time: the rest is refused.
        let mut all: Vec<_> = (0..HELD).map(|_| held(&guess_limiter, "8.8.8.8", 0).unwrap().unwrap()).collect();
        assert!(held(&guess_limiter, "8.8.8.8", 0).is_none());
        all.pop();
        assert!(matches!(held(&guess_limiter, "8.8.8.8", 0), Some(Some(_))));
        // The penalty passes, and more failures make it longer only up to a bound.
        assert!(is_free("8.8.8.8", INTERVAL));
        for _ in 0..1_000 {
            guess_limiter.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), INTERVAL);
        }
        assert!(!is_free("8.8.8.8", MOST - BURST));
        assert!(is_free("8.8.8.8", INTERVAL + MOST - BURST));
        assert_eq!(guess_limiter.metrics.failures(FailedProof::ApiKey), 1_021);
    }

    #[test]
    fn only_what_may_hold_a_proof_is_held_back() {
        let guess_limiter = GuessLimiter::new(Metrics::default());
        let with_key = || Request::get("/v1/hooks").header(AUTHORIZATION, "Bearer x").body(()).unwrap();
        assert!(!guess_limiter.may_delay(&with_key()), "no address has failed");
        guess_limiter.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        for proof in [
            with_key(),
            Request::post("/v1/events").body(()).unwrap(),
            Request::get("/apps/1/channels?auth_key=k").body(()).unwrap(),
            Request::get("/v1/stream?token=t").body(()).unwrap(),
        ] {
            assert!(guess_limiter.may_delay(&proof), "{proof:?}");
        }
        for open in ["/healthz?x=1", "/app/KEY?protocol=7", "/v1/stream?app=KEY&channels=a"] {
            assert!(!guess_limiter.may_delay(&Request::get(open).body(()).unwrap()), "{open}");
        }
    }

    #[test]
    fn who_may_be_many_and_what_is_no_guess_is_counted_and_not_slowed() {
        let guess_limiter = GuessLimiter::new(Metrics::default());
        for _ in 0..1_000 {
            guess_limiter.failed_at(FailedProof::Token, client("127.0.0.1", false), 0);
            guess_limiter.failed_at(FailedProof::ExpiredToken, client("8.8.8.8", true), 0);
            guess_limiter.failed_at(FailedProof::AppKey, client("8.8.8.8", true), 0);
        }
        for address in ["127.0.0.1", "8.8.8.8"] {
            assert!(matches!(held(&guess_limiter, address, 0), Some(None)));
        }
        assert_eq!(guess_limiter.metrics.failures(FailedProof::Token), 1_000);
        assert_eq!(guess_limiter.metrics.failures(FailedProof::ExpiredToken), 1_000);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let guess_limiter = GuessLimiter::new(Metrics::default());
        let fails = |n: u32, now| {
            let address = format!("2600:{:x}:{:x}::1", n >> 16, n & 0xffff);
            guess_limiter.failed_at(FailedProof::Signature, client(&address, true), now);
        };
        (0..20_000).for_each(|n| fails(n, 0));
        assert_eq!(guess_limiter.addresses.lock().len(), ADDRESSES);
        fails(30_000, MOST);
        assert_eq!(guess_limiter.addresses.lock().len(), 1);
    }
}
