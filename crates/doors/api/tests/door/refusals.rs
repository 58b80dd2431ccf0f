//! Every refusal: its status, code, field and remedy, for every route; and that it changes nothing. Both stores refuse
//! the same requests.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::kit::{Answer, Door, KEY, door, door_on_postgres};

/// A request, and the expected problem. An empty field stands for none; the remedy must contain the last text.
type Case<'c> = (&'c str, &'c str, &'c str, u16, &'c str, &'c str, &'c str);

#[track_caller]
fn check(case: &Case<'_>, answer: &Answer) {
    let (method, path, body, status, code, field, remedy) = case;
    let what = format!("{method} {path} {}: {}", body.chars().take(200).collect::<String>(), answer.text);
    assert_eq!(answer.status.as_u16(), *status, "{what}");
    let problem = answer.refused(*status, code);
    let found = problem["field"].as_str().unwrap_or_default();
    assert_eq!(found, *field, "{what}");
    assert!(problem["remedy"].as_str().is_some_and(|found| found.contains(remedy)), "not {remedy:?}: {what}");
}

/// Runs the tests on both stores.
macro_rules! on_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::door().await).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::door_on_postgres().await).await;
            })+
        }
    };
}

on_both_stores!(
    events_that_cannot_be_published,
    hooks_that_cannot_be_made_or_changed,
    listeners_that_cannot_be_made,
    listeners_that_cannot_be_changed_or_found,
    deliveries_that_cannot_be_found_or_retried,
    paths_and_methods_that_there_are_not,
    bodies_of_other_kinds,
);

