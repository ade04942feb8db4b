//! How a process that is nobody's child of ours ended.
//!
//! In this order: the zombie's own `stat`, the pidfd after the real parent has reaped, nothing.
//! The first needs the zombie to be still there, the second a kernel of 6.15 or later.

pub(crate) use crate::config::linux_signal_name as signal_name;
use std::os::fd::RawFd;
use std::path::Path;

use rearguard_crashpath::time;

use super::attach::PIDFD;
use super::{file, proc_text};
use crate::config::ExitClass;
use crate::limits::EXIT_STATUS_MS_MAX;

/// The class of an end, as `wait(2)` encodes it.
fn from_wait_status(status: i32) -> ExitClass {
    match status & 0x7f {
        0 => ExitClass::from_code((status >> 8) & 0xff),
        signal => ExitClass::from_signal(signal),
    }
}

/// Asks how the worker ended, once its pidfd says that it is gone. `None` when the system doesn't tell.
pub(crate) fn of_worker(
    pid: u32,
    use_pidfd_info: bool,
    _crash_was_told: bool,
) -> Option<ExitClass> {
    let deadline_ns = time::monotonic_ns() + EXIT_STATUS_MS_MAX * 1_000_000;
    loop {
        if let Some(stat) = proc_text::stat(pid)
            && (stat.state == b'Z' || stat.state == b'X')
            && (stat.exit_code != 0 || may_see(pid))
        {
            return Some(from_wait_status(stat.exit_code));
        }
        if use_pidfd_info && let Some(status) = pidfd_exit_status(PIDFD) {
            return Some(from_wait_status(status));
        }
        if !use_pidfd_info || time::monotonic_ns() > deadline_ns {
            return None;
        }
        // Between "no zombie any more" and "reaped" lie microseconds; the bound is for kernels that never tell.
        time::sleep_ns(1_000_000);
    }
}

/// Whether the kernel shows us this process's own matters; to others, every exit code is a zero.
/// The link to the executable is behind the same check, and a zombie that we may see has none.
fn may_see(pid: u32) -> bool {
    match file::read_link(Path::new(&proc_text::of_process(pid, "exe"))) {
        Ok(_) => true,
        // Nor has one that was reaped meanwhile, so it must still be there afterwards.
        Err(errno) => {
            errno == libc::ENOENT && proc_text::stat(pid).is_some_and(|stat| stat.state == b'Z')
        }
    }
}

/// The kernel's `struct pidfd_info`, first published size.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`: tell the exit code, if the process has been reaped.
const INFO_EXIT: u64 = 8;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;

fn pidfd_exit_status(pidfd: RawFd) -> Option<i32> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the number carries the structure's size, 64 bytes, and the pointer refers to one.
    let done = unsafe { libc::ioctl(pidfd, PIDFD_GET_INFO as _, &raw mut info) };
    (done == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a wait status is read as wait(2) encodes it, core flag included.
    #[test]
    fn wait_statuses() {
        assert_eq!(from_wait_status(0), ExitClass::Clean);
        assert_eq!(from_wait_status(101 << 8), ExitClass::Code(101));
        assert_eq!(from_wait_status(11), ExitClass::Crash(11));
        assert_eq!(from_wait_status(0x80 | 6), ExitClass::Crash(6));
        assert_eq!(from_wait_status(9), ExitClass::Killed(9));
        assert_eq!(size_of::<PidfdInfo>(), 64);
    }
}
