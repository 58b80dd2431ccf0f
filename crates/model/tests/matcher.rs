//! `Match` against documents: exactness, limits, errors, and hostile input.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_model::event::Data;
use tidings_model::matcher::{Document, MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN, Match, MatchError};

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
    assert!(matches(r#"{"l":[1,"a",[2]]}"#, r#"{"l":[1,"a",[2]]}"#));
    assert!(!matches(r#"{"l":[1,2]}"#, r#"{"l":[2,1]}"#));
    assert!(!matches(r#"{"l":[1]}"#, r#"{"l":[1,1]}"#));
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
    assert!(matches(r#"{"n":{"any":1},"m":1}"#, r#"{"\ud800":1,"n":"\ud800","m":1}"#));
}

#[test]
fn contains_is_for_substrings_not_for_arrays() {
    assert!(!matches(r#"{"tags":{"contains":"a"}}"#, r#"{"tags":["a"]}"#));
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
    assert!(matches!(pattern(MAX_PATTERN_LEN + 1), Err(MatchError::PatternTooLarge { .. })));

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
    assert_eq!(doc.string_at(&["a", "b", "is"]).as_deref(), Some("deep"));
    assert_eq!(doc.string_at(&["a.b"]).as_deref(), Some("x"));
    assert_eq!(doc.string_at(&["n"]), None);
    assert_eq!(doc.string_at(&["a", "x"]), None);
    assert_eq!(doc.string_at(&["n", "x"]), None);
}

#[test]
fn slips_that_are_allowed_give_hints() {
    let hints = |filter: &str| Match::parse(filter).unwrap().hints().to_vec();
    assert!(
        hints(r#"{"name":{"startswith":"J"}}"#)[0]
            .contains("match.name.startswith is read as a field; the operator is \"starts_with\"")
    );
    assert!(
        hints(r#"{"name":{"starts_with":"J","ends_with":"n"}}"#)[0]
            .contains("match.name.starts_with is read as a field")
    );
    for fine in [
        r#"{"name":{"starts_with":"J"}}"#,
        r#"{"user":{"id":5}}"#,
        r#"{"post":{"likes":5}}"#,
        r#"{"a":{".is":1,"b":2}}"#,
    ] {
        assert_eq!(hints(fine), Vec::<String>::new(), "{fine}");
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
        assert!(matches(r#"{"a":{"any":1}}"#, broken), "{broken}");
    }
}

// covers: I06
#[test]
fn hostile_documents_take_linear_time_and_no_stack() {
    let hundred: Vec<String> = (0..MAX_CONDITIONS).map(|n| format!(r#""k{n}":{{"any":1}}"#)).collect();
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

/// What `filter` means, said in the simplest way.
fn model(filter: &Value, data: Option<&Value>) -> bool {
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
    data.is_some_and(Value::is_object) && fields.iter().all(|(key, inner)| model(inner, data.and_then(|d| d.get(key))))
}

fn filter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        value().prop_map(|v| json!({ "is": v })),
        "[ab]{0,1}".prop_map(|t| json!({ "starts_with": t })),
        "[ab]{0,1}".prop_map(|t| json!({ "contains": t })),
        Just(json!({"any": true})),
        (-2..3_i64).prop_map(Value::from),
        "[ab]{0,1}".prop_map(Value::from),
    ];
    let fields = |inner: BoxedStrategy<Value>| {
        proptest::collection::vec(("[ab]", inner), 0..3)
            .prop_map(|members| Value::from(members.into_iter().collect::<serde_json::Map<_, _>>()))
    };
    fields(leaf.prop_recursive(2, 8, 3, fields).boxed())
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
                    prop_assert_eq!(found.as_deref(), Some(value));
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

    #[test]
    fn it_means_what_the_simple_model_says(filter in filter(), data in value()) {
        let text = data.to_string();
        // The top differs in one thing: it does not ask for an object where no field does.
        let wrapped = json!({ "top": filter });
        let document = format!(r#"{{"top":{text}}}"#);
        let compiled = Match::compile(&wrapped).unwrap();
        prop_assert_eq!(compiled.matches(&Document::new(None, &document)), model(&filter, Some(&data)), "{} on {}", wrapped, text);
    }
}
