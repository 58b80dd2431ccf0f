//! Names of channels and users, by Pusher's rules.

use std::borrow::Cow;

use tidings_model::channel::is_user_id;
use tidings_model::event::MAX_CHANNEL_LEN;
use tidings_model::policy::SERVER_TO_USER;

/// The longest user id, in bytes.
const MAX_USER_LEN: usize = 200;

/// Whether a channel may have this name: 1 to 200 characters from `A-Za-z0-9_-=@,.;`, or `#server-to-user-` and a
/// user's id.
pub(crate) fn is_valid(name: &str) -> bool {
    match name.strip_prefix(SERVER_TO_USER) {
        Some(user) => is_valid_user(user),
        None => {
            (1..=MAX_CHANNEL_LEN).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b))
        }
    }
}

/// Whether a user may have this id: 1 to 200 bytes, as Pusher's server libraries allow, without control characters.
/// Pusher's own character set is smaller. Ids of login services (`auth0|…`) are outside of it and do no harm.
pub(crate) fn is_valid_user(id: &str) -> bool {
    id.len() <= MAX_USER_LEN && is_user_id(id)
}

/// Whether it is a presence channel, whose members see each other.
pub(crate) fn is_presence(name: &str) -> bool {
    name.starts_with("presence-")
}

/// Whether joining needs an auth string, whatever the app's options say.
pub(crate) fn needs_auth(name: &str) -> bool {
    name.starts_with("private-") || is_presence(name)
}

/// The name that Pusher's clients use for a canonical name: `#server-to-user-u` for `#u`.
pub(crate) fn shown(canonical: &str) -> Cow<'_, str> {
    match canonical.strip_prefix('#') {
        Some(user) => Cow::Owned(format!("{SERVER_TO_USER}{user}")),
        None => Cow::Borrowed(canonical),
    }
}

#[cfg(test)]
mod tests {
    use tidings_model::policy::canonical;

    use super::*;

    #[test]
    fn names_are_what_pushers_libraries_allow() {
        let longest = "x".repeat(200);
        for good in ["a", "private-foo_bar=@,.;", "#server-to-user-u1", "#server-to-user-auth0|5", &longest] {
            assert!(is_valid(good), "{good:?}");
        }
        let too_long = "x".repeat(201);
        for bad in ["", "#u", "#", "#server-to-user-", "a b", "a:b", "$a", "ä", "a\n", "a/b", &too_long] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        for bad in ["", "a\u{0}", "a\nb", &too_long] {
            assert!(!is_valid_user(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_users_channel_reads_back() {
        for name in ["#server-to-user-u1", "news", "presence-x"] {
            assert_eq!(shown(&canonical(name)), name);
        }
    }
}
