//! The cost of matching, in steps (bytes and values that are looked at), because time depends on the machine's load.

use std::fmt::Write as _;

use super::{Document, Match, steps};

/// Matches that are as expensive as the limits allow.
fn hostile() -> Vec<Match> {
    let many = |count: usize, condition: &str| {
        let fields: Vec<String> = (0..count).map(|n| format!(r#""k{n}":{condition}"#)).collect();
        Match::parse(&format!("{{{}}}", fields.join(","))).unwrap()
    };
    let long = "1".repeat(6_000);
    let words: Vec<String> = (0..700).map(|n| format!("{n}e{n}")).collect();
    vec![
        many(100, r#"{"exists":false}"#),
        many(50, r#"{"any":[{"exists":false},"x"]}"#),
        Match::parse(&format!(r#"{{"a":{{"contains":{long}}}}}"#)).unwrap(),
        Match::parse(&format!(r#"{{"a":{{"contains":"{long}"}}}}"#)).unwrap(),
        Match::parse(&format!(r#"{{"a":{{"in":[{}]}}}}"#, words.join(","))).unwrap(),
        Match::parse(r#"{"a":{"is":{"x":{"x":1}}}}"#).unwrap(),
        Match::parse(r#"{"a":{"gt":1}}"#).unwrap(),
        Match::parse(r#"{"a":{"like":"(x+x+)+y"}}"#).unwrap(),
        Match::parse(
            r#"{"a":{"all":[{"not":{"starts_with":"y"}},{"not":{"ends_with":"y"}},{"not":{"contains":"y"}}]}}"#,
        )
        .unwrap(),
    ]
}

/// Documents of about so many bytes that are wide, deep, repetitive or full of escapes.
fn documents(size: usize) -> Vec<String> {
    let repeated = |part: &str| part.repeat(size / part.len());
    let depth = size / 2;
    let mut wide = String::from("{");
    let mut n = 0;
    while wide.len() < size {
        write!(wide, r#""x{n}":0,"#).unwrap();
        n += 1;
    }
    vec![
        format!("{wide}\"a\":0}}"),
        format!(r#"{{{}"a":0}}"#, repeated(r#""k1":0,"#)),
        format!(r#"{{"a":[{}0]}}"#, repeated("1,")),
        format!(r#"{{"a":[{}0]}}"#, repeated("\"1\",")),
        format!(r#"{{"a":{}}}"#, "1".repeat(size)),
        format!(r#"{{"a":0.{}1}}"#, "0".repeat(size)),
        format!(r#"{{"a":"{}"}}"#, "x".repeat(size)),
        format!(r#"{{"a":"{}"}}"#, repeated("\\u0078")),
        format!(r#"{{"{}":0,"a":0}}"#, repeated("\\u0078")),
        format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)),
        format!(r#"{{"a":{{{}"y":0}}}}"#, repeated(r#""x":{"x":0},"#)),
    ]
}

fn steps_of(matches: &[Match], document: &str) -> usize {
    steps::of(|| {
        let document = Document::new(None, document);
        matches.iter().filter(|filter| filter.matches(&document)).count()
    })
}

// covers: G021
#[test]
fn a_match_takes_steps_in_proportion_to_the_document() {
    for filter in hostile() {
        for (small, large) in documents(20_000).iter().zip(documents(80_000)) {
            let filter = std::slice::from_ref(&filter);
            let (few, many) = (steps_of(filter, small), steps_of(filter, &large));
            assert!(many <= 5 * few, "{filter:?} on {}…: {few} steps, then {many}", &small[..20]);
            assert!(many <= 30 * large.len(), "{filter:?} on {}…: {many} steps", &small[..20]);
        }
    }
}

/// A thousand listeners look into one document: what it takes to read it, and a little for each.
// covers: G022
#[test]
fn many_matches_read_a_document_once() {
    let texts = [
        "{\"a\":\"y\"}",
        "{\"k1\":5}",
        "{\"b\":{\"c\":1}}",
        "{\"a\":{\"starts_with\":\"y\"}}",
        "{\"a\":{\"gt\":\"2027-01-01T00:00:00Z\"}}",
    ];
    let matches: Vec<Match> = texts.iter().cycle().take(1_000).map(|text| Match::parse(text).unwrap()).collect();
    for document in documents(50_000) {
        let steps = steps_of(&matches, &document);
        assert!(steps <= 10 * document.len() + 100 * matches.len(), "{}…: {steps} steps", &document[..20]);
    }
}

// covers: G021
#[test]
fn compiling_takes_steps_in_proportion_to_the_text() {
    let compile = |text: &str| steps::of(|| Match::parse(text).is_ok());
    let empty = |count: usize| (0..count).map(|n| format!(r#""{n}":{{}}"#)).collect::<Vec<_>>().join(",");
    for (small, large) in [
        (format!("{{{}}}", empty(200)), format!("{{{}}}", empty(800))),
        (
            format!(r#"{{"a":{{"is":[{}1]}}}}"#, "1,".repeat(900)),
            format!(r#"{{"a":{{"is":[{}1]}}}}"#, "1,".repeat(3_600)),
        ),
    ] {
        let (few, many) = (compile(&small), compile(&large));
        assert!(few > 0 && many <= 5 * few, "{few} steps, then {many}");
    }
}
