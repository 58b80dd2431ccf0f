//! The rule that the files of a crate use each other in one direction only: no import cycles.
//!
//! A file uses the file that defines the items it names. A module that only re-exports an item (`pub use`) is not used
//! by that; it uses the defining file itself. So a file may name a sibling through their parent, as long as the item is
//! not the parent's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::{Import, imports, paths};
use super::{Finding, Tree};

/// The part of a path between a crate's folder and its files.
const SOURCES: &str = "/src/";

/// No file uses a file that uses it, directly or through others.
pub(super) fn circles(tree: &Tree) -> Vec<Finding> {
    let crates = crates(tree);
    let of =
        |folder: &str, files: &_| circles_of(files).iter().map(|circle| circle.finding(folder)).collect::<Vec<_>>();
    crates.iter().flat_map(|(folder, files)| of(folder, files)).collect()
}

/// A group of files that all use each other.
struct Circle<'f> {
    /// A shortest cycle; its first file is also its last.
    way: Vec<&'f str>,
    /// How many files are in the group.
    files: usize,
}

impl Circle<'_> {
    fn finding(&self, folder: &str) -> Finding {
        let (way, files) = (self.way.join(" → "), self.files);
        let remedy = "move what both need into a lower file, or what uses both into a higher one";
        let message = format!("{files} files use each other in a circle, as in {way}; {remedy}");
        Finding::error(&format!("{folder}{SOURCES}{}", self.way[0]), 0, message)
    }
}

/// A module's name within its crate: `["a", "b"]` for `crate::a::b`.
type Module = Vec<String>;

/// A crate's files by their modules.
type Files = BTreeMap<Module, File>;

/// A file as far as this rule needs it.
struct File {
    /// Its path below the crate's `src`.
    path: String,
    imports: Vec<Import>,
    /// The code without its imports and tests.
    code: String,
}

/// The crates by folder, with their shipped files.
fn crates(tree: &Tree) -> BTreeMap<&str, Files> {
    let mut crates: BTreeMap<&str, Files> = BTreeMap::new();
    for source in tree.rust.iter().filter(|source| source.is_below(&["crates/"]) && !source.is_test()) {
        let Some((folder, path)) = source.path.split_once(SOURCES) else { continue };
        let (imports, code) = imports(&source.shipped_code);
        let file = File { path: path.to_owned(), imports, code };
        crates.entry(folder).or_default().insert(module_of(path), file);
    }
    crates
}

fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The groups of files that all use each other.
fn circles_of(files: &Files) -> Vec<Circle<'_>> {
    let uses: BTreeMap<&Module, BTreeSet<&Module>> =
        files.iter().map(|(module, file)| (module, used_by(files, module, file))).collect();
    let leads = |from, to: &Module| shortest_path(&uses, from, to);
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for module in files.keys() {
        if seen.contains(module) {
            continue;
        }
        if let Some(way) = leads(module, module) {
            let group: Vec<_> =
                files.keys().filter(|other| leads(module, other).is_some() && leads(other, module).is_some()).collect();
            let way = way.iter().map(|module| files[*module].path.as_str()).collect();
            circles.push(Circle { way, files: group.len() });
            seen.extend(group);
        }
    }
    circles
}

/// The shortest path of at least one step from one module to another, including both.
fn shortest_path<'f>(
    uses: &BTreeMap<&'f Module, BTreeSet<&'f Module>>,
    from: &'f Module,
    to: &Module,
) -> Option<Vec<&'f Module>> {
    let (mut ways, mut reached) = (VecDeque::from([vec![from]]), BTreeSet::new());
    while let Some(way) = ways.pop_front() {
        for &next in way.last().and_then(|last| uses.get(last)).into_iter().flatten() {
            let longer = [&way[..], &[next]].concat();
            if next == to {
                return Some(longer);
            }
            if reached.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The modules whose files define the items that a file names.
fn used_by<'f>(files: &'f Files, module: &Module, file: &File) -> BTreeSet<&'f Module> {
    let named = file.imports.iter().filter_map(|import| match import.name.as_str() {
        "*" => absolute(files, module, &import.path, 0).and_then(|path| files.get_key_value(&path)).map(|(key, _)| key),
        _ => definer(files, module, &import.path, 0),
    });
    let written_out = paths(&file.code).into_iter().filter_map(|path| definer(files, module, &path, 0));
    named.chain(written_out).filter(|used| *used != module).collect()
}

/// The longest chain of re-exports that is followed.
const MOST_STEPS: usize = 16;

