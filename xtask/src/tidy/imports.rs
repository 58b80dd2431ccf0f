//! The paths in Rust code: those of `use` declarations, and those that are written out in the code.

/// One name that a `use` declaration brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    /// Its name in the importing file; `*` for a glob.
    pub(super) name: String,
    /// The path that it stands for, without the `*` of a glob.
    pub(super) path: Vec<String>,
}

/// The imports of code, except those for tests only, and the code without `use` declarations.
pub(super) fn imports(code: &str) -> (Vec<Import>, String) {
    let (mut imports, mut rest) = (Vec::new(), String::with_capacity(code.len()));
    let mut at = 0;
    for (start, _) in code.match_indices("use ") {
        let before = &code[..start];
        if start < at || before.ends_with(is_of_name) {
            continue;
        }
        let Some(length) = code[start..].find(';') else { break };
        rest.push_str(&code[at..start]);
        at = start + length + 1;
        let attribute = before.trim_end().trim_end_matches("pub").trim_end();
        if !attribute.ends_with("#[cfg(test)]") {
            add_tree(&mut imports, &[], &code[start + "use ".len()..at - 1]);
        }
    }
    rest.push_str(&code[at..]);
    (imports, rest)
}

/// Adds the names of one tree of a `use` declaration.
fn add_tree(imports: &mut Vec<Import>, prefix: &[String], tree: &str) {
    let tree = tree.trim();
    if let Some((before, group)) = tree.split_once('{') {
        let prefix: Vec<_> = prefix.iter().cloned().chain(segments(before)).collect();
        for part in parts(group.trim_end().trim_end_matches('}')) {
            add_tree(imports, &prefix, part);
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path: Vec<_> = prefix.iter().cloned().chain(segments(path)).collect();
    // `a::{self}` imports `a`.
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().cloned() else { return };
    if last == "*" {
        path.pop();
    }
    imports.push(Import { name: alias.map_or(last, str::to_owned), path });
}

/// The parts of a group, split at the commas outside inner groups.
fn parts(group: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).collect()
}

fn segments(path: &str) -> impl Iterator<Item = String> {
    path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned)
}

/// The paths of two or more segments in code without `use` declarations.
pub(super) fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_of_name) {
        let length = path_length(&rest[start..]);
        let (before, path) = (&rest[..start], &rest[start..start + length]);
        // After `>::` or `.` it is an associated item or a method.
        if path.contains("::") && !before.ends_with("::") && !before.ends_with('.') {
            found.push(segments(path).collect());
        }
        rest = &rest[start + length..];
    }
    found
}

/// The length of the path that code begins with.
fn path_length(code: &str) -> usize {
    let name = |at: usize| code[at..].find(|c| !is_of_name(c)).unwrap_or(code.len() - at);
    let mut length = name(0);
    while code[length..].strip_prefix("::").is_some_and(|next| next.starts_with(is_of_name)) {
        length += 2 + name(length + 2);
    }
    length
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_brings_in_each_of_its_names() {
        let code =
            "pub(crate) use a::b;\nuse super::{c::{self, D as E, f::*}, G};\n#[cfg(test)]\nuse x::y;\nfn reuse () {}";
        let (imports, rest) = imports(code);
        let all: Vec<_> = imports.iter().map(|import| (import.name.as_str(), import.path.join("::"))).collect();
        let expected =
            [("b", "a::b"), ("c", "super::c"), ("E", "super::c::D"), ("*", "super::c::f"), ("G", "super::G")];
        assert_eq!(all, expected.map(|(name, path)| (name, path.to_owned())));
        assert!(rest.contains("fn reuse ()") && !rest.contains("super"), "{rest}");
    }

    #[test]
    fn paths_are_found_where_they_are_used() {
        let code = "fn a(b: crate::c::D<super::E>) { f::<G>(); <H>::i::j(); k.l::<m::N>(); self::o!() }";
        let found: Vec<_> = paths(code).into_iter().map(|path| path.join("::")).collect();
        assert_eq!(found, ["crate::c::D", "super::E", "m::N", "self::o"]);
    }
}
