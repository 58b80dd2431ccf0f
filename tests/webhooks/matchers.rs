//! Every matcher, end to end: one listener per match, and the events that reach it.

use serde_json::{Value, json};
use tidings_testkit::Receiver;

use crate::kit::{hook, listener, nothing_pending, open, told};

/// The events: an id, the data, the operation.
fn events() -> Vec<(&'static str, Value, Option<&'static str>)> {
    let joe = json!({"name": "Joe", "age": 30, "address": {"city": "Bergen", "zip": "5003"}, "tags": ["x", "y"],
        "like": "it", "ok": true});
    vec![
        ("a", joe, None),
        ("b", json!({"name": "Jane", "age": 30.0, "address": {"city": "Oslo"}, "ok": "true"}), None),
        ("c", json!({"name": "Bob", "address": "Bergen"}), None),
        ("d", json!({"name": 5}), None),
        ("e", json!({"name": null}), None),
        ("f", json!({}), None),
        ("g", json!({"name": "Ås 😀"}), Some("update")),
    ]
}

/// A match, and the ids that it lets through.
fn table() -> Vec<(Value, &'static str)> {
    vec![
        (json!({}), "abcdefg"),
        (json!({"name": "Joe"}), "a"),
        (json!({"name": {"is": "Joe"}}), "a"),
        (json!({"name": "joe"}), ""),
        (json!({"name": {"starts_with": "J"}}), "ab"),
        (json!({"name": {"starts_with": ""}}), "abcg"),
        (json!({"name": {"ends_with": "e"}}), "ab"),
        (json!({"name": {"ends_with": "😀"}}), "g"),
        (json!({"name": {"contains": "o"}}), "ac"),
        (json!({"name": {"contains": "O"}}), ""),
        (json!({"name": {"like": "^J.*e$"}}), "ab"),
        (json!({"name": {"like": "o"}}), "ac"),
        (json!({"name": {"like": "^.s \\p{Emoji}$"}}), "g"),
        (json!({"name": {"any": true}}), "abcdefg"),
        (json!({"nothing": {"any": true}}), "abcdefg"),
        // Nested, AND, and the whole of a nested value.
        (json!({"address": {"city": "Bergen"}}), "a"),
        (json!({"address": {"city": {"starts_with": "O"}}}), "b"),
        (json!({"name": {"starts_with": "J"}, "address": {"city": {"ends_with": "n"}}}), "a"),
        (json!({"name": "Jane", "address": {"city": "Bergen"}}), ""),
        (json!({"address": {"is": {"city": "Oslo"}}}), "b"),
        (json!({"address": {"is": {"city": "Bergen"}}}), ""),
        // Numbers, truth and null are themselves and nothing else.
        (json!({"age": 30}), "ab"),
        (json!({"age": "30"}), ""),
        (json!({"ok": true}), "a"),
        (json!({"name": 5}), "d"),
        (json!({"name": null}), "e"),
        (json!({"tags": {"is": ["x", "y"]}}), "a"),
        (json!({"tags": {"contains": "x"}}), "a"),
        (json!({"tags": {"contains": "z"}}), ""),
        // Several values, what is not, what is not there, and ranges.
        (json!({"name": {"in": ["Joe", "Jane", 5]}}), "abd"),
        (json!({"name": {"not": {"starts_with": "J"}}}), "cdeg"),
        (json!({"nothing": {"exists": false}}), "abcdefg"),
        (json!({"age": {"all": [{"gte": 30}, {"lt": 31}]}}), "ab"),
        (json!({"any": [{"ok": true}, {"name": null}]}), "ae"),
        // A field that bears an operator's name, and the operator itself on the data as a whole.
        (json!({".like": "it"}), "a"),
        (json!({"like": "it"}), ""),
        // What is not there, or of another type, is no match and no error.
        (json!({"nothing": "x"}), ""),
        (json!({"nothing": {"deep": {"starts_with": ""}}}), ""),
        (json!({"name": {"first": "J"}}), ""),
        (json!({"$op": "update"}), "g"),
        (json!({"$op": "create"}), ""),
    ]
}

#[tokio::test]
async fn each_match_lets_through_whom_it_names() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "thing").await;
    let table = table();
    for (number, (filter, _)) in table.iter().enumerate() {
        let url = receiver.url(&format!("/{number}"));
        listener(&api, json!({"url": url, "hooks": ["thing"], "match": filter})).await;
    }
    for (id, data, op) in events() {
        let said = api.post("/v1/events", json!({"id": id, "name": "thing", "data": data, "op": op})).await;
        let wanted = table.iter().filter(|(_, whom)| whom.contains(id)).count();
        assert_eq!(said.expect_status(202)["deliveries"], wanted, "{id}");
    }
    nothing_pending(&api).await;
    let told = told(&receiver.received());
    for (number, (filter, whom)) in table.iter().enumerate() {
        let heard = told.get(&format!("/{number}")).map(|ids| ids.concat()).unwrap_or_default();
        assert_eq!(&heard, whom, "{filter}");
    }
}

/// A match sees only the fields that would be sent, so nobody can probe hidden fields with it.
#[tokio::test]
async fn hidden_fields_cannot_be_matched() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "person", "fields": ["name"]})).await.expect_status(201);
    for filter in [
        json!({"secret": {"starts_with": "s"}}),
        json!({"secret": "s3cret"}),
        json!({"is": {"name": "Joe", "secret": "s3cret"}}),
    ] {
        listener(&api, json!({"url": receiver.url("/hidden"), "hooks": ["person"], "match": filter})).await;
    }
    listener(&api, json!({"url": receiver.url("/sent"), "hooks": ["person"], "match": {"is": {"name": "Joe"}}})).await;
    let said =
        api.post("/v1/events", json!({"id": "e", "name": "person", "data": {"name": "Joe", "secret": "s3cret"}})).await;
    assert_eq!(said.expect_status(202)["deliveries"], 1);
    nothing_pending(&api).await;
    assert_eq!(told(&receiver.received()), [("/sent".to_owned(), vec!["e".to_owned()])].into());
}

// covers: B11
#[tokio::test]
async fn a_match_that_cannot_be_meant_is_refused_with_its_place() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "thing").await;
    for (filter, place) in [
        (json!({"name": {"like": "(a"}}), "match.name.like"),
        (json!({"name": {"like": 5}}), "match.name.like"),
        (json!({"a": {"b": {"starts_with": null}}}), "match.a.b.starts_with"),
        (json!({"a": {"$op": "create"}}), "match.a.$op"),
        (json!([]), "match"),
        (json!({"tags": ["x"]}), "match.tags"),
        (json!({"name": {"startswith": "J"}}), "match.name.startswith"),
    ] {
        let refused =
            api.post("/v1/listeners", json!({"url": receiver.url("/"), "hooks": ["thing"], "match": filter})).await;
        let refused = refused.expect_status(422);
        assert_eq!(refused["code"], "invalid_field", "{}", refused.text());
        assert_eq!(refused["field"], place, "{}", refused.text());
    }
    assert!(api.get("/v1/listeners").await["data"].as_array().unwrap().is_empty());
}