async fn check_all(door: &Door, cases: &[Case<'_>]) {
    for case in cases {
        check(case, &door.call(KEY, case.0, case.1, case.2).await);
    }
}

// covers: I03, G202
async fn events_that_cannot_be_published(door: Door) {
    let cases: &[Case<'_>] = &[
        ("POST", "/v1/events", "", 400, "invalid_json", "", "JSON object"),
        ("POST", "/v1/events", "{\n \"name\": }", 400, "invalid_json", "", "line 2, column 10"),
        ("POST", "/v1/events", "{\"name\":\"a\"} x", 400, "invalid_json", "", "line 1, column 14"),
        ("POST", "/v1/events", "[]", 422, "invalid_field", "", "JSON object"),
        ("POST", "/v1/events", "5", 422, "invalid_field", "", "JSON object"),
        ("POST", "/v1/events", "{}", 422, "missing_field", "name", "give it"),
        ("POST", "/v1/events", r#"{"name":null}"#, 422, "missing_field", "name", "give it"),
        ("POST", "/v1/events", r#"{"name":5}"#, 422, "invalid_field", "name", "write a string"),
        ("POST", "/v1/events", r#"{"name":"a","name":"b"}"#, 422, "invalid_field", "name", "keep one"),
        ("POST", "/v1/events", r#"{"name":""}"#, 422, "invalid_field", "name", "person.created"),
        ("POST", "/v1/events", r#"{"name":"a b"}"#, 422, "invalid_field", "name", "without spaces"),
        ("POST", "/v1/events", r#"{"name":"a\u0000"}"#, 422, "invalid_field", "name", "printable"),
        ("POST", "/v1/events", r#"{"name":"a.*"}"#, 422, "invalid_field", "name", "patterns are for listeners"),
        ("POST", "/v1/events", r#"{"name":"tidings.x"}"#, 422, "invalid_field", "name", "another name"),
        ("POST", "/v1/events", r#"{"name":"tidings.test"}"#, 422, "invalid_field", "name", "another name"),
        ("POST", "/v1/events", r#"{"name":"a\ud800"}"#, 422, "invalid_field", "name", "in pairs"),
        ("POST", "/v1/events", r#"{"nmae":"a"}"#, 422, "unknown_field", "nmae", "did you mean \"name\"?"),
        ("POST", "/v1/events", r#"{"name":"a","zzz":1}"#, 422, "unknown_field", "zzz", "the fields are name, data"),
        ("POST", "/v1/events", r#"{"name":"a","channels":"c"}"#, 422, "invalid_field", "channels", "write an array"),
        ("POST", "/v1/events", r#"{"name":"a","channels":["a",5]}"#, 422, "invalid_field", "channels[1]", "a string"),
        ("POST", "/v1/events", r#"{"name":"a","channels":["a",""]}"#, 422, "invalid_field", "channels[1]", "1 to 200"),
        ("POST", "/v1/events", r#"{"name":"a","channels":["a\n"]}"#, 422, "invalid_field", "channels[0]", "printable"),
        ("POST", "/v1/events", r#"{"name":"a","id":"a.b"}"#, 422, "invalid_field", "id", "leave it out"),
        ("POST", "/v1/events", r#"{"name":"a","id":""}"#, 422, "invalid_field", "id", "leave it out"),
        ("POST", "/v1/events", r#"{"name":"a","time":"soon"}"#, 422, "invalid_field", "time", "RFC 3339"),
        ("POST", "/v1/events", r#"{"name":"a","time":5}"#, 422, "invalid_field", "time", "write a string"),
        ("POST", "/v1/events", r#"{"name":"a","not_before":"soon"}"#, 422, "invalid_field", "not_before", "RFC 3339"),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","not_before":"2999-01-01T00:00:00Z"}"#,
            422,
            "invalid_field",
            "not_before",
            "within 30 days",
        ),
        ("POST", "/v1/events", r#"{"name":"a","op":"upsert"}"#, 422, "invalid_field", "op", "create, update, delete"),
        ("POST", "/v1/events", r#"{"name":"a","key":"a\u0007"}"#, 422, "invalid_field", "key", "control"),
        ("POST", "/v1/events", r#"{"name":"a","except":[]}"#, 422, "invalid_field", "except", "write a string"),
        ("POST", "/v1/events", r#"{"name":"a","data_base64":"!"}"#, 422, "invalid_field", "data_base64", "base64"),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","data_base64":"","data":1}"#,
            422,
            "invalid_field",
            "data_base64",
            "not both",
        ),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","content_type":"a/b"}"#,
            422,
            "invalid_field",
            "content_type",
            "data_base64",
        ),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","data_base64":"","content_type":"a\u000d/b"}"#,
            422,
            "invalid_field",
            "content_type",
            "control",
        ),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","data_base64":"","content_type":"png"}"#,
            422,
            "invalid_field",
            "content_type",
            "image/png",
        ),
        (
            "POST",
            "/v1/events",
            r#"{"name":"a","data_base64":"ew==","content_type":"application/json"}"#,
            422,
            "invalid_field",
            "data_base64",
            "content_type",
        ),
        ("POST", "/v1/events", r#"{"name":"a","key":"\u0000"}"#, 422, "invalid_field", "key", "printable"),
        ("POST", "/v1/events", r#"{"name":"pusher:a"}"#, 422, "invalid_field", "name", "another name"),
        ("POST", "/v1/events", r#"{"name":"pusher_internal:a"}"#, 422, "invalid_field", "name", "another name"),
        ("GET", "/v1/events/%00", "", 404, "not_found", "", "idempotency key"),
        ("GET", "/v1/events?name=%00", "", 400, "invalid_request", "name", "leave it out"),
        ("GET", "/v1/events?channel=a%00", "", 400, "invalid_request", "channel", "leave it out"),
        ("GET", "/v1/events/nothing", "", 404, "not_found", "", "idempotency key"),
        ("GET", "/v1/events?nmae=a", "", 400, "invalid_request", "nmae", "did you mean \"name\"?"),
        ("GET", "/v1/events?name=a&channel=b", "", 400, "invalid_request", "channel", "leave one out"),
        ("GET", "/v1/events?since=yesterday", "", 400, "invalid_request", "since", "RFC 3339"),
        ("GET", "/v1/events?limit=1&limit=2", "", 400, "invalid_request", "limit", "keep one"),
        ("GET", "/v1/events?cursor=aDph", "", 400, "invalid_request", "cursor", "unchanged"),
    ];
    check_all(&door, cases).await;
    let long = |field: &str, text: &str| format!(r#"{{"name":"a","{field}":"{text}"}}"#);
    for (field, text) in [("key", "k".repeat(201)), ("except", "k".repeat(201)), ("id", "k".repeat(129))] {
        let answer = door.call(KEY, "POST", "/v1/events", long(field, &text)).await;
        assert_eq!(answer.refused(422, "invalid_field")["field"], field);
    }
    let name = json!({"name": "n".repeat(201)});
    assert_eq!(door.post("/v1/events", name).await.refused(422, "invalid_field")["field"], "name");
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    let answer = door.post("/v1/events", json!({"name": "a", "channels": many})).await;
    assert_eq!(answer.refused(422, "invalid_field")["field"], "channels");
    let answer = door.post("/v1/events", json!({"name": "a", "channels": ["c".repeat(201)]})).await;
    assert_eq!(answer.refused(422, "invalid_field")["field"], "channels[0]");
    assert_eq!(door.get("/v1/events").await.ok(200), json!({"data": [], "next": null}));
}

async fn hooks_that_cannot_be_made_or_changed(door: Door) {
    door.hook("person.created").await;
    let cases: &[Case<'_>] = &[
        ("POST", "/v1/hooks", "{}", 422, "missing_field", "name", "give it"),
        ("POST", "/v1/hooks", r#"{"name":"tidings.x"}"#, 422, "invalid_field", "name", "another name"),
        ("POST", "/v1/hooks", r#"{"name":"person.*"}"#, 422, "invalid_field", "name", "patterns are for listeners"),
        ("POST", "/v1/hooks", r#"{"name":"person.created"}"#, 409, "exists", "name", "PATCH"),
        ("POST", "/v1/hooks", r#"{"name":"h","descripton":""}"#, 422, "unknown_field", "descripton", "\"description\""),
        ("POST", "/v1/hooks", r#"{"name":"h","created_at":""}"#, 422, "unknown_field", "created_at", "leave it out"),
        ("POST", "/v1/hooks", r#"{"name":"h","description":5}"#, 422, "invalid_field", "description", "write a string"),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","description":"\u0000"}"#,
            422,
            "invalid_field",
            "description",
            "printable",
        ),
        ("POST", "/v1/hooks", r#"{"name":"h","fields":["\u0000"]}"#, 422, "invalid_field", "fields[0]", "of a field"),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","fields_for":"some"}"#,
            422,
            "invalid_field",
            "fields_for",
            "\"webhooks\"",
        ),
        ("POST", "/v1/hooks", r#"{"name":"pusher:a"}"#, 422, "invalid_field", "name", "another name"),
        (
            "PATCH",
            "/v1/hooks/person.created",
            r#"{"description":"\u0000"}"#,
            422,
            "invalid_field",
            "description",
            "print",
        ),
        ("PATCH", "/v1/hooks/%00", "{}", 404, "not_found", "", "GET /v1/hooks"),
        ("DELETE", "/v1/hooks/%00", "", 404, "not_found", "", "GET /v1/hooks"),
        ("POST", "/v1/hooks", r#"{"name":"h","fields":"a"}"#, 422, "invalid_field", "fields", "write an array"),
        ("POST", "/v1/hooks", r#"{"name":"h","fields":[5]}"#, 422, "invalid_field", "fields[0]", "the name of a field"),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","fields":["a",{"name":"a"}]}"#,
            422,
            "invalid_field",
            "fields[1]",
            "keep one",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","fields":[{"type":"any"}]}"#,
            422,
            "missing_field",
            "fields[0].name",
            "give it",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","fields":[{"name":"a","typ":"any"}]}"#,
            422,
            "unknown_field",
            "fields[0].typ",
            "\"type\"",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","fields":[{"name":"a","type":"int"}]}"#,
            422,
            "invalid_field",
            "fields[0].type",
            "integer",
        ),
        ("POST", "/v1/hooks", r#"{"name":"h","schema":[]}"#, 422, "invalid_field", "schema", "object"),
        ("POST", "/v1/hooks", r#"{"name":"h","defaults":5}"#, 422, "invalid_field", "defaults", "an object"),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","defaults":{"retries":5}}"#,
            422,
            "unknown_field",
            "defaults.retries",
            "timeout, schedule",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","defaults":{"timeout":"5"}}"#,
            422,
            "invalid_field",
            "defaults.timeout",
            "30s",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","defaults":{"timeout":"0s"}}"#,
            422,
            "invalid_field",
            "defaults.timeout",
            "1ms to 1m",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","defaults":{"schedule":["0s","8d"]}}"#,
            422,
            "invalid_field",
            "defaults.schedule[1]",
            "7d",
        ),
        (
            "POST",
            "/v1/hooks",
            r#"{"name":"h","defaults":{"schedule":[]}}"#,
            422,
            "invalid_field",
            "defaults.schedule",
            "[\"0s\"]",
        ),
        ("GET", "/v1/hooks/person.craeted", "", 404, "not_found", "", "did you mean \"person.created\"?"),
        ("GET", "/v1/hooks/tidings.test", "", 404, "not_found", "", "GET /v1/hooks"),
        ("GET", "/v1/hooks?hook=a", "", 400, "invalid_request", "hook", "limit, cursor"),
        ("GET", "/v1/hooks?limit=0", "", 400, "invalid_request", "limit", "1 to 250"),
        ("GET", "/v1/hooks?limit=251", "", 400, "invalid_request", "limit", "1 to 250"),
        ("GET", "/v1/hooks?limit=ten", "", 400, "invalid_request", "limit", "1 to 250"),
        ("GET", "/v1/hooks?cursor=x", "", 400, "invalid_request", "cursor", "unchanged"),
        ("PATCH", "/v1/hooks/person.created", r#"{"name":"other"}"#, 422, "invalid_field", "name", "another hook"),
        ("PATCH", "/v1/hooks/person.created", r#"{"name":null}"#, 422, "invalid_field", "name", "string"),
        ("PATCH", "/v1/hooks/nothing", "{}", 404, "not_found", "", "GET /v1/hooks"),
        ("PATCH", "/v1/hooks/tidings.test", "{}", 404, "not_found", "", "GET /v1/hooks"),
        ("DELETE", "/v1/hooks/nothing", "", 404, "not_found", "", "GET /v1/hooks"),
        ("DELETE", "/v1/hooks/%ff", "", 400, "invalid_request", "", "UTF-8"),
    ];
    let before = door.get("/v1/hooks").await.text;
    check_all(&door, cases).await;
    let long = json!({"name": "h", "description": "d".repeat(1_001)});
    assert_eq!(door.post("/v1/hooks", long).await.refused(422, "invalid_field")["field"], "description");
    let wide: Vec<String> = (0..201).map(|n| format!("f{n}")).collect();
    let answer = door.post("/v1/hooks", json!({"name": "h", "fields": wide})).await;
    assert_eq!(answer.refused(422, "invalid_field")["field"], "fields");
    door.call(KEY, "POST", "/v1/hooks", vec![b' '; 256 * 1024 + 1]).await.refused(413, "too_large");
    assert_eq!(door.get("/v1/hooks").await.text, before);
}

// covers: I01, I02, I05
async fn listeners_that_cannot_be_made(door: Door) {
    door.hook("person.created").await;
    let fields: &[(&str, Value, &str, &str, &str)] = &[
        ("url", Value::Null, "missing_field", "url", "give it"),
        ("url", json!(5), "invalid_field", "url", "write a string"),
        ("url", json!("notaurl"), "invalid_field", "url", "https://example.com/hook"),
        ("url", json!("/in"), "invalid_field", "url", "https://example.com/hook"),
        ("url", json!("ftp://a.example/"), "invalid_field", "url", "another URL"),
        ("url", json!("https://u:p@a.example/"), "invalid_field", "url", "header"),
        ("url", json!("https://a.example/\r\nHost: b"), "invalid_field", "url", "%"),
        ("url", json!("https://a.example/a b"), "invalid_field", "url", "%"),
        ("url", json!("https://10.0.0.1/"), "blocked_address", "url", "--egress-allow 10.0.0.1/32"),
        ("url", json!("http://0x0a000001/"), "blocked_address", "url", "--egress-allow 10.0.0.1/32"),
        ("url", json!("http://[::1]/"), "blocked_address", "url", "--egress-allow ::1/128"),
        ("url", json!("http://169.254.169.254/"), "blocked_address", "url", "--egress-allow"),
        ("url", json!("http://a.example:25/"), "blocked_address", "url", "[egress]"),
        ("hooks", Value::Null, "missing_field", "hooks", "give it"),
        ("hooks", json!([]), "invalid_field", "hooks", "*"),
        ("hooks", json!("person.created"), "invalid_field", "hooks", "write an array"),
        ("hooks", json!(["person.created", 5]), "invalid_field", "hooks[1]", "write a string"),
        ("hooks", json!(["per*"]), "invalid_field", "hooks[0]", "person.*"),
        ("hooks", json!(["*", "person.craeted"]), "unknown_hook", "hooks[1]", "did you mean \"person.created\"?"),
        ("hooks", json!(["zzzzzzzzzzzz"]), "unknown_hook", "hooks[0]", "POST /v1/hooks"),
        ("hooks", json!(["*", "*"]), "invalid_field", "hooks[1]", "keep one"),
        ("match", json!([]), "invalid_field", "match", "object"),
        ("match", json!({"name": {"like": "(a"}}), "invalid_field", "match.name.like", ""),
        ("match", json!({"$opp": "create"}), "invalid_field", "match.$opp", ".$opp"),
        ("match", json!({"a": {"contains": [5]}}), "invalid_field", "match.a.contains", "for one of them"),
        ("secret", json!("whsec_short"), "invalid_field", "secret", "24"),
        ("secret", json!("whsk_AAAA"), "invalid_field", "secret", "whsec_"),
        ("secret", json!(5), "invalid_field", "secret", "write a string"),
        ("headers", json!([]), "invalid_field", "headers", "an object"),
        ("headers", json!({"X-A": 5}), "invalid_field", "headers.X-A", "write a string"),
        ("headers", json!({"X-A": "1", "x-a": "2"}), "invalid_field", "headers.x-a", "keep one"),
        ("headers", json!({"X-A": "***"}), "invalid_field", "headers.X-A", "the value itself"),
        ("headers", json!({"Host": "a"}), "invalid_field", "headers.Host", "another name"),
        ("headers", json!({"content-LENGTH": "0"}), "invalid_field", "headers.content-LENGTH", "another name"),
        ("headers", json!({"Transfer-Encoding": "chunked"}), "invalid_field", "headers.Transfer-Encoding", "another"),
        ("headers", json!({"Proxy-Authorization": "a"}), "invalid_field", "headers.Proxy-Authorization", "another"),
        ("headers", json!({"Webhook-Id": "a"}), "invalid_field", "headers.Webhook-Id", "another"),
        ("headers", json!({"svix-signature": "a"}), "invalid_field", "headers.svix-signature", "another"),
        ("headers", json!({"a b": "c"}), "invalid_field", "headers.a b", ""),
        ("headers", json!({"a:": "c"}), "invalid_field", "headers.a:", ""),
        ("headers", json!({"": "c"}), "invalid_field", "headers.", ""),
        ("headers", json!({"a\r\nb": "c"}), "invalid_field", "headers.a\r\nb", ""),
        ("headers", json!({"x": "a\r\nHost: b"}), "invalid_field", "headers.x", ""),
        ("headers", json!({"x": "a\u{0}"}), "invalid_field", "headers.x", ""),
        ("headers", json!({"x": "å"}), "invalid_field", "headers.x", ""),
        ("rate", json!(0), "invalid_field", "rate", "1 to 100000"),
        ("rate", json!(1.5), "invalid_field", "rate", "a whole number"),
        ("rate", json!("1"), "invalid_field", "rate", "a whole number"),
        ("concurrency", json!(257), "invalid_field", "concurrency", "1 to 256"),
        ("concurrency", json!(-1), "invalid_field", "concurrency", "1 to 256"),
        ("order", json!("lifo"), "invalid_field", "order", "none, fifo or key"),
        ("timeout", json!("61s"), "invalid_field", "timeout", "1ms to 1m"),
        ("timeout", json!(15), "invalid_field", "timeout", "write a string"),
        ("schedule", json!("0s"), "invalid_field", "schedule", "write an array"),
        ("schedule", json!(["0s", "x"]), "invalid_field", "schedule[1]", "500ms"),
        ("enabled", json!("true"), "invalid_field", "enabled", "true or false"),
        ("owner", json!({}), "invalid_field", "owner", "write a string"),
        ("description", json!(5), "invalid_field", "description", "write a string"),
        ("concurency", json!(5), "unknown_field", "concurency", "did you mean \"concurrency\"?"),
        ("id", json!("lst_x"), "unknown_field", "id", "leave it out"),
    ];
    for (name, value, code, field, remedy) in fields {
        let mut body = json!({"url": "https://partner.example/", "hooks": ["person.created"]});
        body[*name] = value.clone();
        let body = body.to_string();
        check_all(&door, &[("POST", "/v1/listeners", &body, 422, code, field, remedy)]).await;
    }
    let sized: &[(&str, Value, &str)] = &[
        ("url", json!(format!("https://a.example/{}", "x".repeat(2_048))), "url"),
        ("hooks", json!((0..101).map(|n| format!("a{n}.*")).collect::<Vec<_>>()), "hooks"),
        ("headers", (0..21).map(|n| (format!("x-{n}"), json!("v"))).collect(), "headers"),
        ("headers", json!({"x": "v".repeat(2_049)}), "headers.x"),
        ("owner", json!("o".repeat(201)), "owner"),
        ("schedule", json!(vec!["1s"; 51]), "schedule"),
        ("match", json!({"a": "x".repeat(9_000)}), "match"),
    ];
    for (name, value, field) in sized {
        let mut body = json!({"url": "https://partner.example/", "hooks": ["person.created"]});
        body[*name] = value.clone();
        let problem = door.post("/v1/listeners", body).await.refused(422, "invalid_field");
        assert_eq!(&problem["field"], field, "{problem}");
    }
    assert_eq!(door.get("/v1/listeners").await.ok(200), json!({"data": [], "next": null}));
}

async fn listeners_that_cannot_be_changed_or_found(door: Door) {
    door.hook("h").await;
    let id = door.listener(json!({"url": "https://partner.example/", "hooks": ["h"], "headers": {"x-a": "1"}})).await;
    let path = format!("/v1/listeners/{id}");
    let before = door.get(&path).await.text;
    let (rotate, test) = (format!("{path}/rotate_secret"), format!("{path}/test"));
    let cases: &[Case<'_>] = &[
        ("PATCH", &path, r#"{"url":null}"#, 422, "invalid_field", "url", "leave it out"),
        ("PATCH", &path, r#"{"hooks":null}"#, 422, "invalid_field", "hooks", "leave it out"),
        ("PATCH", &path, r#"{"secret":null}"#, 422, "invalid_field", "secret", &rotate),
        ("PATCH", &path, r#"{"url":"https://10.0.0.1/"}"#, 422, "blocked_address", "url", "--egress-allow"),
        ("PATCH", &path, r#"{"hooks":["nothing.here"]}"#, 422, "unknown_hook", "hooks[0]", "GET /v1/hooks"),
        ("PATCH", &path, r#"{"headers":{"x-b":"***"}}"#, 422, "invalid_field", "headers.x-b", "the value itself"),
        ("PATCH", &path, r#"{"created_at":""}"#, 422, "unknown_field", "created_at", "leave it out"),
        ("PATCH", &path, "[]", 422, "invalid_field", "", "JSON object"),
        ("PATCH", "/v1/listeners/lst_nothing", "{}", 404, "not_found", "", "GET /v1/listeners"),
        ("GET", "/v1/listeners/lst_nothing", "", 404, "not_found", "", "GET /v1/listeners"),
        ("GET", "/v1/listeners/%00", "", 404, "not_found", "", "GET /v1/listeners"),
        ("DELETE", "/v1/listeners/%00", "", 404, "not_found", "", "GET /v1/listeners"),
        ("PATCH", "/v1/listeners/%00", "{}", 404, "not_found", "", "GET /v1/listeners"),
        ("PATCH", &path, r#"{"owner":"\u0000"}"#, 422, "invalid_field", "owner", "printable"),
        ("DELETE", "/v1/listeners/lst_nothing", "", 404, "not_found", "", "GET /v1/listeners"),
        ("GET", "/v1/listeners?enabled=1", "", 400, "invalid_request", "enabled", "true or false"),
        ("GET", "/v1/listeners?hooks=h", "", 400, "invalid_request", "hooks", "did you mean \"hook\"?"),
        ("GET", "/v1/listeners?cursor=aDph", "", 400, "invalid_request", "cursor", "unchanged"),
        ("POST", &rotate, r#"{"grace":"8d"}"#, 422, "invalid_field", "grace", "7d"),
        ("POST", &rotate, r#"{"grace":5}"#, 422, "invalid_field", "grace", "write a string"),
        ("POST", &rotate, r#"{"secret":"x"}"#, 422, "invalid_field", "secret", "whsec_"),
        ("POST", &rotate, r#"{"garce":"1h"}"#, 422, "unknown_field", "garce", "did you mean \"grace\"?"),
        ("POST", "/v1/listeners/lst_nothing/rotate_secret", "{}", 404, "not_found", "", "GET /v1/listeners"),
        ("POST", &test, r#"{"name":"tidings.listener.disabled"}"#, 422, "invalid_field", "name", "another name"),
        ("POST", &test, r#"{"event":"h"}"#, 422, "unknown_field", "event", "name, data"),
        ("POST", "/v1/listeners/lst_nothing/test", "{}", 404, "not_found", "", "GET /v1/listeners"),
    ];
    check_all(&door, cases).await;
    assert_eq!(door.get(&path).await.text, before);
    assert!(door.all("/v1/deliveries", 5).await.is_empty());
}

async fn deliveries_that_cannot_be_found_or_retried(door: Door) {
    let cases: &[Case<'_>] = &[
        ("GET", "/v1/deliveries?state=failed", "", 400, "invalid_request", "state", "undelivered"),
        ("GET", "/v1/deliveries?listner=x", "", 400, "invalid_request", "listner", "did you mean \"listener\"?"),
        ("GET", "/v1/deliveries?listener=lst_nothing", "", 422, "invalid_field", "listener", "GET /v1/listeners"),
        ("GET", "/v1/deliveries?event=%00", "", 400, "invalid_request", "event", "leave it out"),
        ("GET", "/v1/deliveries/%00", "", 404, "not_found", "", "GET /v1/deliveries"),
        ("GET", "/v1/deliveries?cursor=ZTox", "", 400, "invalid_request", "cursor", "unchanged"),
        ("GET", "/v1/deliveries/dlv_nothing", "", 404, "not_found", "", "GET /v1/deliveries"),
        ("GET", "/v1/deliveries/dlv_00000000000000000000000000", "", 404, "not_found", "", "GET /v1/deliveries"),
        ("GET", "/v1/deliveries/dlv_9.9/attempts", "", 404, "not_found", "", "GET /v1/deliveries"),
        ("POST", "/v1/deliveries/dlv_nothing/retry", "{}", 404, "not_found", "", "GET /v1/deliveries"),
    ];
    check_all(&door, cases).await;
}

async fn paths_and_methods_that_there_are_not(door: Door) {
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/hooks/a/b", "/v1/events/e/x/", "/a/one/v1", "/a/one/v1/x/y"] {
        check_all(&door, &[("GET", path, "", 404, "not_found", "", "/v1/listeners")]).await;
    }
    for (method, path, allow) in [
        ("PUT", "/v1/events", "GET,HEAD,POST"),
        ("DELETE", "/v1/events/e", "GET,HEAD"),
        ("PUT", "/v1/hooks/h/", "DELETE,GET,HEAD,PATCH"),
        ("POST", "/a/one/v1/listeners/l", "DELETE,GET,HEAD,PATCH"),
        ("GET", "/v1/listeners/l/test", "POST"),
        ("GET", "/v1/listeners/l/rotate_secret", "POST"),
        ("POST", "/v1/deliveries", "GET,HEAD"),
        ("PATCH", "/v1/deliveries/d", "GET,HEAD"),
        ("GET", "/v1/deliveries/d/retry", "POST"),
    ] {
        let answer = door.call(KEY, method, path, "").await;
        check(&(method, path, "", 405, "method_not_allowed", "", "Allow"), &answer);
        let mut allowed: Vec<&str> = answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
}

async fn bodies_of_other_kinds(door: Door) {
    let send = async |headers: &[(&str, &str)]| {
        let mut request = Request::post("/v1/events").header("authorization", format!("Bearer {KEY}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        door.send(request.body(Body::from(r#"{"name":"a"}"#)).unwrap()).await
    };
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x+json",
        "application/x-www-form-urlencoded",
    ] {
        send(&[("content-type", kind)]).await.ok(202);
    }
    send(&[]).await.ok(202);
    send(&[("content-encoding", "identity")]).await.ok(202);
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-encoding", "gzip")],
    ] {
        let problem = send(headers).await.refused(415, "unsupported_media_type");
        assert!(problem["remedy"].as_str().unwrap().contains("application/json"), "{problem}");
    }
    for key in ["", "a b", "å", &"k".repeat(256)] {
        let problem = send(&[("idempotency-key", key)]).await.refused(400, "invalid_request");
        assert_eq!(problem["field"], "Idempotency-Key", "{key:?}");
    }
    send(&[("idempotency-key", "a"), ("idempotency-key", "b")]).await.refused(400, "invalid_request");
    send(&[("idempotency-key", &"k".repeat(255))]).await.ok(202);
}
