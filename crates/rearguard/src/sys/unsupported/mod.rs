//! A system that rearguard has no port for.
//!
//! The application runs as it would without rearguard: [`channel::open`] refuses, and the worker's health says so.
//! Nothing here pretends: where a function has an answer that says "there is none" or "not possible", that is the answer.
//! What only a guard works with, [`attach::Attached`] and [`successor::Starter`], has no values, so the compiler knows that no guard stands here; all the same every function returns.

pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod exit_status;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod successor;
pub(crate) mod terminal;

use crate::error::Error;

/// The reason of every refusal.
const REASON: &str = "rearguard doesn't support this system";

/// Refuses an operation, and names the system.
fn unsupported(operation: &'static str) -> Error {
    Error::refused(operation, std::env::consts::OS, REASON)
}
