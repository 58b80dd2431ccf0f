//! The checks, in the order in which a client runs into problems.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rustls::CertificateError;
use serde_json::json;
use tidings_model::clock::{Clock, SystemClock};
use tidings_model::retry_after::retry_after;
use tidings_model::secret::SecretString;
use tidings_model::signing::{channel_string, request_string_to_sign, sign_hex};
use tidings_tls as tls;
use url::Url;

use super::finding::{Finding, Verdict};
use super::socket::{ServerMessage, Socket};
use crate::cli::client::Client;

/// Signed requests are refused when the clocks differ by more, in seconds (Pusher's HTTP API).
const MAX_SKEW: i64 = 600;
/// A difference that is reported, in seconds.
const SKEW: i64 = 60;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// The remedy if the port does not understand plain HTTP.
const GIVE_HTTPS: &str = "perhaps there is TLS on this port: give https://, and set forceTLS: true and wssPort in \
    clients, useTLS: true in servers";

/// What a check found; if it failed, what it found and the remedy.
pub(super) type Checked = Result<String, (String, String)>;

/// The options that Pusher's clients and servers are configured with.
#[derive(Default)]
pub(super) struct ClientOptions {
    pub(super) key: Option<String>,
    pub(super) id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) origin: Option<String>,
}

/// Runs the checks, as a client and as an app's server.
pub(super) struct Doctor {
    url: Url,
    options: ClientOptions,
    client: Client,
    findings: Vec<Finding>,
    /// The server's clock, from a `Date` header, in Unix seconds.
    date: Option<i64>,
}

/// The answer to `/healthz`.
enum HealthzAnswer {
    /// A server of Tidings answered.
    Tidings,
    /// Something else answered: maybe a proxy that forwards only the paths of Pusher's clients and servers.
    Other(StatusCode),
    /// A connection came up, but there was no answer. Holds the finding and the remedy.
    Silent((String, String)),
}

impl Doctor {
    pub(super) fn new(url: Url, options: ClientOptions, authorities: Option<&Path>) -> anyhow::Result<Self> {
        // The checks need no API key.
        let client = Client::new(url.clone(), String::new(), false, authorities)?;
        Ok(Self { url, options, client, findings: Vec::new(), date: None })
    }

    /// Runs all checks. The finding about `/healthz` is made last, because its meaning depends on whether the other
    /// requests got through.
    pub(super) async fn run_checks(mut self, idle: Option<Duration>) -> Vec<Finding> {
        let healthz = match self.probe_healthz().await {
            Ok(healthz) => healthz,
            Err(wrong) => {
                self.note("server", Err(wrong));
                return self.findings;
            }
        };
        self.check_as_client(idle).await;
        let passed = self.findings.iter().any(|finding| matches!(finding.verdict, Verdict::Fine));
        let asked = self.findings.iter().any(|finding| !matches!(finding.verdict, Verdict::Skipped(_)));
        let mut findings = vec![self.server(healthz, passed, asked)];
        if let Some(date) = self.date {
            findings.push(finding("clock", clock(date)));
        }
        findings.append(&mut self.findings);
        findings
    }

    /// The checks that do what Pusher's clients and servers do.
    async fn check_as_client(&mut self, idle: Option<Duration>) {
        let Some(key) = self.options.key.clone() else {
            self.skip("clients", "the app's key is not known", "give it with --app-key");
            return;
        };
        let (joined, socket) = match self.connect(&key).await {
            Ok((found, id, socket)) => (Ok(found), Some((id, socket))),
            Err(wrong) => (Err(wrong), None),
        };
        self.note("clients", joined);
        match (self.options.secret.clone(), socket) {
            (None, _) => {
                self.skip("auth", "the app's secret is not known", "give it with --secret or TIDINGS_APP_SECRET")
            }
            (Some(secret), Some((id, socket))) => {
                let proved = check_auth(&key, &secret, &id, socket).await;
                self.note("auth", proved);
            }
            (Some(_), None) => self.skip("auth", "no client gets in", "fix the above first"),
        }
        match (self.options.id.clone(), self.options.secret.clone()) {
            (Some(id), Some(secret)) => {
                let asked = self.check_signed_request(&id, &key, &secret).await;
                self.note("servers", asked);
            }
            _ => self.skip("servers", "the app's id or secret is not known", "give them with --app-id and --secret"),
        }
        if let Some(time) = idle {
            self.check_idle(&key, time).await;
        }
    }

    /// The origin of the web page that connects.
    pub(super) fn origin(&self) -> Option<&str> {
        self.options.origin.as_deref()
    }

