//! One direction of a connection through the proxy.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Cut, Toward, Weather};

/// The most bytes that are read at once; few, so that delayed bytes stay with the sender.
const PIECE: usize = 16 * 1024;
/// The steps per second of a throttled direction.
const STEPS: u32 = 20;

/// Forwards until the reading side ends (which is passed on), one side breaks, or the proxy cuts; returns how it cuts.
pub(super) async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    toward: Toward,
    cuts: u64,
    weather: &mut watch::Receiver<Weather>,
) -> Result<(), Cut> {
    let mut piece = vec![0; PIECE];
    loop {
        let now = *weather.borrow_and_update();
        if now.cuts != cuts {
            return Err(now.cut.unwrap_or(Cut::Fin));
        }
        let flow = now.flow(toward);
        let room = flow.rate.map_or(PIECE, |rate| (rate / STEPS).clamp(1, PIECE as u32) as usize);
        let len = tokio::select! {
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                // The proxy is gone.
                Err(_) => return Err(Cut::Reset),
            },
            read = from.read(&mut piece[..room]), if !flow.silent => match read {
                Ok(len) => len,
                Err(_) => return Err(Cut::Reset),
            },
        };
        if len == 0 {
            to.shutdown().await.ok();
            return Ok(());
        }
        hold_back(flow.delay + pause(len, flow.rate), cuts, weather).await?;
        // A side that does not read must not keep us from seeing a cut.
        let written = tokio::select! {
            written = to.write_all(&piece[..len]) => written.is_ok(),
            how = cut_of(cuts, weather) => return Err(how),
        };
        if !written {
            return Err(Cut::Reset);
        }
    }
}

fn pause(len: usize, rate: Option<u32>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(len as f64 / f64::from(rate)))
}

/// Waits, unless the connection is cut meanwhile.
async fn hold_back(pause: Duration, cuts: u64, weather: &mut watch::Receiver<Weather>) -> Result<(), Cut> {
    if pause.is_zero() {
        return Ok(());
    }
    let end = Instant::now() + pause;
    tokio::select! {
        () = tokio::time::sleep_until(end) => Ok(()),
        how = cut_of(cuts, weather) => Err(how),
    }
}

/// Waits until the connection is cut.
async fn cut_of(cuts: u64, weather: &mut watch::Receiver<Weather>) -> Cut {
    match weather.wait_for(|weather| weather.cuts != cuts).await {
        Ok(weather) => weather.cut.unwrap_or(Cut::Fin),
        Err(_) => Cut::Reset,
    }
}
