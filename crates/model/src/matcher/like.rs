//! The regular expression of a `like`: compiled small, searched in linear time, and never larger than its accounted
//! size.
//!
//! A lazy automaton searches forward only, because the beginning of a match does not matter. It takes a third of the
//! memory of a general regex. The accounted size includes one cache; a search that finds the cache in use makes a
//! temporary one.

use parking_lot::Mutex;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{BuildError, NFA, WhichCaptures, pikevm::PikeVM};
use regex_automata::{Input, hybrid, nfa::thompson};

use super::{MAX_PATTERN_LEN, MAX_REGEX_SIZE, MatchError};

/// The size of the cache in bytes above its minimum: enough for the states of everyday patterns.
const CACHE_ROOM: usize = 1024;
/// The largest automaton of a match that was stored before there was a size limit, in bytes.
const LARGEST_STORED: usize = 2 << 20;

/// A compiled `like`.
#[derive(Debug)]
pub(crate) struct Like {
    pattern: Box<str>,
    /// `None` for a pattern above the size limit, stored before there was one: it is compiled when an event needs it.
    engine: Option<Box<Engine>>,
}

/// An automaton and its cache.
struct Engine {
    dfa: DFA,
    cache: Mutex<Option<Cache>>,
    size: usize,
}

/// Why an automaton could not be built.
enum BuildFailure {
    Syntax(String),
    /// It needs at least this many bytes.
    TooLarge(usize),
}

impl Like {
    /// Compiles a pattern. `stored` patterns may exceed the limits.
    ///
    /// # Errors
    /// [`MatchError`] at `path`.
    pub(crate) fn new(pattern: &str, stored: bool, path: &dyn Fn() -> String) -> Result<Self, MatchError> {
        if pattern.len() > MAX_PATTERN_LEN && !stored {
            return Err(MatchError::PatternTooLong { path: path() });
        }
        let engine = match Engine::new(pattern, MAX_REGEX_SIZE) {
            Ok(engine) => Some(Box::new(engine)),
            Err(BuildFailure::TooLarge(_)) if stored => None,
            Err(BuildFailure::TooLarge(size)) => return Err(MatchError::PatternTooLarge { path: path(), size }),
            Err(BuildFailure::Syntax(reason)) => return Err(MatchError::BadPattern { path: path(), reason }),
        };
        Ok(Self { pattern: pattern.into(), engine })
    }

    /// The pattern, if it is compiled only when an event needs it.
    pub(crate) fn uncompiled(&self) -> Option<&str> {
        self.engine.is_none().then_some(&self.pattern)
    }

    /// Its largest size in bytes, cache included.
    pub(crate) fn size(&self) -> usize {
        self.pattern.len() + self.engine.as_ref().map_or(0, |engine| engine.size)
    }

    /// Drops the automaton, and keeps the pattern.
    pub(crate) fn drop_compiled(&mut self) {
        self.engine = None;
    }

    /// Whether it is found in `text`.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        match &self.engine {
            Some(engine) => engine.is_in(text),
            // Compiling cannot fail: the pattern was compiled when it was stored.
            None => Engine::new(&self.pattern, LARGEST_STORED).is_ok_and(|engine| engine.is_in(text)),
        }
    }
}

