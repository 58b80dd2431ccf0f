//! A queue of destinations, round-robin by app: each app has its turn, however many destinations another has in it.

use std::collections::{HashMap, VecDeque};

use tidings_model::id::DestinationNo;

/// The dispatcher's number for an app.
pub(crate) type AppNo = u32;

#[derive(Default)]
pub(crate) struct Ring {
    /// The apps that have a destination in the queue, the next one first.
    order: VecDeque<AppNo>,
    by_app: HashMap<AppNo, VecDeque<DestinationNo>>,
}

impl Ring {
    pub(crate) fn push(&mut self, app: AppNo, destination: DestinationNo) {
        let queue = self.by_app.entry(app).or_default();
        if queue.is_empty() {
            self.order.push_back(app);
        }
        queue.push_back(destination);
    }

    /// The next destination of the next app for which `may` is true.
    pub(crate) fn pop(&mut self, may: impl Fn(AppNo) -> bool) -> Option<DestinationNo> {
        for _ in 0..self.order.len() {
            let app = self.order.pop_front()?;
            if !may(app) {
                self.order.push_back(app);
                continue;
            }
            let queue = self.by_app.get_mut(&app)?;
            let destination = queue.pop_front();
            if !queue.is_empty() {
                self.order.push_back(app);
            }
            return destination;
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Frees the memory of apps that have nothing in the queue.
    pub(crate) fn shrink(&mut self) {
        self.by_app.retain(|_, queue| !queue.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_app_has_its_turn_however_many_another_has_waiting() {
        let mut ring = Ring::default();
        (0..1_000).for_each(|no| ring.push(1, DestinationNo(no)));
        ring.push(2, DestinationNo(5_000));
        ring.push(3, DestinationNo(6_000));
        let got: Vec<i64> = std::iter::from_fn(|| ring.pop(|_| true)).map(|no| no.0).take(6).collect();
        assert_eq!(got, [0, 5_000, 6_000, 1, 2, 3]);
        ring.push(2, DestinationNo(5_001));
        assert_eq!(ring.pop(|app| app != 1), Some(DestinationNo(5_001)));
        assert_eq!(ring.pop(|app| app != 1), None);
        assert_eq!(ring.pop(|_| true), Some(DestinationNo(4)));
        assert_eq!(std::iter::from_fn(|| ring.pop(|_| true)).count(), 995);
        assert!(ring.is_empty());
    }
}
