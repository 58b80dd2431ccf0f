//! The rule that a crate depends only on crates above it in [`LAYERS`].

use toml::{Table, Value};

use super::{Finding, Tree};

/// Our crates from the lowest level down this list to the server; each may use those in lines above it. Crates of one
/// line do not know each other.
const LAYERS: [&[&str]; 14] = [
    &["crates/model", "crates/tls", "crates/supervisor"],
    &["crates/wire"],
    &["crates/store"],
    &["crates/broker"],
    &["crates/live"],
    &["crates/courier"],
    &["crates/bus"],
    &["crates/node"],
    &["crates/door"],
    &[
        "crates/doors/api",
        "crates/doors/pusher",
        "crates/doors/centrifugo",
        "crates/doors/websub",
        "crates/doors/accounts",
    ],
    &["crates/engine"],
    &["crates/tidings-derive"],
    &["crates/tidings"],
    &["crates/server"],
];
/// Tools outside the layers, and our crates that they may use; `None` means all.
const TOOLS: [(&str, Option<&[&str]>); 6] = [
    ("crates/testkit", Some(&["crates/model", "crates/wire"])),
    ("tests", None),
    ("benches", None),
    ("fuzz", None),
    ("examples", None),
    ("xtask", Some(&[])),
];
const TESTKIT: &str = "crates/testkit";

/// The tables of a manifest for shipped dependencies, and those for tests.
const SHIPPED: [&str; 2] = ["dependencies", "build-dependencies"];
const FOR_TESTS: [&str; 1] = ["dev-dependencies"];

/// Checks the dependencies of every crate.
pub(super) fn dependencies(tree: &Tree) -> Vec<Finding> {
    let manifests: Vec<_> = tree
        .texts
        .iter()
        .filter_map(|(path, text)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            let name = parse(text).get("package")?.get("name")?.as_str()?.to_owned();
            Some((folder, name, text.as_str()))
        })
        .collect();
    let folder_of = |name: &str| manifests.iter().find(|(_, own, _)| own == name).map(|(folder, ..)| *folder);
    let mut findings = Vec::new();
    for (folder, _, text) in &manifests {
        let path = format!("{folder}/Cargo.toml");
        if layer(folder).is_none() && tool(folder).is_none() {
            findings.push(Finding::error(
                &path,
                0,
                "this crate is not in the layers; add it to xtask/src/tidy/layers.rs",
            ));
            continue;
        }
        for (tables, for_tests) in [(&SHIPPED[..], false), (&FOR_TESTS[..], true)] {
            for used in dependency_names(text, tables).iter().filter_map(|name| folder_of(name)) {
                if !may_use(folder, used, for_tests) {
                    findings.push(Finding::error(&path, 0, format!("{folder} must not depend on {used}")));
                }
            }
        }
    }
    findings
}

fn may_use(folder: &str, used: &str, for_tests: bool) -> bool {
    if folder == used {
        return true;
    }
    if let Some(allowed) = tool(folder) {
        return allowed.is_none_or(|allowed| allowed.contains(&used));
    }
    if used == TESTKIT {
        return for_tests;
    }
    matches!((layer(folder), layer(used)), (Some(own), Some(other)) if other < own)
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

fn tool(folder: &str) -> Option<Option<&'static [&'static str]>> {
    TOOLS.iter().find(|(name, _)| *name == folder).map(|(_, allowed)| *allowed)
}

/// The names of the packages in these tables of a manifest, including tables for one platform.
pub(super) fn dependency_names(manifest: &str, tables: &[&str]) -> Vec<String> {
    let manifest = parse(manifest);
    let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let holders = std::iter::once(&manifest).chain(platforms.filter_map(Value::as_table));
    holders
        .flat_map(|holder| tables.iter().filter_map(|table| holder.get(*table)?.as_table()))
        .flat_map(|table| table.iter())
        .map(|(key, value)| value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned())
        .collect()
}

/// A manifest that isn't TOML counts as empty; cargo reports the error.
fn parse(manifest: &str) -> Table {
    manifest.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}\n")
    }

    fn messages(bus: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("crates/model/Cargo.toml", &manifest("tidings-model", "")),
            ("crates/courier/Cargo.toml", &manifest("tidings-courier", "")),
            ("crates/engine/Cargo.toml", &manifest("tidings-engine", "")),
            ("crates/testkit/Cargo.toml", &manifest("tidings-testkit", "")),
            ("crates/bus/Cargo.toml", &manifest("tidings-bus", bus)),
        ]);
        dependencies(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_crate_uses_those_above_it() {
        assert!(
            messages("[dependencies]\ntidings-model.workspace = true\ntidings-courier = { path = \"x\" }").is_empty()
        );
        assert_eq!(
            messages("[dependencies]\nlower = { package = \"tidings-engine\", path = \"x\" }"),
            ["crates/bus must not depend on crates/engine"]
        );
        assert_eq!(
            messages("[target.'cfg(unix)'.dependencies]\ntidings-engine.workspace = true"),
            ["crates/bus must not depend on crates/engine"]
        );
    }

    #[test]
    fn testkit_is_for_tests() {
        assert!(messages("[dev-dependencies]\ntidings-testkit.workspace = true").is_empty());
        assert_eq!(
            messages("[dependencies]\ntidings-testkit.workspace = true"),
            ["crates/bus must not depend on crates/testkit"]
        );
    }

    #[test]
    fn doors_do_not_know_each_other() {
        assert!(!may_use("crates/doors/api", "crates/doors/pusher", false));
        assert!(may_use("crates/engine", "crates/doors/pusher", false));
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        let tree = Tree::of(&[("crates/util/Cargo.toml", &manifest("tidings-util", ""))]);
        assert_eq!(dependencies(&tree).len(), 1);
    }
}
