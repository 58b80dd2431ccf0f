//! The checks, in the order in which a client meets what they look at.

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
use super::socket::{Heard, Socket};
use crate::cli::client::Client;

/// Requests are refused whose clock is off by more, in seconds (Pusher's HTTP API).
const MAX_SKEW: i64 = 600;
/// Above it is worth a word.
const SKEW: i64 = 60;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// What to do where plain HTTP is not understood.
const GIVE_HTTPS: &str = "perhaps there is TLS on this port: give https://, and set forceTLS: true and wssPort in \
    clients, useTLS: true in servers";

/// What an answer is to the check that asked.
pub(super) type Checked = Result<String, (String, String)>;

/// What a client is told of its app.
#[derive(Default)]
pub(super) struct Known {
    pub(super) key: Option<String>,
    pub(super) id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) origin: Option<String>,
}

/// A client that asks what its like ask.
pub(super) struct Doctor {
    url: Url,
    known: Known,
    client: Client,
    findings: Vec<Finding>,
    /// What its clock said, in Unix seconds.
    date: Option<i64>,
}

/// How a server answers `/healthz`.
enum Met {
    /// As one of Tidings does.
    Tidings,
    /// As something else does: a proxy may pass on only what clients and servers of Pusher's ask for.
    Other(StatusCode),
    /// Not at all, though something is there.
    Silent((String, String)),
}

impl Doctor {
    pub(super) fn new(url: Url, known: Known, authorities: Option<&Path>) -> anyhow::Result<Self> {
        // It bears no API key.
        let client = Client::new(url.clone(), String::new(), false, authorities)?;
        Ok(Self { url, known, client, findings: Vec::new(), date: None })
    }

    /// Everything that can be looked at. Each check says what it found itself; what `/healthz` means is said when the
    /// others have shown whether the rest gets through.
    pub(super) async fn look(mut self, idle: Option<Duration>) -> Vec<Finding> {
        let met = match self.meet().await {
            Ok(met) => met,
            Err(wrong) => {
                self.note("server", Err(wrong));
                return self.findings;
            }
        };
        self.look_as_clients(idle).await;
        let passed = self.findings.iter().any(|finding| matches!(finding.verdict, Verdict::Fine));
        let asked = self.findings.iter().any(|finding| !matches!(finding.verdict, Verdict::Skipped(_)));
        let mut findings = vec![self.server(met, passed, asked)];
        if let Some(date) = self.date {
            findings.push(finding("clock", clock(date)));
        }
        findings.append(&mut self.findings);
        findings
    }

    /// What clients and servers of Pusher's do.
    async fn look_as_clients(&mut self, idle: Option<Duration>) {
        let Some(key) = self.known.key.clone() else {
            self.skip("clients", "the app's key is not known", "give it with --app-key");
            return;
        };
        let (joined, socket) = match self.connect(&key).await {
            Ok((found, id, socket)) => (Ok(found), Some((id, socket))),
            Err(wrong) => (Err(wrong), None),
        };
        self.note("clients", joined);
        match (self.known.secret.clone(), socket) {
            (None, _) => {
                self.skip("auth", "the app's secret is not known", "give it with --secret or TIDINGS_APP_SECRET")
            }
            (Some(secret), Some((id, socket))) => {
                let proved = prove(&key, &secret, &id, socket).await;
                self.note("auth", proved);
            }
            (Some(_), None) => self.skip("auth", "no client gets in", "mend the above first"),
        }
        match (self.known.id.clone(), self.known.secret.clone()) {
            (Some(id), Some(secret)) => {
                let asked = self.ask_signed(&id, &key, &secret).await;
                self.note("servers", asked);
            }
            _ => self.skip("servers", "the app's id or secret is not known", "give them with --app-id and --secret"),
        }
        if let Some(time) = idle {
            self.look_at_idle(&key, time).await;
        }
    }

    /// The origin of the page that connects.
    pub(super) fn origin(&self) -> Option<&str> {
        self.known.origin.as_deref()
    }

