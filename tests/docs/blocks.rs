//! Reads the pages of the documentation and their fenced blocks.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block of a page.
#[derive(Debug)]
pub(crate) struct Block {
    /// The page, from the root of the repository.
    pub(crate) page: String,
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    /// The language after the fence, such as `toml` or `console`.
    pub(crate) language: String,
    /// The block's text.
    pub(crate) text: String,
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}\n{}", self.page, self.line, self.text)
    }
}

/// Every page that a user reads, by its path from the root.
pub(crate) fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "docs/migration"] {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path: &PathBuf| path.extension().is_some_and(|end| end == "md")));
    }
    found.sort();
    let read =
        |path: PathBuf| (path.strip_prefix(root).unwrap().display().to_string(), fs::read_to_string(&path).unwrap());
    found.into_iter().map(read).collect()
}

/// The blocks of these languages, over all pages.
pub(crate) fn blocks(languages: &[&str]) -> Vec<Block> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let mut open: Option<Block> = None;
        for (index, line) in text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { page: page.clone(), line: index + 1, language, text: String::new() });
                }
                (Some(_), Some(_)) => found.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block without an end");
    }
    found.retain(|block| languages.contains(&block.language.as_str()));
    found
}
