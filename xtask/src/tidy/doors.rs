//! The rule that no crate below the doors names a door, so that a new door is a new crate and changes no other.

use super::source::Source;
use super::{Finding, Tree};

/// The doors of this version and of later ones. `api` is missing, because the word has too many other meanings.
const DOORS: [&str; 4] = ["pusher", "centrifugo", "websub", "accounts"];

/// Crates that may name doors: the doors themselves, and the crates that assemble, serve and test them.
const ABOVE: [&str; 5] = ["crates/doors/", "crates/engine/", "crates/server/", "crates/testkit/", "crates/tidings"];

/// A file, a string in it that may name a door, and the reason.
type Exception = (&'static str, &'static str, &'static str);

const EXCEPTIONS: [Exception; 2] = [
    ("crates/model/src/pattern.rs", "pusher:", "no door lets an event pass for one of this protocol's own"),
    ("crates/model/src/pattern.rs", "pusher_internal:", "no door lets an event pass for one of this protocol's own"),
];

/// No identifier and no string literal below the doors contains a door's name. Comments and tests may: they cite the
/// source of their examples.
pub(super) fn door_names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let low = |source: &&Source| source.is_below(&["crates/"]) && !source.is_below(&ABOVE);
    for source in tree.rust.iter().filter(low) {
        let names = source.shipped_code.lines().enumerate().map(|(index, line)| (index + 1, line));
        let strings = source.shipped_strings.iter().map(|piece| (piece.line, piece.text.as_str()));
        let is_exempt = |text: &str| EXCEPTIONS.iter().any(|(path, exempt, _)| *path == source.path && *exempt == text);
        for (line, text) in names.chain(strings.filter(|(_, text)| !is_exempt(text))) {
            let text = text.to_lowercase();
            for door in DOORS.iter().filter(|door| text.contains(*door)) {
                findings.push(Finding::error(
                    &source.path,
                    line,
                    format!("names the door `{door}`; code below the doors knows none"),
                ));
            }
        }
    }
    findings.extend(unused(tree, &EXCEPTIONS));
    findings
}

/// Finds exceptions that are no longer needed.
fn unused(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let is_used = |(path, text, _): &&Exception| {
        let source = tree.rust.iter().find(|source| source.path == *path);
        source.is_none_or(|source| source.shipped_strings.iter().any(|piece| piece.text == *text))
    };
    let unused = exceptions.iter().filter(|exception| !is_used(exception));
    unused
        .map(|(path, text, _)| {
            Finding::error(
                path,
                0,
                format!("`{text}` is not in this file any more; remove the exception from xtask/src/tidy/doors.rs"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        door_names(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_and_strings_below_the_doors_name_none() {
        let path = "crates/bus/src/a.rs";
        for text in ["enum Door { Pusher }", "struct A { has_websub: bool }", "fn for_accounts() {}", "\"centrifugo\";"]
        {
            assert_eq!(found(path, text).len(), 1, "{text}");
        }
        let told = "error: crates/bus/src/a.rs:2: names the door `pusher`; code below the doors knows none";
        assert_eq!(found(path, "// x\nconst A: &str = \"X-Pusher-Key\";"), [told]);
    }

    #[test]
    fn comments_and_tests_may_name_doors() {
        let tests = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn pushers_example_holds() { \"pusher\"; }\n}\n";
        let text = format!("//! As Pusher does.\nfn a() {{}} // websub\n{tests}");
        assert!(found("crates/live/src/a.rs", &text).is_empty());
        assert!(found("crates/live/tests/a.rs", "fn pusher() {}").is_empty());
    }

    #[test]
    fn doors_and_what_is_above_them_name_them() {
        for folder in ["doors/pusher", "engine", "server", "testkit", "tidings", "tidings-derive"] {
            assert!(found(&format!("crates/{folder}/src/a.rs"), "fn pusher() {}").is_empty(), "{folder}");
        }
        assert_eq!(found("crates/door/src/a.rs", "fn pusher() {}").len(), 1);
    }

    #[test]
    fn exceptions_are_exact_and_used() {
        let (path, all) = ("crates/model/src/pattern.rs", "[\"pusher:\", \"pusher_internal:\"];");
        assert!(found(path, all).is_empty());
        assert_eq!(found(path, &format!("{all}\n\"pusher:x\";")).len(), 1);
        assert_eq!(found("crates/model/src/other.rs", "\"pusher:\";").len(), 1);
        let gone = [
            "error: crates/model/src/pattern.rs: `pusher_internal:` is not in this file any more; remove the exception \
            from xtask/src/tidy/doors.rs",
        ];
        assert_eq!(found(path, "\"pusher:\";"), gone);
    }
}
