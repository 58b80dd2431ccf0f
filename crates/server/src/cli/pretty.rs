//! Formats JSON with line breaks or without. Keys and numbers stay exactly as they were sent.

/// Breaks JSON text into indented lines. Of text that is not JSON nothing but white space is lost.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|&c| c == '}' || c == ']') {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// The same JSON text without white space between its parts.
pub(super) fn compact(json: &str) -> String {
    let mut in_text = false;
    let mut escaped = false;
    json.chars()
        .filter(|&c| {
            if in_text {
                in_text = escaped || c != '"';
                escaped = c == '\\' && !escaped;
                return true;
            }
            in_text = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    // The indentation is bounded: hostile nesting would fill memory with spaces.
    for _ in 0..depth.min(40) {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::{compact, pretty};

    #[test]
    fn keys_and_numbers_stay_as_they_are() {
        let check = |json: &str, said: &str| assert_eq!(pretty(json), said);
        check(
            r#"{"b":1.10,"a":[],"t":"x, {\"y\": \\"}"#,
            "{\n  \"b\": 1.10,\n  \"a\": [],\n  \"t\": \"x, {\\\"y\\\": \\\\\"\n}",
        );
        check("[1, { }]", "[\n  1,\n  {}\n]");
        check("\"a\"", "\"a\"");
    }

    #[test]
    fn blanks_in_texts_are_no_blanks_between_parts() {
        assert_eq!(compact("{ \"a b\" : [ 1,\n 2 ], \"c\": \"\\\" \\\\\" }"), "{\"a b\":[1,2],\"c\":\"\\\" \\\\\"}");
    }
}
