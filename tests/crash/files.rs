//! Files: a database file belongs to one server, under any path; a removed file is noticed; and a new main key is made
//! only for a store without secrets.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;
use tidings_testkit::{Cluster, Receiver, Server, eventually, server};

use crate::common::{SOON, assert_refused, drained, hook, listener, local, publish, publish_all, readiness};
use crate::holder::query;

/// A server with a listener, and so with a secret in its store.
async fn with_a_secret(partner: &Receiver) -> Server {
    let server = local().alone().start().await;
    hook(&server.api(), "box.opened").await;
    listener(&server.api(), json!({"url": partner.url("/in"), "hooks": ["box.opened"]})).await;
    server
}

fn database(server: &Server) -> std::path::PathBuf {
    server.data_dir().join("tidings.db")
}

/// Waits until `/readyz` says that the server is not ready; its answer may be a second old.
async fn unready(server: &Server) {
    eventually(SOON, || async { readiness(server).await.filter(|reply| reply.status == 503) }).await;
}

// covers: G121
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_name_gives_two_servers_one_database() {
    let first = server().alone().start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("linked.db");
    symlink(database(&first), &link).unwrap();
    let hard = first.dir.join("hard.db");
    fs::hard_link(database(&first), &hard).unwrap();
    // Not even the lock that somebody removed.
    fs::remove_file(first.data_dir().join("lock")).unwrap();
    for name in [&link, &hard, &database(&first)] {
        let config = format!("[store]\nurl = \"sqlite://{}\"\n", name.display());
        let dir = tempfile::tempdir().unwrap();
        let app = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"a-secret-of-the-app\"\n";
        let refused = server().alone().config(config + app).dir(dir.path()).run_to_exit().await.expect_code(1);
        let told = format!("another process (pid {}) has ", first.pid());
        assert!(refused.stderr.contains(&told), "{}: {}", name.display(), refused.stderr);
    }
}

// covers: G121
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_two_names_is_refused_and_one_behind_a_link_is_served() {
    let mut first = server().alone().start().await;
    hook(&first.api(), "box.opened").await;
    first.terminate().await.expect_code(0);
    let hard = first.dir.join("hard.db");
    fs::hard_link(database(&first), &hard).unwrap();
    let refused = server().alone().dir(&first.dir).run_to_exit().await.expect_code(1);
    assert!(refused.stderr.contains("hard link"), "{}", refused.stderr);
    // Moved to another disk, with a link where it was.
    fs::remove_file(database(&first)).unwrap();
    symlink(&hard, database(&first)).unwrap();
    first.restart().await;
    publish_all(&first.api(), "box.opened", 0..3).await;
    assert!(first.dir.join("hard.db-wal").exists(), "the log lies beside the file itself");
}

// covers: G122
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_deleted_or_replaced_is_noticed() {
    let partner = Receiver::start();
    let server = with_a_secret(&partner).await;
    let api = server.api();
    publish_all(&api, "box.opened", 0..3).await;
    let (file, aside) = (database(&server), server.dir.join("aside.db"));
    fs::rename(&file, &aside).unwrap();
    for n in 3..6 {
        assert_refused(&publish(&api, "box.opened", n).await, "store_unusable");
    }
    unready(&server).await;
    // What reaches nobody but sessions needs no store.
    publish(&api, "nobody.wants.it", 1).await.expect_status(202);
    fs::copy(&aside, &file).unwrap();
    assert_refused(&publish(&api, "box.opened", 6).await, "store_unusable");
    fs::rename(&aside, &file).unwrap();
    publish_all(&api, "box.opened", 7..9).await;
    // Its log is as much of it as the rest.
    let mut wal = file.clone().into_os_string();
    wal.push("-wal");
    let (wal, aside) = (Path::new(&wal), server.dir.join("aside.wal"));
    fs::rename(wal, &aside).unwrap();
    assert_refused(&publish(&api, "box.opened", 9).await, "store_unusable");
    fs::rename(&aside, wal).unwrap();
    publish_all(&api, "box.opened", 10..12).await;
    drained(&server, SOON).await;
    crate::common::assert_each_once(&partner.received(), [0, 1, 2, 7, 8, 10, 11]);
}

