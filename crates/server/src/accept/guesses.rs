//! Guessing at keys, signatures and tokens: counted, told in the log, and slowed down by address.
//!
//! An address may fail a number of times at once, and once a second for good. Beyond that its requests that may hold a
//! proof are held back for a second each, a few at a time, before anything looks at them; further ones are refused.
//! Whether a proof is right plays no part in that, or the time would tell. What has no proof is not slowed, and neither
//! is anybody else.

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
use super::metrics::Metrics;
use super::notice::Notice;
use super::places::network_of;

/// For each failure an address has to be silent for so long, in milliseconds.
const INTERVAL: Millis = 1_000;
/// It may be behind by so much.
const BURST: Millis = 20_000;
/// No address can be behind by more.
const MOST: Millis = 60_000;
/// How long a request of an address that is behind is held back.
const DELAY: Duration = Duration::from_secs(1);
/// Requests of one address that are held back at one time.
const HELD: u32 = 16;
/// Addresses that are remembered. Those that are behind by nothing are forgotten first.
const ADDRESSES: usize = 10_000;

/// Who has failed, and how often.
#[derive(Debug)]
pub(super) struct Guesses {
    addresses: Mutex<HashMap<IpAddr, Debt>>,
    /// How many there are, for the many requests that have to do with none.
    count: AtomicUsize,
    metrics: Metrics,
    notice: Notice,
    clock: SystemClock,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// When all failures will have been waited for.
    paid: Millis,
    held: u32,
}

impl Guesses {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            addresses: Mutex::default(),
            count: AtomicUsize::new(0),
            metrics,
            notice: Notice::default(),
            clock: SystemClock::new(),
        }
    }

    /// Whether a request is one to hold back, should its address have failed too often.
    pub(super) fn concern<B>(&self, request: &Request<B>) -> bool {
        self.count.load(Relaxed) > 0 && may_prove(request)
    }

    /// Holds a request back, if its address has failed too often.
    ///
    /// # Errors
    /// When as many are held back already as may be.
    pub(super) async fn hold(&self, address: IpAddr) -> Result<(), TooMany> {
        if let Some(held) = self.judge(address, self.clock.steady_ms())? {
            tokio::time::sleep(DELAY).await;
            drop(held);
        }
        Ok(())
    }

    /// Whether a request of this address has to be held back.
    fn judge(&self, address: IpAddr, now: Millis) -> Result<Option<Held<'_>>, TooMany> {
        let address = network_of(address);
        let mut addresses = self.addresses.lock();
        let Some(debt) = addresses.get_mut(&address).filter(|debt| debt.paid - now > BURST) else { return Ok(None) };
        if debt.held >= HELD {
            self.metrics.limited.inc();
            return Err(TooMany);
        }
        debt.held += 1;
        self.metrics.delayed.inc();
        Ok(Some(Held { guesses: self, address }))
    }

    /// Notes that a proof did not hold.
    pub(super) fn failed(&self, proof: FailedProof, client: Client) {
        self.failed_at(proof, client, self.clock.steady_ms());
    }

    fn failed_at(&self, proof: FailedProof, client: Client, now: Millis) {
        self.metrics.failed(proof);
        if let Some(suppressed) = self.notice.due() {
            tracing::warn!(client = %client.address, reason = proof.reason(), suppressed,
                "a request's proof does not hold");
        }
        if !proof.is_guess() || !client.is_one {
            return;
        }
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES {
            addresses.retain(|_, debt| debt.held > 0 || debt.paid > now);
        }
        let address = network_of(client.address);
        if addresses.len() < ADDRESSES || addresses.contains_key(&address) {
            let debt = addresses.entry(address).or_insert(Debt { paid: now, held: 0 });
            debt.paid = (debt.paid.max(now) + INTERVAL).min(now + MOST);
        }
        self.count.store(addresses.len(), Relaxed);
    }
}

/// A request that is held back; given up when its client is gone.
struct Held<'a> {
    guesses: &'a Guesses,
    address: IpAddr,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(debt) = self.guesses.addresses.lock().get_mut(&self.address) {
            debt.held = debt.held.saturating_sub(1);
        }
    }
}

/// Whether a request may hold something to be proved by: a header, a parameter, or a body.
fn may_prove<B>(request: &Request<B>) -> bool {
    let in_query = |query: &str| query.contains("auth_") || query.contains("token");
    request.headers().contains_key(AUTHORIZATION)
        || !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.uri().query().is_some_and(in_query)
}