    /// The finding about `/healthz`. `passed`: some other check passed; `asked`: some other check ran.
    fn server(&self, healthz: HealthzAnswer, passed: bool, asked: bool) -> Finding {
        let what = "server";
        match healthz {
            HealthzAnswer::Tidings => {
                let secure =
                    if self.url.scheme() == "https" { ", and its certificate is one that clients trust" } else { "" };
                Finding { what, verdict: Verdict::Fine, found: format!("it answers{secure}") }
            }
            HealthzAnswer::Other(status) if passed => Finding {
                what,
                found: format!("/healthz is answered by something else ({status})"),
                verdict: Verdict::Noted(
                    "a proxy in front forwards only some paths, such as /app and /apps: enough for Pusher's clients \
                    and servers; for /v1, health checks and the command line, forward all paths"
                        .to_owned(),
                ),
            },
            HealthzAnswer::Other(status) if self.expects_tls(status) => {
                finding(what, Err((format!("it answers {status} to what is not TLS"), GIVE_HTTPS.to_owned())))
            }
            HealthzAnswer::Other(status) if !asked => Finding {
                what,
                found: format!("/healthz is answered by something else ({status})"),
                verdict: Verdict::Skipped(
                    "whether a server of Tidings is behind it shows with the app's key: give it with \
                    --app-key"
                        .to_owned(),
                ),
            },
            HealthzAnswer::Other(status) => Finding {
                what,
                found: format!("it answers, but not as Tidings does: {status}"),
                verdict: Verdict::Wrong(format!(
                    "the host or port is another server's, or a proxy in front does not pass requests on; clients: {}",
                    self.host_options()
                )),
            },
            HealthzAnswer::Silent((found, remedy)) if passed => {
                Finding { what, found, verdict: Verdict::Noted(remedy) }
            }
            HealthzAnswer::Silent(wrong) => finding(what, Err(wrong)),
        }
    }

    pub(super) fn note(&mut self, what: &'static str, checked: Checked) {
        self.findings.push(finding(what, checked));
    }

    pub(super) fn skip(&mut self, what: &'static str, found: &str, remedy: &str) {
        let verdict = Verdict::Skipped(remedy.to_owned());
        self.findings.push(Finding { what, verdict, found: found.to_owned() });
    }

    /// Requests `/healthz`.
    ///
    /// # Errors
    /// When no connection comes up: then no other check can succeed either.
    async fn probe_healthz(&mut self) -> Result<HealthzAnswer, (String, String)> {
        let response = match self.get(&["healthz"], "", &[]).await {
            Ok(response) => response,
            Err(error) if is_connect(&*error) => return Err(self.unreachable(&*error)),
            Err(error) => return Ok(HealthzAnswer::Silent(self.unreachable(&*error))),
        };
        match response.status() {
            status if status.is_success() => {
                self.date = date(&response);
                Ok(HealthzAnswer::Tidings)
            }
            status => Ok(HealthzAnswer::Other(status)),
        }
    }

    /// Opens a WebSocket and connects to the app. Returns the finding, the session's id, and the socket.
    pub(super) async fn connect(&self, key: &str) -> Result<(String, String, Socket), (String, String)> {
        let nonce = STANDARD.encode([7; 16]);
        let mut headers = vec![
            ("connection", "Upgrade".to_owned()),
            ("upgrade", "websocket".to_owned()),
            ("sec-websocket-version", "13".to_owned()),
            ("sec-websocket-key", nonce),
        ];
        headers.extend(self.options.origin.clone().map(|origin| ("origin", origin)));
        let query = "protocol=7&client=tidings-doctor&version=1.0";
        let mut response = self.get(&["app", key], query, &headers).await.map_err(|error| self.unreachable(&*error))?;
        if self.expects_tls(response.status()) {
            return Err((
                format!("a WebSocket does not come up: the answer is {}", response.status()),
                GIVE_HTTPS.to_owned(),
            ));
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err((
                format!("a WebSocket does not come up: the answer is {}", response.status()),
                "a proxy in front does not pass WebSockets on: have it speak HTTP/1.1 to the server, and pass \
                `Upgrade` and `Connection` (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                proxy_set_header Connection \"upgrade\";)"
                    .to_owned(),
            ));
        }
        let broken = |error: String| {
            (format!("the WebSocket broke off: {error}"), "look at the proxy's and the server's log".to_owned())
        };
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| broken(error.to_string()))?;
        let mut socket = Socket::new(upgraded);
        match socket.receive_in_time().await.map_err(|error| broken(error.to_string()))? {
            ServerMessage::Message { event, data } if event == "pusher:connection_established" => {
                let id = data["socket_id"].as_str().unwrap_or_default().to_owned();
                let origin = self.options.origin.as_ref().map(|origin| format!(" from {origin}")).unwrap_or_default();
                Ok((format!("a WebSocket comes up, and the app {key} lets clients in{origin}"), id, socket))
            }
            ServerMessage::Message { data, .. } => {
                let code = data["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
                Err(self.explain_refusal(code, data["message"].as_str().unwrap_or_default()))
            }
            ServerMessage::Closed { code, reason } => Err(self.explain_refusal(code, &reason)),
        }
    }

