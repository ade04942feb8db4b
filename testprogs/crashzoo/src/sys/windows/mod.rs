//! The zoo on Windows.

pub(crate) mod clock;
pub(crate) mod fault;
pub(crate) mod foreign;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod neighbours;
pub(crate) mod process;
mod raise;
pub(crate) mod thread;
pub(crate) mod trace_file;
pub(crate) mod ways;

/// Users, dumpability and signals are Linux's; a process here keeps its token for life.
pub(crate) const ABSENT_OPTIONS: [&str; 10] = [
    "drop-user",
    "raise-dumpable",
    "foreign",
    "small-stack",
    "knock",
    "daemonize",
    "manners",
    "tell-children",
    "confine-roles",
    "shut-door",
];
