//! The record of a run: `benches/results/SCENARIO-DATE.json`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::cpu::Cores;
use crate::report::Section;
use crate::{clock, machine};

/// Writes all numbers of a run that began at `started` (monotonic nanoseconds), and prints the file's path.
pub(crate) fn write(
    scenario: &str,
    quick: bool,
    cores: Cores,
    started: u64,
    sections: &[Section],
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let seconds = clock::seconds(clock::now_ns() - started);
    let path = out.map_or_else(|| default_path(scenario), Path::to_path_buf);
    let phases: Map<String, Value> = sections.iter().map(|s| (s.name.to_owned(), s.json.clone())).collect();
    let record = json!({
        "scenario": scenario, "date": machine::today(), "quick": quick, "pinned": cores.pinned(),
        "seconds": seconds, "machine": machine::facts(), "phases": phases,
    });
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, format!("{record:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\n{seconds:.0} s; every number is in {}", path.display());
    Ok(())
}

fn default_path(scenario: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
    folder.join(format!("{scenario}-{}.json", machine::today()))
}
