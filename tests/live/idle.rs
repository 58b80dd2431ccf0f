//! Clients that never send by themselves, behind real proxies that cut idle connections.

use std::net::SocketAddr;

use tidings_testkit::{Balancer, Incoming, PusherSession, Server, haproxy, nginx, tidings};

use crate::kit::{APPS, SOON, configured};

/// Waits until the proxy has cut an idle session.
async fn is_cut(mut session: PusherSession) {
    match session.next(SOON).await {
        Incoming::Broken(_) | Incoming::Closed(..) => {}
        other => panic!("the proxy cuts nothing: {other:?}"),
    }
}

/// Two servers: one pings its sessions about every second, the other does not.
async fn servers() -> (Server, Server) {
    let pinging = configured("[live]\nactivity_timeout = \"1s\"\n", "").alone().start();
    let silent = configured("[live]\nactivity_timeout = \"1h\"\n", "").alone().start();
    tokio::join!(pinging, silent)
}

async fn stays_connected_behind(server: &Server, silent: &Server, proxies: [Balancer; 2]) {
    let connect = async |server: &Server, via: SocketAddr| APPS[0].pusher(server).session().via(via).connect().await;
    let [proxy, silent_proxy] = proxies;
    let mut idle = connect(server, proxy.addr).await;
    idle.subscribe("news").await;
    // For twice as long as it takes the proxy to cut another.
    for _ in 0..2 {
        let cut = is_cut(connect(silent, silent_proxy.addr).await);
        tokio::pin!(cut);
        tokio::select! {
            () = &mut cut => {}
            // It has to be read for its pings to be answered.
            heard = idle.next(2 * SOON) => panic!("nothing was sent to it, and it heard {heard:?}"),
        }
    }
    idle.settle().await;
}

// covers: G103
#[tokio::test]
async fn an_idle_client_stays_connected_behind_nginx() {
    let (server, silent) = servers().await;
    let (one, two) = ([server.addr], [silent.addr]);
    let times = "proxy_read_timeout 5s; proxy_send_timeout 5s;";
    let (proxy, silent_proxy) = tokio::join!(nginx(&one, times), nginx(&two, times));
    stays_connected_behind(&server, &silent, [proxy, silent_proxy]).await;
}

// covers: G103
#[tokio::test]
async fn an_idle_client_stays_connected_behind_haproxy() {
    let (server, silent) = servers().await;
    let (one, two) = ([server.addr], [silent.addr]);
    let times = "  timeout connect 5s\n  timeout client 5s\n  timeout server 5s";
    let (proxy, silent_proxy) = tokio::join!(haproxy(&one, times), haproxy(&two, times));
    stays_connected_behind(&server, &silent, [proxy, silent_proxy]).await;
}

// covers: G104
#[tokio::test]
async fn doctor_finds_out_whether_a_proxy_cuts_idle_clients() {
    let (server, silent) = servers().await;
    let times = "proxy_read_timeout 3s; proxy_send_timeout 3s;";
    let (one, two) = ([server.addr], [silent.addr]);
    let (proxy, silent_proxy) = tokio::join!(nginx(&one, "proxy_read_timeout 40s;"), nginx(&two, times));
    let asked = async |server: &Server, proxy: &Balancer, seconds: &str| {
        let url = format!("http://{}", proxy.addr);
        let key = APPS[0].key();
        let flags = ["doctor", "--url", &url, "--app-key", &key, "--idle", seconds];
        let exit = tidings(server).args(flags).run().await;
        (exit.code, exit.stdout + &exit.stderr)
    };
    let (well, cut) = tokio::join!(asked(&server, &proxy, "3"), asked(&silent, &silent_proxy, "60"));
    assert!(well.1.contains("a WebSocket on which nothing happens lasted 3 s"), "{}", well.1);
    assert!(well.1.contains("an event stream on which nothing happens lasted 3 s"), "{}", well.1);
    assert_eq!(well.0, Some(0), "{}", well.1);
    assert!(cut.1.contains("an idle WebSocket was cut after") && cut.1.contains("proxy_read_timeout"), "{}", cut.1);
    assert_eq!(cut.0, Some(1), "{}", cut.1);
}
