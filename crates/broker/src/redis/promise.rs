//! The answer to a call whose caller waits with a timeout. Either the result is sent to the session, or the caller
//! gets an error; never both.

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

/// The side that waits. Dropping it abandons the call.
#[derive(Debug)]
pub(super) struct Waiting {
    state: Arc<AtomicU8>,
    answer: oneshot::Receiver<Result<(), BrokerError>>,
}

/// A new promise, and the side that waits for it.
pub(super) fn promise() -> (Promise, Waiting) {
    let state = Arc::new(AtomicU8::new(OPEN));
    let (sender, receiver) = oneshot::channel();
    (Promise { state: Arc::clone(&state), answer: sender }, Waiting { state, answer: receiver })
}

fn moves(state: &AtomicU8, to: u8) -> bool {
    state.compare_exchange(OPEN, to, SeqCst, SeqCst).is_ok()
}

impl Promise {
    /// Whether the caller still waits. From then on it waits without a timeout, so the result may be sent to the
    /// session.
    pub(super) fn claim(&self) -> bool {
        moves(&self.state, CLAIMED) || self.state.load(SeqCst) == CLAIMED
    }

    pub(super) fn answer(self, answer: Result<(), BrokerError>) {
        // It fails only if the caller is gone.
        self.answer.send(answer).ok();
    }
}

impl Waiting {
    /// Waits for the answer, at most this long, or until it comes if the promise was claimed.
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
        // The promise was claimed just before the timeout: the answer comes soon.
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
