//! The HTTP client of the command line.
//!
//! It talks to the server that the user named, with the user's own key. So it is not the guarded client of deliveries,
//! which refuses private addresses.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::CertificateError;
use serde_json::Value;
use tidings_supervisor::RequestId;
use tidings_tls as tls;
use url::Url;

/// How long a server may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;

type HyperClient = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A server's URL and the key for it.
pub(crate) struct Client {
    base: Url,
    key: String,
    json: bool,
    http: HyperClient,
}

/// A server's answer.
pub(crate) struct Answer {
    /// The body as it came.
    pub(crate) text: String,
    /// The body as JSON; `null` when it is empty.
    pub(crate) value: Value,
}

impl Client {
    /// A client for the server at `base`. It trusts the usual certificate authorities, and those in the PEM file `ca`.
    ///
    /// # Errors
    /// When that file cannot be used.
    pub(super) fn new(base: Url, key: String, json: bool, ca: Option<&Path>) -> anyhow::Result<Self> {
        let roots = tls::authorities(ca).map_err(|reason| {
            let file = ca.map(Path::display).map(|file| file.to_string()).unwrap_or_default();
            anyhow!(
                "the certificate authorities in {file} cannot be used: {reason}; give a PEM file with --ca or \
                SSL_CERT_FILE"
            )
        })?;
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, key, json, http })
    }

    /// Whether to print answers as they are (`--json`).
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    #[cfg(test)]
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The URL of a path below the server's, each segment escaped.
    pub(crate) fn address(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal ([`Refused`]).
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let request = self.request(method, &url, body, headers)?;
        self.in_time(async {
            let response = self.http.request(request).await.map_err(|error| self.no_answer(error))?;
            self.read(response).await
        })
        .await
    }

    /// Sends a request as it is, without the key, and returns the answer as it is.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn raw(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.http.request(request).await
    }

    /// Requests an event stream and returns its body, which need not end.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn stream(&self, url: Url, headers: &[(&str, &str)]) -> anyhow::Result<Incoming> {
        let request = self.request(Method::GET, &url, None, headers)?;
        self.in_time(async {
            let response = self.http.request(request).await.map_err(|error| self.no_answer(error))?;
            if response.status() == StatusCode::OK {
                return Ok(response.into_body());
            }
            let status = response.status();
            match self.read(response).await {
                Ok(_) => {
                    Err(anyhow!("{} answered {status}, which is not a stream; is it a Tidings server?", self.base))
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::USER_AGENT, concat!("tidings-cli/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        // The message must not hold the key, and http's errors do not say which header was wrong.
        request.body(body).map_err(|_| anyhow!("the key or a header holds characters that cannot be sent; check --key"))
    }

    async fn in_time<T>(&self, answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow!(
                "{} gave no answer within {} s; is it stopping, or overloaded?",
                self.base,
                TIMEOUT.as_secs()
            )),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> anyhow::Result<Answer> {
        let status = response.status();
        let request_id = response.headers().get(RequestId::HEADER).and_then(|id| Some(id.to_str().ok()?.to_owned()));
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow!("{} broke off its answer: {error}", self.base))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let value = serde_json::from_str(&text).ok();
        match (status.is_success(), value) {
            (true, value) if value.is_some() || text.is_empty() => {
                Ok(Answer { text, value: value.unwrap_or_default() })
            }
            (true, _) => Err(anyhow!("{} answered something that is not JSON; is it a Tidings server?", self.base)),
            (false, value) => Err(Refused::read(status, request_id, value.as_ref(), &self.base).into()),
        }
    }

    fn no_answer(&self, error: hyper_util::client::legacy::Error) -> anyhow::Error {
        if let Some(failure) = tls::cause(&error) {
            return anyhow!("cannot connect to {}: {}{}", self.base, tls::in_words(failure), remedy(failure));
        }
        if error.is_connect() {
            let cause = tls::causes(&error).last().map(ToString::to_string).unwrap_or_default();
            let start = if self.base.scheme() == "http" {
                "; start the server with `tidings serve`, or name another with --url"
            } else {
                ""
            };
            return anyhow!("cannot connect to {}: {cause}{start}", self.base);
        }
        anyhow::Error::new(error).context(format!("{} gave no answer", self.base))
    }
}

/// The remedy for a TLS error, if there is one.
fn remedy(failure: &rustls::Error) -> &'static str {
    match failure {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; for a private authority, give its certificate with --ca FILE or SSL_CERT_FILE"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; give a URL with a name that it is for",
        rustls::Error::InvalidMessage(_) => "; give the port that has TLS, or an http:// URL",
        _ => "",
    }
}

/// A refusal by the server, with its own message.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    sentence: String,
    field: Option<String>,
    remedy: Option<String>,
    /// What the server's log has it by.
    request_id: Option<String>,
}

impl Refused {
    fn read(status: StatusCode, request_id: Option<String>, problem: Option<&Value>, base: &Url) -> Self {
        let text = |key: &str| problem?.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let sentence = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("{base} answered {status}"));
        let remedy = text("remedy").or_else(|| {
            (status == StatusCode::UNAUTHORIZED).then(|| "give the right key with --key or TIDINGS_API_KEY".to_owned())
        });
        Self { status, sentence, field: text("field"), remedy, request_id }
    }

    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        if let Some(field) = &self.field {
            write!(f, "\n  field: {field}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  remedy: {remedy}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\n  request id: {id}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_told_as_sentence_field_and_remedy() {
        let base = Url::parse("http://127.0.0.1:8000").unwrap();
        let problem = json!({"title": "Unknown hook", "detail": "there is no hook \"x\"", "field": "hooks[0]",
            "remedy": "did you mean \"y\"?"});
        let refused = Refused::read(StatusCode::UNPROCESSABLE_ENTITY, Some("7f".into()), Some(&problem), &base);
        let text = "there is no hook \"x\"\n  field: hooks[0]\n  remedy: did you mean \"y\"?\n  request id: 7f";
        assert_eq!(refused.to_string(), text);
        let bare = Refused::read(StatusCode::BAD_GATEWAY, None, None, &base);
        assert_eq!(bare.to_string(), "http://127.0.0.1:8000/ answered 502 Bad Gateway");
    }

    #[test]
    fn names_are_escaped_in_addresses() {
        let client = Client::new(Url::parse("http://h/a/1/").unwrap(), "k".into(), false, None).unwrap();
        assert_eq!(client.address(&["v1", "hooks", "a/b?c#d%"]).as_str(), "http://h/a/1/v1/hooks/a%2Fb%3Fc%23d%25");
    }

    #[tokio::test]
    async fn nobody_there_says_where_and_how_to_start() {
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let client =
            Client::new(Url::parse(&format!("http://{closed}")).unwrap(), "secret-key".into(), false, None).unwrap();
        let error = client.send(Method::GET, client.address(&["v1", "hooks"]), None, &[]).await.err().unwrap();
        let text = format!("{error:#}");
        assert!(
            text.contains(&format!("http://{closed}"))
                && text.contains("tidings serve")
                && !text.contains("secret-key"),
            "{text}"
        );
    }
}
