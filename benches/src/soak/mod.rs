//! `cargo xtask soak`: minutes of steady load, with `--hostile` beside attacks by small requests that cause much work.
//! The honest app's latency must hardly grow, the server must stay within its bounds, and no acknowledged event may be
//! lost.

mod attacks;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tidings_testkit::{Api, Server, server};

use crate::cpu::Cores;
use crate::histogram::ms;
use crate::load::{self, Published, Target};
use crate::receiver::{Receiver, Seen};
use crate::report::{self, Section};
use crate::{clock, record};
use watch::{Bounds, Watch};

/// Publishes per second of the honest app.
const RATE: f64 = 200.0;
const CONNECTIONS: usize = 32;
const HOOK: &str = "order.placed";
const TAG: &str = "honest";
/// How long the pending deliveries may take at the end.
const DRAIN: Duration = Duration::from_secs(60);
/// The largest factor by which the honest app's p99 may grow under attack.
const MOST_TIMES: f64 = 3.0;
/// The p99 is taken as at least this: a multiple of a smaller one would measure the kernel's scheduler.
const FLOOR_MS: f64 = 5.0;

/// The config: the tenants, and limits that a run of minutes can reach.
const CONFIG: &str = r#"
[retention]
bytes = "512MiB"
[[apps]]
id = "1"
key = "honest"
secret = "honest-secret-of-the-soak"
api_keys = ["honest-api-key-of-the-soak"]
default = true
[[apps]]
id = "2"
key = "hostile"
secret = "hostile-secret-of-the-soak"
api_keys = ["hostile-api-key-of-the-soak"]
"#;

/// The flags of the scenario.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Attack the server during the run
    #[arg(long)]
    hostile: bool,
    /// Only the attacks with these names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// For how many minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The most memory that the server may take, in MiB
    #[arg(long, default_value_t = 768)]
    memory: u64,
    /// The most that its folder may take, in MiB
    #[arg(long, default_value_t = 1_024)]
    disk: u64,
    /// Where the JSON goes, instead of benches/results/soak-DATE.json
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The results of the honest app.
struct Honest {
    published: Published,
    seen: Seen,
}

impl Honest {
    fn p99s(&self) -> (f64, f64) {
        (self.published.answers.quantile_ms(0.99), self.seen.late.quantile_ms(0.99))
    }

    fn line(&self) -> String {
        let (answer, late) = self.p99s();
        let Published { accepted, refused, .. } = self.published;
        format!("{accepted} accepted, {refused} refused; answer p99 {} ms, delivery p99 {} ms", ms(answer), ms(late))
    }
}

/// Runs the soak test, prints the results, and fails if a bound was exceeded.
pub(crate) async fn run(args: Args, cores: Cores) -> anyhow::Result<()> {
    let started = clock::now_ns();
    let mut receiver = Receiver::start().await?;
    let server = server().config(CONFIG).egress_allow("127.0.0.0/8").wrapper(cores.measured()).try_start().await?;
    let honest = Api::new(&server.url, "honest-api-key-of-the-soak");
    honest.post("/v1/hooks", json!({"name": HOOK})).await.expect_status(201);
    let listener = json!({"url": receiver.url(TAG), "hooks": [HOOK], "timeout": "30s"});
    honest.post("/v1/listeners", listener).await.expect_status(201);

    eprintln!("… alone, for a minute");
    let minute = Duration::from_secs_f64(60.0_f64.min(args.minutes * 60.0));
    let alone = measure(&server, &mut receiver, minute).await?;
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let bounds = Bounds { memory_mib: args.memory, disk_mib: args.disk };
    let watch = Watch::start(&server);
    let attacks = if args.hostile {
        receiver.hold(attacks::HANGING).await?;
        Some(attacks::start(&server, &receiver, &args.only)?)
    } else {
        None
    };
    eprintln!("… {} for {:.1} minutes", if args.hostile { "beside the attacks" } else { "on" }, args.minutes);
    let beside = measure(&server, &mut receiver, time).await?;
    let attacked = attacks.map(attacks::Attacks::stop).transpose()?;
    let watched = watch.stop()?;

    let mut lines = vec![("alone".to_owned(), alone.line()), ("beside".to_owned(), beside.line())];
    lines.extend(watched.lines());
    lines.extend(attacked.iter().flat_map(attacks::Counts::lines));
    let mut faults = watched.faults(bounds);
    faults.extend(judge(&alone, &beside));
    let json = json!({
        "minutes": args.minutes, "hostile": args.hostile, "faults": faults,
        "alone": {"published": alone.published.to_json(), "late": alone.seen.late.to_json()},
        "beside": {"published": beside.published.to_json(), "late": beside.seen.late.to_json()},
        "watched": watched.to_json(), "attacks": attacked.as_ref().map(attacks::Counts::to_json),
    });
    let sections = [Section { name: "soak", title: "Soak: an app with 200 publishes a second", lines, json }];
    report::print(&sections);
    record::write("soak", args.minutes < 10.0, cores, started, &sections, args.out.as_deref())?;
    if faults.is_empty() {
        println!("all bounds held");
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

/// Runs the honest load for a time, and waits until its deliveries have arrived.
async fn measure(server: &Server, receiver: &mut Receiver, time: Duration) -> anyhow::Result<Honest> {
    receiver.forget().await?;
    let target = Target::with_key(server.addr, "honest-api-key-of-the-soak", HOOK);
    let published = load::open(&target, CONNECTIONS, RATE, time).await.context("the honest load")?;
    let seen = receiver.wait_for(TAG, published.accepted, DRAIN).await?;
    Ok(Honest { published, seen })
}

/// The bounds that were exceeded.
fn judge(alone: &Honest, beside: &Honest) -> Vec<String> {
    let mut faults = Vec::new();
    for (honest, when) in [(alone, "alone"), (beside, "beside")] {
        if honest.seen.count < honest.published.accepted {
            let lost = honest.published.accepted - honest.seen.count;
            faults.push(format!("{lost} of {} acknowledged events did not arrive ({when})", honest.published.accepted));
        }
    }
    let (before, after) = (alone.p99s(), beside.p99s());
    for (what, before, after) in [("answer", before.0, after.0), ("delivery", before.1, after.1)] {
        if after > MOST_TIMES * before.max(FLOOR_MS) {
            faults.push(format!("the {what}'s p99 went from {} to {} ms", ms(before), ms(after)));
        }
    }
    if beside.published.refused > beside.published.accepted / 100 {
        faults.push(format!("{} honest publishes were refused", beside.published.refused));
    }
    faults
}
