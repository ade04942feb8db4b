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

/// Nobody is there: every role has a guard of its own.
pub(crate) fn knock(messages: usize, shut: bool) -> Result<(), String> {
    if messages == 0 && !shut { Ok(()) } else { Err(String::from("--knock: not on Windows")) }
}

/// Refuses.
pub(crate) fn behave(words: &[String], _is_started: bool) -> Result<(), String> {
    if words.is_empty() { Ok(()) } else { Err(String::from("--manners: not on Windows")) }
}

/// Nothing is told here.
pub(crate) fn children() -> String {
    String::new()
}

/// Nobody asks for it here.
pub(crate) fn confine(_command: &mut std::process::Command) {}
