//! Whatever a match and a document are: a match that is taken is bounded, means the same when it is stored, and holds
//! for the same documents however they are read; one that was stored by an earlier version can still be read.

use tidings_model::matcher::{Document, MAX_JSON_LEN, MAX_SIZE, Match, upgrade};

/// The match up to the first line break; the rest is the document.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, document) = text.split_once('\n').unwrap_or((text, "{}"));
    let document = Document::new(Some("update"), document);
    let now = upgrade(filter);
    if let Ok(stored) = Match::stored(&now) {
        stored.matches(&document);
    }
    match Match::parse(filter) {
        Ok(compiled) => {
            assert!(filter.trim().len() <= MAX_JSON_LEN && compiled.size() <= MAX_SIZE + MAX_JSON_LEN);
            let holds = compiled.matches(&document);
            let stored = Match::stored(compiled.to_json().get());
            assert_eq!(stored.map(|stored| stored.matches(&document)), Ok(holds));
            if let Some((path, text)) = compiled.index_key() {
                assert!(!holds || document.string_at(path) == Some(text));
            }
            assert!(!compiled.is_large());
        }
        Err(error) => assert!(error.to_string().len() <= 1_024 && error.path().starts_with("match")),
    }
}