    /// What the answer of `/healthz` means, where others were answered or not.
    fn server(&self, met: Met, passed: bool, asked: bool) -> Finding {
        let what = "server";
        match met {
            Met::Tidings => {
                let secure =
                    if self.url.scheme() == "https" { ", and its certificate is one that clients trust" } else { "" };
                Finding { what, verdict: Verdict::Fine, found: format!("it answers{secure}") }
            }
            Met::Other(status) if passed => Finding {
                what,
                found: format!("/healthz is answered by something else ({status})"),
                verdict: Verdict::Noted(
                    "a proxy in front passes on only a part, such as /app and /apps: enough for clients and servers of \
                    Pusher's; for /v1, health checks and the command line, pass everything on"
                        .to_owned(),
                ),
            },
            Met::Other(status) if self.met_tls(status) => {
                finding(what, Err((format!("it answers {status} to what is not TLS"), GIVE_HTTPS.to_owned())))
            }
            Met::Other(status) if !asked => Finding {
                what,
                found: format!("/healthz is answered by something else ({status})"),
                verdict: Verdict::Skipped(
                    "whether a server of Tidings is behind it shows with the app's key: give it with \
                    --app-key"
                        .to_owned(),
                ),
            },
            Met::Other(status) => Finding {
                what,
                found: format!("it answers, but not as Tidings does: {status}"),
                verdict: Verdict::Wrong(format!(
                    "the host or port is another server's, or a proxy in front does not pass requests on; clients: {}",
                    self.host_options()
                )),
            },
            Met::Silent((found, remedy)) if passed => Finding { what, found, verdict: Verdict::Noted(remedy) },
            Met::Silent(wrong) => finding(what, Err(wrong)),
        }
    }

    pub(super) fn note(&mut self, what: &'static str, checked: Checked) {
        self.findings.push(finding(what, checked));
    }

    pub(super) fn skip(&mut self, what: &'static str, found: &str, remedy: &str) {
        let verdict = Verdict::Skipped(remedy.to_owned());
        self.findings.push(Finding { what, verdict, found: found.to_owned() });
    }

    /// How `/healthz` is answered.
    ///
    /// # Errors
    /// When no connection comes up: then nothing else on that host and port is answered either.
    async fn meet(&mut self) -> Result<Met, (String, String)> {
        let response = match self.get(&["healthz"], "", &[]).await {
            Ok(response) => response,
            Err(error) if is_connect(&*error) => return Err(self.unreachable(&*error)),
            Err(error) => return Ok(Met::Silent(self.unreachable(&*error))),
        };
        match response.status() {
            status if status.is_success() => {
                self.date = date(&response);
                Ok(Met::Tidings)
            }
            status => Ok(Met::Other(status)),
        }
    }

