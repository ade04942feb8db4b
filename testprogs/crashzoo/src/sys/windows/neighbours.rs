//! There are no signals here, and filters are the affair of `foreign`.

use crate::args::Foreign;

/// Refuses anybody.
pub(crate) fn install(when: Foreign) -> Result<(), String> {
    match when {
        Foreign::None => Ok(()),
        Foreign::Before | Foreign::After => Err(String::from("--foreign: not on Windows")),
    }
}

/// Refuses.
pub(crate) fn use_small_stack(_room_bytes: usize) -> Result<(), String> {
    Err(String::from("--small-stack: not on Windows"))
}
