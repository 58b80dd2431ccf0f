//! Hook names, and the patterns by which a listener subscribes to several hooks.
//!
//! A name consists of segments separated by `.`. In a pattern a segment may be `*`:
//!
//! | pattern | matches |
//! |---|---|
//! | `person.created` | that name |
//! | `person.*` | one or more segments after `person`: `person.created`, `person.address.changed`; not `person` |
//! | `*.created`, `shop.*.paid` | exactly one segment for a `*` that is not the last |
//! | `*` | every name |
//!
//! The API checks names with [`check_name`], the bus finds listeners with [`Pattern::matches`], and error texts suggest
//! a name with [`nearest`]. [`check_event_name`] is the rule for events of all doors: the bus applies it to each
//! publish,
//! so a door can be stricter, never laxer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt;

/// The longest hook name or pattern, in bytes.
pub const MAX_NAME_LEN: usize = 200;
/// Names with this prefix are Tidings' own events; no application may publish or declare them.
pub const RESERVED_PREFIX: &str = "tidings.";
/// Prefixes that no application may publish or declare: Tidings' own, and those that Pusher's clients take for messages
/// of their protocol, whichever door an event came through.
const RESERVED_PREFIXES: [&str; 3] = [RESERVED_PREFIX, "pusher:", "pusher_internal:"];

/// Why a hook name or pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty; write something like person.created")]
    Empty,
    /// The name is too long.
    #[error("the name has {len} bytes; write at most {MAX_NAME_LEN}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The name has a character that is not allowed.
    #[error(
        "{name:?}: the character {character:?} cannot be in a name; write printable ASCII without spaces, like \
        person.created"
    )]
    BadCharacter {
        /// The name as written.
        name: String,
        /// The first such character.
        character: char,
    },
    /// A `*` in a name.
    #[error("{name:?}: a name has no `*`; patterns are for listeners")]
    Wildcard {
        /// The name as written.
        name: String,
    },
    /// A `*` that is only part of a segment.
    #[error("{pattern:?}: `*` stands for a whole segment between dots; write something like person.*")]
    PartialWildcard {
        /// The pattern as written.
        pattern: String,
    },
    /// The name has a control character.
    #[error("the name contains a control character; leave it out")]
    Control,
    /// The name is reserved.
    #[error("names that begin with `{prefix}` are reserved; choose another name")]
    Reserved {
        /// The reserved prefix.
        prefix: &'static str,
    },
}

/// Checks that `name` can be the name of an event or hook, Tidings' own included.
///
/// # Errors
/// [`NameError`] unless it is 1 to [`MAX_NAME_LEN`] printable ASCII characters without space and `*`.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check_characters(name)?;
    if name.contains('*') { Err(NameError::Wildcard { name: excerpt(name).to_owned() }) } else { Ok(()) }
}

/// Checks that `name` can be the name of an event or hook of an application: [`check_name`], and not reserved.
///
/// # Errors
/// [`NameError`] as of [`check_name`], and [`NameError::Reserved`].
pub fn check_own_name(name: &str) -> Result<(), NameError> {
    check_name(name)?;
    check_reserved(name)
}

/// Checks that an application or its clients may publish an event with this name, through any door.
///
/// # Errors
/// [`NameError`] unless it is 1 to [`MAX_NAME_LEN`] bytes without control characters, and not reserved.
pub fn check_event_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong { len: name.len() });
    }
    if name.contains(char::is_control) {
        return Err(NameError::Control);
    }
    check_reserved(name)
}

fn check_reserved(name: &str) -> Result<(), NameError> {
    match RESERVED_PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)) {
        Some(prefix) => Err(NameError::Reserved { prefix }),
        None => Ok(()),
    }
}

/// Whether the name is one of Tidings' own events. Only patterns that begin with the reserved prefix match it.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// A hook name, or a pattern for several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    exact: bool,
}

impl Pattern {
    /// Reads a name or pattern.
    ///
    /// # Errors
    /// [`NameError`] for characters that names may not have, and for a `*` that is only part of a segment.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_characters(text)?;
        if text.split('.').any(|segment| segment.len() > 1 && segment.contains('*')) {
            return Err(NameError::PartialWildcard { pattern: excerpt(text).to_owned() });
        }
        Ok(Self { text: text.to_owned(), exact: !text.contains('*') })
    }

    /// Whether the pattern matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        if self.exact {
            return self.text == name;
        }
        let mut wanted = self.text.split('.').peekable();
        let mut segments = name.split('.');
        while let Some(segment) = wanted.next() {
            let Some(present) = segments.next() else { return false };
            if segment == "*" {
                if wanted.peek().is_none() {
                    return true;
                }
            } else if segment != present {
                return false;
            }
        }
        segments.next().is_none()
    }

    /// Whether it is a plain name, which must be in the catalogue.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

