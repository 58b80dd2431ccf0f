//! The examples of `docs/matches.md`: each holds, does not hold, or is refused as the page says.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use tidings_model::matcher::{Document, Match};

/// The rows of the table after a comment: the code spans of each cell.
fn rows(marker: &str) -> Vec<Vec<Vec<String>>> {
    let page = include_str!("../../../docs/matches.md");
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n")).unwrap();
    let lines = rest.lines().take_while(|line| line.starts_with('|')).skip(2);
    let spans = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    lines.map(|line| line.trim_matches('|').split('|').map(spans).collect()).collect()
}

// covers: G171
#[test]
fn the_examples_hold_and_do_not_hold_as_the_page_says() {
    let rows = rows("examples: match, holds, does not hold");
    assert!(rows.len() >= 30, "{} rows", rows.len());
    for row in rows {
        let [filter, holds, not] = &row[..] else { panic!("{row:?}") };
        let compiled = Match::parse(&filter[0]).unwrap_or_else(|error| panic!("{}: {error}", filter[0]));
        assert!(!holds.is_empty(), "{}: nothing that it holds for", filter[0]);
        for (data, wanted) in holds.iter().map(|data| (data, true)).chain(not.iter().map(|data| (data, false))) {
            assert_eq!(compiled.matches(&Document::new(None, data)), wanted, "{} on {data}", filter[0]);
        }
        // The same once it is stored.
        let stored = Match::stored(&filter[0]).unwrap();
        assert!(holds.iter().all(|data| stored.matches(&Document::new(None, data))), "{} stored", filter[0]);
    }
}

// covers: G172
#[test]
fn what_the_page_refuses_is_refused_and_the_error_names_what_to_write_instead() {
    let rows = rows("refused: match, instead");
    assert!(rows.len() >= 15, "{} rows", rows.len());
    for row in rows {
        let [refused, instead] = &row[..] else { panic!("{row:?}") };
        let error = Match::parse(&refused[0]).err().unwrap_or_else(|| panic!("{} is taken", refused[0])).to_string();
        Match::parse(&instead[0]).unwrap_or_else(|error| panic!("{}: {error}", instead[0]));
        // The operator of the right form stands in the error.
        let words =
            ["in", "is", "starts_with", "like", "not", "gte", "all", "contains", "any", "true", "array", "time"];
        let right = words.iter().any(|word| instead[0].contains(word) && error.contains(word));
        assert!(right || error.contains("RFC 3339") || error.contains("an array of values"), "{}: {error}", refused[0]);
    }
}
