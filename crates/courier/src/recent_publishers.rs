//! Which apps published recently. Fan-out runs at full speed only while no other app competes for the store.

use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

/// How long a publish counts as recent, in milliseconds.
const RECENT: Millis = 1_000;

/// The two apps that published last, the most recent first, and when: enough to tell whether any app but one did.
#[derive(Debug, Default)]
pub(crate) struct RecentPublishers(Mutex<[Option<(AppId, Millis)>; 2]>);

impl RecentPublishers {
    /// Records a publish at this steady time.
    pub(crate) fn record(&self, app: &AppId, now: Millis) {
        let mut last = self.0.lock();
        match &mut last[0] {
            Some((latest, at)) if latest == app => *at = now,
            latest => last[1] = latest.replace((app.clone(), now)),
        }
    }

    /// Whether any app but this one published recently.
    pub(crate) fn includes_others(&self, app: &AppId, now: Millis) -> bool {
        let last = self.0.lock();
        last.iter().flatten().any(|(other, at)| other != app && now - at < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_app_is_seen_for_a_second() {
        let publishers = RecentPublishers::default();
        let (a, b, c) = (AppId::from("a"), AppId::from("b"), AppId::from("c"));
        assert!(!publishers.includes_others(&a, 0));
        (0..3).for_each(|now| publishers.record(&a, now));
        assert!(!publishers.includes_others(&a, 3));
        assert!(publishers.includes_others(&b, 3));
        publishers.record(&b, 4);
        (5..600).for_each(|now| publishers.record(&a, now));
        assert!(
            publishers.includes_others(&a, 600)
                && publishers.includes_others(&b, 600)
                && publishers.includes_others(&c, 600)
        );
        assert!(!publishers.includes_others(&a, 4 + RECENT), "that was long ago");
    }
}
