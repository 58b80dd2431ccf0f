//! `pusher:signin`: authenticates the connection's user.

use std::sync::Arc;

use bytes::Bytes;
use tidings_live::{Context, Refused};
use tidings_model::channel::{Member, UserId};

use crate::auth;
use crate::channel::is_valid_user;
use crate::limits::echo;
use crate::wire::incoming::{Frame, Signin, User};
use crate::wire::{self, json};

use super::Session;

/// Why a sign-in is refused.
enum SignInError {
    /// It is malformed, or over a limit.
    Malformed(String),
    /// The app's signature is missing or wrong.
    Proof(String),
}

impl Session {
    pub(super) fn sign_in(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) {
        match self.signed_in(cx, frame) {
            Ok((member, user_data)) => {
                cx.set_user(Arc::clone(member.user.text()));
                cx.write(wire::signin_success(&user_data));
                self.watch(cx, member.user.text(), &user_data);
                self.user = Some(member);
                self.is_known = true;
                self.prove_by = super::NEVER;
            }
            Err(SignInError::Malformed(message)) => self.fault(cx, &message),
            Err(SignInError::Proof(message)) => {
                Self::error(cx, &message);
                self.count_refusal(cx, Refused::FailedProof);
            }
        }
    }

    /// The user that a sign-in proves, and its `user_data`.
    fn signed_in(&self, cx: &Context<'_>, frame: &Frame<'_>) -> Result<(Arc<Member>, String), SignInError> {
        let malformed =
            || SignInError::Malformed("Invalid sign-in: `data` needs the strings `auth` and `user_data`".to_owned());
        let text = frame.text().ok_or_else(malformed)?;
        let Signin { auth, user_data } = json::object(&text).map_err(|_| malformed())?;
        auth::user(&self.app, cx.session(), &user_data, &auth)
            .map_err(|error| SignInError::Proof(error.to_string()))?;
        let user = User::of_user_data(&user_data).filter(|user| is_valid_user(&user.id)).ok_or_else(|| {
            SignInError::Malformed(
                "Invalid user data: `user_data` needs an `id` that is a string of 1 to 200 characters".to_owned(),
            )
        })?;
        if let Some(own) = self.user.as_deref().filter(|own| *own.user != *user.id) {
            let own = echo(&own.user);
            return Err(SignInError::Malformed(format!(
                "This connection is signed in already, as another user: '{own}'"
            )));
        }
        let member = self.member_of(&user).map_err(SignInError::Malformed)?;
        Ok((member, user_data.0.clone().into_owned()))
    }

    /// The member for a user, if the user's id and info are within the app's limits.
    pub(super) fn member_of(&self, user: &User<'_>) -> Result<Arc<Member>, String> {
        let limits = &self.app.limits;
        if user.id.chars().count() > limits.member_id {
            return Err(format!("The user's id exceeds the allowed maximum ({} characters)", limits.member_id));
        }
        let limit = limits.member_info;
        if user.info.is_some_and(|info| info.len() > limit) {
            return Err(format!("The user_info exceeds the allowed maximum ({limit} bytes)"));
        }
        let info = user.info.map(|info| Bytes::copy_from_slice(info.as_bytes()));
        let id = if user.is_number { UserId::number(&*user.id) } else { UserId::from(&*user.id) };
        Ok(Arc::new(Member { user: id, info }))
    }
}
