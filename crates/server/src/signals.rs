//! SIGTERM and SIGINT: the first asks us to stop, the second means now.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell reports for a program that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// Ends when the process is asked to stop. A second request ends the process at once.
///
/// # Errors
/// When the signals cannot be watched.
pub(crate) fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(INTERRUPTED);
        });
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
