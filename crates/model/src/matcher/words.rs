//! Words that are operators in other systems, or misspelled operators of ours, and what to write instead.

use super::error::shown_json;
use super::{OPERATORS, scan};

/// What to write instead of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suggestion {
    /// This operator with the same operand.
    Operator(&'static str),
    /// `not` around an operator.
    Not(&'static str),
    /// Both ends of a range.
    Between,
    /// A regular expression that ignores case.
    IgnoringCase,
}

/// Operators of other systems, in lower case, without `_`, `-` and blanks.
const ELSEWHERE: &[(&str, Suggestion)] = &[
    ("eq", Suggestion::Operator("is")),
    ("equal", Suggestion::Operator("is")),
    ("equals", Suggestion::Operator("is")),
    ("equalto", Suggestion::Operator("is")),
    ("=", Suggestion::Operator("is")),
    ("==", Suggestion::Operator("is")),
    ("===", Suggestion::Operator("is")),
    ("exact", Suggestion::Operator("is")),
    ("iexact", Suggestion::IgnoringCase),
    ("equalsignorecase", Suggestion::IgnoringCase),
    ("ne", Suggestion::Operator("not")),
    ("neq", Suggestion::Operator("not")),
    ("notequal", Suggestion::Operator("not")),
    ("notequals", Suggestion::Operator("not")),
    ("noteq", Suggestion::Operator("not")),
    ("isnot", Suggestion::Operator("not")),
    ("!=", Suggestion::Operator("not")),
    ("!==", Suggestion::Operator("not")),
    ("<>", Suggestion::Operator("not")),
    ("!", Suggestion::Operator("not")),
    ("nin", Suggestion::Not("in")),
    ("notin", Suggestion::Not("in")),
    ("anythingbut", Suggestion::Not("in")),
    ("oneof", Suggestion::Operator("in")),
    ("isin", Suggestion::Operator("in")),
    ("isoneof", Suggestion::Operator("in")),
    ("anyof", Suggestion::Operator("any")),
    ("or", Suggestion::Operator("any")),
    ("and", Suggestion::Operator("all")),
    ("allof", Suggestion::Operator("all")),
    ("nor", Suggestion::Not("any")),
    ("noneof", Suggestion::Not("any")),
    ("regex", Suggestion::Operator("like")),
    ("regexp", Suggestion::Operator("like")),
    ("re", Suggestion::Operator("like")),
    ("iregex", Suggestion::Operator("like")),
    ("rlike", Suggestion::Operator("like")),
    ("ilike", Suggestion::Operator("like")),
    ("match", Suggestion::Operator("like")),
    ("matches", Suggestion::Operator("like")),
    ("pattern", Suggestion::Operator("like")),
    ("wildcard", Suggestion::Operator("like")),
    ("glob", Suggestion::Operator("like")),
    ("~", Suggestion::Operator("like")),
    ("=~", Suggestion::Operator("like")),
    ("prefix", Suggestion::Operator("starts_with")),
    ("hasprefix", Suggestion::Operator("starts_with")),
    ("istartswith", Suggestion::Operator("starts_with")),
    ("beginswith", Suggestion::Operator("starts_with")),
    ("startingwith", Suggestion::Operator("starts_with")),
    ("starts", Suggestion::Operator("starts_with")),
    ("begins", Suggestion::Operator("starts_with")),
    ("suffix", Suggestion::Operator("ends_with")),
    ("hassuffix", Suggestion::Operator("ends_with")),
    ("iendswith", Suggestion::Operator("ends_with")),
    ("endingwith", Suggestion::Operator("ends_with")),
    ("ends", Suggestion::Operator("ends_with")),
    ("substring", Suggestion::Operator("contains")),
    ("substr", Suggestion::Operator("contains")),
    ("includes", Suggestion::Operator("contains")),
    ("include", Suggestion::Operator("contains")),
    ("icontains", Suggestion::Operator("contains")),
    ("containing", Suggestion::Operator("contains")),
    ("has", Suggestion::Operator("contains")),
    ("notcontains", Suggestion::Not("contains")),
    ("notlike", Suggestion::Not("like")),
    ("greater", Suggestion::Operator("gt")),
    ("greaterthan", Suggestion::Operator("gt")),
    ("morethan", Suggestion::Operator("gt")),
    (">", Suggestion::Operator("gt")),
    ("ge", Suggestion::Operator("gte")),
    ("greaterthanorequal", Suggestion::Operator("gte")),
    ("greaterthanorequalto", Suggestion::Operator("gte")),
    ("greaterorequal", Suggestion::Operator("gte")),
    ("atleast", Suggestion::Operator("gte")),
    (">=", Suggestion::Operator("gte")),
    ("less", Suggestion::Operator("lt")),
    ("lessthan", Suggestion::Operator("lt")),
    ("<", Suggestion::Operator("lt")),
    ("le", Suggestion::Operator("lte")),
    ("lessthanorequal", Suggestion::Operator("lte")),
    ("lessthanorequalto", Suggestion::Operator("lte")),
    ("lessorequal", Suggestion::Operator("lte")),
    ("atmost", Suggestion::Operator("lte")),
    ("<=", Suggestion::Operator("lte")),
    ("between", Suggestion::Between),
    ("numeric", Suggestion::Between),
    ("exist", Suggestion::Operator("exists")),
    ("isset", Suggestion::Operator("exists")),
    ("isnull", Suggestion::Operator("is")),
    ("notnull", Suggestion::Operator("not")),
    ("isnotnull", Suggestion::Operator("not")),
];

/// Words that are one edit from an operator, but are common names of fields.
const EVERYDAY: &[&str] = &["likes", "liked", "exits", "get"];

/// What to write instead of `word`, if it is an operator in other systems or a misspelled one of ours.
pub(crate) fn suggestion(word: &str) -> Option<Suggestion> {
    // The longest of them have twenty letters.
    if word.len() > 32 || word.starts_with('.') || OPERATORS.contains(&word) || EVERYDAY.contains(&word) {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['_', '-', ' '], "");
    let word = plain(word);
    if let Some((_, suggestion)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == word) {
        return Some(*suggestion);
    }
    OPERATORS.into_iter().find(|operator| is_slip(&word, &plain(operator))).map(Suggestion::Operator)
}

/// Whether `word` is at most one edit from an operator. For short operators, only if it is unlikely to be a word of its
/// own: `id` and `line` are names of fields, `nto` and `lik` are not.
fn is_slip(word: &str, operator: &str) -> bool {
    let distance = strsim::osa_distance(word, operator);
    if distance == 0 || (distance == 1 && operator.len() >= 6) {
        return true;
    }
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let doubled = || {
        let mut once: Vec<char> = word.chars().collect();
        once.dedup();
        once.iter().copied().eq(operator.chars())
    };
    distance == 1
        && match word.len().cmp(&operator.len()) {
            std::cmp::Ordering::Less => operator.len() > 3,
            std::cmp::Ordering::Equal => letters(word) == letters(operator),
            std::cmp::Ordering::Greater => (operator.len() > 3 && operator != "like") || doubled(),
        }
}

impl Suggestion {
    /// The JSON to write, with the operand, which is quoted only if it is short.
    pub(crate) fn form(self, operand: &str) -> String {
        let shown = shown_json(operand);
        let list = |operand: &str| scan::is_array(operand);
        match self {
            Self::Operator(operator @ ("in" | "any" | "all")) if !list(operand) => {
                format!("{{\"{operator}\": [{shown}]}}")
            }
            Self::Operator(operator) => format!("{{\"{operator}\": {shown}}}"),
            Self::Not(operator @ ("in" | "any")) if !list(operand) => {
                format!("{{\"not\": {{\"{operator}\": [{shown}]}}}}")
            }
            Self::Not(operator) => format!("{{\"not\": {{\"{operator}\": {shown}}}}}"),
            Self::Between => "{\"all\": [{\"gte\": …}, {\"lte\": …}]}".to_owned(),
            Self::IgnoringCase => "{\"like\": \"(?i)^…$\"}".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_systems_and_slips_are_known_and_everyday_names_are_not() {
        for (word, operator) in [
            ("eq", "is"),
            ("startswith", "starts_with"),
            ("startsWith", "starts_with"),
            ("STARTS-WITH", "starts_with"),
            ("start_with", "starts_with"),
            ("starts_wth", "starts_with"),
            ("ends_wiht", "ends_with"),
            ("prefix", "starts_with"),
            ("regex", "like"),
            ("lik", "like"),
            ("liek", "like"),
            ("LIKE", "like"),
            ("contain", "contains"),
            ("exist", "exists"),
            ("exsits", "exists"),
            ("ne", "not"),
            ("nto", "not"),
            ("nott", "not"),
            ("ge", "gte"),
            ("gtt", "gt"),
            (">=", "gte"),
            ("In", "in"),
            ("anyy", "any"),
        ] {
            assert_eq!(suggestion(word), Some(Suggestion::Operator(operator)), "{word}");
        }
        for word in [
            "id", "likes", "line", "link", "life", "bike", "name", "city", "on", "at", "it", "an", "ally", "note",
            "dot", "pin", "get", "alike", "like", "in", "exits", "call", "min", "max", "value", "type", "",
        ] {
            assert_eq!(suggestion(word), None, "{word}");
        }
        assert_eq!(
            suggestion("nin").map(|suggestion| suggestion.form("[1,2]")),
            Some("{\"not\": {\"in\": [1,2]}}".to_owned())
        );
        assert_eq!(suggestion("oneof").map(|suggestion| suggestion.form("1")), Some("{\"in\": [1]}".to_owned()));
    }
}
