//! Idle sessions, as seen by a proxy that closes silent connections.

use tidings_live::SessionProtocol;

use super::kit::{Client, NOW, app};

/// The default idle timeout of proxies (nginx, HAProxy's examples, AWS' load balancers), less the half second by which
/// a timer may be late.
const CUT: i64 = 59_500;
const FIVE_MINUTES: i64 = 300_000;

/// The intervals, in milliseconds, of what a client sends and receives; 0 for never.
struct Habits {
    protocol: u8,
    speaks_every: i64,
    hears_every: i64,
    /// After this long without receiving anything it pings, as pusher-js does.
    asks_after: i64,
}

/// The longest silences of the server and of the client that a proxy sees in five minutes.
fn longest_silences(habits: &Habits) -> (i64, i64) {
    let mut client = Client::of(app(), habits.protocol);
    client.tester.last_read_at = NOW;
    client.tester.last_write_at = NOW;
    let (mut server_silent, mut client_silent) = (0, 0);
    for now in (NOW..=NOW + FIVE_MINUTES).step_by(250) {
        client.tester.now = now;
        let mut wrote = habits.hears_every > 0 && (now - NOW) % habits.hears_every == 0;
        let mut spoke = habits.speaks_every > 0 && (now - NOW) % habits.speaks_every == 0;
        if client.tester.wake_at().is_some_and(|at| at <= now) {
            client.session.woken(&mut client.tester.context());
            assert_eq!(client.ended(), None, "after {} ms", now - NOW);
            // Whatever it is asked by, it answers.
            if !client.tester.written().is_empty() {
                (wrote, spoke) = (true, true);
            }
        }
        if habits.asks_after > 0 && now - client.tester.last_write_at >= habits.asks_after {
            (wrote, spoke) = (true, true);
        }
        server_silent = server_silent.max(now - client.tester.last_write_at);
        client_silent = client_silent.max(now - client.tester.last_read_at);
        if wrote {
            client.tester.last_write_at = now;
        }
        if spoke {
            client.tester.last_read_at = now;
        }
    }
    (server_silent, client_silent)
}

// covers: G101
#[test]
fn no_proxy_that_waits_for_a_minute_sees_silence_in_either_direction() {
    for protocol in [4, 5, 7] {
        for speaks_every in [0, 1_000, 20_000, 40_000, 49_000] {
            for hears_every in [0, 1_000, 20_000, 40_000, 49_000] {
                for asks_after in [0, 45_000] {
                    let habits = Habits { protocol, speaks_every, hears_every, asks_after };
                    let (server, client) = longest_silences(&habits);
                    assert!(
                        server <= CUT && client <= CUT,
                        "speaks every {speaks_every} ms, hears every {hears_every}, asks after {asks_after}: \
                         the server was silent for {server} ms, the client for {client}"
                    );
                }
            }
        }
    }
}

// covers: G102
#[test]
fn who_speaks_and_hears_often_or_asks_by_itself_is_not_asked() {
    let asked = |speaks_every: i64, hears_every: i64| {
        let mut client = Client::new();
        let mut asked = 0;
        for now in (NOW..=NOW + FIVE_MINUTES).step_by(250) {
            client.tester.now = now;
            if (now - NOW) % speaks_every == 0 {
                client.tester.last_read_at = now;
            }
            if (now - NOW) % hears_every == 0 {
                client.tester.last_write_at = now;
            }
            if client.tester.wake_at().is_some_and(|at| at <= now) {
                client.session.woken(&mut client.tester.context());
                asked += client.tester.written().len();
            }
        }
        asked
    };
    assert_eq!(asked(45_000, 45_000), 0, "pusher-js, which asks every 45 seconds and is answered");
    assert_eq!(asked(10_000, 3_000), 0);
    assert!(asked(10_000, 600_000) > 0, "nothing is said to it");
}