/// As many requests of an address are held back as may be.
#[derive(Debug)]
pub(super) struct TooMany;

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let problem = ProblemDetails {
            kind: ProblemKind::RATE_LIMITED,
            detail: "this address has sent too many keys, signatures or tokens that were wrong",
            field: None,
            remedy: Some("try again after Retry-After, with one that is right"),
        };
        ([(RETRY_AFTER, "1")], problem.response().map(Body::from)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, is_one: bool) -> Client {
        Client { address: address.parse().unwrap(), is_one }
    }

    /// Whether a request of the address is held back; `None` if it is refused. Dropped, it goes on.
    fn held<'a>(guesses: &'a Guesses, address: &str, now: Millis) -> Option<Option<Held<'a>>> {
        guesses.judge(address.parse().unwrap(), now).ok()
    }

    // covers: G231
    #[test]
    fn an_address_that_fails_often_is_slow_and_others_are_not() {
        let guesses = Guesses::new(Metrics::default());
        let is_free = |address: &str, now| matches!(held(&guesses, address, now), Some(None));
        for _ in 0..20 {
            assert!(is_free("8.8.8.8", 0));
            guesses.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        }
        assert!(is_free("8.8.8.8", 0));
        guesses.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        assert!(is_free("8.8.4.4", 0), "somebody else");
        // A few at a time: the rest is told to come back.
        let mut all: Vec<_> = (0..HELD).map(|_| held(&guesses, "8.8.8.8", 0).unwrap().unwrap()).collect();
        assert!(held(&guesses, "8.8.8.8", 0).is_none());
        all.pop();
        assert!(matches!(held(&guesses, "8.8.8.8", 0), Some(Some(_))));
        // It gets over that, and not by more failures sooner.
        assert!(is_free("8.8.8.8", INTERVAL));
        for _ in 0..1_000 {
            guesses.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), INTERVAL);
        }
        assert!(!is_free("8.8.8.8", MOST - BURST));
        assert!(is_free("8.8.8.8", INTERVAL + MOST - BURST));
        assert_eq!(guesses.metrics.failures(FailedProof::ApiKey), 1_021);
    }

    #[test]
    fn only_what_may_hold_a_proof_is_held_back() {
        let guesses = Guesses::new(Metrics::default());
        let with_key = || Request::get("/v1/hooks").header(AUTHORIZATION, "Bearer x").body(()).unwrap();
        assert!(!guesses.concern(&with_key()), "nobody has failed");
        guesses.failed_at(FailedProof::ApiKey, client("8.8.8.8", true), 0);
        for proof in [
            with_key(),
            Request::post("/v1/events").body(()).unwrap(),
            Request::get("/apps/1/channels?auth_key=k").body(()).unwrap(),
            Request::get("/v1/stream?token=t").body(()).unwrap(),
        ] {
            assert!(guesses.concern(&proof), "{proof:?}");
        }
        for open in ["/healthz?x=1", "/app/KEY?protocol=7", "/v1/stream?app=KEY&channels=a"] {
            assert!(!guesses.concern(&Request::get(open).body(()).unwrap()), "{open}");
        }
    }

    #[test]
    fn who_may_be_many_and_what_is_no_guess_is_counted_and_not_slowed() {
        let guesses = Guesses::new(Metrics::default());
        for _ in 0..1_000 {
            guesses.failed_at(FailedProof::Token, client("127.0.0.1", false), 0);
            guesses.failed_at(FailedProof::ExpiredToken, client("8.8.8.8", true), 0);
            guesses.failed_at(FailedProof::AppKey, client("8.8.8.8", true), 0);
        }
        for address in ["127.0.0.1", "8.8.8.8"] {
            assert!(matches!(held(&guesses, address, 0), Some(None)));
        }
        assert_eq!(guesses.metrics.failures(FailedProof::Token), 1_000);
        assert_eq!(guesses.metrics.failures(FailedProof::ExpiredToken), 1_000);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let guesses = Guesses::new(Metrics::default());
        let fails = |n: u32, now| {
            let address = format!("2600:{:x}:{:x}::1", n >> 16, n & 0xffff);
            guesses.failed_at(FailedProof::Signature, client(&address, true), now);
        };
        (0..20_000).for_each(|n| fails(n, 0));
        assert_eq!(guesses.addresses.lock().len(), ADDRESSES);
        fails(30_000, MOST);
        assert_eq!(guesses.addresses.lock().len(), 1);
    }
}
