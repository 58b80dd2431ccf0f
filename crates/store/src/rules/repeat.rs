//! The answer to a publish whose event id or idempotency key was used before.
//!
//! With ids and keys a caller can repeat a publish without making a second event. So the same event or request again
//! gets the first answer. A different one under the same id or key is refused, or it would be lost silently.

use crate::log::Published;

/// The answer if the event id is taken. `is_same`: by an event with the same digest.
pub(crate) fn of_id(is_same: bool, id: &str, deliveries: u64) -> Published {
    if is_same { Published::Repeated { id: id.to_owned(), deliveries } } else { Published::IdTaken }
}

/// The answer if the key is taken. `is_same`: by a request with the same digest, which made the event of this id.
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
