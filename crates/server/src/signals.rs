//! SIGTERM and SIGINT: the first asks us to stop, the second means now. SIGHUP asks to read the certificate again.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

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

/// Notified at each SIGHUP, which from now on does not end the process.
///
/// # Errors
/// When the signal cannot be watched.
pub(crate) fn hangups() -> std::io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let notify = Arc::new(Notify::new());
    let notified = Arc::clone(&notify);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notified.notify_one();
        }
    });
    Ok(notify)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