/// The candidate that is nearest to `name`, for "did you mean": at most a third of its letters differ (two in short
/// words), case aside. Of equally near candidates it is the first.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // A longer text is near to no name, and the comparison takes quadratic time.
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return None;
    }
    let name = name.to_lowercase();
    let allowed = (name.len() / 3).max(2).min(name.len() - 1);
    let near = |candidate: &&str| candidate.len().abs_diff(name.len()) <= allowed;
    candidates
        .into_iter()
        .filter(near)
        .map(|candidate| (strsim::osa_distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn check_characters(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong { len: name.len() });
    }
    match name.chars().find(|character| !character.is_ascii_graphic()) {
        Some(character) => Err(NameError::BadCharacter { name: excerpt(name).to_owned(), character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn patterns_go_by_segments() {
        assert!(matches("person.created", "person.created"));
        assert!(!matches("person.created", "person.created.twice"));
        assert!(!matches("person.created", "person"));
        assert!(matches("person.*", "person.created"));
        assert!(matches("person.*", "person.address.changed"));
        assert!(!matches("person.*", "person"));
        assert!(!matches("person.*", "personal.created"));
        assert!(matches("*.created", "person.created"));
        assert!(!matches("*.created", "shop.person.created"));
        assert!(!matches("*.created", "created"));
        assert!(!matches("*.created", "person.created.twice"));
        assert!(matches("shop.*.paid", "shop.order.paid"));
        assert!(!matches("shop.*.paid", "shop.order.item.paid"));
        assert!(matches("shop.*.*", "shop.a.b.c"));
        assert!(!matches("shop.*.*", "shop.a"));
        for name in ["a", "a.b", "tidings.listener.disabled", ".", "a..b"] {
            assert!(matches("*", name), "{name}");
        }
        assert!(Pattern::parse("a.b").unwrap().is_exact());
        assert!(!Pattern::parse("a.*").unwrap().is_exact());
    }

    // covers: I03
    #[test]
    fn names_hold_printable_ascii_only() {
        for name in ["a", "person.created", "a/b:c", "~", &"x".repeat(MAX_NAME_LEN)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name(&"x".repeat(MAX_NAME_LEN + 1)), Err(NameError::TooLong { len: MAX_NAME_LEN + 1 }));
        for name in ["a b", "a\nb", "a\0", "a\x7f", "ä"] {
            assert!(matches!(check_name(name), Err(NameError::BadCharacter { .. })), "{name:?}");
        }
        assert!(matches!(check_name("a.*"), Err(NameError::Wildcard { .. })));
        for prefix in ["tidings.", "pusher:", "pusher_internal:"] {
            let name = format!("{prefix}x");
            assert_eq!(check_own_name(&name), Err(NameError::Reserved { prefix }));
            assert_eq!(check_event_name(&name), Err(NameError::Reserved { prefix }));
            assert_eq!(check_name(&name), Ok(()));
        }
        for name in ["tidingsx", "pusher", "pusherx:a", "my.pusher:a", "Pusher:a"] {
            assert_eq!((check_own_name(name), check_event_name(name)), (Ok(()), Ok(())), "{name}");
        }
        for name in ["a b", "ä", "a*", "client-x"] {
            assert_eq!(check_event_name(name), Ok(()), "{name}");
        }
        for name in ["a\0", "a\nb", "\u{85}"] {
            assert_eq!(check_event_name(name), Err(NameError::Control), "{name:?}");
        }
        assert_eq!(check_event_name(""), Err(NameError::Empty));
        assert_eq!(check_event_name(&"x".repeat(MAX_NAME_LEN + 1)), Err(NameError::TooLong { len: MAX_NAME_LEN + 1 }));
        for pattern in ["per*", "a.b*", "**", "*a.b"] {
            assert!(matches!(Pattern::parse(pattern), Err(NameError::PartialWildcard { .. })), "{pattern}");
        }
    }

    #[test]
    fn the_nearest_name_is_named() {
        let names = ["person.created", "person.deleted", "order.paid"];
        assert_eq!(nearest("person.create", names), Some("person.created"));
        assert_eq!(nearest("person_created", names), Some("person.created"));
        assert_eq!(nearest("Order.Paid", names), Some("order.paid"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
