//! A system that rearguard has no port for.
//!
//! The application runs as it would without rearguard: [`channel::begin`] refuses, and the worker's health says so.
//! Nothing here pretends: where a function has an answer that says "there is none" or "not possible", that is the answer.
//! What only a keeper or a guard makes ([`channel::Opening`], [`attach::Attached`], [`successor::Recipe`]) has no values, so the compiler knows that no guard stands here; all the same every function returns.

pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod dumper;
pub(crate) mod exit_status;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod successor;
pub(crate) mod terminal;

use crate::error::Error;
use crate::launch::{LaunchRecord, Succession};
use crate::limits;

/// The reason of every refusal.
const REASON: &str = "rearguard doesn't support this system";

/// What the portable modules keep for a port with a guard.
/// It is named here, in one place, so that the compiler goes on to find what nobody uses on any system.
const _: () = {
    let _ = LaunchRecord::decode;
    let _ = (Succession::encode, Succession::decode);
    let _ = (limits::RECORD_BYTES_MAX, limits::SUCCESSION_BYTES_MAX);
    let _ = (limits::PROC_BYTES_MAX, limits::MAPS_BYTES_MAX, limits::EXEC_CHECK_MS);
    let _ = (limits::EXIT_STATUS_MS_MAX, limits::TERMINAL_MS_MAX, limits::SLOT_LOOK_NS_MAX);
    let _ = (limits::CONNECT_MS_MAX, limits::ANSWER_BYTES_MAX);
    let _ = (limits::STALL_S_MAX, limits::CONSENT_ASKED_MS);
    let _ = crate::heap::List::<u8>::leak;
};

/// Refuses an operation, and names the system.
fn unsupported(operation: &'static str) -> Error {
    Error::refused(operation, std::env::consts::OS, REASON)
}
