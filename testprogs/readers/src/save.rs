//! Keeps the dumps of tests for the readers that come later.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

/// The variable that names the directory; without it nothing is kept.
pub const DIRECTORY: &str = "REARGUARD_DUMPS";

/// How many dumps one test program keeps; the later ones are left out without a word.
///
/// Some tests make thousands that differ in nothing but their time, and the suite keeps them in memory.
pub const SAVED_MAX: usize = 100;

static SAVED: AtomicUsize = AtomicUsize::new(0);

/// Keeps a dump, and the truth about it where the test knows it.
///
/// # Errors
///
/// The directory is named and can't be written to.
pub fn save(bytes: &[u8], truth: Option<&Value>) -> Result<(), String> {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return Ok(()) };
    let number = SAVED.fetch_add(1, Ordering::Relaxed);
    // A dump whose truth is known is never left out: there are few, and nothing else shows what they show.
    if number >= SAVED_MAX && truth.is_none() {
        return Ok(());
    }
    // The test's name, by which whoever reads of a disagreement finds it.
    let test = std::thread::current().name().unwrap_or("unnamed").replace("::", "-");
    let name = format!("{test}-{}-{number}", std::process::id());
    let path = PathBuf::from(directory).join(name);
    write(&path.with_extension("dmp"), bytes)?;
    match truth {
        Some(truth) => write(&truth_of(&path), truth.to_string().as_bytes()),
        None => Ok(()),
    }
}

/// Where the truth about a dump is.
pub fn truth_of(dump: &Path) -> PathBuf {
    dump.with_extension("truth.json")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
