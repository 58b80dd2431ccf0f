//! The query of a request: its parameters, percent-decoded and otherwise as they came, because that is what is signed.

use std::borrow::Cow;

/// Parameters in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn read(query: Option<&'a str>) -> Self {
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        Self(
            parts
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (decoded(name), decoded(value))
                })
                .collect(),
        )
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.0
    }

    /// The first of this name, whatever its case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The items of a list, as `name[]=…`, `name[0]=…`.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let is_item =
            |own: &str| own.strip_prefix(name).is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'));
        self.0.iter().filter(|(own, _)| is_item(own)).map(|(_, value)| &**value).collect()
    }
}

/// Percent-decoded. A plus is a plus: Pusher's libraries send values unescaped.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_at_checked(2)).flatten().and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_otherwise_left_alone() {
        let query = Query::read(Some("a=1%2C2&b=x+y&&c&channels[]=p&channels%5B1%5D=q&A=3&d=%zz%2&e=%c3%a4=%ff"));
        assert_eq!(query.get("a"), Some("1,2"));
        assert_eq!(query.get("B"), Some("x+y"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), Some("%zz%2"));
        assert_eq!(query.get("e"), Some("ä=\u{fffd}"));
        assert_eq!(query.get("f"), None);
        assert_eq!(query.list("channels"), ["p", "q"]);
        assert!(query.list("channel").is_empty());
        assert!(Query::read(None).all().is_empty());
    }
}