impl Engine {
    fn new(pattern: &str, limit: usize) -> Result<Self, BuildFailure> {
        let config = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(limit));
        let nfa = NFA::compiler().configure(config).build(pattern).map_err(BuildFailure::of)?;
        let config = hybrid::dfa::Config::new().unicode_word_boundary(true);
        let least = config.get_minimum_cache_capacity(&nfa).map_err(|_| BuildFailure::TooLarge(limit))?;
        let size = nfa.memory_usage() + least + CACHE_ROOM + size_of::<Self>();
        if size > limit {
            return Err(BuildFailure::TooLarge(size));
        }
        let config = config.cache_capacity(least + CACHE_ROOM);
        let dfa = hybrid::dfa::Builder::new().configure(config).build_from_nfa(nfa);
        Ok(Self { dfa: dfa.map_err(|_| BuildFailure::TooLarge(size))?, cache: Mutex::default(), size })
    }

    fn is_in(&self, text: &str) -> bool {
        let input = Input::new(text).earliest(true);
        let found = match self.cache.try_lock() {
            Some(mut kept) => self.dfa.try_search_fwd(kept.get_or_insert_with(|| self.dfa.create_cache()), &input),
            None => self.dfa.try_search_fwd(&mut self.dfa.create_cache(), &input),
        };
        match found {
            Ok(found) => found.is_some(),
            // The lazy automaton does not support word boundaries in text beyond ASCII.
            Err(_) => PikeVM::new_from_nfa(self.dfa.get_nfa().clone())
                .is_ok_and(|vm| vm.is_match(&mut vm.create_cache(), input)),
        }
    }

    /// Bytes of the cache as it is now.
    #[cfg(test)]
    fn cached(&self) -> usize {
        self.cache.lock().as_ref().map_or(0, Cache::memory_usage)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("size", &self.size).finish_non_exhaustive()
    }
}

impl BuildFailure {
    fn of(error: BuildError) -> Self {
        if let Some(limit) = error.size_limit() {
            return Self::TooLarge(limit);
        }
        // The parser's error has several lines with a marker; the last line is the reason.
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Self::Syntax(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a general regex would say.
    #[test]
    fn what_is_found_is_what_the_pattern_says() {
        for (pattern, found, not) in [
            ("", "x", None),
            ("^J.*n$", "Jøhn", Some("John ")),
            (r"\bfoo\b", "ein foo, ü", Some("ein food")),
            (r"\bölig\b", "so ölig.", Some("völlig")),
            (r"\w+@\w+\.\w+", "an ä@b.ç", Some("a@b")),
            ("(?i)straße", "STRAßE", Some("strasse")),
            (r"^.s \p{Emoji}$", "es 😀", Some("es x")),
            ("^$", "", Some("x")),
            (r"(?m)^b$", "a\nb\nc", Some("a\nbc")),
        ] {
            let like = Like::new(pattern, false, &String::new).unwrap();
            assert!(like.is_in(found), "{pattern} in {found}");
            assert!(!not.is_some_and(|not| like.is_in(not)), "{pattern} in {not:?}");
        }
    }

    // covers: G011
    #[test]
    fn a_search_never_makes_the_cache_larger_than_what_was_counted() {
        let letters: String = ('\u{20}'..'\u{3000}').chain("abcd😀 ".chars().cycle().take(50_000)).collect();
        for pattern in [r"\w+$", r".{60}$", "(a|b|c|d){20}x", r"[^a]{30}z", r"\bx\w$", "^é", r"(?i)[a-f0-9]{8}-é"] {
            let like = Like::new(pattern, false, &String::new).unwrap();
            let engine = like.engine.as_ref().unwrap();
            for text in [&letters, "", "abcdabcdaaaaabbbbccccdddd"] {
                like.is_in(text);
            }
            let held = engine.cached() + engine.dfa.get_nfa().memory_usage();
            assert!(held <= engine.size && engine.size <= MAX_REGEX_SIZE, "{pattern}: {held} of {}", engine.size);
        }
    }

    #[test]
    fn one_that_was_stored_before_there_was_a_limit_works_and_holds_nothing() {
        let pattern = r"^\pL{20}$";
        assert!(matches!(Like::new(pattern, false, &String::new), Err(MatchError::PatternTooLarge { .. })));
        let like = Like::new(pattern, true, &String::new).unwrap();
        assert_eq!((like.uncompiled(), like.size()), (Some(pattern), pattern.len()));
        assert!(like.is_in(&"ä".repeat(20)) && !like.is_in(&"ä".repeat(19)));
    }
}
