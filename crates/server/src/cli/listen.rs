//! `listen`: a receiver for webhooks on this machine, which prints each delivery and whether its signature is valid.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_model::clock::{SharedClock, SystemClock, rfc3339};
use tidings_model::signature::{
    ID_HEADER, SIGNATURE_HEADER, Secret, SignedHeaders, TIMESTAMP_HEADER, TOLERANCE_SECS, verify,
};
use tidings_supervisor::Supervisor;

use super::{Failure, Outcome, pretty};
use crate::accept::{self, Accept};
use crate::settings::ConnectionSettings;
use crate::{output, signals};

/// The flags of `listen`.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// The port of 127.0.0.1; 0 takes a free one
    port: u16,
    /// The secret that the deliveries are signed with, as `listener create` showed it
    #[arg(long, value_name = "whsec_…")]
    secret: Option<String>,
    /// The status to answer with
    #[arg(long, value_name = "N", default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
}

/// How long a request in flight may take to end when the command is interrupted.
const GRACE: Duration = Duration::from_secs(1);
/// The longest delivery that is accepted, in bytes.
const MAX_BODY: usize = 64 << 20;

struct Receiver {
    secret: Option<Secret>,
    status: StatusCode,
    clock: SharedClock,
}

/// The body of a delivery in Standard Webhooks.
#[derive(Deserialize)]
struct Delivery {
    #[serde(rename = "type")]
    name: String,
    data: Option<Box<RawValue>>,
}

pub(super) async fn run(args: &ListenArgs) -> Outcome {
    let secret =
        args.secret.as_deref().map(Secret::parse).transpose().map_err(|error| Failure::Usage(format!("--{error}")))?;
    let status = StatusCode::from_u16(args.status).map_err(|error| Failure::Usage(error.to_string()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another port, or 0 for a free one"))?;
    let bound = listener.local_addr()?;

    output::line(format!("receiving webhooks on http://{bound}/ and answering {status}; stop with Ctrl-C"));
    if secret.is_none() {
        output::line("nothing is verified: give --secret whsec_… for that, as `tidings listener create` showed it");
    }
    let receiver = Arc::new(Receiver { secret, status, clock: SystemClock::shared() });
    let router =
        Router::new().fallback(receive).layer(axum::extract::DefaultBodyLimit::max(MAX_BODY)).with_state(receiver);
    let settings = ConnectionSettings { shutdown_grace: GRACE, ..ConnectionSettings::default() };
    let supervisor = Supervisor::default();
    let accept = Accept::new(accept::Parts::of(router, settings, supervisor.clone()));
    accept.run(listener, signals::stop(&supervisor)?).await;
    accept.end().await;
    Ok(())
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    output::line(output::printable(&receiver.describe(&headers, &body)));
    receiver.status
}

impl Receiver {
    /// A line about the delivery, and its data.
    fn describe(&self, headers: &HeaderMap, body: &Bytes) -> String {
        let now = self.clock.wall_ms();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let believed = match self.verify(headers, body, now / 1_000) {
            Ok(()) => "verified".to_owned(),
            Err(reason) => format!("NOT VERIFIED: {reason}"),
        };
        let text = String::from_utf8_lossy(body);
        let delivery: Option<Delivery> = serde_json::from_str(&text).ok();
        let name = delivery.as_ref().map_or("-", |delivery| delivery.name.as_str());
        let data = match delivery.as_ref().map(|delivery| delivery.data.as_ref()) {
            Some(Some(data)) => pretty::pretty(data.get()),
            Some(None) => "(no data)".to_owned(),
            None if serde_json::from_str::<&RawValue>(&text).is_ok() => pretty::pretty(&text),
            None => text.into_owned(),
        };
        format!("{}  {name}  {}  {believed}\n{data}", rfc3339(now), header(ID_HEADER))
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8], now_secs: i64) -> Result<(), String> {
        let Some(secret) = &self.secret else { return Err("no --secret was given".to_owned()) };
        let header = |name: &'static str| {
            let value = headers.get(name).ok_or_else(|| format!("there is no {name} header"))?;
            value.to_str().map_err(|_| format!("the {name} header is not ASCII"))
        };
        let signed = SignedHeaders {
            id: header(ID_HEADER)?,
            timestamp: header(TIMESTAMP_HEADER)?,
            signature: header(SIGNATURE_HEADER)?,
        };
        verify(&signed, body, &[secret], now_secs, TOLERANCE_SECS).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tidings_model::clock::ManualClock;
    use tidings_model::signature::sign;

    use super::*;

    const NOW_MS: i64 = 1_763_719_000_000;
    const BODY: &str = r#"{"type":"person.created","timestamp":"x","data":{"name":"Joe"}}"#;

    fn receiver(secret: Option<Secret>) -> Receiver {
        Receiver { secret, status: StatusCode::NO_CONTENT, clock: ManualClock::at(NOW_MS) }
    }

    fn headers(secret: &Secret, at: i64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "evt_1".parse().unwrap());
        headers.insert("webhook-timestamp", at.to_string().parse().unwrap());
        headers.insert("webhook-signature", sign("evt_1", at, BODY.as_bytes(), &[secret]).parse().unwrap());
        headers
    }

    #[test]
    fn a_delivery_is_told_in_a_line_and_its_data() {
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let told = receiver(Some(secret.clone()))
            .describe(&headers(&secret, NOW_MS / 1_000), &Bytes::from_static(BODY.as_bytes()));
        assert_eq!(told, "2025-11-21T09:56:40.000Z  person.created  evt_1  verified\n{\n  \"name\": \"Joe\"\n}");
    }

    #[test]
    fn what_is_not_to_be_believed_is_shouted_with_the_reason() {
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let other = Secret::from_bytes(&[8; 32]).unwrap();
        let check = |given: Option<&Secret>, headers: &HeaderMap, reason: &str| {
            let told = receiver(given.cloned()).describe(headers, &Bytes::from_static(BODY.as_bytes()));
            assert!(told.contains("NOT VERIFIED: ") && told.contains(reason), "{told}");
        };
        let now = NOW_MS / 1_000;
        check(None, &headers(&secret, now), "no --secret was given");
        check(Some(&other), &headers(&secret, now), "no signature matches");
        check(Some(&secret), &headers(&secret, now - 1_000), "too old");
        check(Some(&secret), &HeaderMap::new(), "there is no webhook-id header");
    }

    #[test]
    fn a_body_of_another_kind_is_shown_as_it_is() {
        let told = receiver(None).describe(&HeaderMap::new(), &Bytes::from_static(b"hello \x1b[2J"));
        assert!(output::printable(&told).ends_with("\nhello \\u{1b}[2J"), "{told}");
    }
}
