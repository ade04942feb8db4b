//! How long whoever starts a program waits for the application's `main`, by where the guard stands.

use std::path::Path;

use super::process::{self, complaint, first, number};

/// The topologies, in the order of the rows.
pub(super) const TOPOLOGIES: [&str; 3] = ["worker-first", "at-crash", "guard-first"];

/// Milliseconds from before the start of the first process to the application's `main`.
pub(super) fn start_to_main_ms(
    program: &Path,
    topology: &str,
    place: &Path,
) -> Result<f64, String> {
    let arguments = ["--topology", topology, "--wait-guarded", "none"].map(str::to_owned);
    let before_ns = process::now_ns();
    let mut child = process::start(program, &arguments, place)?;
    let end = process::end_of(&mut child);
    process::end_of_others()?;
    let (_, status) = end?;
    if !status.success() {
        return Err(format!("it ended with {status}{}", complaint(place)));
    }
    let trace = process::trace(place);
    // In front of a guarded application the first process comes as far as `start()` only.
    let main = first(&trace, "main").ok_or("the trace has no 'main'")?;
    let main_ns = number(main, "t_ns").ok_or("'main' has no time")?;
    Ok((main_ns as f64 - before_ns as f64) / 1e6)
}
