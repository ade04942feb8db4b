//! Everything that asks the operating system.
//!
//! A system provides these modules with these functions, side by side with `linux/`:
//!
//! - `clock`: `now_ns`, the clock that all processes share and nobody sets.
//! - `fault`: what the processor alone can't raise; for every system `divide_by_zero` on aarch64, where division doesn't trap.
//! - `foreign`: the crash handlers of other people, `install_before` and `install_after` the start of rearguard, and the `repairable_fault` that one of them repairs.
//! - `lock`: `take` the lock of `--hold-lock`.
//! - `memory`: `page_bytes`, and `forbidden_pages` that nobody may touch.
//! - `process`: `abort` as C has it, `end_at_once`, `command_line`, `drop_user`.
//! - `thread`: `run_foreign`, a thread that std has never heard of.
//! - `trace_file`: `open`, `is_open`, and `append` from wherever the program is.
//! - `ways`: the ways that only this system has (`Way`, `WORDS`, `says_so_itself`, `die`), `LISTED`, the usage text's list of all of its ways, and `out_of_memory`, `malloc_locked` and `main_exited`, which every system does by other means.
//!
//! And the constant `ABSENT_OPTIONS`, the options of the command line that would have no meaning here.
//!
//! `cfg(target_os)` appears here and nowhere else in this program.

use std::time::Duration;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(target_os = "windows")]
mod windows;
#[cfg(target_os = "windows")]
pub(crate) use windows::*;

/// How long a way waits for what it has started, before it counts as survived.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a lock has one holder at a time, and is free again when that one has left it.
    #[test]
    fn a_lock_has_one_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock::take(&path).unwrap();
        assert!(first.is_some());
        assert!(lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(lock::take(&path).unwrap().is_some());
    }
}
