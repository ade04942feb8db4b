//! Dumps of real processes, read back with the reference reader.
//!
//! The processes are this test program again, started for one role by [`zoo`]; each is ended by its own id, or ends itself when its test does.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod calls;
mod choices;
mod crash;
mod deep;
mod dumper;
mod extremes;
mod killed;
mod limits;
mod live;
mod reading;
mod refused;
mod registers;
mod truth;
mod zoo;
