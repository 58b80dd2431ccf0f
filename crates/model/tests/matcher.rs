//! `Match` against documents: exactness, limits, errors, and hostile input.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_model::event::Data;
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook};
use tidings_model::id::AppId;
use tidings_model::matcher::{
    Declared, Document, MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN, MAX_SIZE, Match, MatchError, upgrade,
};
use tidings_model::payload::{Field, FieldKind};

fn matches(filter: &str, data: &str) -> bool {
    Match::parse(filter).unwrap().matches(&Document::new(None, data))
}

fn error(filter: &str) -> MatchError {
    Match::parse(filter).unwrap_err()
}

// covers: I04
#[test]
fn numbers_are_compared_as_numbers_and_exactly() {
    for (wanted, sent) in [
        ("1", "1.0"),
        ("1", "1e0"),
        ("0", "-0"),
        ("1e400", "1e400"),
        ("1e400", "10E+399"),
        ("18446744073709551617", "18446744073709551617"),
        ("18446744073709551617", "18446744073709551617.0"),
        ("-9223372036854775809", "-9223372036854775809"),
    ] {
        assert!(matches(&format!(r#"{{"n":{wanted}}}"#), &format!(r#"{{"n":{sent}}}"#)), "{wanted} {sent}");
        assert!(
            matches(&format!(r#"{{"n":{{"is":[{wanted}]}}}}"#), &format!(r#"{{"n":[ {sent} ]}}"#)),
            "{wanted} {sent}"
        );
    }
    for (wanted, sent) in [
        ("1", "\"1\""),
        ("\"1\"", "1"),
        ("1", "true"),
        ("0", "false"),
        ("0", "null"),
        ("1e400", "1e401"),
        ("18446744073709551616", "18446744073709551617"),
        ("9007199254740992", "9007199254740993"),
    ] {
        assert!(!matches(&format!(r#"{{"n":{wanted}}}"#), &format!(r#"{{"n":{sent}}}"#)), "{wanted} {sent}");
    }
}

#[test]
fn a_value_that_lost_digits_is_refused() {
    let lossy: Value = serde_json::from_str(r#"{"a":{"n":[1,18446744073709551617]}}"#).unwrap();
    assert_eq!(Match::compile(&lossy), Err(MatchError::InexactNumber { path: "match.a.n[1]".into() }));
    for kept in [json!({"n": u64::MAX}), json!({"n": i64::MIN}), json!({"n": 0.5})] {
        assert!(Match::compile(&kept).unwrap().matches(&Document::new(None, &kept.to_string())), "{kept}");
    }
}

// covers: I04
#[test]
fn of_equal_keys_the_last_counts() {
    assert!(matches(r#"{"a":2}"#, r#"{"a":1,"a":2}"#));
    assert!(!matches(r#"{"a":1}"#, r#"{"a":1,"a":2}"#));
    assert!(matches(r#"{"a":2}"#, r#"{"\u0061":1,"a":3,"\u0061":2}"#), "however they are written");
    assert!(matches(r#"{"o":{"is":{"a":2}}}"#, r#"{"o":{"a":1,"a":2}}"#));
    assert!(!matches(r#"{"o":{"is":{"a":1}}}"#, r#"{"o":{"a":1,"a":2}}"#));
    let mut wide = String::from("{");
    for n in 0..100 {
        write!(wide, r#""k{n}":1,"k{n}":{n},"#).unwrap();
    }
    wide.push_str(r#""end":null}"#);
    assert!(matches(r#"{"k7":7,"k99":99,"end":null}"#, &wide));
    assert!(!matches(r#"{"k7":1}"#, &wide));
}

#[test]
fn is_compares_json_values() {
    assert!(matches(r#"{"o":{"is":{"a":1,"b":[true,null]}}}"#, r#"{"o":{"b":[true,null],"a":1.0}}"#));
    assert!(!matches(r#"{"o":{"is":{"a":1}}}"#, r#"{"o":{"a":1,"b":2}}"#), "not a subset");
    assert!(!matches(r#"{"o":{"is":{"a":1,"b":2}}}"#, r#"{"o":{"a":1,"c":2}}"#));
    assert!(matches(r#"{"o":{"is":{}}}"#, r#"{"o":{}}"#));
    assert!(!matches(r#"{"o":{"is":{}}}"#, r#"{"o":[]}"#));
    assert!(matches(r#"{"l":{"is":[1,"a",[2]]}}"#, r#"{"l":[1,"a",[2]]}"#));
    assert!(!matches(r#"{"l":{"is":[1,2]}}"#, r#"{"l":[2,1]}"#));
    assert!(!matches(r#"{"l":{"is":[1]}}"#, r#"{"l":[1,1]}"#));
    assert!(matches(r#"{"t":true,"f":false}"#, r#"{"t":true,"f":false}"#));
    assert!(!matches(r#"{"t":true}"#, r#"{"t":false}"#));
    assert!(matches(r#"{"is":{"a":1}}"#, r#"{"a":1}"#), "at the top it is the data as a whole");
    assert!(matches(r#"{"starts_with":"J"}"#, r#""Joe""#));
}

#[test]
fn strings_are_compared_by_their_text() {
    assert!(matches(r#"{"n":"Jø\"e"}"#, r#"{"n":"J\u00f8\"e"}"#));
    assert!(matches(r#"{"n":{"ends_with":"😀"}}"#, r#"{"n":"x\ud83d\ude00"}"#));
    assert!(matches(r#"{"ø":1}"#, r#"{"\u00f8":1}"#));
    assert!(!matches(r#"{"n":{"contains":""}}"#, r#"{"n":"\ud800"}"#), "a lone surrogate is not text");
    assert!(matches(r#"{"n":{"any":true},"m":1}"#, r#"{"\ud800":1,"n":"\ud800","m":1}"#));
}

#[test]
fn contains_is_for_substrings_and_elements() {
    assert!(matches(r#"{"tags":{"contains":"a"}}"#, r#"{"tags":["b","\u0061"]}"#));
    assert!(!matches(r#"{"tags":{"contains":"a"}}"#, r#"{"tags":["ab",["a"],{"a":"a"}]}"#));
    assert!(matches(r#"{"tags":{"contains":{"k":1}}}"#, r#"{"tags":[0,{"k":1.0}]}"#));
    assert!(!matches(r#"{"tags":{"contains":1}}"#, r#"{"tags":"1"}"#));
}

#[test]
fn numbers_and_times_are_ordered_and_nothing_else_is() {
    for (filter, sent) in [
        (r#"{"gt":9007199254740992}"#, "9007199254740993"),
        (r#"{"lt":1e400}"#, "1e399"),
        (r#"{"gte":0.1}"#, "1e-1"),
        (r#"{"gt":-2}"#, "-1.5"),
        (r#"{"lte":"2027-01-01T00:00:00.000000001Z"}"#, r#""2027-01-01T00:00:00.000000001Z""#),
        (r#"{"gt":"2026-12-31T23:59:59Z"}"#, r#""2027-01-01T01:00:00+01:00""#),
    ] {
        assert!(matches(&format!(r#"{{"a":{filter}}}"#), &format!(r#"{{"a":{sent}}}"#)), "{filter} {sent}");
    }
    for sent in ["\"5\"", "null", "[5]", "true", "{}", r#""2027""#, r#""2027-13-01T00:00:00Z""#] {
        for filter in
            [r#"{"gt":0}"#, r#"{"lt":100}"#, r#"{"gt":"2000-01-01T00:00:00Z"}"#, r#"{"lt":"2999-01-01T00:00:00Z"}"#]
        {
            assert!(!matches(&format!(r#"{{"a":{filter}}}"#), &format!(r#"{{"a":{sent}}}"#)), "{filter} {sent}");
        }
    }
}

#[test]
fn a_dot_escapes_field_names() {
    assert!(matches(r#"{".like":"x"}"#, r#"{"like":"x"}"#));
    assert!(matches(r#"{"a":{".is":1}}"#, r#"{"a":{"is":1}}"#));
    assert!(matches(r#"{".$op":"x"}"#, r#"{"$op":"x"}"#));
    assert!(matches(r#"{"..x":1}"#, r#"{".x":1}"#));
    assert!(
        matches(r#"{"a":{"is":1,"b":2}}"#, r#"{"a":{"is":1,"b":2}}"#),
        "with other keys an operator's name is a field"
    );
    let both = r#"{"n":{"starts_with":"J"},".n":{"ends_with":"n"}}"#;
    assert!(matches(both, r#"{"n":"Jon"}"#));
    assert!(!matches(both, r#"{"n":"Joe"}"#));
}

#[test]
fn the_operation_is_matched_at_the_top() {
    let holds = |filter: &str, op| Match::parse(filter).unwrap().matches(&Document::new(op, r#"{"a":1}"#));
    assert!(holds(r#"{"$op":"create"}"#, Some("create")));
    assert!(!holds(r#"{"$op":"create"}"#, Some("update")));
    assert!(!holds(r#"{"$op":"create"}"#, None));
    assert!(holds(r#"{"$op":{"like":"^(create|update)$"},"a":1}"#, Some("update")));
    assert!(!holds(r#"{"$op":{"like":"^(create|update)$"},"a":2}"#, Some("update")));
    assert!(holds(r#"{"$op":{"any":true}}"#, None));
    assert!(holds(r#"{"$op":{"in":["create","update"]}}"#, Some("update")));
    assert!(!holds(r#"{"$op":{"not":"create"}}"#, Some("create")) && !holds(r#"{"$op":{"not":"create"}}"#, None));
    assert!(holds(r#"{"$op":{"exists":false}}"#, None) && !holds(r#"{"$op":{"exists":false}}"#, Some("create")));
    assert!(holds(r#"{"$op":"create","any":[{"a":1},{"b":1}]}"#, Some("create")), "beside it an operator stands alone");
    assert!(!holds(r#"{"$op":"create","any":[{"a":2},{"b":1}]}"#, Some("create")));
    for bad in [r#"{"$op":1}"#, r#"{"$op":null}"#, r#"{"$op":{"is":1}}"#, r#"{"$op":{"x":1}}"#, r#"{"$op":{"like":1}}"#]
    {
        assert!(matches!(error(bad), MatchError::NotText { .. }), "{bad}");
    }
    assert_eq!(error(r#"{"a":{"$op":"create"}}"#), MatchError::OpNotAtTop { path: "match.a.$op".into() });
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    for (filter, says) in [
        ("[]", "match: write an object"),
        ("5", "match: write an object"),
        ("{", "match: this is not JSON"),
        (r#"{"name":{"like":"(a"}}"#, "match.name.like: this is not a regular expression (unclosed group)"),
        (r#"{"name":{"like":"(?=a)"}}"#, "look-around"),
        (r#"{"name":{"like":5}}"#, "match.name.like: give a string here"),
        (r#"{"a":{"b":{"starts_with":null}}}"#, "match.a.b.starts_with: give a string here"),
        (
            r#"{"a":{"$like":"x"}}"#,
            "match.a.$like: there is no \"$like\" (did you mean \"like\"?); for a field of that name write \".$like\"",
        ),
        (r#"{"a":{"$endswith":"x"}}"#, "\"ends_with\""),
        (r#"{"$opp":"create"}"#, "\"$op\""),
        (r#"{"$something_else":1}"#, "match.$something_else: there is no"),
        (r#"{"a":1,"a":2}"#, "match.a: this key is given twice"),
        (r#"{"a":{"is":{"b":1,"b":1}}}"#, "match.a.is.b: this key is given twice"),
        (r#"{"n":{"like":"\\w{1000}"}}"#, "match.n.like: this regular expression is too large"),
    ] {
        let text = error(filter).to_string();
        assert!(text.contains(says), "{filter}: {text}");
    }
}

#[test]
fn limits_hold() {
    let conditions = |count: usize| {
        let fields: Vec<String> = (0..count).map(|n| format!(r#""f{n}":1"#)).collect();
        Match::parse(&format!("{{{}}}", fields.join(",")))
    };
    assert!(conditions(MAX_CONDITIONS).is_ok());
    assert_eq!(conditions(MAX_CONDITIONS + 1), Err(MatchError::TooManyConditions));

    let nested = |depth: usize| Match::parse(&format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)));
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(MatchError::TooDeep));
    let arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(3_000), "]".repeat(3_000));
    assert_eq!(Match::parse(&arrays), Err(MatchError::TooDeep));

    let long = |len: usize| Match::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(len - r#"{"a":""}"#.len())));
    assert!(long(MAX_JSON_LEN).is_ok());
    assert_eq!(long(MAX_JSON_LEN + 1), Err(MatchError::TooLarge));

    let pattern = |len: usize| Match::parse(&format!(r#"{{"a":{{"like":"{}"}}}}"#, "x".repeat(len)));
    assert!(pattern(MAX_PATTERN_LEN).is_ok());
    assert!(matches!(pattern(MAX_PATTERN_LEN + 1), Err(MatchError::PatternTooLong { .. })));

    let mut value = json!(1);
    for _ in 0..=MAX_DEPTH {
        value = json!({ "a": value });
    }
    assert_eq!(Match::compile(&value), Err(MatchError::TooDeep));
}

#[test]
fn the_source_is_kept_and_travels_as_json() {
    let text = r#"{"n": 18446744073709551617, "name":{"starts_with":"J"}}"#;
    let filter = Match::parse(text).unwrap();
    assert_eq!(filter.to_json().get(), text);
    assert_eq!(serde_json::to_string(&filter).unwrap(), text);
    assert_eq!(serde_json::from_str::<Match>(text).unwrap(), filter);
    let error = serde_json::from_str::<Match>(r#"{"a":{"like":"("}}"#).unwrap_err();
    assert!(error.to_string().contains("match.a.like"), "{error}");
    assert_eq!(Match::compile(&json!({"b": 1, "a": "x"})).unwrap().to_json().get(), r#"{"a":"x","b":1}"#);
    assert_eq!(Match::default().to_json().get(), "{}");
    assert!(Match::default().is_all() && Match::parse("{}").unwrap().is_all());
    assert!(!Match::parse(r#"{"$op":"create"}"#).unwrap().is_all());
}

#[test]
fn the_index_key_is_a_string_that_must_be_there() {
    let key = |filter: &str| {
        let filter = Match::parse(filter).unwrap();
        filter.index_key().map(|(path, value)| (path.join("/"), value.to_owned()))
    };
    let some = |path: &str, value: &str| Some((path.to_owned(), value.to_owned()));
    assert_eq!(key("{}"), None);
    assert_eq!(key(r#"{"n":1,"s":{"starts_with":"J"},"$op":"create"}"#), None);
    assert_eq!(key(r#"{"a":{"b":"deep"},"n":1,"s":{"is":"near"}}"#), some("s", "near"));
    assert_eq!(key(r#"{"a":{"b":{".is":"deep"}}}"#), some("a/b/is", "deep"));

    let doc = Document::new(None, r#"{"a":{"b":{"is":"d\u0065ep"}},"n":1,"a.b":"x"}"#);
    assert_eq!(doc.string_at(&["a", "b", "is"]), Some("deep"));
    assert_eq!(doc.string_at(&["a.b"]), Some("x"));
    assert_eq!(doc.string_at(&["n"]), None);
    assert_eq!(doc.string_at(&["a", "x"]), None);
    assert_eq!(doc.string_at(&["n", "x"]), None);
}

fn hook(name: &str, fields: Option<Vec<Field>>, schema: Option<&str>) -> Arc<Hook> {
    let schema = schema.map(|text| RawValue::from_string(text.to_owned()).unwrap().into());
    let (defaults, description) = (DeliveryDefaults::default(), String::new());
    let (app, name) = (AppId::from("one"), name.to_owned());
    let fields_for = FieldsFor::All;
    Arc::new(Hook {
        app,
        name,
        description,
        fields,
        fields_for,
        schema,
        defaults,
        version: 1,
        created_at: 0,
        updated_at: 0,
    })
}

// covers: G174
#[test]
fn fields_that_no_hook_declares_are_warned_of() {
    let warnings = |filter: &str, hooks: Vec<Arc<Hook>>| {
        Match::parse_for(filter, &Declared::by(hooks)).unwrap().warnings().to_vec()
    };
    let person = || hook("person", Some(vec![Field::named("name"), Field::named("age")]), None);
    let open = hook("open", None, None);
    let found = warnings(r#"{"nmae":"Joe","age":5,".agee":{"any":true}}"#, vec![person()]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("match.nmae") && found[0].contains("did you mean \"name\""), "{found:?}");
    assert_eq!(
        warnings(r#"{"nmae":"Joe"}"#, vec![person(), open]),
        Vec::<String>::new(),
        "another lets all fields out"
    );
    assert_eq!(warnings(r#"{"nmae":"Joe"}"#, vec![]), Vec::<String>::new(), "nothing is known");
    let beside = warnings(r#"{"name":{"starts_with":"J","first":"n"}}"#, vec![]);
    assert!(beside[0].contains("match.name.starts_with: this is read as a field"), "{beside:?}");
}

// covers: G173
#[test]
fn a_word_that_a_hook_declares_is_a_field() {
    let parse = |filter: &str, hook: Arc<Hook>| Match::parse_for(filter, &Declared::by(vec![hook]));
    let filter = r#"{"phone":{"prefix":"47"}}"#;
    let unknown = || hook("h", Some(vec![Field::named("phone")]), None);
    assert!(matches!(parse(filter, unknown()), Err(MatchError::Misread { .. })));
    assert!(matches!(parse(filter, hook("h", None, None)), Err(MatchError::Misread { .. })));
    let schema = r#"{"properties":{"phone":{"properties":{"prefix":{"type":"string"}}}}}"#;
    let object = Field { name: "phone".to_owned(), kind: Some(FieldKind::Object) };
    for knows in [
        hook("h", None, Some(schema)),
        hook("h", Some(vec![object]), None),
        hook("h", Some(vec![Field::named("phone"), Field::named("prefix")]), None),
    ] {
        let filter = parse(filter, knows).unwrap();
        assert!(filter.matches(&Document::new(None, r#"{"phone":{"prefix":"47"}}"#)));
    }
    for fine in [
        r#"{"user":{"id":5}}"#,
        r#"{"post":{"likes":5}}"#,
        r#"{"phone":{".prefix":"47"}}"#,
        r#"{"prefix":"47"}"#,
        r#"{"a":{"is":1,"b":2}}"#,
        r#"{"a":{".is":1,".in":2}}"#,
    ] {
        assert!(parse(fine, unknown()).is_ok(), "{fine}");
    }
}

// covers: G012
#[test]
fn a_match_that_is_too_large_compiled_is_refused_with_the_condition_and_keeps_working_if_stored() {
    let likes = |count: usize, pattern: &str| {
        let fields: Vec<String> = (0..count).map(|n| format!(r#""f{n}":{{"like":"{pattern}"}}"#)).collect();
        format!("{{{}}}", fields.join(","))
    };
    // A small request that took 32 MiB.
    let error = error(&likes(100, r"\\pL{5}"));
    assert!(matches!(error, MatchError::PatternTooLarge { .. }) && error.path() == "match.f0.like", "{error}");
    let error = self::error(&likes(100, r"\\w+"));
    assert!(matches!(error, MatchError::MatchTooLarge { .. }), "{error}");
    assert!(error.path().starts_with("match.f") && error.path().ends_with(".like"), "{error}");
    assert!(Match::parse(&likes(50, "^a.*b$")).unwrap().size() <= MAX_SIZE, "everyday ones fit, and many");

    for (pattern, data, not) in [(r"^\\pL{5}$", "äbcde", "äbcd"), (r"^\\w+$", "wörter", "zwei wörter")] {
        let stored = Match::stored(&likes(100, pattern)).unwrap();
        assert!(stored.is_large() && stored.size() <= MAX_SIZE + 1024, "{}", stored.size());
        let document = |text: &str| {
            let fields: Vec<String> = (0..100).map(|n| format!(r#""f{n}":"{text}""#)).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert!(stored.matches(&Document::new(None, &document(data))));
        assert!(!stored.matches(&Document::new(None, &document(not))));
    }
    assert!(!Match::stored(r#"{"a":{"like":"^a"}}"#).unwrap().is_large());
}

#[test]
fn hostile_text_in_errors_is_short() {
    let long = "k".repeat(7_000);
    for filter in [
        format!(r#"{{"{long}":[1]}}"#),
        format!(r#"{{"a":{{"{long}":{{"b":{{"like":"("}}}}}}}}"#),
        format!(r#"{{"${long}":1}}"#),
        format!(r#"{{"a":["{long}"]}}"#),
        format!(r#"{{"a":{{"startswith":"{long}"}}}}"#),
        format!(r#"{{"a":{{"is":{{"{long}":1,"{long}":1}}}}}}"#),
        format!(r#"{{"a":{{"gt":"{long}"}}}}"#),
    ] {
        let Err(error) = Match::parse(&filter) else { panic!("{filter}") };
        assert!(error.to_string().len() <= 512 && error.path().len() <= 256, "{error}");
    }
}

/// Matches stored by version 0.1.0 keep their meaning.
// covers: G175
#[test]
fn stored_matches_are_rewritten_where_a_word_means_more_now() {
    for (then, now) in [
        (r#"{"a":["x", "y"]}"#, r#"{"a":{"is":["x","y"]}}"#),
        (r#"{"a":{"in":["x"]}}"#, r#"{"a":{".in":{"is":["x"]}}}"#),
        (r#"{"in":5}"#, r#"{".in":5}"#),
        (r#"{"a":{"startswith":"J"}}"#, r#"{"a":{".startswith":"J"}}"#),
        (r#"{"a":{"any":["x"]}}"#, r#"{"a":{"any":true}}"#),
        (r#"{"any":0}"#, r#"{"any":true}"#),
        (r#"{"a":{"contains":"x"}}"#, r#"{"a":{"all":[{"contains":"x"},{"starts_with":""}]}}"#),
        (r#"{"a":{"starts_with":"x","ends_with":"y"}}"#, r#"{"a":{".starts_with":"x",".ends_with":"y"}}"#),
        (r#"{"$op":"create","like":"it"}"#, r#"{"$op":"create",".like":"it"}"#),
        (r#"{"$op":{"any":0},"n":1}"#, r#"{"$op":{"any":true},"n":1}"#),
    ] {
        assert_eq!(upgrade(then), now, "{then}");
        Match::parse(now).unwrap_or_else(|error| panic!("{now}: {error}"));
    }
    for same in [
        r#"{ "name" : {"starts_with" : "J"}, "a": {"b": {"is": [1, 2]}} }"#,
        r#"{"user":{"id":5},"$op":"create"}"#,
        r#"{"a":{"is":1,"b":2}}"#,
        "{}",
    ] {
        assert_eq!(upgrade(same), same);
    }
}

#[test]
fn data_that_is_not_json() {
    let any = Match::parse(r#"{"a":{"any":true}}"#).unwrap();
    let text = Data { bytes: "Joe \"J\"".into(), content_type: Some("text/plain".into()) };
    let other = Data { bytes: vec![0xff, 0xfe].into(), content_type: Some("image/png".into()) };
    for data in [&text, &other] {
        let doc = Document::of(None, data);
        assert!(Match::all().matches(&doc) && any.matches(&doc));
        assert!(!Match::parse(r#"{"a":1}"#).unwrap().matches(&doc));
    }
    assert!(Match::parse(r#"{"ends_with":"\"J\""}"#).unwrap().matches(&Document::of(None, &text)));
    assert!(!Match::parse(r#"{"is":null}"#).unwrap().matches(&Document::of(None, &other)));
    assert!(Match::parse(r#"{"a":1}"#).unwrap().matches(&Document::of(None, &Data::json(r#" {"a" : 1} "#))));
    for broken in
        ["", "{", r#"{"a":1"#, r#"{"a":1}}"#, r#"{"a":1} x"#, "\u{feff}{\"a\":1}", r#"{"a":01}"#, r#"{"a":1,}"#]
    {
        assert!(!matches(r#"{"a":1}"#, broken), "{broken}");
        assert!(matches(r#"{"a":{"any":true}}"#, broken), "{broken}");
    }
}

// covers: I06
#[test]
fn hostile_documents_take_linear_time_and_no_stack() {
    let hundred: Vec<String> = (0..MAX_CONDITIONS).map(|n| format!(r#""k{n}":{{"any":true}}"#)).collect();
    let hundred = Match::parse(&format!("{{{}}}", hundred.join(","))).unwrap();
    let shallow = Match::parse(r#"{"a":{"is":{"a":{"a":1}}}}"#).unwrap();

    let deep_arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(200_000), "}".repeat(200_000));
    let mut wide = String::from("{");
    for n in 0..100_000 {
        write!(wide, r#""x{n}":0,"#).unwrap();
    }
    wide.push_str(r#""a":1}"#);
    for text in [&deep_arrays, &deep_objects, &wide] {
        let doc = Document::new(None, text);
        // A thousand listeners on one document: a product of conditions and members would be 10^10 steps.
        for _ in 0..1_000 {
            assert!(hundred.matches(&doc));
            assert!(!shallow.matches(&doc));
        }
    }

    let like = Match::parse(r#"{"a":{"like":"(a*)*b"}}"#).unwrap();
    let text = format!(r#"{{"a":"{}"}}"#, "a".repeat(200_000));
    assert!(!like.matches(&Document::new(None, &text)), "a backtracking search would never end");
}

/// JSON text with odd spaces, escapes, numbers and repeated keys.
fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,25})?",
        "\"([ -!#-\\[\\]-~äß😀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,8}\"",
    ];
    let space = prop_oneof![Just(""), Just(" "), Just("\n\t")];
    scalar.prop_recursive(6, 64, 8, move |inner| {
        let key = prop_oneof![Just("\"a\""), Just("\"b\""), Just("\"\\u0061\""), Just("\"\""), Just("\"is\"")];
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..8), space.clone())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            (proptest::collection::vec((key, inner), 0..24), space.clone()).prop_map(|(members, s)| {
                let members: Vec<String> = members.into_iter().map(|(k, v)| format!("{k}{s}:{s}{v}")).collect();
                format!("{{{s}{}{s}}}", members.join(&format!("{s},")))
            }),
        ]
    })
}

/// Values whose equality in `serde_json` is that of JSON: no floats.
fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        "[ab\"\\\\é]{0,2}".prop_map(Value::from)
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec(("[ab]", inner), 0..3)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Values with fields that are called like operators.
fn value_then() -> impl Strategy<Value = Value> {
    value().prop_recursive(2, 8, 3, |inner| fields("a|b|in|not|gt|all|exists|startswith|prefix", inner))
}

/// The meaning of `filter` in version 0.1.0, in the simplest implementation.
fn model_then(filter: &Value, data: Option<&Value>) -> bool {
    let Value::Object(fields) = filter else { return data == Some(filter) };
    let text = data.and_then(Value::as_str);
    if let (1, Some((key, operand))) = (fields.len(), fields.iter().next()) {
        let part = || operand.as_str().unwrap_or_default();
        match key.as_str() {
            "is" => return data == Some(operand),
            "starts_with" => return text.is_some_and(|t| t.starts_with(part())),
            "contains" => return text.is_some_and(|t| t.contains(part())),
            "any" => return true,
            _ => {}
        }
    }
    data.is_some_and(Value::is_object)
        && fields.iter().all(|(key, inner)| model_then(inner, data.and_then(|d| d.get(key))))
}

/// The meaning of `filter`, in the simplest implementation.
fn model(filter: &Value, data: Option<&Value>) -> bool {
    let Value::Object(fields) = filter else { return data == Some(filter) };
    let text = data.and_then(Value::as_str);
    if let (1, Some((key, operand))) = (fields.len(), fields.iter().next()) {
        let part = || operand.as_str().unwrap_or_default();
        let list = || operand.as_array().into_iter().flatten();
        let number = |value: &Value| value.as_i64();
        match key.as_str() {
            "is" => return data == Some(operand),
            "in" => return list().any(|value| data == Some(value)),
            "starts_with" => return text.is_some_and(|t| t.starts_with(part())),
            "contains" => {
                let has = data.and_then(Value::as_array).is_some_and(|items| items.contains(operand));
                return has || (operand.is_string() && text.is_some_and(|t| t.contains(part())));
            }
            "exists" => return operand.as_bool() == Some(data.is_some()),
            "gt" => return data.and_then(number).is_some_and(|data| data > number(operand).unwrap()),
            "lte" => return data.and_then(number).is_some_and(|data| data <= number(operand).unwrap()),
            "not" => return data.is_some() && !model(operand, data),
            "all" => return list().all(|condition| model(condition, data)),
            "any" => return operand.is_boolean() || list().any(|condition| model(condition, data)),
            _ => {}
        }
    }
    data.is_some_and(Value::is_object) && fields.iter().all(|(key, inner)| model(inner, data.and_then(|d| d.get(key))))
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        value().prop_map(|v| json!({ "is": v })),
        "[ab]{0,1}".prop_map(|t| json!({ "starts_with": t })),
        "[ab]{0,1}".prop_map(|t| json!({ "contains": t })),
        Just(json!({"any": true})),
        (-2..3_i64).prop_map(Value::from),
        "[ab]{0,1}".prop_map(Value::from),
    ]
}

/// An object of conditions.
fn fields(names: &'static str, inner: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    proptest::collection::vec((names, inner), 0..3)
        .prop_map(|members| Value::from(members.into_iter().collect::<serde_json::Map<_, _>>()))
}

fn filter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => leaf(),
        1 => proptest::collection::vec(value(), 1..4).prop_map(|values| json!({ "in": values })),
        1 => any::<bool>().prop_map(|there| json!({ "exists": there })),
        1 => (-2..3_i64).prop_map(|n| json!({ "gt": n })),
        1 => (-2..3_i64).prop_map(|n| json!({ "lte": n })),
    ];
    let deeper = |inner: BoxedStrategy<Value>| {
        let list = || proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            2 => fields("[ab]", inner.clone()),
            1 => inner.clone().prop_map(|condition| json!({ "not": condition })),
            1 => list().prop_map(|conditions| json!({ "all": conditions })),
            1 => list().prop_map(|conditions| json!({ "any": conditions })),
        ]
    };
    let values = |value: &Value| match value["in"].as_array() {
        // An object with one key that is an operator's is refused there.
        Some(values) => values.iter().all(|value| value.as_object().is_none_or(|object| object.len() != 1)),
        None => true,
    };
    fields("[ab]", leaf.prop_filter("refused", values).prop_recursive(3, 12, 3, deeper).boxed())
}

/// As version 0.1.0 took it: with fields that are called like operators of today, and arrays that stand for themselves.
fn filter_then() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => leaf(),
        1 => value().prop_map(|operand| json!({ "any": operand })),
        1 => proptest::collection::vec(value(), 0..3).prop_map(Value::from),
    ];
    let deeper = |inner: BoxedStrategy<Value>| fields("a|b|in|not|gt|all|exists|startswith|prefix", inner);
    deeper(leaf.prop_recursive(3, 12, 3, deeper).boxed())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(data in "\\PC{0,80}", filter in "\\PC{0,40}") {
        let doc = Document::new(None, &data);
        doc.string_at(&["a", "b"]);
        if let Ok(filter) = Match::parse(&filter) {
            filter.matches(&doc);
        }
    }

    #[test]
    fn no_json_makes_it_panic(data in json_text(), filter in json_text()) {
        prop_assert!(serde_json::from_str::<&RawValue>(&data).is_ok(), "{}", data);
        let doc = Document::new(Some("create"), &data);
        for text in [filter.clone(), format!(r#"{{"a":{{"is":{filter}}}}}"#), format!(r#"{{"is":{data}}}"#)] {
            if let Ok(filter) = Match::parse(&text) {
                filter.matches(&doc);
                if let Some((path, value)) = filter.index_key() && filter.matches(&doc) {
                    let found = doc.string_at(path);
                    prop_assert_eq!(found, Some(value));
                }
            }
        }
    }

    #[test]
    fn every_json_value_is_itself(data in json_text()) {
        // Refused only for what a match must not hold: equal keys, lone surrogates, too much of it.
        if let Ok(filter) = Match::parse(&format!(r#"{{"is":{data}}}"#)) {
            prop_assert!(filter.matches(&Document::new(None, &data)));
        }
    }

    // covers: G175
    #[test]
    fn what_was_stored_means_what_it_meant(filter in filter_then(), data in value_then()) {
        let text = data.to_string();
        let wrapped = json!({ "top": filter }).to_string();
        let document = format!(r#"{{"top":{text}}}"#);
        let now = upgrade(&wrapped);
        let holds = Match::stored(&now).unwrap().matches(&Document::new(None, &document));
        prop_assert_eq!(holds, model_then(&filter, Some(&data)), "{} was {}, on {}", now, wrapped, text);
        prop_assert!(Match::parse(&now).is_ok(), "sent again it is taken: {}", now);
    }

    #[test]
    fn it_means_what_the_simple_model_says(filter in filter(), data in value()) {
        let text = data.to_string();
        // The top differs in one thing: it does not ask for an object where no field does.
        let wrapped = json!({ "top": filter });
        let document = format!(r#"{{"top":{text}}}"#);
        let compiled = Match::compile(&wrapped).unwrap();
        prop_assert_eq!(compiled.matches(&Document::new(None, &document)), model(&filter, Some(&data)), "{} on {}",
            wrapped, text);
    }
}
