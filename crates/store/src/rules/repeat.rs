//! What a publish means whose id or idempotency key was used before.
//!
//! Ids and keys are the caller's way to try again without making a second event. So the same thing again is answered as
//! it was the first time, and another thing under the same name is refused: it would be lost without a word.

use crate::log::Published;

/// The event id is taken. `is_same`: by an event with the same digest.
pub(crate) fn of_id(is_same: bool, id: &str, deliveries: u64) -> Published {
    if is_same { Published::Repeated { id: id.to_owned(), deliveries } } else { Published::IdTaken }
}

/// The key is taken. `is_same`: by a request with the same digest, which made the event of this id.
pub(crate) fn of_key(is_same: bool, id: String, deliveries: u64) -> Published {
    if is_same { Published::Repeated { id, deliveries } } else { Published::KeyTaken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_repeated_and_another_refused() {
        let first = Published::Repeated { id: "e".to_owned(), deliveries: 3 };
        assert_eq!(of_id(true, "e", 3), first);
        assert_eq!(of_id(false, "e", 3), Published::IdTaken);
        assert_eq!(of_key(true, "e".to_owned(), 3), first);
        assert_eq!(of_key(false, "e".to_owned(), 3), Published::KeyTaken);
    }
}
