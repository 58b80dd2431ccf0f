//! The answer to a call that somebody waits for, but not for ever: either what was asked is told, or the caller hears
//! that it was not possible. Never both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::BrokerError;

const OPEN: u8 = 0;
const CLAIMED: u8 = 1;
const ABANDONED: u8 = 2;

/// The side that answers.
#[derive(Debug)]
pub(super) struct Promise {
    state: Arc<AtomicU8>,
    answer: oneshot::Sender<Result<(), BrokerError>>,
}

/// The side that waits. Dropped, it has abandoned.
#[derive(Debug)]
pub(super) struct Waiting {
    state: Arc<AtomicU8>,
    answer: oneshot::Receiver<Result<(), BrokerError>>,
}

/// Both sides of a new one.
pub(super) fn promise() -> (Promise, Waiting) {
    let state = Arc::new(AtomicU8::new(OPEN));
    let (sender, receiver) = oneshot::channel();
    (Promise { state: Arc::clone(&state), answer: sender }, Waiting { state, answer: receiver })
}

fn moves(state: &AtomicU8, to: u8) -> bool {
    state.compare_exchange(OPEN, to, SeqCst, SeqCst).is_ok()
}

impl Promise {
    /// Whether somebody still waits; then they wait on until they are answered, so what they asked for can be told.
    pub(super) fn claim(&self) -> bool {
        moves(&self.state, CLAIMED) || self.state.load(SeqCst) == CLAIMED
    }

    pub(super) fn answer(self, answer: Result<(), BrokerError>) {
        // Whoever has abandoned it does not want to know.
        self.answer.send(answer).ok();
    }
}

impl Waiting {
    /// The answer, or that there was none in time.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub(super) async fn within(mut self, limit: Duration) -> Result<(), BrokerError> {
        let late = match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(answer) => return answer.unwrap_or(Err(BrokerError::Unavailable)),
            Err(_) => moves(&self.state, ABANDONED),
        };
        if late {
            return Err(BrokerError::Unavailable);
        }
        // It is just being told.
        (&mut self.answer).await.unwrap_or(Err(BrokerError::Unavailable))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        moves(&self.state, ABANDONED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_told() {
        let (promise, waiting) = promise();
        assert_eq!(waiting.within(Duration::ZERO).await, Err(BrokerError::Unavailable));
        assert!(!promise.claim());
        let (promise, waiting) = super::promise();
        drop(waiting);
        assert!(!promise.claim());
    }

    #[tokio::test]
    async fn what_is_being_told_is_waited_for() {
        let (promise, waiting) = promise();
        assert!(promise.claim() && promise.claim());
        let late = tokio::spawn(waiting.within(Duration::ZERO));
        tokio::task::yield_now().await;
        promise.answer(Ok(()));
        assert_eq!(late.await.unwrap(), Ok(()));
    }
}
