//! Turns serde's messages into sentences for the author of a config.

/// Rewords serde's "unknown field" message, with a place such as ` in [store]`, and suggests the most similar key.
pub(super) fn nearest_key(message: &str, place: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    let known: Vec<&str> = names.collect();
    let near = known.iter().map(|name| (strsim::jaro_winkler(wrong, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    Some(match near {
        Some((likeness, name)) if likeness > 0.75 => {
            format!("unknown key \"{wrong}\"{place}; did you mean \"{name}\"?")
        }
        _ => format!("unknown key \"{wrong}\"{place}; the keys are {}", known.join(", ")),
    })
}

/// Rewords serde's message without the value that was found: it may be a secret.
pub(super) fn readable(message: &str) -> String {
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
            return format!("must be {}, not {}", kind_in_words(expected), kind_in_words(kind));
        }
    }
    message.to_owned()
}

fn kind_in_words(kind: &str) -> &str {
    match kind {
        "string" | "a string" => "a string",
        "integer" => "a number",
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        "floating point" => "a number with a fraction",
        "boolean" | "a boolean" => "true or false",
        "sequence" | "a sequence" => "an array",
        "map" => "a table",
        other => other,
    }
}
