//! The data that is sent: selected fields, unchanged bytes, types, depth.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_model::event::Data;
use tidings_model::payload::{
    Field, FieldKind, FieldTypeError, check_types, depth_at_most, render_body, select_fields,
};

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

fn fields(names: &[&str]) -> Vec<Field> {
    names.iter().map(|name| Field::named(*name)).collect()
}

// covers: I04, G153
#[test]
fn chosen_fields_keep_their_bytes_order_and_duplicates() {
    let sent = raw(r#" { "b" : [1,  2.50] , "x":"}{\"", "a":1e400,"\u0061":18446744073709551617,
        "secret":{"a":"s"},"ø":"\u00f8" , "a" : null } "#);
    let select = |sent: &RawValue, names: &[&str]| {
        select_fields(sent, &fields(names)).unwrap().map(|data| data.as_json().unwrap().to_owned())
    };
    assert_eq!(
        select(&sent, &["a", "b", "ø"]).unwrap(),
        r#"{"b":[1,  2.50],"a":1e400,"\u0061":18446744073709551617,"ø":"\u00f8","a":null}"#
    );
    for names in [&[][..], &["nothing"]] {
        assert_eq!(select(&sent, names).unwrap(), "{}");
    }
    // Nothing is lost, so nothing is changed: not a space.
    for whole in ["{}", " { } ", r#"{ "a" : 1,"\u0061":[ ] }"#] {
        assert_eq!(select(&raw(whole), &["a"]), None, "{whole}");
    }
    for other in ["[]", "1", "null", r#""{\"a\":1}""#] {
        assert!(select_fields(&raw(other), &fields(&["a"])).is_err(), "{other}");
    }
}

