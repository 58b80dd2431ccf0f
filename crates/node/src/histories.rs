//! Channel histories across a restart: an orderly stop writes the broker's histories to a file, and the next start
//! reads them.
//!
//! The file is used once. It is bound to the incarnation of the store that wrote it, so that only the very next start
//! accepts it. A copy, or a file left behind by a node that then crashed or ran without it, would give positions to
//! events that were never published under them. The file is removed, and the removal synced, before the first publish.
//!
//! The file begins with a magic line. Records follow, each its length (four bytes, big-endian) and its bytes, sealed
//! with the main key for this file and the record's index. The first record is the time of writing. The last one is
//! empty, and shows that the file is complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidings_broker::MemoryBroker;
use tidings_model::clock::{Millis, SharedClock};
use tidings_store::StoreError;
use tidings_store::seal::MainKey;

const MAGIC: &[u8] = b"tidings histories 1\n";
/// The largest size of the file in bytes, more than apps are expected to need. Above it, no file is written.
const MAX_FILE: u64 = 4 << 30;

/// Why histories were not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// Writing the file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They could not be sealed.
    #[error(transparent)]
    Seal(#[from] StoreError),
    /// The histories are larger than [`MAX_FILE`].
    #[error("the histories take more than {MAX_FILE} bytes")]
    TooMuch,
}

/// The file of a node's histories, with the broker and the key that it belongs to.
#[derive(Clone)]
pub(crate) struct HistoryFile {
    broker: Arc<MemoryBroker>,
    path: PathBuf,
    key: Arc<MainKey>,
    clock: SharedClock,
    incarnation: i64,
}

impl HistoryFile {
    /// The file at `path`, for a node whose store has this incarnation.
    pub(crate) fn new(
        broker: Arc<MemoryBroker>,
        path: PathBuf,
        key: Arc<MainKey>,
        clock: SharedClock,
        incarnation: i64,
    ) -> Self {
        Self { broker, path, key, clock, incarnation }
    }

    /// Restores the histories of the last stop. After a failure the node starts anyway: histories get new epochs, so
    /// that readers learn of the loss.
    pub(crate) async fn restore(self) {
        let restored =
            blocking(move || load(&self.broker, &self.path, &self.key, self.incarnation, self.clock.wall_ms()));
        match restored.await {
            Ok(0) => {}
            Ok(channels) => tracing::info!(channels, "channel histories restored from the last stop"),
            Err(error) => tracing::warn!(%error, "restoring channel histories failed; they start empty"),
        }
    }

    /// Removes the file of an earlier stop, when this configuration keeps no histories.
    pub(crate) async fn discard(path: PathBuf) {
        if let Err(error) = blocking(move || remove(&path)).await {
            tracing::warn!(%error, "removing channel histories of an earlier stop failed");
        }
    }

    /// Writes the broker's histories for the next start. Publishes are refused from here on.
    pub(crate) async fn save(self) {
        let saved = blocking(move || {
            let saved = write(&self.broker, &self.path, &self.key, self.incarnation, self.clock.wall_ms());
            saved.map_err(io::Error::other)
        });
        if let Err(error) = saved.await {
            tracing::warn!(%error, "saving channel histories failed; they start empty at the next start");
        }
    }
}

/// Runs file operations on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
}

/// Writes the broker's histories; the broker refuses publishes from here on. Afterwards the file is complete, or does
/// not exist.
fn write(broker: &MemoryBroker, path: &Path, key: &MainKey, incarnation: i64, wall: Millis) -> Result<(), WriteError> {
    let temporary = path.with_extension("new");
    let written = write_temporary(broker, &temporary, key, incarnation, wall).and_then(|()| {
        std::fs::rename(&temporary, path)?;
        Ok(sync_folder_of(path)?)
    });
    if written.is_err() {
        std::fs::remove_file(&temporary).ok();
    }
    written
}

fn write_temporary(
    broker: &MemoryBroker,
    temporary: &Path,
    key: &MainKey,
    incarnation: i64,
    wall: Millis,
) -> Result<(), WriteError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    // A file that was left behind keeps its old mode when it is opened.
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC)?;
    let (mut index, mut length) = (0, 0);
    let mut record = |bytes: &[u8]| -> Result<(), WriteError> {
        let sealed = key.seal(&belongs_to(incarnation, index), bytes)?;
        index += 1;
        length += sealed.len() as u64 + 4;
        let size = u32::try_from(sealed.len()).ok().filter(|_| length <= MAX_FILE).ok_or(WriteError::TooMuch)?;
        out.write_all(&size.to_be_bytes())?;
        Ok(out.write_all(&sealed)?)
    };
    record(&wall.to_be_bytes())?;
    broker.hand_over(&mut record)?;
    record(b"")?;
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?)
}

/// Reads and removes the file of the last stop, and restores its channels in the broker. Returns the number of
/// channels.
///
/// # Errors
/// When there is a file that cannot be read or removed; then nothing is restored.
fn load(broker: &MemoryBroker, path: &Path, key: &MainKey, incarnation: i64, wall: Millis) -> io::Result<usize> {
    let Some(bytes) = remove(path)? else { return Ok(0) };
    let Some(records) = read(&bytes, key, incarnation - 1) else {
        tracing::warn!("channel histories are incomplete or not from this node's last stop; they start empty");
        return Ok(0);
    };
    let Some(([at, ..], channels)) = records.split_first().map(|(first, rest)| (first.as_chunks().0, rest)) else {
        return Ok(0);
    };
    let elapsed = u64::try_from(wall.saturating_sub(i64::from_be_bytes(*at))).unwrap_or(0);
    Ok(channels.iter().filter(|record| broker.restore(record, Duration::from_millis(elapsed))).count())
}

