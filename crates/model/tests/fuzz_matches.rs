//! The body of the fuzz target about matches.

#[path = "../../../fuzz/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/bodies/matcher.rs"]
mod matcher;

use inputs::fuzz;

// covers: G023
#[test]
fn matches_and_documents() {
    let words = [
        "{\"a\":",
        "{\"b\":",
        "{\"is\":",
        "{\"in\":[",
        "{\"not\":",
        "{\"all\":[",
        "{\"any\":[",
        "{\"any\":true}",
        "{\"like\":\"",
        "{\"gt\":",
        "{\"exists\":false}",
        "{\"contains\":",
        "{\"starts_with\":\"",
        "{\"$op\":\"update\"",
        "\\\\w+\"",
        "^a",
        "\"a\"",
        "\"\\u0061\"",
        "1",
        "1.0",
        "1e99999999999999999999",
        "null",
        "true",
        "[",
        "]",
        "}",
        "}}",
        "]}}",
        "]}}\n",
        ",",
        "}\n",
        "}}\n",
        "\n",
        "\"2027-01-01T00:00:00Z\"",
        ",\"b\":",
        "\"",
        "{\"a\":{\"eq\":",
        "{}",
    ];
    fuzz(matcher::run, 60_000, &words.map(str::as_bytes));
    // Right ones, broken in one place each.
    let right = "{\"a\":{\"any\":[{\"in\":[1,\"x\"]},{\"like\":\"^x\"},{\"not\":{\"gte\":2}}]},\"$op\":\"update\"}\n\
        {\"a\":[1,{\"b\":\"x\\n\"}]}";
    for at in 0..right.len() {
        for byte in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b'0', b'$', b'.', b'\n', b' '] {
            let mut input = right.as_bytes().to_vec();
            input[at] = byte;
            matcher::run(&input);
        }
        matcher::run(&right.as_bytes()[..at]);
    }
}
