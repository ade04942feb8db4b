//! The tool as its users call it, as a process of its own on a store of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod desk;
mod servers;
mod show;
mod store;
mod windows;
