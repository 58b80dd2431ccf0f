//! `docs/limits.md` lists every key that sets a bound.

use crate::blocks::pages;

/// The keys of a section of configuration.md, with the rest of their rows.
fn rows<'p>(page: &'p str, section: &str) -> Vec<(&'p str, &'p str)> {
    let (_, behind) = page.split_once(section).unwrap_or_else(|| panic!("no section {section}"));
    let table = behind.split("\n#").next().unwrap_or_default();
    table.lines().filter_map(|row| row.strip_prefix("| `")?.split_once("` |")).collect()
}

// covers: G016
#[test]
fn every_key_that_bounds_something_is_among_the_limits() {
    let page = |name: &str| pages().into_iter().find(|(page, _)| page.ends_with(name)).unwrap().1;
    let (limits, configuration) = (page("limits.md"), page("configuration.md"));
    let is_there = |key: &str| limits.contains(&format!("{key}`"));
    let of_an_app = rows(&configuration, "### `[apps.limits]`");
    assert!(of_an_app.len() > 15, "{of_an_app:?}");
    for (key, _) in of_an_app {
        assert!(is_there(&format!("`apps.limits.{key}")) || is_there(&format!("`limits.{key}")), "apps.limits.{key}");
    }
    for section in ["live", "courier", "retention"] {
        let rows = rows(&configuration, &format!("\n## `[{section}]`"));
        let sizes: Vec<_> = rows.into_iter().filter(|(_, row)| row.contains("| size")).collect();
        assert!(!sizes.is_empty(), "{section}");
        for (key, _) in sizes {
            assert!(is_there(&format!("`{section}.{key}")), "{section}.{key}");
        }
    }
}
