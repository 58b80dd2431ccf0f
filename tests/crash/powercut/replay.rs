//! Replays the recorded calls as steps, and tracks the disk and what the server has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use crate::strace::{Call, finished_trace, parse};

/// The effect of one call.
#[derive(Debug)]
pub(super) enum Step {
    Start,
    Folder(PathBuf),
    Open {
        path: PathBuf,
        create: bool,
        truncate: bool,
    },
    Write {
        path: PathBuf,
        at: Option<u64>,
        data: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    /// Covers everything that had ended before this line.
    Sync {
        path: PathBuf,
        began: usize,
    },
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    /// The server acknowledges an event.
    Event(String),
    /// The server acknowledges a new hook or listener.
    Record(String),
    End,
}

impl Step {
    pub(super) fn is_mark(&self) -> bool {
        !matches!(self, Self::Open { .. } | Self::Write { .. })
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::Open { path, .. } | Self::Write { path, .. } | Self::Truncate { path, .. } => {
                Some(path)
            }
            Self::Sync { path, .. } | Self::Rename(_, path) | Self::Link(_, path) | Self::Remove(path) => Some(path),
            Self::Start | Self::Event(_) | Self::Record(_) | Self::End => None,
        }
    }
}

/// A recording, replayed up to a moment.
pub(super) struct Replay {
    /// The steps, each with the line in which its call ended.
    pub(super) steps: Vec<(usize, Step)>,
    played: usize,
    data: PathBuf,
    pub(super) disk: Disk,
    /// The acknowledgements so far.
    pub(super) events: BTreeSet<String>,
    pub(super) records: BTreeSet<String>,
    /// All complete contents that each small file has had; these files are replaced atomically, such as the keys.
    pub(super) versions: BTreeMap<String, Vec<Vec<u8>>>,
    /// Files that a power cut could have undone although an answer relied on them.
    pub(super) lax: Vec<String>,
    answered_since_start: bool,
}

impl Replay {
    /// Reads the recording in `folder`.
    pub(super) fn read(folder: &Path) -> Self {
        let root = folder.join("server").canonicalize().unwrap();
        let trace = finished_trace(&folder.join("trace")).unwrap();
        let mut steps: Vec<(usize, usize, Step)> = Vec::new();
        for call in parse(&trace) {
            // A write counts from its beginning, everything else from its end.
            let (began, ended) = (call.began, call.ended);
            for step in
                read(&call, &root).into_iter().filter(|step| step.path().is_none_or(|path| path.starts_with(&root)))
            {
                let from = match step {
                    Step::Write { .. } | Step::Event(_) | Step::Record(_) | Step::Start => began,
                    _ => ended,
                };
                steps.push((from, ended, step));
            }
        }
        steps.sort_by_key(|(from, ..)| *from);
        // Each process begins with a step, so what stands before all but the first is an end.
        let mut whole: Vec<(usize, Step)> = Vec::new();
        for (_, ended, step) in steps {
            match step {
                Step::Start if whole.is_empty() => whole.push((ended, step)),
                // strace itself is the second program of a start.
                Step::Start if matches!(whole.last(), Some((_, Step::Start))) => {}
                Step::Start => whole.extend([(ended, Step::End), (ended, Step::Start)]),
                step => whole.push((ended, step)),
            }
        }
        whole.push((usize::MAX, Step::End));
        Self {
            steps: whole,
            played: 0,
            data: root.join("tidings-data"),
            disk: Disk::new(&root),
            events: BTreeSet::new(),
            records: BTreeSet::new(),
            versions: BTreeMap::new(),
            lax: Vec::new(),
            answered_since_start: false,
        }
    }

    pub(super) fn acknowledgements(&self) -> usize {
        self.steps.iter().filter(|(_, step)| matches!(step, Step::Event(_) | Step::Record(_))).count()
    }

    /// Replays one more step.
    pub(super) fn step(&mut self) {
        let Some((ended, step)) = self.steps.get(self.played) else { return };
        let (ended, disk) = (*ended, &mut self.disk);
        self.played += 1;
        match step {
            Step::Start => self.answered_since_start = false,
            Step::Folder(path) => disk.folder(path, ended),
            Step::Open { path, create, truncate } => disk.open(path, ended, *create, *truncate),
            Step::Write { path, at, data } => disk.write(path, ended, *at, data),
            Step::Truncate { path, length } => disk.truncate(path, ended, *length),
            Step::Sync { path, began } => disk.sync(path, *began),
            Step::Rename(from, to) => {
                disk.rename(from, to, ended);
                self.put_in_place(&to.clone());
            }
            Step::Link(from, to) => {
                disk.link(from, to, ended);
                self.put_in_place(&to.clone());
            }
            Step::Remove(path) => disk.remove(path, ended),
            Step::Event(id) => {
                self.events.insert(id.clone());
                self.relied_upon("at the first answer");
            }
            Step::Record(id) => {
                self.records.insert(id.clone());
                self.relied_upon("at the first answer");
            }
            Step::End => {
                self.answered_since_start = false;
                self.relied_upon("at the end");
            }
        }
    }

