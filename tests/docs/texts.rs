//! JSON blocks are JSON, and TOML blocks are valid configs.

use serde_json::Value;
use tidings_testkit::Cli;

use crate::blocks::blocks;

// covers: G391
#[test]
fn every_json_block_is_json() {
    let blocks = blocks(&["json"]);
    assert!(blocks.len() >= 4, "{}", blocks.len());
    for block in blocks {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&block.text).into_iter().collect();
        assert!(values.as_ref().is_ok_and(|values| !values.is_empty()), "{values:?} in {block}");
    }
}

/// Completes a block to a config: keys of an app need an app around them.
fn whole(text: &str) -> String {
    let is_of_an_app = text.contains("[apps.") || text.contains("[[apps.");
    let around = if is_of_an_app && !text.contains("[[apps]]") { "[[apps]]\nid = \"1\"\nkey = \"k\"\n" } else { "" };
    format!("{around}{text}")
        .replace("secret = { file = \"/run/secrets/pusher\" }", "secret = { file = \"secret.txt\" }")
}

// covers: G391
#[tokio::test]
async fn every_toml_block_passes_check() {
    let blocks = blocks(&["toml"]);
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        let dir = tempfile::tempdir().unwrap();
        // A visible key is all that a made-up one lacks.
        let text = whole(&block.text).replace("\"…\"", "\"a-made-up-key-or-secret\"");
        std::fs::write(dir.path().join("tidings.toml"), text).unwrap();
        std::fs::write(dir.path().join("secret.txt"), "a-secret-from-a-file").unwrap();
        let exit = Cli::in_dir(dir.path()).arg("check").run().await;
        assert_eq!(exit.code, Some(0), "{}\nin {block}", exit.stderr);
    }
}