// covers: I04
#[test]
fn the_body_has_the_data_as_sent() {
    let odd = r#"{ "z":1e400,"a":18446744073709551617,"a":1.0, "u":"\u00e6æ\ud800" }"#;
    let body = render_body("person.created", "2026-01-02T03:04:05Z", None, &Data::json(odd));
    assert_eq!(body, format!(r#"{{"type":"person.created","timestamp":"2026-01-02T03:04:05Z","data":{odd}}}"#));
    let body = render_body("person", "t", Some("update"), &Data::json("null"));
    assert_eq!(body, r#"{"type":"person","timestamp":"t","op":"update","data":null}"#);
    let body = render_body("a\"b\\", "t\n\u{1}", None, &Data::json("1"));
    assert_eq!(body, r#"{"type":"a\"b\\","timestamp":"t\n\u0001","data":1}"#);
}

#[test]
fn other_data_says_what_it_is() {
    let data = |bytes: &[u8], kind: &str| Data { bytes: bytes.to_vec().into(), content_type: Some(kind.into()) };
    let text = render_body("a", "t", None, &data("say \"hæ\"\n".as_bytes(), "Text/plain; charset=utf-8"));
    assert_eq!(
        text,
        r#"{"type":"a","timestamp":"t","data":"say \"hæ\"\n","content_type":"Text/plain; charset=utf-8"}"#
    );
    let bytes = render_body("a", "t", None, &data(&[0xff, 0, 1], "image/png"));
    assert_eq!(bytes, r#"{"type":"a","timestamp":"t","data_base64":"/wAB","content_type":"image/png"}"#);
    let latin = render_body("a", "t", None, &data(&[0xe6], "text/plain"));
    assert_eq!(latin, r#"{"type":"a","timestamp":"t","data_base64":"5g==","content_type":"text/plain"}"#);
}

#[test]
fn fields_are_names_or_names_with_types() {
    let text = json!(["name", {"name": "age", "type": "integer"}, {"name": "x"}]);
    let read: Vec<Field> = serde_json::from_value(text).unwrap();
    assert_eq!(read[0], Field::named("name"));
    assert_eq!(read[1], Field { name: "age".into(), kind: Some(FieldKind::Integer) });
    assert_eq!(read[2], Field::named("x"));
    assert_eq!(serde_json::to_value(&read).unwrap(), json!(["name", {"name": "age", "type": "integer"}, "x"]));
    for (bad, says) in [
        (json!({"name": "a", "type": "int"}), "`integer`"),
        (json!({"name": "a", "kind": "string"}), "unknown field `kind`"),
        (json!({"type": "string"}), "missing field `name`"),
        (json!(5), "a field's name, or"),
    ] {
        let error = serde_json::from_value::<Field>(bad.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn types_are_checked_where_declared() {
    let values = ["\"s\"", "1.5", "1", "true", "{}", "[]"];
    for (kind, fits) in [
        (FieldKind::String, [true, false, false, false, false, false]),
        (FieldKind::Number, [false, true, true, false, false, false]),
        (FieldKind::Integer, [false, false, true, false, false, false]),
        (FieldKind::Boolean, [false, false, false, true, false, false]),
        (FieldKind::Object, [false, false, false, false, true, false]),
        (FieldKind::Array, [false, false, false, false, false, true]),
        (FieldKind::Any, [true; 6]),
    ] {
        let declared = [Field { name: "f".into(), kind: Some(kind) }, Field::named("g")];
        for (value, fits) in values.into_iter().zip(fits) {
            let sent = raw(&format!(r#"{{"g":0, "f": {value} ,"undeclared":1}}"#));
            assert_eq!(check_types(&sent, &declared).is_ok(), fits, "{value} as {kind}");
        }
        assert_eq!(check_types(&raw(r#"{"f":null}"#), &declared), Ok(()));
        assert_eq!(check_types(&raw("{}"), &declared), Ok(()));
    }
    let declared = [Field { name: "f".into(), kind: Some(FieldKind::Integer) }];
    for whole in ["1.0", "1e3", "18446744073709551617", "-0"] {
        assert_eq!(check_types(&raw(&format!(r#"{{"f":{whole}}}"#)), &declared), Ok(()), "{whole}");
    }
    let error = check_types(&raw(r#"{"\u0066":1,"f":"x"}"#), &declared).unwrap_err();
    assert_eq!(
        error.to_string(),
        "data.f: the hook declares integer, this is string; send integer or null, or leave it out"
    );
    assert!(matches!(check_types(&raw("[]"), &declared), Err(FieldTypeError::NotAnObject(_))));
}

// covers: I06
#[test]
fn depth_is_counted_outside_strings_and_without_recursion() {
    for (text, depth) in
        [("1", 0), ("\"[[[[\"", 0), ("[]", 1), (r#"{"a":[{}]}"#, 3), (r#"["\"[", []]"#, 2), ("[[],[],[]]", 2)]
    {
        assert!(depth_at_most(&raw(text), depth), "{text}");
        assert!(depth == 0 || !depth_at_most(&raw(text), depth - 1), "{text}");
    }
    let deep = raw(&format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)));
    assert!(!depth_at_most(&deep, 64));
    assert!(depth_at_most(&deep, 1_000_000));
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        "[\\x00-\\x7f]{0,4}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec(("\\PC{0,2}", inner), 0..5)
                .prop_map(|m| m.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn selected_members_are_the_declared_ones_as_sent(
        members in proptest::collection::vec(("[abc\"\\\\é{}\\[\\],:]{0,2}", value(), " {0,2}"), 0..8),
        declared in proptest::collection::vec("[abc\"\\\\é{}\\[\\],:]{0,2}", 0..4),
    ) {
        let piece = |(key, value, space): &(String, Value, String), apart: bool| {
            let space = if apart { space.as_str() } else { "" };
            format!("{space}{}{space}:{space}{value}{space}", Value::from(key.as_str()))
        };
        let all: Vec<String> = members.iter().map(|m| piece(m, true)).collect();
        let wanted: Vec<String> = members.iter().filter(|m| declared.contains(&m.0)).map(|m| piece(m, false)).collect();
        let declared: Vec<Field> = declared.iter().map(Field::named).collect();
        let kept = select_fields(&raw(&format!("{{{}}}", all.join(","))), &declared).unwrap();
        let expected = (wanted.len() < all.len()).then(|| format!("{{{}}}", wanted.join(",")));
        prop_assert_eq!(kept.as_ref().and_then(Data::as_json), expected.as_deref());
    }

    #[test]
    fn bodies_parse_and_hold_the_data_verbatim(
        kind in "\\PC{0,9}", op in proptest::option::of("[\\x00-\\x7f]{0,5}"), data in value(),
    ) {
        let text = data.to_string();
        let body = render_body(&kind, "2026-01-01T00:00:00Z", op.as_deref(), &Data::json(text.clone()));
        let read: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(read["type"].as_str(), Some(kind.as_str()));
        prop_assert_eq!(read.get("op").and_then(Value::as_str), op.as_deref());
        let tail = format!("\"data\":{text}}}");
        prop_assert!(body.ends_with(tail.as_bytes()));
    }

    #[test]
    fn other_bytes_come_back_whole(
        bytes in proptest::collection::vec(any::<u8>(), 0..50), kind in "(text|image)/[a-z]{1,5}",
    ) {
        let body = render_body("a", "t", None, &Data { bytes: bytes.clone().into(), content_type: Some(kind.clone()) });
        let read: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(read["content_type"].as_str(), Some(kind.as_str()));
        let back = match (&read["data"], &read["data_base64"]) {
            (Value::String(text), Value::Null) => text.clone().into_bytes(),
            (Value::Null, Value::String(encoded)) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn depth_is_that_of_the_value(data in value()) {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
                Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        let (text, depth) = (raw(&data.to_string()), depth(&data));
        prop_assert!(depth_at_most(&text, depth));
        prop_assert!(depth == 0 || !depth_at_most(&text, depth - 1));
    }
}
