//! What this process is, as far as the standard library knows.
//!
//! What it doesn't know is left at zero, and that harms nobody: all of it is for a launch record that no guard will read.

use std::path::{Path, PathBuf};

use crate::config::StartBlock;
use crate::heap::{List, Text, copied};
use crate::sys::std_file::kept_path;
pub(crate) use crate::sys::std_process::{absolute, arguments, variable};
use crate::sys::words::Surroundings;

/// What the system says of this process at its start: nothing that is known.
pub(crate) struct Status {
    /// False: a debugger is in nobody's way where no crash handler is installed.
    pub(crate) is_traced: bool,
}

impl Status {
    /// Asks nobody.
    pub(crate) fn read() -> Status {
        Status { is_traced: false }
    }
}

/// Gathers what can be told without asking the system itself.
pub(crate) fn surroundings(_status: &Status) -> Surroundings {
    let bytes = |path: PathBuf| path.into_os_string().into_encoded_bytes().into();
    Surroundings {
        program: std::env::current_exe().map_or_else(|_| List::new(), bytes),
        arguments: arguments(),
        environment: std::env::vars_os()
            .map(|(mut entry, value)| {
                entry.push("=");
                entry.push(value);
                entry.into_encoded_bytes().into()
            })
            .collect(),
        directory: std::env::current_dir().map_or_else(|_| List::new(), bytes),
        ..Surroundings::default()
    }
}

/// A command that starts this very program again.
#[cfg(feature = "roles")]
pub(crate) fn own_command() -> crate::sys::RoleCommand {
    crate::sys::RoleCommand::new(std::env::current_exe().unwrap_or_default())
}

/// False: not known. There is no store and no program that the caller's variables could choose for a process with more rights than theirs.
pub(crate) fn is_privileged() -> bool {
    false
}

/// Nobody that is known of.
pub(crate) fn outer_supervisor() -> Option<StartBlock> {
    None
}

/// Fills `bytes` with zeros.
/// Without unsafe code or a dependency there is no randomness to be had, and what isn't random must not look so.
/// Nothing is told apart by them: the nonce is for a guard that isn't started, the identifiers are for reports that aren't written.
pub(crate) fn random(bytes: &mut [u8]) {
    bytes.fill(0);
}

/// Zero: without a guard nothing is timed, and the clocks of the standard library are more code than that is worth.
pub(crate) fn monotonic_ns() -> u64 {
    0
}

/// Zero, as for [`monotonic_ns`].
pub(crate) fn boot_ns() -> u64 {
    0
}

/// Zero, as for [`monotonic_ns`].
pub(crate) fn real_ns() -> u64 {
    0
}

/// Ends the process. Exit handlers that are registered so early run; the standard library knows no way around them that keeps the status.
pub(crate) fn exit(status: i32) -> ! {
    std::process::exit(status)
}

/// The name of the system, for a report.
pub(crate) fn system_name() -> Text {
    Text::from(std::env::consts::OS)
}

/// Turns bytes that came from a path into one again; what is no UTF-8 is replaced, since bytes of a record can't be trusted to be what the system calls a path.
pub(crate) fn path(bytes: &[u8]) -> &'static Path {
    kept_path(PathBuf::from(String::from_utf8_lossy(bytes).into_owned()))
}

/// The bytes of a path.
pub(crate) fn path_bytes(path: &Path) -> List<u8> {
    copied(path.as_os_str().as_encoded_bytes())
}

/// Nowhere: a directory that nobody asked for isn't made for reports that don't come.
pub(crate) fn default_store(_name: &str) -> Option<&'static Path> {
    None
}

/// The user's home directory, where the system has the variable that Unix has.
pub(crate) fn home() -> Option<List<u8>> {
    variable(b"HOME")
}

/// Does nothing: what there is to do beside a guard is a guard's.
pub(crate) fn beside(_work: impl FnOnce() + Send + 'static) {}

/// Ends this process; for fail spots.
pub(crate) fn kill_self() {
    std::process::abort()
}

/// Ends this process, since it can't be stopped: a test that wants it stopped must not go on as if it had been. For fail spots.
pub(crate) fn stop_self() {
    std::process::abort()
}

/// Returns at once. Only a guard waits, and a thread's sleep is more code than this is worth.
pub(crate) fn sleep_ms(_duration_ms: u64) {}

/// Threads have no number that a guard could use where there is no guard.
pub(crate) fn thread_id() -> u32 {
    0
}

/// Terminals have no jobs here.
pub(crate) fn foreground() -> u32 {
    rearguard_crashpath::black_box::foreground::NO
}

/// A guard that could have memory to give back doesn't run.
pub(crate) fn give_back_memory() {}

/// Nothing has to be readied for sending.
pub(crate) fn begin_delivery() {}

/// Who works beside this guard is a part of it, and ends with it.
pub(crate) fn end_beside() {}
