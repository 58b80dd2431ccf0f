//! The cursor of a stream: its position in each of its channels, as the `id:` of its messages.
//!
//! Written `epoch:offset` for each channel in the order of the request, with commas between, and `-` for a channel that
//! has no history or no position yet.

use std::fmt::Write as _;

use tidings_model::channel::{Epoch, Position};

/// Reads a cursor over `channels` channels; `None` if it is not one.
pub(crate) fn read(text: &str, channels: usize) -> Option<Vec<Option<Position>>> {
    // One more is enough to know that the cursor is of another stream.
    let positions: Vec<_> = text.split(',').take(channels + 1).map(position).collect::<Option<_>>()?;
    (positions.len() == channels).then_some(positions)
}

fn position(text: &str) -> Option<Option<Position>> {
    if text == "-" {
        return Some(None);
    }
    let (epoch, offset) = text.split_once(':')?;
    let digits = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
    let offset = digits.then(|| offset.parse().ok()).flatten()?;
    Some(Some(Position { offset, epoch: Epoch::parse(epoch)? }))
}

/// Writes a cursor.
pub(crate) fn write<'a>(positions: impl Iterator<Item = Option<&'a Position>>) -> String {
    let mut text = String::new();
    for (n, position) in positions.enumerate() {
        if n > 0 {
            text.push(',');
        }
        match position {
            // Writing to a string cannot fail.
            Some(position) => _ = write!(text, "{}:{}", position.epoch.as_str(), position.offset),
            None => text.push('-'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let at = |epoch: &str, offset| Some(Position { offset, epoch: Epoch::parse(epoch).unwrap() });
        let positions = vec![at("5f3c", 17), None, at("a-b", 0)];
        let text = write(positions.iter().map(Option::as_ref));
        assert_eq!(text, "5f3c:17,-,a-b:0");
        assert_eq!(read(&text, 3), Some(positions));
        assert_eq!(read(&text, 2), None, "of another stream");
        for bad in ["", ",", "a", "a:", ":1", "a:1,", "a:+1", "a:-1", "a:1 ", "a b:1", "--", "a:18446744073709551616"] {
            assert_eq!(read(bad, 1), None, "{bad:?}");
        }
    }
}