// covers: G123
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_main_key_is_made_for_a_store_without_secrets_only() {
    let partner = Receiver::start();
    let mut server = local().alone().start().await;
    let key = server.data_dir().join("main.key");
    server.terminate().await.expect_code(0);
    let before = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    server.restart().await;
    assert_ne!(fs::read(&key).unwrap(), before, "nothing was sealed: a new one does as well");

    hook(&server.api(), "box.opened").await;
    listener(&server.api(), json!({"url": partner.url("/in"), "hooks": ["box.opened"]})).await;
    // Killed: what is sealed may be in the write-ahead log alone.
    server.kill9().await;
    let aside = server.dir.join("aside.key");
    fs::rename(&key, &aside).unwrap();
    let refused = local().alone().dir(&server.dir).run_to_exit().await.expect_code(1);
    assert!(refused.stderr.contains("main.key is missing") && refused.stderr.contains("backup"), "{}", refused.stderr);
    assert!(!key.exists(), "it was made anew");

    fs::write(&key, format!("1:{}=\n", "A".repeat(43))).unwrap();
    let refused = local().alone().dir(&server.dir).run_to_exit().await.expect_code(1);
    assert!(refused.stderr.contains("key 1 of the main key file is not the one"), "{}", refused.stderr);

    fs::rename(&aside, &key).unwrap();
    server.restart().await;
    publish_all(&server.api(), "box.opened", 0..3).await;
    drained(&server, SOON).await;
    crate::common::assert_each_once(&partner.received(), 0..3);
}

// covers: G124
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_main_key_does_not_start() {
    let cluster = Cluster::new().await;
    let app = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"a-secret-of-the-app\"\n";
    let _first = server().alone().config(cluster.lines() + app).start().await;
    // Nothing is sealed yet, and no key file is made where the other node has one.
    let own = tempfile::tempdir().unwrap();
    let key = own.path().join("own.key");
    let theirs = cluster.lines();
    let lines = theirs.lines().map(|line| match line.starts_with("main_key_file") {
        true => format!("main_key_file = \"{}\"\n", key.display()),
        false => format!("{line}\n"),
    });
    let config = lines.collect::<String>() + app;
    let refused = server().alone().config(config.clone()).dir(own.path()).run_to_exit().await.expect_code(1);
    assert!(refused.stderr.contains("is missing") && refused.stderr.contains("copy it"), "{}", refused.stderr);
    assert!(!key.exists(), "it was made");
    fs::write(&key, format!("1:{}=\n", "A".repeat(43))).unwrap();
    let refused = server().alone().config(config).dir(own.path()).run_to_exit().await.expect_code(1);
    assert!(refused.stderr.contains("is not the one that this store is sealed with"), "{}", refused.stderr);
}

// covers: G125
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_others_may_read_are_told_and_served() {
    let mut server = server().alone().start().await;
    server.terminate().await.expect_code(0);
    let key = server.data_dir().join("main.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    server.restart().await;
    assert!(server.stderr().contains("may read tidings-data/main.key (mode 0644)"), "{}", server.stderr());
}

// covers: G126
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_cannot_be_read_is_never_no_hook() {
    let partner = Receiver::start();
    let server = with_a_secret(&partner).await;
    let api = server.api();
    publish_all(&api, "box.opened", 0..2).await;
    drained(&server, SOON).await;
    // As a node would write it that has another main key.
    let file = database(&server);
    let change = "UPDATE meta SET value = value + 1 WHERE name = 'catalogue_version';
        UPDATE listener SET version = (SELECT value FROM meta WHERE name = 'catalogue_version')";
    let sealed = query(&file, "SELECT hex(sealed) FROM listener");
    query(&file, &format!("{change}, sealed = x'0000000900'"));
    assert_refused(&publish(&api, "box.opened", 2).await, "store_unusable");
    // Of an event that has no hook here nobody knows whether it has one there.
    assert_refused(&publish(&api, "box.shut", 0).await, "store_unusable");
    unready(&server).await;
    query(&file, &format!("{change}, sealed = x'{sealed}'"));
    eventually(SOON, || async { (publish(&api, "box.opened", 3).await.status == 202).then_some(()) }).await;
    publish(&api, "box.shut", 1).await.expect_status(202);
    drained(&server, SOON).await;
    crate::common::assert_each_once(&partner.received(), [0, 1, 3]);
}