    /// The finding and the remedy for a refusal of the WebSocket.
    fn explain_refusal(&self, code: u16, reason: &str) -> (String, String) {
        let remedy = match code {
            4001 => "the key is no app's here: pass the app's `key` (not its id or secret) as the first argument of \
                new Pusher(…), and check that the host is this server's"
                .to_owned(),
            4003 => "the app is disabled: `tidings app enable ID`, or `enabled` in its config".to_owned(),
            4009 => format!(
                "add {} to `allowed_origins` of the app",
                self.options.origin.as_deref().unwrap_or("the page's origin")
            ),
            4100 => "the server is full: raise `limits.sessions` of the app, `live.sessions` or \
                `max_connections`"
                .to_owned(),
            4200 => "the server is stopping: try again in a moment".to_owned(),
            _ => "docs/pusher.md says what the code means".to_owned(),
        };
        (format!("clients are turned away with {code}: {reason}"), remedy)
    }

    /// Checks that a request signed like an app server's is accepted.
    async fn check_signed_request(&mut self, id: &str, key: &str, secret: &str) -> Checked {
        let timestamp = (SystemClock::new().wall_ms() / 1_000).to_string();
        let params = [("auth_key", key), ("auth_timestamp", &timestamp), ("auth_version", "1.0")];
        let path = self.client.address(&["apps", id, "channels"]).path().to_owned();
        let signature = sign_hex(&SecretString::from(secret), request_string_to_sign("GET", &path, &params));
        let query = format!("auth_key={key}&auth_timestamp={timestamp}&auth_version=1.0&auth_signature={signature}");
        let answer =
            self.get(&["apps", id, "channels"], &query, &[]).await.map_err(|error| self.unreachable(&*error))?;
        let status = answer.status();
        if status == StatusCode::OK {
            self.date = date(&answer);
            return Ok(format!("a request signed for the app {id} is answered"));
        }
        let text = body(answer).await;
        let refusal = text.lines().next().unwrap_or_default();
        let remedy = match status {
            StatusCode::NOT_FOUND => format!("{id:?} is no app's id here: set `appId` (PUSHER_APP_ID) to the app's id"),
            StatusCode::FORBIDDEN => "the app is disabled: `tidings app enable ID`".to_owned(),
            // Checked first, because this text quotes the signed string, in which the key and the time occur too.
            StatusCode::UNAUTHORIZED if refusal.starts_with("Invalid signature") => {
                "the secret is not the app's: set `secret` (PUSHER_APP_SECRET) to it, without blanks around it"
                    .to_owned()
            }
            StatusCode::UNAUTHORIZED if refusal.contains("imestamp") => {
                "set this machine's clock: signatures are valid for ten minutes".to_owned()
            }
            StatusCode::UNAUTHORIZED => {
                format!("the key {key:?} is not that of the app {id}: set `key` (PUSHER_APP_KEY) to it")
            }
            _ => "the server's log says more".to_owned(),
        };
        // The text may show the signed string and the signature, but not the secret.
        Err((format!("a signed request is refused with {status}: {refusal}"), remedy))
    }

    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
        let mut url = self.client.address(path);
        url.set_query((!query.is_empty()).then_some(query));
        let mut request = Request::new(Full::new(Bytes::new()));
        // Every URL parses as a URI. If one did not, the request would fail.
        *request.uri_mut() = url.as_str().parse().unwrap_or_default();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), HeaderValue::try_from(value.as_str())) {
                request.headers_mut().insert(name, value);
            }
        }
        match tokio::time::timeout(TIMEOUT, self.client.raw(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(format!("timed out after {} s", TIMEOUT.as_secs()).into()),
        }
    }

    /// The finding and the remedy for a request without an answer.
    pub(super) fn unreachable(&self, error: &(dyn Error + 'static)) -> (String, String) {
        if let Some(failure) = tls::cause(error) {
            return (format!("there is no answer: {}", tls::in_words(failure)), self.remedy(failure));
        }
        let cause = tls::causes(error).last().map(ToString::to_string).unwrap_or_default();
        let has = |words: &[&str]| words.iter().any(|word| cause.contains(word));
        let remedy =
            if self.url.scheme() == "http" && !has(&["refused", "lookup", "resolve", "timed out", "unreachable"]) {
                GIVE_HTTPS.to_owned()
            } else {
                format!(
                    "is the server running there, and the port open? Clients: {}; servers: host, port",
                    self.host_options()
                )
            };
        (format!("there is no answer: {cause}"), remedy)
    }

    /// The remedy for a TLS error.
    fn remedy(&self, failure: &rustls::Error) -> String {
        match failure {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "clients do not know who issued the certificate: serve the whole chain, or have clients trust the \
                authority (Node: NODE_EXTRA_CA_CERTS; Python: pusher.requests.CERT_PATH; browsers: the system's store; \
                here: --ca FILE)"
                    .to_owned()
            }
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => {
                format!("set {} to a name that the certificate is for", self.host_options())
            }
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => "renew the certificate, or set this machine's clock".to_owned(),
            rustls::Error::InvalidMessage(_) => {
                "there is no TLS on this port: clients with forceTLS: false and wsPort, servers with useTLS: false, or \
                give the port that has it"
                    .to_owned()
            }
            _ => "look at the certificate and the TLS settings of the server, or of the proxy in front".to_owned(),
        }
    }

    /// Whether the port seems to expect TLS: servers answer plain HTTP there with 400.
    fn expects_tls(&self, status: StatusCode) -> bool {
        self.url.scheme() == "http" && status == StatusCode::BAD_REQUEST
    }

    /// The names of the clients' options for host and port.
    fn host_options(&self) -> &'static str {
        if self.url.scheme() == "https" { "wsHost, wssPort" } else { "wsHost, wsPort" }
    }
}

