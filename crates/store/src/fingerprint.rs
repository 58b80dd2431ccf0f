//! Checks that a node's main key file is the one that the store is sealed with. The store keeps a fingerprint of each
//! main key. A node whose key file has another key, or lacks one that is needed, is refused before it writes anything.

use crate::error::StoreError;
use crate::seal::MainKey;

/// The prefix of fingerprints' names in table `meta`; the key's id follows.
pub(crate) const PREFIX: &str = "main_key.";

/// The name of a key's fingerprint.
pub(crate) fn name(id: u32) -> String {
    format!("{PREFIX}{id}")
}

/// The key's id in the name of a fingerprint.
pub(crate) fn id(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// A sealed record. One per main key is enough to test whether that key opens.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The name of the record that it was sealed for.
    pub(crate) belongs_to: String,
    pub(crate) sealed: Vec<u8>,
}

/// The changes that make a store's fingerprints those of a key file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Corrections {
    pub(crate) set: Vec<(u32, i64)>,
    pub(crate) forget: Vec<u32>,
}

/// Compares a key file with a store. `alone`: no other process uses the store, so fingerprints of keys that seal
/// nothing may change.
///
/// # Errors
/// [`StoreError::OtherMainKey`].
pub(crate) fn compare(
    key: &MainKey,
    known: &[(u32, i64)],
    samples: &[Sample],
    alone: bool,
) -> Result<Corrections, StoreError> {
    let fingerprint_of = |id: u32| key.fingerprints().find(|(own, _)| *own == id).map(|(_, fingerprint)| fingerprint);
    let known_of = |id: u32| known.iter().find(|(other, _)| *other == id).map(|(_, fingerprint)| *fingerprint);
    let mut needed = Vec::new();
    for sample in samples {
        let id = MainKey::id_of(&sample.sealed)?;
        needed.push(id);
        let fits = match known_of(id) {
            Some(known) => fingerprint_of(id) == Some(known),
            // Sealed by a version that kept no fingerprints.
            None => key.open(&sample.belongs_to, &sample.sealed).is_ok(),
        };
        if !fits {
            return Err(StoreError::OtherMainKey(id));
        }
    }
    let mut corrections = Corrections::default();
    for &(id, fingerprint) in known {
        let own = fingerprint_of(id);
        if own == Some(fingerprint) || needed.contains(&id) {
            continue;
        }
        if !alone {
            return Err(StoreError::OtherMainKey(id));
        }
        if own.is_none() {
            corrections.forget.push(id);
        }
    }
    corrections.set = key.fingerprints().filter(|&(id, own)| known_of(id) != Some(own)).collect();
    Ok(corrections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lines: &str) -> MainKey {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.key");
        std::fs::write(&path, lines).unwrap();
        MainKey::load(&path).unwrap().unwrap()
    }

    // covers: G124
    #[test]
    fn a_key_is_needed_for_as_long_as_something_is_sealed_with_it() {
        let line = |id: u32, byte: &str| format!("{id}:{}=\n", byte.repeat(43));
        let (one, other) = (key(&line(1, "A")), key(&line(1, "E")));
        let rotated = key(&(line(2, "I") + &line(1, "A")));
        let known: Vec<_> = one.fingerprints().collect();
        assert_ne!(known, other.fingerprints().collect::<Vec<_>>());
        let sealed = || vec![Sample { belongs_to: "r".to_owned(), sealed: one.seal("r", b"secret").unwrap() }];

        // A new store, then the same key again.
        assert_eq!(compare(&one, &[], &[], false).unwrap().set, known);
        assert_eq!(compare(&one, &known, &sealed(), false).unwrap(), Corrections::default());
        // Another key of the same number: refused, unless nothing is sealed and nobody else is there.
        for samples in [sealed(), vec![]] {
            assert_eq!(compare(&other, &known, &samples, false), Err(StoreError::OtherMainKey(1)));
        }
        assert_eq!(compare(&other, &known, &sealed(), true), Err(StoreError::OtherMainKey(1)));
        assert_eq!(compare(&other, &known, &[], true).unwrap().set, other.fingerprints().collect::<Vec<_>>());
        // A store from before there were fingerprints.
        assert_eq!(compare(&other, &[], &sealed(), true), Err(StoreError::OtherMainKey(1)));
        assert_eq!(compare(&one, &[], &sealed(), true).unwrap().set, known);
        // A new first line; then a file without the old one, which is still needed.
        let both: Vec<_> = rotated.fingerprints().collect();
        assert_eq!(compare(&rotated, &known, &sealed(), false).unwrap().set.len(), 1);
        let newest = key(&line(2, "I"));
        assert_eq!(compare(&newest, &both, &sealed(), true), Err(StoreError::OtherMainKey(1)));
        assert_eq!(compare(&newest, &both, &[], true).unwrap(), Corrections { set: vec![], forget: vec![1] });
    }
}
