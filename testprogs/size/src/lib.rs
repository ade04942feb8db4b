//! What an application of some size uses of the standard library anyway: threads, files and other programs.
//!
//! A program that has these pays less for rearguard than one that prints a line and ends.

use std::error::Error;
use std::process::Command;
use std::{env, fs, thread};

/// Writes a file on a thread, reads it back, and lets another program count its bytes.
///
/// # Errors
///
/// Whatever the system refuses.
pub fn work() -> Result<String, Box<dyn Error + Send + Sync>> {
    let path = env::temp_dir().join("rearguard-size");
    let place = path.clone();
    let writer = thread::spawn(move || fs::write(place, "some bytes"));
    writer.join().map_err(|_| "the writing thread panicked")??;
    let text = fs::read_to_string(&path)?;
    let counted = Command::new("wc").arg("-c").arg(&path).output()?;
    fs::remove_file(&path)?;
    Ok(format!("{text}: {}", String::from_utf8_lossy(&counted.stdout)))
}