/// Reads the file and removes it; `None` when there is none. Also removes an incomplete temporary file.
fn remove(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    };
    let bytes = match File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_FILE + MAGIC.len() as u64).read_to_end(&mut bytes)?;
            Some(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_changed = gone(std::fs::remove_file(path))? | gone(std::fs::remove_file(path.with_extension("new")))?;
    if is_changed {
        sync_folder_of(path)?;
    }
    Ok(bytes)
}

/// The decrypted records of a file; `None` if it belongs to another incarnation, or is not complete.
fn read(bytes: &[u8], key: &MainKey, incarnation: i64) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut records = Vec::new();
    loop {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (sealed, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let record = key.open(&belongs_to(incarnation, records.len()), sealed).ok()?;
        if record.is_empty() {
            return (behind.is_empty() && !records.is_empty()).then_some(records);
        }
        records.push(record);
        rest = behind;
    }
}

fn belongs_to(incarnation: i64, index: usize) -> String {
    format!("histories:{incarnation}:{index}")
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tidings_broker::{Broker as _, HistoryRange, MemoryLimits, Publish, ShardMessage, Shards};
    use tidings_model::channel::{ChannelKey, ChannelOptions};
    use tidings_model::clock::ManualClock;
    use tidings_model::event::{Data, Event};

    use super::*;

    #[derive(Debug)]
    struct NoShards;

    impl Shards for NoShards {
        fn count(&self) -> u16 {
            0
        }
        fn send(&self, _: u16, _: ShardMessage) {}
        fn append(&self, _: u16, _: ShardMessage) {}
        fn write_inline(&self, _: u16) {}
        fn overloaded(&self) -> bool {
            false
        }
    }

    fn broker() -> MemoryBroker {
        MemoryBroker::new(ManualClock::at(0), Arc::new(NoShards), MemoryLimits::default())
    }

    async fn publish(broker: &MemoryBroker, channel: &str, text: &str) {
        let options = ChannelOptions { history_size: 10, ..ChannelOptions::default() };
        let event = Event {
            id: text.to_owned(),
            app: "1".into(),
            name: "n".to_owned(),
            channels: Vec::new(),
            data: Data::text(text.to_owned()),
            time: 0,
            op: None,
            key: None,
            except: None,
        };
        let channel = ChannelKey::new("1".into(), channel);
        let (options, event) = (Arc::new(options), Arc::new(event));
        let publish = Publish { channel, options, event, except: None, user: None, by_client: false };
        broker.publish(publish).await.unwrap();
    }

    async fn kept(broker: &MemoryBroker, channel: &str) -> usize {
        let range = HistoryRange { limit: 100, ..HistoryRange::default() };
        broker.history(&ChannelKey::new("1".into(), channel), range).await.unwrap().publications.len()
    }

    // covers: G292
    #[tokio::test]
    async fn only_the_next_start_takes_what_was_written_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("histories");
        let key = MainKey::load_or_create(&folder.path().join("main.key")).unwrap();
        let first = broker();
        for n in 0..3 {
            publish(&first, "a", &format!("secret {n}")).await;
            publish(&first, "b", &format!("secret {n}")).await;
        }
        write(&first, &path, &key, 7, 1_000).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!bytes.windows(6).any(|part| part == b"secret"), "it can be read without the key");
        let other = MainKey::load_or_create(&folder.path().join("other.key")).unwrap();
        for (what, file, key, incarnation, expected) in [
            ("its own", bytes.clone(), &key, 8, 2),
            ("the start after the next", bytes.clone(), &key, 9, 0),
            ("the node that wrote it", bytes.clone(), &key, 7, 0),
            ("another key", bytes.clone(), &other, 8, 0),
            ("cut off", bytes[..bytes.len() - 1].to_vec(), &key, 8, 0),
            ("without its end", bytes[..bytes.len() - 60].to_vec(), &key, 8, 0),
            ("something behind it", [&bytes[..], b"x"].concat(), &key, 8, 0),
            ("no histories", b"tidings".to_vec(), &key, 8, 0),
        ] {
            std::fs::write(&path, file).unwrap();
            std::fs::write(path.with_extension("new"), "left behind").unwrap();
            let next = broker();
            assert_eq!(load(&next, &path, key, incarnation, 1_000).unwrap(), expected, "{what}");
            assert_eq!(kept(&next, "a").await, if expected == 0 { 0 } else { 3 }, "{what}");
            assert!(!path.exists() && !path.with_extension("new").exists(), "{what}: it is still there");
            assert_eq!(load(&broker(), &path, key, incarnation, 1_000).unwrap(), 0, "{what}, again");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/histories");
        let key = MainKey::load_or_create(&folder.path().join("main.key")).unwrap();
        assert!(write(&broker(), &path, &key, 7, 1_000).is_err());
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(write(&broker(), &path, &key, 7, 1_000).is_err(), "something is in its place");
        assert!(!path.with_extension("new").exists());
        assert!(load(&broker(), &path, &key, 8, 1_000).is_err(), "it cannot be read");
    }
}