/// Checks that a channel proof signed with the app's secret is accepted.
async fn check_auth(key: &str, secret: &str, id: &str, mut socket: Socket) -> Checked {
    let channel = "private-tidings-doctor";
    let auth = format!("{key}:{}", sign_hex(&SecretString::from(secret), channel_string(id, channel, None)));
    let broken =
        |error: anyhow::Error| (format!("the WebSocket broke off: {error}"), "look at the server's log".to_owned());
    socket
        .send(&json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth}}))
        .await
        .map_err(broken)?;
    loop {
        match socket.receive_in_time().await.map_err(broken)? {
            ServerMessage::Message { event, .. } if event == "pusher_internal:subscription_succeeded" => {
                return Ok("a private channel opens to what the secret signs".to_owned());
            }
            ServerMessage::Message { event, data } if event == "pusher:error" => {
                return Err((
                    format!("a private channel stays shut: {}", data["message"].as_str().unwrap_or_default()),
                    "the secret is not the app's: the auth endpoint (channelAuthorization) has to sign with the app's \
                    `secret`"
                        .to_owned(),
                ));
            }
            ServerMessage::Message { .. } => {}
            ServerMessage::Closed { code, reason } => {
                return Err((
                    format!("the connection was ended with {code}: {reason}"),
                    "look at the server's log".to_owned(),
                ));
            }
        }
    }
}

/// Whether no connection came up.
fn is_connect(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
}

fn finding(what: &'static str, checked: Checked) -> Finding {
    match checked {
        Ok(found) => Finding { what, verdict: Verdict::Fine, found },
        Err((found, remedy)) => Finding { what, verdict: Verdict::Wrong(remedy), found },
    }
}

/// The time at which an answer was made, in Unix seconds.
fn date(response: &Response<Incoming>) -> Option<i64> {
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    // `retry_after` counts from the given time; from 0 that is the Unix time.
    i64::try_from(retry_after(date, 0)?.as_secs()).ok()
}

/// Compares the server's clock with this machine's.
fn clock(date: i64) -> Checked {
    let skew = SystemClock::new().wall_ms() / 1_000 - date;
    let found = format!("its clock and this one's are {} s apart", skew.abs());
    match skew.abs() {
        off if off >= MAX_SKEW => {
            Err((found, "set the clocks (NTP): signed requests are refused from ten minutes on".to_owned()))
        }
        off if off >= SKEW => Err((
            found,
            "set the clocks (NTP): tokens may be refused, and signed requests from ten minutes on".to_owned(),
        )),
        _ => Ok(found),
    }
}

async fn body(response: Response<Incoming>) -> String {
    match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    }
}
