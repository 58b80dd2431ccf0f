//! `client-…`: events that a client publishes to the others in a channel.

use std::sync::Arc;

use tidings_bus::Rate;
use tidings_live::{ClientEvent, Context, PublishRefused, Refused, SessionRequest};
use tidings_model::pattern::{NameError, check_event_name};
use tidings_model::policy::{canonical, is_encrypted};

use crate::channel::{is_presence, needs_auth};
use crate::limits::{self, echo};
use crate::wire;
use crate::wire::codes::Code;
use crate::wire::incoming::Frame;

use super::Session;

impl Session {
    pub(super) fn client_event(&mut self, cx: &mut Context<'_>, name: &str, frame: &Frame<'_>) {
        match self.allowed(cx, name, frame) {
            Ok(event) => {
                cx.request(SessionRequest::Publish(event));
            }
            Err((code, message)) => {
                if code == Some(Code::ClientEventRejected) {
                    cx.refused(Refused::EventRate);
                }
                cx.write(wire::error(code, &message));
            }
        }
    }

    fn allowed(
        &mut self,
        cx: &Context<'_>,
        name: &str,
        frame: &Frame<'_>,
    ) -> Result<ClientEvent, (Option<Code>, String)> {
        let no = |message: String| Err((None, message));
        let app = &self.app;
        if !app.client_events {
            // Pusher's text, with the setting that does it here.
            return no("To send client events, you must enable this feature in the Settings page of your dashboard: \
                       here, set `client_events = true` for the app"
                .to_owned());
        }
        let Some(channel) = frame.channel.as_deref() else {
            return no("Client event rejected - it names no channel".to_owned());
        };
        if !needs_auth(channel) {
            return no("Client event rejected - only supported on private and presence channels".to_owned());
        }
        if is_encrypted(channel) {
            return no("Client event rejected - not supported on encrypted channels".to_owned());
        }
        let Some(member) = self.memberships.member(&canonical(channel)) else {
            return no(format!("Client event rejected - no current subscription to channel {}", echo(channel)));
        };
        if let Err(error) = check_event_name(name) {
            return no(match error {
                NameError::TooLong { .. } => {
                    format!("Client event rejected - its name is longer than {} bytes", limits::EVENT_NAME)
                }
                error => format!("Client event rejected - {error}"),
            });
        }
        let user = member.filter(|_| is_presence(channel)).map(|member| member.user.clone());
        let per_second = app.limits.client_events_per_second;
        if per_second > 0 && self.client_events.take(1, Rate::per_second(per_second), cx.now()).is_err() {
            let message = format!("Client event rejected due to rate limit: at most {per_second} a second");
            return Err((Some(Code::ClientEventRejected), message));
        }
        let Some(data) = frame.event_data() else {
            return no("Client event rejected - its data is not valid JSON".to_owned());
        };
        if data.bytes.len() > app.limits.payload {
            return no(limits::too_large(app.limits.payload));
        }
        Ok(ClientEvent { channel: Arc::from(channel), name: name.to_owned(), data, user })
    }

    pub(super) fn has_published(cx: &mut Context<'_>, outcome: Result<(), PublishRefused>) {
        if let Err(refused) = outcome {
            let code = (!matches!(refused, PublishRefused::Wrong(_))).then_some(Code::ClientEventRejected);
            cx.write(wire::error(code, &format!("Client event rejected - {refused}")));
        }
    }
}
