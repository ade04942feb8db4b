//! Linux.

#![expect(unsafe_code, reason = "system calls and memory shared between processes")]

pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod dumper;
pub(crate) mod exit_status;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod successor;
pub(crate) mod terminal;

#[cfg(feature = "guard-first")]
pub(crate) mod front;
#[cfg(not(feature = "guard-first"))]
#[path = "front_off.rs"]
pub(crate) mod front;
#[cfg(feature = "guard-first")]
mod front_socket;

#[cfg(feature = "roles")]
pub(crate) mod family;
#[cfg(not(feature = "roles"))]
#[path = "family_off.rs"]
pub(crate) mod family;

mod memfd;
mod proc_text;
mod strings;
mod thread;
