//! The behaviour of durian, the ancestor of our hooks, as far as the model decides it: its README's example, its
//! matchers where we keep them, where we changed them, and its faults that must not come back.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_model::event::Data;
use tidings_model::matcher::{Document, Match};
use tidings_model::payload::{Field, render_body, select_fields};
use tidings_model::schedule::Schedule;

fn matches(filter: Value, data: Value) -> bool {
    let text = data.to_string();
    Match::compile(&filter).unwrap().matches(&Document::new(None, &text))
}

/// The README: three listeners of one hook, one for the name Joe, one for names in J, one for all.
#[test]
fn the_readme_example() {
    let listeners = [json!({"name": "Joe"}), json!({"name": {"starts_with": "J"}}), json!({})];
    let hears = |data: Value| listeners.clone().map(|filter| matches(filter, data.clone()));
    assert_eq!(hears(json!({"name": "Joe", "address": "foo"})), [true, true, true]);
    assert_eq!(hears(json!({"name": "Jane"})), [false, true, true]);
    assert_eq!(hears(json!({"name": "Bob"})), [false, false, true]);
    assert_eq!(hears(json!({"address": "foo"})), [false, false, true]);
}

/// The README's secret field does not leave, and so cannot be matched either.
#[test]
fn only_declared_fields_leave_and_are_matched() {
    let sent: Box<RawValue> = serde_json::from_str(r#"{"name":"Joe","secret":"s3","address":"foo"}"#).unwrap();
    let selected = select_fields(&sent, &[Field::named("name"), Field::named("address")]).unwrap().unwrap();
    assert_eq!(selected.as_json(), Some(r#"{"name":"Joe","address":"foo"}"#));
    let body = render_body("person", "2026-01-01T00:00:00Z", None, &selected);
    assert_eq!(body, r#"{"type":"person","timestamp":"2026-01-01T00:00:00Z","data":{"name":"Joe","address":"foo"}}"#);
    let filter = Match::parse(r#"{"secret":{"starts_with":"s"}}"#).unwrap();
    assert!(!filter.matches(&Document::of(None, &selected)));
    assert!(filter.matches(&Document::new(None, sent.get())));
}

/// Its matchers on a field that is there and holds text.
#[test]
fn matchers_on_text() {
    for (operator, operand, yes, no) in [
        ("is", "Joe", vec!["Joe"], vec!["joe", "Joe ", ""]),
        ("is", "", vec![""], vec!["x"]),
        ("starts_with", "J", vec!["Joe", "J"], vec!["joe", "", "aJ"]),
        ("starts_with", "", vec!["", "x"], vec![]),
        ("ends_with", "e", vec!["Joe", "e"], vec!["JoE", "ea"]),
        ("ends_with", "", vec!["", "x"], vec![]),
        ("contains", "o", vec!["Joe", "o"], vec!["JOE", ""]),
        ("contains", "", vec!["", "x"], vec![]),
        ("like", "o+", vec!["Joe", "foo"], vec!["bar"]),
        ("like", "^J.*e$", vec!["Joe", "Je"], vec!["aJoe", "Joey"]),
    ] {
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(
                    matches(json!({"f": {operator: operand}}), json!({"f": text})),
                    expected,
                    "{operator} {operand:?} on {text:?}"
                );
            }
        }
    }
}

/// Where durian raised or let `Is(None)` pass, a missing field or a wrong type is no match; `any` matches all the same.
#[test]
fn matchers_on_what_is_missing_or_no_text() {
    for operator in ["starts_with", "ends_with", "contains", "like"] {
        for data in [
            json!({}),
            json!({"f": null}),
            json!({"f": 1}),
            json!({"f": true}),
            json!({"f": ["x"]}),
            json!({"f": {"x": 1}}),
            json!([]),
            json!("x"),
            json!(null),
        ] {
            assert!(!matches(json!({"f": {operator: ""}}), data.clone()), "{operator} on {data}");
        }
    }
    assert!(!matches(json!({"f": null}), json!({})), "null means a null that was sent");
    assert!(matches(json!({"f": null}), json!({"f": null})));
    for data in [json!({}), json!({"f": null}), json!({"f": [1]}), json!([]), json!(1)] {
        assert!(matches(json!({"f": {"any": true}}), data.clone()), "any on {data}");
    }
    assert!(!matches(json!({"f": 1}), json!({"f": "1"})));
    assert!(!matches(json!({"f": 1}), json!({"f": true})), "Python's 1 == True is not JSON's");
}

/// Its deepmatch: a subset, in depth; a nested match needs an object to look into, where durian raised over anything
/// else.
#[test]
fn nested_matches() {
    let filter = json!({"name": "Joe", "address": {"city": {"starts_with": "N"}, "geo": {"lat": 1}}});
    assert!(matches(
        filter.clone(),
        json!({"name": "Joe", "x": 1, "address": {"city": "Norwich", "zip": 1, "geo": {"lat": 1.0, "lon": 2}}})
    ));
    assert!(!matches(filter.clone(), json!({"name": "Joe", "address": {"city": "Norwich"}})));
    assert!(!matches(filter.clone(), json!({"name": "Joe"})));
    for other in [json!("Norwich"), json!(["city"]), json!(null), json!(5)] {
        assert!(!matches(filter.clone(), json!({"name": "Joe", "address": other})));
    }
    assert!(!matches(json!({"a": {"b": {"any": true}}}), json!({})), "the object around it must be there");
    assert!(matches(json!({"a": {"b": {"any": true}}}), json!({"a": {}})));
    assert!(matches(json!({}), json!({"a": 1})));
}

// covers: B1
#[test]
fn no_retries_means_one_attempt() {
    let once = Schedule::parse(&["0s"]).unwrap();
    assert_eq!(once.delay_after(0), Some(Duration::ZERO));
    assert_eq!(once.delay_after(1), None);
    // Its max_retries = 3, and an end after that.
    let three = Schedule::parse(&["0s", "1s", "1s", "1s"]).unwrap();
    assert_eq!((0..6).map_while(|made| three.delay_after(made)).count(), 4);
}

// covers: B6
#[test]
fn a_hook_without_declared_fields_is_no_error() {
    let sent: Box<RawValue> = serde_json::from_str(r#"{"name":"Joe"}"#).unwrap();
    assert_eq!(select_fields(&sent, &[]).unwrap(), Some(Data::json("{}")));
}

// covers: B11
#[test]
fn a_bad_match_is_told_with_its_place() {
    let error = Match::parse(r#"{"name":{"like":"("}}"#).unwrap_err();
    assert_eq!(error.path(), "match.name.like");
    let error = Match::parse(r#"{"name":{"$startswith":"J"}}"#).unwrap_err();
    assert!(error.to_string().contains("\"starts_with\""), "{error}");
}
