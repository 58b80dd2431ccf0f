//! What a condition is held against.

use super::tape::{Item, Kind};

/// A value of the document, or the model operation.
#[derive(Clone, Copy)]
pub(crate) enum Given<'d> {
    /// There is no such field.
    Nothing,
    /// A value of the document.
    Json(Item<'d>),
    /// The model operation.
    Op(&'d str),
}

impl<'d> Given<'d> {
    /// What may not be there.
    pub(crate) fn item(item: Option<Item<'d>>) -> Self {
        item.map_or(Self::Nothing, Self::Json)
    }

    /// Its text, if it is a string and that string is Unicode text.
    pub(crate) fn text(self) -> Option<&'d str> {
        match self {
            Self::Nothing => None,
            Self::Json(item) => item.text(),
            Self::Op(op) => Some(op),
        }
    }

    /// It as an object.
    pub(crate) fn object(self) -> Option<Item<'d>> {
        self.of_kind(Kind::Object)
    }

    /// It as an array.
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
