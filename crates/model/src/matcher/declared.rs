//! The declarations of a listener's hooks, which tell a field's name from a misspelled operator.

use std::sync::Arc;

use crate::hook::Hook;
use crate::pattern::nearest;
use crate::payload::FieldKind;

use super::tape::Tape;

/// The hooks whose events a match is for.
#[derive(Debug, Default)]
pub struct Declared(Vec<Arc<Hook>>);

impl Declared {
    /// The declarations of these hooks.
    pub fn by(hooks: Vec<Arc<Hook>>) -> Self {
        Self(hooks)
    }

    /// Whether a hook declares a field at `path`.
    pub(crate) fn has(&self, path: &[&str]) -> bool {
        self.0.iter().any(|hook| declares(hook, path))
    }

    /// Whether all hooks declare fields and none declares this one, so that it is never sent.
    pub(crate) fn lack(&self, field: &str) -> bool {
        let lacks =
            |hook: &Arc<Hook>| hook.fields.as_ref().is_some_and(|fields| fields.iter().all(|f| f.name != field));
        !self.0.is_empty() && self.0.iter().all(lacks)
    }

    /// The declared field whose name is nearest to a wrong one.
    pub(crate) fn nearest(&self, field: &str) -> Option<&str> {
        let names = self.0.iter().flat_map(|hook| hook.fields.iter().flatten().map(|field| field.name.as_str()));
        nearest(field, names)
    }
}

fn declares(hook: &Hook, path: &[&str]) -> bool {
    let Some((name, above)) = path.split_last() else { return false };
    let fields = hook.fields.as_deref().unwrap_or_default();
    // The hook declares a field with that name, or the field above is an object: then the key is a field of it, because
    // an
    // operator on text or numbers would be useless on an object.
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
