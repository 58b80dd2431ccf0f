//! SIGTERM and SIGINT: the first stops the server in order, the second ends the process at once. SIGHUP reloads the
//! certificate.

use std::sync::Arc;

use tidings_supervisor::Supervisor;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// The exit code that a shell reports for a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Resolves at the first stop signal. A second one exits the process at once.
///
/// # Errors
/// When the signals cannot be watched.
pub(crate) fn stop(supervisor: &Supervisor) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let supervisor = supervisor.clone();
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        supervisor.task("second-signal", async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(INTERRUPTED);
        });
    })
}

/// A `Notify` that each SIGHUP triggers. From now on SIGHUP does not end the process.
///
/// # Errors
/// When the signal cannot be watched.
pub(crate) fn hangups(supervisor: &Supervisor) -> std::io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let notify = Arc::new(Notify::new());
    let notified = Arc::clone(&notify);
    supervisor.service("hangup-signals", async move {
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
