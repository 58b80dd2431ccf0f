//! Who publishes at present, as far as fan-out has to know: whether its app has the store to itself.

use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

/// An app that has published counts for so long, in milliseconds.
const RECENT: Millis = 1_000;

/// The two apps that published last, the latest one first, and when.
#[derive(Debug, Default)]
pub(crate) struct Publishers(Mutex<[Option<(AppId, Millis)>; 2]>);

impl Publishers {
    /// Notes a publish.
    pub(crate) fn note(&self, app: &AppId, now: Millis) {
        let mut last = self.0.lock();
        match &mut last[0] {
            Some((latest, at)) if latest == app => *at = now,
            latest => last[1] = latest.replace((app.clone(), now)),
        }
    }

    /// Whether another app than this one has published a moment ago.
    pub(crate) fn others(&self, app: &AppId, now: Millis) -> bool {
        let last = self.0.lock();
        last.iter().flatten().any(|(other, at)| other != app && now - at < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_alone_until_another_one_publishes() {
        let publishers = Publishers::default();
        let (a, b, c) = (AppId::from("a"), AppId::from("b"), AppId::from("c"));
        assert!(!publishers.others(&a, 0));
        (0..3).for_each(|now| publishers.note(&a, now));
        assert!(!publishers.others(&a, 3));
        assert!(publishers.others(&b, 3));
        publishers.note(&b, 4);
        (5..600).for_each(|now| publishers.note(&a, now));
        assert!(publishers.others(&a, 600) && publishers.others(&b, 600) && publishers.others(&c, 600));
        assert!(!publishers.others(&a, 4 + RECENT), "that was long ago");
    }
}
