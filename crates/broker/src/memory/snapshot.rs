//! The part of a channel that outlives an orderly stop, as bytes: its history, its position and its cached event.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Epoch, Position};
use tidings_model::clock::Millis;
use tidings_wire::{ChannelMessage, EncodedMessage, Publication};

use super::budget::Budgets;
use super::channel::{CacheEntry, Channel};
use super::history::History;
use crate::codec::{self, PublishedEvent, Reader, Writer};

/// Writes a channel; `None` when it has neither history nor cached event. Expiry times are written as the time left at
/// steady time `now`.
pub(super) fn write(key: &ChannelKey, channel: &Channel, now: Millis) -> Option<Vec<u8>> {
    let (history, cache) = channel.kept();
    if history.is_none() && cache.is_none() {
        return None;
    }
    let mut out = Writer::new();
    out.field(key.app.as_str().as_bytes());
    out.field(key.name.as_bytes());
    out.maybe(history.map(|history| history.position().epoch.as_str().to_owned()).as_deref().map(str::as_bytes));
    if let Some(history) = history {
        let kept: Vec<_> = history.kept().collect();
        out.field(&history.position().offset.to_be_bytes());
        out.field(&history.ttl().to_be_bytes());
        out.field(&(kept.len() as u64).to_be_bytes());
        for (message, expires) in kept {
            write_publication(&mut out, message, expires - now)?;
        }
    }
    match cache {
        None => out.maybe(None),
        Some(cache) => {
            let ChannelMessage::Publication(publication) = cache.publication.content() else { return None };
            let position = publication.position.as_ref();
            out.maybe(Some(position.map_or("", |position| position.epoch.as_str()).as_bytes()));
            out.field(&position.map_or(0, |position| position.offset).to_be_bytes());
            write_publication(&mut out, &cache.publication, cache.expires - now)?;
        }
    }
    Some(out.0)
}

fn write_publication(out: &mut Writer, message: &EncodedMessage, left: Millis) -> Option<()> {
    let ChannelMessage::Publication(publication) = message.content() else { return None };
    let (event, user) = (Arc::clone(&publication.event), publication.user.clone());
    out.field(&left.to_be_bytes());
    out.field(&codec::event(&PublishedEvent { event, user, except: None }));
    Some(())
}

/// Reads a channel at steady time `now`, `elapsed` after it was written; `None` if the bytes cannot be read.
pub(super) fn read(bytes: &[u8], elapsed: Millis, now: Millis, budgets: &Budgets) -> Option<(ChannelKey, Channel)> {
    let mut input = Reader::new(bytes)?;
    let key = ChannelKey::new(input.text()?.into(), input.text()?);
    let budget = budgets.of(&key.app);
    let moved = |left: Millis| now.saturating_add(left).saturating_sub(elapsed);
    let history = match input.maybe_text()? {
        None => None,
        Some(epoch) => {
            let epoch = Epoch::parse(epoch)?;
            let newest = u64::from_be_bytes(input.number()?);
            let ttl = i64::from_be_bytes(input.number()?);
            let count = u64::from_be_bytes(input.number()?);
            let mut history = History::restored(Position { offset: newest, epoch: epoch.clone() }, &budget, ttl);
            for n in 0..count {
                let offset = newest.checked_sub(count)?.checked_add(n + 1)?;
                let position = Some(Position { offset, epoch: epoch.clone() });
                let (publication, left) = read_publication(&mut input, &key, position)?;
                history.restore(publication, moved(left));
            }
            history.vacated(now);
            Some(history)
        }
    };
    let cache = match input.maybe_text()? {
        None => None,
        Some(epoch) => {
            let offset = u64::from_be_bytes(input.number()?);
            let epoch = if epoch.is_empty() { None } else { Some(Epoch::parse(epoch)?) };
            let position = epoch.map(|epoch| Position { offset, epoch });
            let (publication, left) = read_publication(&mut input, &key, position)?;
            CacheEntry::new(publication, moved(left), &budget)
        }
    };
    Some((key, Channel::restored(history, cache)))
}

fn read_publication(
    input: &mut Reader<'_>,
    key: &ChannelKey,
    position: Option<Position>,
) -> Option<(Arc<EncodedMessage>, Millis)> {
    let left = i64::from_be_bytes(input.number()?);
    let PublishedEvent { event, user, .. } = codec::read_event(input.field()?, &key.app)?;
    let content = ChannelMessage::Publication(Publication { event, channel: key.clone(), position, user });
    Some((Arc::new(EncodedMessage::new(content)), left))
}
