//! How a lane advances: which delivery is next, and which ones go in one request.
//!
//! Of a lane, only the oldest open delivery is scheduled or leased. Those right behind it may be leased with it, to go
//! in the same request.

use tidings_model::clock::Millis;
use tidings_model::id::DeliveryKey;

use super::placement::due_from;
use crate::log::Lease;
use crate::queue::{Finished, Leased, Recording, Wanted};

/// An open delivery of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InLane {
    pub(crate) key: DeliveryKey,
    pub(crate) attempts: u32,
    pub(crate) forgiven: u32,
    pub(crate) not_before: Option<Millis>,
    /// Whether it is neither scheduled nor leased.
    pub(crate) waits: bool,
}

/// The parameters for advancing a lane after its head has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdvanceTerms {
    /// The lease of its next deliveries; without one they are scheduled.
    pub(crate) lease: Option<Lease>,
    pub(crate) now: Millis,
    /// How many may be leased to go in one request.
    pub(crate) batch: usize,
    /// How long (ms) fewer than that wait for more.
    pub(crate) gather: Millis,
}

impl AdvanceTerms {
    /// After an attempt. If the destination is disabled nothing is leased, since the caller would attempt it.
    pub(crate) fn after(end: &Finished, recording: &Recording, is_enabled: bool) -> Self {
        let Recording { lease, now, gather, .. } = *recording;
        Self { lease: is_enabled.then_some(lease), now, batch: end.batch, gather }
    }

    /// After a delivery that was canceled without an attempt: there is no caller to lease the next one to.
    pub(crate) fn without_lease(now: Millis) -> Self {
        Self { lease: None, now, batch: 1, gather: 0 }
    }

    /// How many deliveries behind the lane's oldest have to be read. None if the oldest is scheduled or leased already:
    /// others of the same request have not ended yet, or the lane was advanced before.
    pub(crate) fn behind_oldest(&self, oldest: Option<&InLane>) -> usize {
        if oldest.is_some_and(|one| one.waits) { self.batch.saturating_sub(1) } else { 0 }
    }
}

/// The next step of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The lane is empty, or its oldest delivery is scheduled or leased already.
    Nothing,
    /// Lease these, the oldest first.
    Lease(Vec<Leased>),
    /// Schedule the oldest for this time.
    Schedule(DeliveryKey, Millis),
}

/// Decides the next step of a lane, from its oldest open delivery and as many behind it as
/// [`AdvanceTerms::behind_oldest`] says.
///
/// If fewer deliveries wait than may go in one request, they wait a moment for more. Otherwise a lane with steady
/// publishes would make a request for each.
pub(crate) fn advance(open: &[InLane], terms: &AdvanceTerms) -> Advance {
    let Some(oldest) = open.first().filter(|oldest| oldest.waits) else { return Advance::Nothing };
    let due = due_from(oldest.not_before, terms.now);
    let may_go = ready(open, terms.now);
    match terms.lease {
        Some(lease) if may_go > 0 && may_go >= terms.batch => Advance::Lease(leased(&open[..may_go], lease, false)),
        Some(_) => Advance::Schedule(oldest.key.clone(), due.max(terms.now + terms.gather)),
        None => Advance::Schedule(oldest.key.clone(), due),
    }
}

/// Leases those right behind a leased head that go in the same request.
pub(crate) fn follow(behind: &[InLane], now: Millis, lease: Lease) -> Vec<Leased> {
    leased(&behind[..ready(behind, now)], lease, true)
}

/// How many consecutive deliveries may go now. The first that may not holds back those behind it.
fn ready(open: &[InLane], now: Millis) -> usize {
    open.iter().take_while(|one| one.waits && one.not_before.is_none_or(|time| time <= now)).count()
}

fn leased(open: &[InLane], lease: Lease, follows: bool) -> Vec<Leased> {
    let lease = |(place, one): (usize, &InLane)| Leased {
        key: one.key.clone(),
        attempts: one.attempts,
        forgiven: one.forgiven,
        ordered: true,
        follows: follows || place > 0,
        in_batch: false,
        lease,
    };
    open.iter().enumerate().map(lease).collect()
}

/// How many more deliveries of a destination a claim may lease, besides the heads of lanes that it has leased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimRoom {
    left: usize,
    batch: usize,
}

impl ClaimRoom {
    /// The room that is left after `heads` were leased.
    pub(crate) fn after(wanted: &Wanted, heads: usize) -> Self {
        Self { left: wanted.most.saturating_sub(heads), batch: wanted.batch }
    }

    /// How many may go in the same request as the next head.
    pub(crate) fn behind_head(&self) -> usize {
        self.batch.saturating_sub(1).min(self.left)
    }

