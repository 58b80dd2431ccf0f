//! What a listener's hooks declare, to tell a field's name from a slip.

use std::sync::Arc;

use crate::hook::Hook;
use crate::pattern::nearest;
use crate::payload::FieldKind;

use super::tape::Tape;

/// The hooks whose events a match is for.
#[derive(Debug, Default)]
pub struct Declared(Vec<Arc<Hook>>);

impl Declared {
    /// What these declare.
    pub fn by(hooks: Vec<Arc<Hook>>) -> Self {
        Self(hooks)
    }

    /// Whether one of them declares a field of the last name of `path`, below the names before it.
    pub(crate) fn has(&self, path: &[&str]) -> bool {
        self.0.iter().any(|hook| declares(hook, path))
    }

    /// Whether they all declare their fields, and none this one, so that it is never sent.
    pub(crate) fn lack(&self, field: &str) -> bool {
        let lacks =
            |hook: &Arc<Hook>| hook.fields.as_ref().is_some_and(|fields| fields.iter().all(|f| f.name != field));
        !self.0.is_empty() && self.0.iter().all(lacks)
    }

    /// The declared field that a wrong name was probably meant to be.
    pub(crate) fn nearest(&self, field: &str) -> Option<&str> {
        let names = self.0.iter().flat_map(|hook| hook.fields.iter().flatten().map(|field| field.name.as_str()));
        nearest(field, names)
    }
}

fn declares(hook: &Hook, path: &[&str]) -> bool {
    let Some((name, above)) = path.split_last() else { return false };
    let fields = hook.fields.as_deref().unwrap_or_default();
    // A field of that name, or one that is an object, in which an operator on text or numbers would mean nothing.
    let is_object = |field: &str| fields.iter().any(|f| f.name == field && f.kind == Some(FieldKind::Object));
    fields.iter().any(|field| field.name == *name)
        || matches!(above, [field] if is_object(field))
        || hook.schema.as_ref().is_some_and(|schema| in_schema(schema.as_str(), path))
}

/// Whether a JSON Schema has a property at this path.
fn in_schema(schema: &str, path: &[&str]) -> bool {
    let Some(tape) = Tape::new(schema) else { return false };
    let property =
        |item: super::tape::Item<'_>, name: &&str| item.get("properties")?.get(name).map(|item| item.index());
    let mut at = 0;
    path.iter().all(|name| match property(tape.item(schema, at), name) {
        Some(index) => {
            at = index;
            true
        }
        None => false,
    })
}
