//! Excerpts of foreign texts for errors and logs.

/// The largest length of an excerpt in bytes, in quotes and escaped as `{:?}` writes it.
pub const MAX_QUOTED: usize = 256;

/// The beginning of a text for an error or a log line: as much as `{:?}` writes in [`MAX_QUOTED`] bytes. So errors and
/// log lines stay short, whatever clients send.
pub fn excerpt(text: &str) -> &str {
    let mut left = MAX_QUOTED - "\"\"".len();
    for (at, character) in text.char_indices() {
        let width: usize = character.escape_debug().map(char::len_utf8).sum();
        if width > left {
            return &text[..at];
        }
        left -= width;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_short_stays_as_it_is() {
        let text = "presence-room:ä€ \"1\"";
        assert_eq!(excerpt(text), text);
        let long = "x".repeat(254);
        assert_eq!(excerpt(&long), long);
        assert_eq!(excerpt(&"x".repeat(255)), long);
    }

    proptest! {
        // covers: G044
        #[test]
        fn however_it_is_escaped_it_is_short(text in "(\\PC|\\p{Cc}|[\"\\\\\u{300}\u{10ffff}]){0,400}") {
            let short = excerpt(&text);
            prop_assert!(text.starts_with(short));
            let quoted = format!("{:?}", short).len();
            prop_assert!(quoted <= MAX_QUOTED);
            // Cut no shorter than that the longest escape would not have fitted.
            prop_assert!(short == text || quoted > MAX_QUOTED / 2);
        }
    }
}