    /// Counts deliveries that were leased behind a head.
    pub(crate) fn take(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_model::id::{AppId, DestinationNo, EventNo};

    use super::*;
    use crate::log::LeaseToken;

    const NOW: Millis = 1_000;
    const GATHER: Millis = 200;
    const LEASE: Lease = Lease { token: LeaseToken(7), until: 31_000 };

    /// Whether a delivery waits, and when it may go.
    type State = (bool, Option<Millis>);

    fn lane(of: &[State]) -> Vec<InLane> {
        let key = |no| DeliveryKey { app: AppId::from("1"), event: EventNo(no), destination: DestinationNo(1) };
        let one = |(no, &(waits, not_before))| InLane { key: key(no), attempts: 2, forgiven: 1, not_before, waits };
        (1..).zip(of).map(one).collect()
    }

    fn terms(is_leased: bool, batch: usize) -> AdvanceTerms {
        AdvanceTerms { lease: is_leased.then_some(LEASE), now: NOW, batch, gather: GATHER }
    }

    /// How many are leased, or when the oldest is scheduled.
    fn summary(advance: Advance) -> (usize, Option<Millis>) {
        match advance {
            Advance::Nothing => (0, None),
            Advance::Lease(all) => (all.len(), None),
            Advance::Schedule(_, due) => (0, Some(due)),
        }
    }

    #[test]
    fn a_lane_goes_on_with_its_oldest() {
        const WAITS: State = (true, None);
        const GOES: State = (false, None);
        const LATER: State = (true, Some(NOW + 3_000));
        const SOON: State = (true, Some(NOW + 50));
        const PAST: State = (true, Some(NOW - 50));
        let table: [(&[State], _, _); 12] = [
            (&[], terms(true, 1), (0, None)),
            (&[WAITS], terms(true, 1), (1, None)),
            (&[PAST], terms(true, 1), (1, None)),
            (&[WAITS], terms(false, 1), (0, Some(NOW))),
            // One that went together with the last, or was let go before, is left alone.
            (&[GOES], terms(true, 1), (0, None)),
            (&[GOES, WAITS], terms(false, 2), (0, None)),
            (&[LATER], terms(true, 1), (0, Some(NOW + 3_000))),
            (&[LATER], terms(false, 1), (0, Some(NOW + 3_000))),
            (&[WAITS, PAST, WAITS], terms(true, 3), (3, None)),
            // Fewer than may go together wait for more, but not beyond what keeps the oldest back.
            (&[WAITS, WAITS], terms(true, 3), (0, Some(NOW + GATHER))),
            (&[WAITS, LATER, WAITS], terms(true, 3), (0, Some(NOW + GATHER))),
            (&[SOON], terms(true, 1), (0, Some(NOW + GATHER))),
        ];
        for (i, (open, terms, expected)) in table.into_iter().enumerate() {
            assert_eq!(summary(advance(&lane(open), &terms)), expected, "row {i}");
        }
    }

    fn deliveries() -> impl Strategy<Value = Vec<InLane>> {
        let one = (prop::bool::weighted(0.8), prop::option::weighted(0.3, NOW - 20..NOW + 20));
        prop::collection::vec(one, 0..8).prop_map(|all| lane(&all))
    }

    proptest! {
        #[test]
        fn what_goes_is_the_beginning_of_the_lane(open in deliveries(), is_leased: bool, batch in 1usize..6) {
            let terms = terms(is_leased, batch);
            let known = open.len().min(1 + terms.behind_oldest(open.first()));
            match advance(&open[..known], &terms) {
                Advance::Nothing => prop_assert!(open.first().is_none_or(|oldest| !oldest.waits),
                    "the lane stands still"),
                Advance::Lease(all) => {
                    prop_assert!(is_leased && all.len() == batch);
                    for (place, (leased, one)) in all.iter().zip(&open).enumerate() {
                        prop_assert_eq!(&leased.key, &one.key);
                        prop_assert_eq!((leased.attempts, leased.forgiven, leased.lease), (2, 1, LEASE));
                        prop_assert!(leased.ordered && !leased.in_batch && leased.follows == (place > 0));
                        prop_assert!(one.waits && one.not_before.is_none_or(|time| time <= NOW), "not to go yet");
                    }
                }
                Advance::Schedule(key, due) => {
                    prop_assert_eq!(&key, &open[0].key);
                    prop_assert!(due >= NOW && open[0].not_before.is_none_or(|time| due >= time));
                    prop_assert!(due <= open[0].not_before.unwrap_or(NOW).max(NOW + GATHER), "later than it has to");
                }
            }
        }

        #[test]
        fn a_lane_that_ends_unattended_is_never_leased(open in deliveries()) {
            let advance = advance(&open, &AdvanceTerms::without_lease(NOW));
            prop_assert!(!matches!(advance, Advance::Lease(_)));
        }

        #[test]
        fn what_follows_a_head_has_no_gap(behind in deliveries()) {
            let follows = follow(&behind, NOW, LEASE);
            prop_assert!(follows.iter().all(|leased| leased.follows));
            prop_assert!(follows.iter().zip(&behind).all(|(leased, one)| leased.key == one.key && one.waits));
            let next = behind.get(follows.len());
            prop_assert!(next.is_none_or(|one| !one.waits || one.not_before.is_some_and(|time| time > NOW)));
        }

        #[test]
        fn a_claim_leases_no_more_than_is_wanted(
            most in 0usize..9, batch in 0usize..5, heads in 0usize..9, lens in prop::collection::vec(0usize..5, 0..9),
        ) {
            let heads = heads.min(most);
            let mut room = ClaimRoom::after(&Wanted { destination: DestinationNo(1), most, batch }, heads);
            let mut all = heads;
            for len in lens.into_iter().take(heads) {
                let behind = room.behind_head().min(len);
                prop_assert!(behind < batch.max(1));
                room.take(behind);
                all += behind;
            }
            prop_assert!(all <= most);
        }
    }
}