/// The module whose file defines the item of a path in `module`; `None` if the item is another crate's, or a module
/// itself.
fn definer<'f>(files: &'f Files, module: &Module, path: &[String], steps: usize) -> Option<&'f Module> {
    let path = absolute(files, module, path, steps)?;
    let length = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let (key, file) = files.get_key_value(&path[..length])?;
    let (name, behind) = path[length..].split_first()?;
    if let Some(import) = file.imports.iter().find(|import| import.name == *name) {
        return definer(files, key, &[&import.path, behind].concat(), steps + 1);
    }
    if !defines(&file.code, name) {
        for glob in file.imports.iter().filter(|import| import.name == "*") {
            let from = absolute(files, key, &glob.path, steps + 1).filter(|from| {
                files.get(from).is_some_and(|file| {
                    defines(&file.code, name) || file.imports.iter().any(|import| import.name == *name)
                })
            });
            if let Some(from) = from {
                return definer(files, &from, &[&["self".to_owned()], &path[length..]].concat(), steps + 1);
            }
        }
    }
    Some(key)
}

/// A path as seen from the crate's root; `None` if it leads to another crate.
fn absolute(files: &Files, module: &Module, path: &[String], steps: usize) -> Option<Module> {
    if steps > MOST_STEPS {
        return None;
    }
    let (first, behind) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(behind.to_vec()),
        "self" => Some([module, behind].concat()),
        "super" => {
            let (_, parent) = module.split_last()?;
            let is_further = behind.first().is_some_and(|next| next == "super");
            if is_further { absolute(files, &parent.to_vec(), behind, steps) } else { Some([parent, behind].concat()) }
        }
        name => {
            let child = [&module[..], &path[..1]].concat();
            if files.contains_key(&child) {
                return Some([&module[..], path].concat());
            }
            let import = files.get(module)?.imports.iter().find(|import| import.name == name)?;
            // `use a::a` would recurse without end.
            let is_own = import.path.first() == Some(first);
            if is_own { None } else { absolute(files, module, &[&import.path, behind].concat(), steps + 1) }
        }
    }
}

/// Whether code has an item of this name.
fn defines(code: &str, name: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "mod", "macro_rules!"];
    code.match_indices(name).any(|(at, _)| {
        let ends = !code[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ends && code[..at].ends_with(' ') && kinds.iter().any(|kind| code[..at].trim_end().ends_with(kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a crate of these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (format!("crates/a/src/{path}"), *text)).collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        circles(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    const UP: (&str, &str) = ("lib.rs", "mod b;\nmod c;\nuse b::B;\npub struct A(B);");

    #[test]
    fn files_that_use_each_other_are_found() {
        for (b, c, circle) in [
            ("use crate::c::C; pub struct B;", "use super::b::B; pub struct C;", "b.rs → c.rs → b.rs"),
            ("pub struct B; fn f() { crate::c::g(); }", "use crate::b::B; fn g() {}", "b.rs → c.rs → b.rs"),
            ("use super::c; pub struct B; fn f() { c::g(); }", "use super::b; fn g(b: b::B) {}", "b.rs → c.rs → b.rs"),
            ("use super::c; pub struct B; fn f() { c::g(); }", "use super::*;", "lib.rs → b.rs → c.rs → lib.rs"),
            // Through the parent, which only re-exports it.
            ("use super::c::C; pub struct B;", "use super::B; pub struct C;", "b.rs → c.rs → b.rs"),
            ("use super::A; pub struct B;", "", "lib.rs → b.rs → lib.rs"),
        ] {
            let found = found(&[UP, ("b.rs", b), ("c.rs", c)]);
            assert_eq!(found.len(), 1, "{b} {c} {found:?}");
            assert!(found[0].contains(&format!("a circle, as in {circle};")), "{found:?}");
        }
    }

    #[test]
    fn a_longer_circle_through_a_folder_is_found_once() {
        let files = [
            ("main.rs", "mod b; mod c;"),
            ("b/mod.rs", "mod d; pub(crate) use d::D; use crate::c::C;"),
            ("b/d.rs", "pub(crate) struct D;"),
            ("c.rs", "pub(crate) struct C; fn f() { crate::b::e(); }"),
        ];
        let found = found(&files);
        assert!(
            found.len() == 1 && found[0].contains("2 files") && found[0].contains("b/mod.rs → c.rs → "),
            "{found:?}"
        );
    }

    #[test]
    fn one_direction_is_fine() {
        let b = "use super::c::C; pub struct B;\n#[cfg(test)]\nmod tests { use crate::A; }";
        assert_eq!(found(&[UP, ("b.rs", b), ("c.rs", "pub struct C; // use crate::b::B;")]), [""; 0]);
        // Siblings through their parent, and a module that is only named.
        let lib = ("lib.rs", "mod b; mod c; pub use b::B; pub use c::*;");
        let b = "use super::C; use std::fmt; pub struct B; impl fmt::Debug for B {}";
        assert_eq!(found(&[lib, ("b.rs", b), ("c.rs", "use super::b; pub struct C;")]), [""; 0]);
    }
}
