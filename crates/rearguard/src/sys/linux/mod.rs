//! Linux.

#![expect(unsafe_code, reason = "system calls and memory shared between processes")]

pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod dumper;
pub(crate) mod exit_status;
pub(crate) mod file;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod successor;
pub(crate) mod terminal;

mod front_socket;
mod memfd;
mod proc_text;
mod strings;