    /// Records the contents of a file that was replaced atomically.
    fn put_in_place(&mut self, path: &Path) {
        if let (Some(name), Some(content)) = (own_name(&self.data, path), self.disk.read(path)) {
            self.versions.entry(name).or_default().push(content);
        }
    }

    /// Checks that from a server's first answer on, and when it has ended, its small files and all changes of names are
    /// on disk.
    fn relied_upon(&mut self, when: &str) {
        if std::mem::replace(&mut self.answered_since_start, true) {
            return;
        }
        let unsynced = self.disk.unsynced();
        let lax = unsynced.iter().filter_map(|path| own_name(&self.data, path));
        self.lax.extend(lax.map(|name| format!("{name} {when}")));
    }
}

/// The name of a server's file that is replaced atomically; not the database's files, which have a journal, and not
/// temporary files.
pub(super) fn own_name(data: &Path, path: &Path) -> Option<String> {
    let name = path.strip_prefix(data).ok()?.to_str()?;
    let other = ["-wal", "-shm", "-journal", ".new", "tidings.db", "lock"];
    (!name.is_empty() && !other.iter().any(|end| name.ends_with(end))).then(|| name.to_owned())
}

/// The effect of a call on the disk below `root`, or the acknowledgement that it sends.
fn read(call: &Call, root: &Path) -> Vec<Step> {
    let Some(returned) = call.returned() else { return Vec::new() };
    let strings = || call.strings();
    let path =
        |bytes: Option<&Vec<u8>>| root.join(String::from_utf8_lossy(bytes.map_or(&[], Vec::as_slice)).into_owned());
    let opened = || call.opened().map(PathBuf::from).filter(|path| path.is_absolute());
    let one = |step: Option<Step>| step.into_iter().collect();
    match call.name() {
        "execve" => vec![Step::Start],
        "mkdir" | "mkdirat" => vec![Step::Folder(path(strings().first()))],
        "openat" => {
            let has = |flag: &str| call.text.contains(flag);
            vec![Step::Open { path: path(strings().first()), create: has("O_CREAT"), truncate: has("O_TRUNC") }]
        }
        "pwrite64" => one(opened().map(|path| Step::Write {
            path,
            at: call.number_from_end(0),
            data: strings().concat().into_iter().take(returned as usize).collect(),
        })),
        "write" | "writev" | "sendto" | "sendmsg" => match call.opened() {
            Some(socket) if socket.starts_with("TCP:") => answers(&strings().concat()),
            Some(path) if Path::new(&path).is_absolute() => {
                let data = strings().concat().into_iter().take(returned as usize).collect();
                vec![Step::Write { path: path.into(), at: None, data }]
            }
            _ => Vec::new(),
        },
        "pwritev" => panic!("nobody wrote several pieces at a place when this was written: {}", call.text),
        "ftruncate" => one(opened().zip(call.number_from_end(0)).map(|(path, length)| Step::Truncate { path, length })),
        "fsync" | "fdatasync" => one(opened().map(|path| Step::Sync { path, began: call.began })),
        "rename" | "renameat" | "renameat2" => {
            let names = strings();
            vec![Step::Rename(path(names.first()), path(names.get(1)))]
        }
        "link" | "linkat" => {
            let names = strings();
            vec![Step::Link(path(names.first()), path(names.get(1)))]
        }
        "unlink" | "unlinkat" => vec![Step::Remove(path(strings().first()))],
        _ => Vec::new(),
    }
}

/// The acknowledgement in an answer of the API.
fn answers(sent: &[u8]) -> Vec<Step> {
    let text = String::from_utf8_lossy(sent);
    let value = |key: &str| {
        let (_, behind) = text.split_once(&format!("\"{key}\":\""))?;
        behind.split_once('"').map(|(value, _)| value.to_owned())
    };
    if text.starts_with("HTTP/1.1 202 ") {
        value("id").map(Step::Event).into_iter().collect()
    } else if text.starts_with("HTTP/1.1 201 ") {
        value("id").or_else(|| value("name")).map(Step::Record).into_iter().collect()
    } else {
        Vec::new()
    }
}
