//! The credentials file: made once and kept, with nothing copied from the config; and `tidings init`, which replaces
//! it.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tidings_testkit::{Cli, Server, server, tidings};

fn credentials(server: &Server) -> String {
    fs::read_to_string(server.data_dir().join("credentials.toml")).unwrap()
}

fn write_config(dir: &Path, text: &str) {
    let path = dir.join("tidings.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

// covers: G331
#[tokio::test]
async fn a_config_for_the_store_takes_no_key_away() {
    let mut first = server().alone().start().await;
    let made = first.credentials.clone();
    first.api().post("/v1/hooks", serde_json::json!({"name": "a.b"})).await.expect_status(201);
    first.terminate().await.expect_code(0);
    let config = "[store]\nurl = \"sqlite://tidings-data/tidings.db\"\n";
    let second = server().alone().dir(&first.dir).config(config).start().await;
    let kept = &second.credentials;
    assert_eq!(
        (&kept.operator_key, &kept.admin_password, &kept.secret, &kept.api_key, &kept.token_hmac_secret),
        (&made.operator_key, &made.admin_password, &made.secret, &made.api_key, &made.token_hmac_secret)
    );
    second.operator().get("/v1/apps").await.expect_status(200);
    second.api().get("/v1/hooks/a.b").await.expect_status(200);
    tidings(&second).args(["app", "list"]).run().await.expect_code(0);
}

// covers: G332
#[tokio::test]
async fn what_a_config_says_is_not_copied_and_commands_find_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("api-key"), "the-api-key-in-a-file-of-its-own\n").unwrap();
    fs::set_permissions(dir.path().join("api-key"), fs::Permissions::from_mode(0o600)).unwrap();
    let config = "[admin]\noperator_key = \"the-key-of-the-operator\"\n[[apps]]\nid = \"shop\"\nkey = \"shop-key\"\n\
        secret = \"the-secret-of-the-shop\"\napi_keys = [{ file = \"api-key\" }]\n\
        token_hmac_secret = \"the-secret-that-signs-tokens-of-the-shop\"\n";
    let served = server().alone().dir(dir.path()).config(config).start().await;
    let written = credentials(&served);
    for secret in ["the-key-of-the-operator", "the-secret-of-the-shop", "the-api-key-in-a-file", "that-signs-tokens"] {
        assert!(!written.contains(secret), "{secret} was copied:\n{written}");
    }
    tidings(&served).args(["hook", "create", "a.b"]).run().await.expect_code(0);
    tidings(&served).args(["app", "list"]).run().await.expect_code(0);
    let doctor = tidings(&served).arg("doctor").run().await.expect_code(0);
    assert_eq!(doctor.stdout.matches("  ok ").count(), 5, "{}", doctor.stdout);
    assert!(!served.stderr().contains("every user of this machine"), "{}", served.stderr());
}

// covers: G333
#[tokio::test]
async fn a_backup_without_the_apps_keys_says_so() {
    let mut served = server().alone().start().await;
    served.terminate().await.expect_code(0);
    let (file, aside) = (served.data_dir().join("credentials.toml"), served.dir.join("aside.toml"));
    fs::rename(&file, &aside).unwrap();
    let refused = server().alone().dir(&served.dir).run_to_exit().await.expect_code(1);
    for word in ["credentials.toml", "backup", "tidings init", "[[apps]]"] {
        assert!(refused.stderr.contains(word), "{word:?}: {}", refused.stderr);
    }
    assert!(!file.exists(), "new keys were made");
    // With a config the server starts, with the keys of the config.
    Cli::in_dir(&served.dir).arg("init").run().await.expect_code(0);
    let mut anew = server().alone().dir(&served.dir).start().await;
    anew.terminate().await.expect_code(0);
    fs::remove_file(served.dir.join("tidings.toml")).unwrap();
    fs::rename(&aside, &file).unwrap();
    let key = served.credentials.api_key.clone();
    served.restart().await;
    assert_eq!(served.credentials.api_key, key);
}

// covers: G341
#[tokio::test]
async fn the_app_of_the_first_start_can_be_changed() {
    let mut served = server().alone().start().await;
    let made = served.credentials.clone();
    let refused = tidings(&served).args(["app", "update", "1", "--limit", "sessions=5"]).run().await.expect_code(1);
    assert!(refused.stderr.contains("tidings init"), "{}", refused.stderr);
    let init = tidings(&served).arg("init").run().await.expect_code(0);
    assert!(init.stdout.contains("the app 1 of the first start is in it"), "{}", init.stdout);
    served.terminate().await.expect_code(0);
    let path = served.dir.join("tidings.toml");
    let text = fs::read_to_string(&path).unwrap().replace("# payload = \"10KiB\" ", "payload = \"1KiB\" ");
    write_config(&served.dir, &text);
    served.restart().await;
    assert!(served.stdout().contains("tidings.toml"), "{}", served.stdout());
    for (what, before, now) in [
        ("key", &made.key, &served.credentials.key),
        ("secret", &made.secret, &served.credentials.secret),
        ("API key", &made.api_key, &served.credentials.api_key),
        ("operator key", &made.operator_key, &served.credentials.operator_key),
    ] {
        assert_eq!(before, now, "{what}");
    }
    let event = serde_json::json!({"name": "a.b", "channels": ["c"], "data": "x".repeat(2_000)});
    served.api().post("/v1/events", event).await.expect_status(413);
    served.operator().get("/v1/apps/1").await.expect_status(200);
}

// covers: G321
#[tokio::test]
async fn commands_trust_a_private_authority_that_they_are_given() {
    let served = server().alone().tls().start().await;
    let ca = served.dir.join("tls.crt").display().to_string();
    let list = |cli: Cli| cli.args(["hook", "list"]);
    let refused = list(tidings(&served)).run().await.expect_code(1);
    assert!(
        refused.stderr.contains("not signed by an authority that is trusted here") && refused.stderr.contains("--ca"),
        "{}",
        refused.stderr
    );
    list(tidings(&served)).args(["--ca", &ca]).run().await.expect_code(0);
    list(tidings(&served)).env("SSL_CERT_FILE", &ca).run().await.expect_code(0);
    tidings(&served).args(["--ca", &ca, "doctor"]).run().await.expect_code(0);
    let missing = list(tidings(&served)).args(["--ca", "nowhere.pem"]).run().await.expect_code(1);
    assert!(missing.stderr.contains("nowhere.pem") && missing.stderr.contains("SSL_CERT_FILE"), "{}", missing.stderr);
    let plain = format!("http://{}", served.addr);
    list(tidings(&served)).env("TIDINGS_URL", &plain).run().await.expect_code(1);
}
