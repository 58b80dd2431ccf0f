//! The value that a condition is evaluated on.

use super::tape::{Item, Kind};

/// A value of the document, or the model operation.
#[derive(Clone, Copy)]
pub(crate) enum Target<'d> {
    /// The field is missing.
    Missing,
    /// A value of the document.
    Json(Item<'d>),
    /// The model operation.
    Op(&'d str),
}

impl<'d> Target<'d> {
    /// A value that may be missing.
    pub(crate) fn item(item: Option<Item<'d>>) -> Self {
        item.map_or(Self::Missing, Self::Json)
    }

    /// Its text, if it is a string and that string is Unicode text.
    pub(crate) fn text(self) -> Option<&'d str> {
        match self {
            Self::Missing => None,
            Self::Json(item) => item.text(),
            Self::Op(op) => Some(op),
        }
    }

    /// The value, if it is an object.
    pub(crate) fn object(self) -> Option<Item<'d>> {
        self.of_kind(Kind::Object)
    }

    /// The value, if it is an array.
    pub(crate) fn array(self) -> Option<Item<'d>> {
        self.of_kind(Kind::Array)
    }

    fn of_kind(self, kind: Kind) -> Option<Item<'d>> {
        match self {
            Self::Json(item) if item.kind() == kind => Some(item),
            _ => None,
        }
    }
}
