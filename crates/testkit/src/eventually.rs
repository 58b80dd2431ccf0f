//! Waits for a condition, with a deadline. Our tests wait in no other way.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `look` until it returns `Some`, and returns the value.
///
/// # Panics
/// When there was no `Some` within `deadline`, with the caller's line. A call still running at the deadline is dropped.
#[track_caller]
pub fn eventually<T, L, F>(deadline: Duration, mut look: L) -> impl Future<Output = T>
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut looks = 0_u32;
        loop {
            looks += 1;
            if let Ok(Some(found)) = tokio::time::timeout_at(end, look()).await {
                return found;
            }
            if Instant::now() >= end {
                panic!("{caller}: not so within {deadline:?} ({looks} looks)");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_what_the_last_look_found() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(5), || {
            looks += 1;
            let found = (looks == 3).then_some(looks);
            async move { found }
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "eventually.rs")]
    async fn names_the_line_that_waited_in_vain() {
        eventually(Duration::from_millis(30), || async { None::<()> }).await;
    }
}
