//! A receiver in PHP, which finds headers only in the spelling of their specifications.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tidings_testkit::{Api, eventually};

use crate::kit::{APPS, SOON, configured, escaped, everywhere};

/// `php -S` with the receiver of `tests/clients`; it ends with the value.
struct Php {
    addr: SocketAddr,
    process: Child,
}

impl Php {
    async fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/receiver.php");
        // PHP does not say which port it took, so it is given one that was free just now.
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], tidings_testkit::free_port()));
        let mut php = Command::new("php");
        php.args(["-n", "-S", &addr.to_string()]).arg(script).stdout(Stdio::null()).stderr(Stdio::null());
        let process = php.spawn().expect("php cannot be started; `cargo xtask test --install` installs php-cli");
        let own = Self { addr, process };
        let api = Api::new(&own.url(""), "");
        eventually(SOON, || async { api.get("/").send().await.is_ok().then_some(()) }).await;
        own
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

// covers: G261
#[tokio::test]
async fn php_finds_each_header_as_its_specification_spells_it() {
    let php = Php::start().await;
    let keys = APPS[0];
    let pusher = php.url(&format!("/pusher?key={}&secret={}", keys.key(), keys.secret()));
    let each = format!("[[apps.webhooks]]\nurl = {pusher:?}\nevents = [\"channel_occupied\"]\n");
    // The second app's key is another one: its requests must not verify, or the test would not see anything.
    let server = configured("", &each).start().await;
    let api = keys.api(&server);
    let hooks = ["tidings.channel.occupied"];
    let made = api.post("/v1/listeners", json!({"url": php.url("/standard"), "hooks": hooks})).await.expect_status(201);
    let (id, secret) = (made.text_at("id"), made.text_at("secret"));
    let standard = php.url(&format!("/standard?secret={}", escaped(&secret)));
    let path = format!("/v1/listeners/{id}");
    api.patch(&path, json!({"url": standard})).await.expect_status(200);
    for node in server.each_node() {
        let node = node.with_key(&keys.api_key());
        eventually(SOON, || async { (node.get(&path).await["url"] == standard.as_str()).then_some(()) }).await;
    }
    everywhere(&server, &keys.api_key(), &path, 200).await;

    for keys in APPS {
        keys.pusher(&server).connect().await.subscribe("news").await;
    }
    let ended = async |keys: crate::kit::Keys, count: usize| {
        let api = keys.api(&server);
        eventually(SOON, || async {
            let all = api.get("/v1/deliveries").await.expect_status(200)["data"].as_array().unwrap().clone();
            let tried = |delivery: &Value| delivery["attempts"].as_u64() > Some(0);
            (all.len() >= count && all.iter().all(tried)).then_some(all)
        })
        .await
    };
    for delivery in ended(keys, 2).await {
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("delivered"), &json!(1)), "{delivery}");
    }
    let refused = ended(APPS[1], 1).await;
    assert_eq!(refused[0]["last_error"], "answered 401 Unauthorized", "{refused:?}");
}
