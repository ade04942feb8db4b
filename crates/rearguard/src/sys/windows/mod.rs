//! Windows.

#![expect(unsafe_code, reason = "system calls, handles and memory shared between processes")]

pub(crate) mod attach;
mod beside;
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
mod front_page;

mod handles;
mod keeper;
mod libraries;
mod proxy;
mod session;
mod spawn;
mod threads;
mod wide;

/// What only other ports need; named here, so that the compiler goes on to find what nobody uses on any system.
const _: () = {
    use crate::limits;
    let _ = (limits::EXIT_STATUS_MS_MAX, limits::PROC_BYTES_MAX, limits::MAPS_BYTES_MAX);
    let _ = (limits::TERMINAL_MS_MAX, limits::SLOT_LOOK_NS_MAX);
    let _ = limits::CONSENT_ASKED_MS;
    let _ = crate::heap::List::<u8>::leak;
};
