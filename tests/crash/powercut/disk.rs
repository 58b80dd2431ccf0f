//! A model of a disk: its state by the system calls so far, and its possible states after a power cut at any moment.
//!
//! Synced contents of a file survive. Each later write may survive, be lost, or be torn at sector borders, in any
//! combination. Changes of names in a folder (files made, renamed, removed) survive once the folder is synced; of later
//! changes to one folder a first part may survive, because file systems keep their journals in order. Every file system
//! of today guarantees more than this.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::random::Random;

/// The size of a sector, in bytes. A write of one sector is atomic.
const SECTOR: u64 = 512;

/// The entry of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Arc<[u8]>),
    Truncate(u64),
}

#[derive(Debug, Default)]
struct File {
    /// The synced contents.
    synced: Vec<u8>,
    /// The changes since, each with the line of the trace in which its call ended.
    since: Vec<(usize, Change)>,
}

#[derive(Debug, Clone)]
enum Naming {
    Add(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// The disk below one folder; the folder itself exists.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    files: Vec<File>,
    /// The names as programs see them.
    names: BTreeMap<PathBuf, Node>,
    /// The synced names.
    synced_names: BTreeMap<PathBuf, Node>,
    /// The changes of names since: the folder, the line in which the call ended, and the change.
    since: Vec<(PathBuf, usize, Naming)>,
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            since: Vec::new(),
        }
    }

    fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.root) && path != self.root
    }

    fn file(&mut self, path: &Path) -> Option<&mut File> {
        match self.names.get(path)? {
            Node::File(number) => self.files.get_mut(*number),
            Node::Folder => None,
        }
    }

    fn naming(&mut self, path: &Path, ended: usize, naming: Naming) {
        if let Some(folder) = path.parent() {
            apply(&mut self.names, &naming);
            self.since.push((folder.to_owned(), ended, naming));
        }
    }

    pub(crate) fn folder(&mut self, path: &Path, ended: usize) {
        if self.covers(path) && !self.names.contains_key(path) {
            self.naming(path, ended, Naming::Add(path.to_owned(), Node::Folder));
        }
    }

    /// A file was opened, and created if it did not exist.
    pub(crate) fn open(&mut self, path: &Path, ended: usize, create: bool, truncate: bool) {
        if !self.covers(path) {
            return;
        }
        if create && !self.names.contains_key(path) {
            self.files.push(File::default());
            self.naming(path, ended, Naming::Add(path.to_owned(), Node::File(self.files.len() - 1)));
        } else if truncate {
            self.truncate(path, ended, 0);
        }
    }

    /// Writes at an offset, or at the end.
    pub(crate) fn write(&mut self, path: &Path, ended: usize, at: Option<u64>, data: &[u8]) {
        if let Some(file) = self.file(path) {
            let at = at.unwrap_or_else(|| file.whole().len() as u64);
            file.since.push((ended, Change::Write(at, data.into())));
        }
    }

    pub(crate) fn truncate(&mut self, path: &Path, ended: usize, length: u64) {
        if let Some(file) = self.file(path) {
            file.since.push((ended, Change::Truncate(length)));
        }
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, ended: usize) {
        if self.covers(from) {
            self.naming(to, ended, Naming::Rename(from.to_owned(), to.to_owned()));
        }
    }

    pub(crate) fn link(&mut self, from: &Path, to: &Path, ended: usize) {
        if let Some(node) = self.names.get(from).copied() {
            self.naming(to, ended, Naming::Add(to.to_owned(), node));
        }
    }

    pub(crate) fn remove(&mut self, path: &Path, ended: usize) {
        if self.covers(path) {
            self.naming(path, ended, Naming::Remove(path.to_owned()));
        }
    }

    /// A file or a folder was synced: changes that had ended when the sync began are on disk.
    pub(crate) fn sync(&mut self, path: &Path, began: usize) {
        if let Some(file) = self.file(path) {
            let since = std::mem::take(&mut file.since);
            for (ended, change) in since {
                if ended <= began { change.apply(&mut file.synced) } else { file.since.push((ended, change)) }
            }
            return;
        }
        let since = std::mem::take(&mut self.since);
        for (folder, ended, naming) in since {
            if folder == path && ended <= began {
                apply(&mut self.synced_names, &naming);
            } else {
                self.since.push((folder, ended, naming));
            }
        }
    }

    /// The contents of a file as a program reads them now.
    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self.names.get(path)? {
            Node::File(number) => self.files.get(*number).map(File::whole),
            Node::Folder => None,
        }
    }

    /// The files whose names or contents a power cut could undo now.
    pub(crate) fn unsynced(&self) -> Vec<PathBuf> {
        let named = self.since.iter().map(|(_, _, naming)| match naming {
            Naming::Add(path, _) | Naming::Remove(path) | Naming::Rename(_, path) => path.clone(),
        });
        let written = self.names.iter().filter(|(_, node)| match node {
            Node::File(number) => !self.files[*number].since.is_empty(),
            Node::Folder => false,
        });
        let mut all: Vec<PathBuf> = named.chain(written.map(|(path, _)| path.clone())).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Writes a possible state of the disk after a power cut into `target`.
    pub(crate) fn cut(&self, random: &mut Random, target: &Path) {
        let mut names = self.synced_names.clone();
        let mut folders: Vec<&PathBuf> = self.since.iter().map(|(folder, ..)| folder).collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            let all: Vec<&Naming> =
                self.since.iter().filter(|(own, ..)| own == folder).map(|(.., naming)| naming).collect();
            let kept = random.below(all.len() as u64 + 1) as usize;
            all[..kept].iter().for_each(|naming| apply(&mut names, naming));
        }
        // Folders come before what is in them.
        for (path, node) in &names {
            let Ok(inner) = path.strip_prefix(&self.root) else { continue };
            let place = target.join(inner);
            // What is in a folder whose own name is lost is lost with it.
            if !place.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Folder => fs::create_dir(&place).unwrap(),
                Node::File(number) => fs::write(&place, self.files[*number].cut(random)).unwrap(),
            }
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, naming: &Naming) {
    match naming {
        Naming::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Naming::Remove(path) => {
            names.remove(path);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => put(content, *at, data),
            Self::Truncate(length) => content.resize(*length as usize, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, at: u64, data: &[u8]) {
    let (at, end) = (at as usize, at as usize + data.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
}

impl File {
    fn whole(&self) -> Vec<u8> {
        let mut content = self.synced.clone();
        self.since.iter().for_each(|(_, change)| change.apply(&mut content));
        content
    }

    /// Its contents after a power cut.
    fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut content = self.synced.clone();
        // Nothing of it, all of it, a first part with the last write torn, each write or not, each sector or not.
        let way = random.below(5);
        let first = random.below(self.since.len() as u64 + 1) as usize;
        for (place, (_, change)) in self.since.iter().enumerate() {
            let (whole, torn) = match way {
                0 => (false, false),
                1 => (true, false),
                2 => (place < first, place == first),
                3 => (random.below(2) == 0, false),
                _ => (false, true),
            };
            match change {
                change if whole => change.apply(&mut content),
                Change::Write(at, data) if torn => tear(&mut content, *at, data, random),
                Change::Truncate(_) if torn && random.below(2) == 0 => change.apply(&mut content),
                _ => {}
            }
        }
        content
    }
}

/// Writes some of the sectors that a write covers.
fn tear(content: &mut Vec<u8>, at: u64, data: &[u8], random: &mut Random) {
    let mut from = at;
    let end = at + data.len() as u64;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if random.below(2) == 0 {
            put(content, from, &data[(from - at) as usize..(to - at) as usize]);
        }
        from = to;
    }
}

#[test]
fn what_was_not_synced_may_be_missing_and_what_was_is_there() {
    let root = Path::new("/r");
    let mut disk = Disk::new(root);
    let file = root.join("d/f");
    disk.folder(&root.join("d"), 1);
    disk.open(&file, 2, true, false);
    disk.write(&file, 3, Some(0), &[1; 1024]);
    disk.sync(&file, 4);
    disk.write(&file, 5, Some(512), &[2; 1024]);
    let outcomes = |disk: &Disk| {
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let target = tempfile::tempdir().unwrap();
            disk.cut(&mut Random::of(seed), target.path());
            let content = fs::read(target.path().join("d/f")).ok();
            found.insert(content.map(|content| content.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>()));
        }
        found
    };
    // The name is not on disk before its folder was synced, nor is the folder before its own.
    assert!(outcomes(&disk).contains(&None));
    disk.sync(&root.join("d"), 6);
    assert!(outcomes(&disk).contains(&None));
    disk.sync(root, 7);
    let all: Vec<_> = outcomes(&disk).into_iter().map(Option::unwrap).collect();
    assert_eq!(all, [vec![1, 1], vec![1, 1, 2], vec![1, 2], vec![1, 2, 2]], "sector by sector; never the first one");
    disk.sync(&file, 8);
    assert_eq!(outcomes(&disk).len(), 1);
    // A name that was given over: the old contents or the new ones.
    let new = root.join("d/f.new");
    disk.open(&new, 9, true, false);
    disk.write(&new, 10, None, &[3; 512]);
    disk.sync(&new, 11);
    disk.rename(&new, &file, 12);
    let all: Vec<_> = outcomes(&disk).into_iter().map(Option::unwrap).collect();
    assert_eq!(all, [vec![1, 2, 2], vec![3]]);
    assert_eq!(disk.unsynced(), [file, new]);
}
