//! Power cuts at any moment: from the recorded system calls of a real server, the test builds many possible states of
//! the disk after a power cut, and opens each with the real store. Everything that was acknowledged has to be there and
//! readable.
//!
//! `TIDINGS_POWERCUT_IMAGES` is the number of disk images, `TIDINGS_POWERCUT_SEED` the seed of the first; the others
//! have the numbers after it. A failure keeps the recording: with its folder in `TIDINGS_POWERCUT_FOLDER`, a seed gives
//! the same image again. If that folder is empty, a new recording is written there.

mod disk;
mod examine;
mod record;
mod replay;

use std::path::{Path, PathBuf};

use crate::random::Random;
use replay::{Replay, Step};

/// Images of an ordinary test run; `cargo xtask powercut` checks more.
const IMAGES: u64 = 200;

#[expect(clippy::disallowed_methods, reason = "steers a test; the server's configuration is not read here")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

// covers: G141, G142, G143
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let temporary = tempfile::Builder::new().prefix("tidings-powercut-").tempdir().unwrap();
    let folder = variable("TIDINGS_POWERCUT_FOLDER").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    if !folder.join("trace").exists() {
        record::record(&folder).await;
    }
    let number = |name: &str| variable(name).and_then(|text| text.parse().ok());
    let images = number("TIDINGS_POWERCUT_IMAGES").unwrap_or(IMAGES);
    let seed = number("TIDINGS_POWERCUT_SEED").unwrap_or_else(|| Random::fresh().next() >> 16);
    println!("{images} disks, seeds {seed} to {}", seed + images - 1);

    let failures = cut_everywhere(&folder, seed, images).await;
    if let Some((seed, failure)) = failures.first() {
        drop(temporary.keep());
        panic!(
            "{} of {images} disks are not as they should be; the first is that of seed {seed}: {failure}\n\
             again: TIDINGS_POWERCUT_FOLDER={} TIDINGS_POWERCUT_SEED={seed} TIDINGS_POWERCUT_IMAGES=1 cargo test -p \
             tidings-e2e --test crash powercut",
            failures.len(),
            folder.display()
        );
    }
}

/// Cuts the power in the recording so many times; returns the errors, each with its seed.
async fn cut_everywhere(folder: &Path, seed: u64, images: u64) -> Vec<(u64, String)> {
    let mut replay = Replay::read(folder);
    let moments = replay.steps.len() as u64;
    // Half of the cuts fall right beside a step that puts something on disk, moves a name or acknowledges.
    let marked: Vec<u64> = (0..moments).filter(|&n| replay.steps[n as usize].1.is_mark()).collect();
    let mut cuts: Vec<(u64, u64, Random)> = (seed..seed + images)
        .map(|seed| {
            let mut random = Random::of(seed);
            let at = match random.below(2) {
                0 => random.below(moments + 1),
                _ => (marked[random.below(marked.len() as u64) as usize] + random.below(3)).min(moments),
            };
            (at, seed, random)
        })
        .collect();
    cuts.sort_by_key(|(at, seed, _)| (*at, *seed));
    println!("{moments} steps, of which {} count, {} acknowledgements", marked.len(), replay.acknowledgements());

    let mut failures = Vec::new();
    let mut done = 0;
    for (at, seed, mut random) in cuts {
        while done < at {
            replay.step();
            done += 1;
        }
        let target = image_folder();
        replay.disk.cut(&mut random, target.path());
        if let Err(failure) = examine::examine(target.path(), &replay).await {
            failures.push((seed, format!("cut before step {at} of {moments}: {failure}")));
        }
    }
    while done < moments {
        replay.step();
        done += 1;
    }
    assert!(matches!(replay.steps.last(), Some((_, Step::End))), "the recording does not show the server's end");
    assert_eq!(replay.lax, Vec::<String>::new(), "left to chance although the server had acknowledged, or had ended");
    failures
}

/// A folder in memory if possible: each image is read only once.
fn image_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
