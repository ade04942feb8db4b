//! The zoo on Linux.

pub(crate) mod clock;
pub(crate) mod fault;
pub(crate) mod foreign;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod neighbours;
pub(crate) mod process;
mod seccomp;
pub(crate) mod thread;
pub(crate) mod trace_file;
pub(crate) mod ways;

/// None: every option has its meaning here.
pub(crate) const ABSENT_OPTIONS: [&str; 1] = ["deaf"];
