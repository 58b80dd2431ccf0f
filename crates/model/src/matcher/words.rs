//! Words that are operators in other systems, or nearly one of ours, and what is written for them here.

use super::error::shown_json;
use super::{OPERATORS, scan};

/// What is written instead of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// This operator with the same operand.
    Operator(&'static str),
    /// `not` around an operator.
    Not(&'static str),
    /// Both ends of a range.
    Between,
    /// A regular expression without regard for upper and lower case.
    IgnoringCase,
}

/// In lower case, without `_`, `-` and blanks.
const ELSEWHERE: &[(&str, Right)] = &[
    ("eq", Right::Operator("is")),
    ("equal", Right::Operator("is")),
    ("equals", Right::Operator("is")),
    ("equalto", Right::Operator("is")),
    ("=", Right::Operator("is")),
    ("==", Right::Operator("is")),
    ("===", Right::Operator("is")),
    ("exact", Right::Operator("is")),
    ("iexact", Right::IgnoringCase),
    ("equalsignorecase", Right::IgnoringCase),
    ("ne", Right::Operator("not")),
    ("neq", Right::Operator("not")),
    ("notequal", Right::Operator("not")),
    ("notequals", Right::Operator("not")),
    ("noteq", Right::Operator("not")),
    ("isnot", Right::Operator("not")),
    ("!=", Right::Operator("not")),
    ("!==", Right::Operator("not")),
    ("<>", Right::Operator("not")),
    ("!", Right::Operator("not")),
    ("nin", Right::Not("in")),
    ("notin", Right::Not("in")),
    ("anythingbut", Right::Not("in")),
    ("oneof", Right::Operator("in")),
    ("isin", Right::Operator("in")),
    ("isoneof", Right::Operator("in")),
    ("anyof", Right::Operator("any")),
    ("or", Right::Operator("any")),
    ("and", Right::Operator("all")),
    ("allof", Right::Operator("all")),
    ("nor", Right::Not("any")),
    ("noneof", Right::Not("any")),
    ("regex", Right::Operator("like")),
    ("regexp", Right::Operator("like")),
    ("re", Right::Operator("like")),
    ("iregex", Right::Operator("like")),
    ("rlike", Right::Operator("like")),
    ("ilike", Right::Operator("like")),
    ("match", Right::Operator("like")),
    ("matches", Right::Operator("like")),
    ("pattern", Right::Operator("like")),
    ("wildcard", Right::Operator("like")),
    ("glob", Right::Operator("like")),
    ("~", Right::Operator("like")),
    ("=~", Right::Operator("like")),
    ("prefix", Right::Operator("starts_with")),
    ("hasprefix", Right::Operator("starts_with")),
    ("istartswith", Right::Operator("starts_with")),
    ("beginswith", Right::Operator("starts_with")),
    ("startingwith", Right::Operator("starts_with")),
    ("starts", Right::Operator("starts_with")),
    ("begins", Right::Operator("starts_with")),
    ("suffix", Right::Operator("ends_with")),
    ("hassuffix", Right::Operator("ends_with")),
    ("iendswith", Right::Operator("ends_with")),
    ("endingwith", Right::Operator("ends_with")),
    ("ends", Right::Operator("ends_with")),
    ("substring", Right::Operator("contains")),
    ("substr", Right::Operator("contains")),
    ("includes", Right::Operator("contains")),
    ("include", Right::Operator("contains")),
    ("icontains", Right::Operator("contains")),
    ("containing", Right::Operator("contains")),
    ("has", Right::Operator("contains")),
    ("notcontains", Right::Not("contains")),
    ("notlike", Right::Not("like")),
    ("greater", Right::Operator("gt")),
    ("greaterthan", Right::Operator("gt")),
    ("morethan", Right::Operator("gt")),
    (">", Right::Operator("gt")),
    ("ge", Right::Operator("gte")),
    ("greaterthanorequal", Right::Operator("gte")),
    ("greaterthanorequalto", Right::Operator("gte")),
    ("greaterorequal", Right::Operator("gte")),
    ("atleast", Right::Operator("gte")),
    (">=", Right::Operator("gte")),
    ("less", Right::Operator("lt")),
    ("lessthan", Right::Operator("lt")),
    ("<", Right::Operator("lt")),
    ("le", Right::Operator("lte")),
    ("lessthanorequal", Right::Operator("lte")),
    ("lessthanorequalto", Right::Operator("lte")),
    ("lessorequal", Right::Operator("lte")),
    ("atmost", Right::Operator("lte")),
    ("<=", Right::Operator("lte")),
    ("between", Right::Between),
    ("numeric", Right::Between),
    ("exist", Right::Operator("exists")),
    ("isset", Right::Operator("exists")),
    ("isnull", Right::Operator("is")),
    ("notnull", Right::Operator("not")),
    ("isnotnull", Right::Operator("not")),
];

/// One edit from an operator, and everyday names of fields.
const EVERYDAY: &[&str] = &["likes", "liked", "exits", "get"];

/// What is written for `word`, if it is an operator elsewhere or one slip away from one of ours.
pub(crate) fn right(word: &str) -> Option<Right> {
    // The longest of them have twenty letters.
    if word.len() > 32 || word.starts_with('.') || OPERATORS.contains(&word) || EVERYDAY.contains(&word) {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['_', '-', ' '], "");
    let word = plain(word);
    if let Some((_, right)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == word) {
        return Some(*right);
    }
    OPERATORS.into_iter().find(|operator| is_slip(&word, &plain(operator))).map(Right::Operator)
}

/// Whether `word` is one edit or less from an operator. Of short ones only what is no word of its own: `id` and `line`
/// are names of fields, `nto` and `lik` are not.
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

impl Right {
    /// The form to write for an operand, which is repeated if it is short.
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
            assert_eq!(right(word), Some(Right::Operator(operator)), "{word}");
        }
        for word in [
            "id", "likes", "line", "link", "life", "bike", "name", "city", "on", "at", "it", "an", "ally", "note",
            "dot", "pin", "get", "alike", "like", "in", "exits", "call", "min", "max", "value", "type", "",
        ] {
            assert_eq!(right(word), None, "{word}");
        }
        assert_eq!(right("nin").map(|right| right.form("[1,2]")), Some("{\"not\": {\"in\": [1,2]}}".to_owned()));
        assert_eq!(right("oneof").map(|right| right.form("1")), Some("{\"in\": [1]}".to_owned()));
    }
}
