//! The rule that the README tells the two commands that a newcomer needs, which CI runs too.

use super::{Finding, Tree};

const COMMANDS: [&str; 2] = ["cargo run --release", "cargo xtask test --install"];

/// How to run it, how to test it.
pub(super) fn commands(tree: &Tree) -> Vec<Finding> {
    let readme = tree.text("README.md").unwrap_or_default();
    COMMANDS
        .iter()
        .filter(|command| !readme.lines().any(|line| line.contains(*command)))
        .map(|command| Finding::error("README.md", 0, format!("does not tell `{command}`")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commands_are_told() {
        let good = Tree::of(&[("README.md", "    cargo run --release\n    cargo xtask test --install\n")]);
        assert!(commands(&good).is_empty());
        assert_eq!(commands(&Tree::of(&[("README.md", "cargo run\n")])).len(), 2);
        assert_eq!(commands(&Tree::default()).len(), 2);
    }
}