    /// Whether a WebSocket comes up and the app lets clients in: what was found, the session's id, and the socket.
    pub(super) async fn connect(&self, key: &str) -> Result<(String, String, Socket), (String, String)> {
        let nonce = STANDARD.encode([7; 16]);
        let mut headers = vec![
            ("connection", "Upgrade".to_owned()),
            ("upgrade", "websocket".to_owned()),
            ("sec-websocket-version", "13".to_owned()),
            ("sec-websocket-key", nonce),
        ];
        headers.extend(self.known.origin.clone().map(|origin| ("origin", origin)));
        let query = "protocol=7&client=tidings-doctor&version=1.0";
        let mut response = self.get(&["app", key], query, &headers).await.map_err(|error| self.unreachable(&*error))?;
        if self.met_tls(response.status()) {
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
        match socket.next().await.map_err(|error| broken(error.to_string()))? {
            Heard::Message { event, data } if event == "pusher:connection_established" => {
                let id = data["socket_id"].as_str().unwrap_or_default().to_owned();
                let origin = self.known.origin.as_ref().map(|origin| format!(" from {origin}")).unwrap_or_default();
                Ok((format!("a WebSocket comes up, and the app {key} lets clients in{origin}"), id, socket))
            }
            Heard::Message { data, .. } => {
                let code = data["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
                Err(self.turned_away(code, data["message"].as_str().unwrap_or_default()))
            }
            Heard::Closed { code, reason } => Err(self.turned_away(code, &reason)),
        }
    }

    /// What a refusal of the WebSocket means to whoever set the client up.
    fn turned_away(&self, code: u16, reason: &str) -> (String, String) {
        let remedy = match code {
            4001 => "the key is no app's here: pass the app's `key` (not its id or secret) as the first argument of \
                new Pusher(…), and check that the host is this server's"
                .to_owned(),
            4003 => "the app is disabled: `tidings app enable ID`, or `enabled` in its config".to_owned(),
            4009 => format!(
                "add {} to `allowed_origins` of the app",
                self.known.origin.as_deref().unwrap_or("the page's origin")
            ),
            4100 => "the server is full: raise `limits.sessions` of the app, `live.sessions` or \
                `max_connections`"
                .to_owned(),
            4200 => "the server is stopping: try again in a moment".to_owned(),
            _ => "docs/pusher.md says what the code means".to_owned(),
        };
        (format!("clients are turned away with {code}: {reason}"), remedy)
    }

    /// Whether what the app's servers sign is believed.
    async fn ask_signed(&mut self, id: &str, key: &str, secret: &str) -> Checked {
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
        let said = text.lines().next().unwrap_or_default();
        let remedy = match status {
            StatusCode::NOT_FOUND => format!("{id:?} is no app's id here: set `appId` (PUSHER_APP_ID) to the app's id"),
            StatusCode::FORBIDDEN => "the app is disabled: `tidings app enable ID`".to_owned(),
            // The text shows what was signed, in which the key and the time are too.
            StatusCode::UNAUTHORIZED if said.starts_with("Invalid signature") => {
                "the secret is not the app's: set `secret` (PUSHER_APP_SECRET) to it, without blanks around it"
                    .to_owned()
            }
            StatusCode::UNAUTHORIZED if said.contains("imestamp") => {
                "set this machine's clock: signatures are good for ten minutes".to_owned()
            }
            StatusCode::UNAUTHORIZED => {
                format!("the key {key:?} is not that of the app {id}: set `key` (PUSHER_APP_KEY) to it")
            }
            _ => "the server's log says more".to_owned(),
        };
        // What was signed is shown, the signature is no secret; the secret is in neither.
        Err((format!("a signed request is refused with {status}: {said}"), remedy))
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
        // A URL is a URI; one that is none is turned away by the server.
        *request.uri_mut() = url.as_str().parse().unwrap_or_default();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), HeaderValue::try_from(value.as_str())) {
                request.headers_mut().insert(name, value);
            }
        }
        match tokio::time::timeout(PATIENCE, self.client.raw(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(format!("timed out after {} s", PATIENCE.as_secs()).into()),
        }
    }

    /// What it means that there is no answer.
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

    /// What to do about a failure of TLS.
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

    /// Whether that is how servers answer plain HTTP where they have TLS.
    fn met_tls(&self, status: StatusCode) -> bool {
        self.url.scheme() == "http" && status == StatusCode::BAD_REQUEST
    }

    /// How clients call the host and port.
    fn host_options(&self) -> &'static str {
        if self.url.scheme() == "https" { "wsHost, wssPort" } else { "wsHost, wsPort" }
    }
}

/// Whether what the app signs for its clients is believed.
async fn prove(key: &str, secret: &str, id: &str, mut socket: Socket) -> Checked {
    let channel = "private-tidings-doctor";
    let auth = format!("{key}:{}", sign_hex(&SecretString::from(secret), channel_string(id, channel, None)));
    let broken =
        |error: anyhow::Error| (format!("the WebSocket broke off: {error}"), "look at the server's log".to_owned());
    socket
        .say(&json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth}}))
        .await
        .map_err(broken)?;
    loop {
        match socket.next().await.map_err(broken)? {
            Heard::Message { event, .. } if event == "pusher_internal:subscription_succeeded" => {
                return Ok("a private channel opens to what the secret signs".to_owned());
            }
            Heard::Message { event, data } if event == "pusher:error" => {
                return Err((
                    format!("a private channel stays shut: {}", data["message"].as_str().unwrap_or_default()),
                    "the secret is not the app's: the auth endpoint (channelAuthorization) has to sign with the app's \
                    `secret`"
                        .to_owned(),
                ));
            }
            Heard::Message { .. } => {}
            Heard::Closed { code, reason } => {
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
    // From 1970 on, which is when the clock began.
    i64::try_from(retry_after(date, 0)?.as_secs()).ok()
}

/// How far the server's clock is from this one's.
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
