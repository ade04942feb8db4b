//! How the worker ended, by the exit code that its process handle keeps.

pub(crate) use crate::config::signal_name;
use windows_sys::Win32::System::Threading::GetExitCodeProcess;

use super::{attach, front};
use crate::config::ExitClass;

/// Asks how the worker ended, once its handle says that it is gone. `None` when the system doesn't tell.
///
/// After a crash that was told and answered, the code with which the C runtime ends the process is no news: an `abort` ends with 3.
pub(crate) fn of_worker(_pid: u32, _ask: bool, crash_was_told: bool) -> Option<ExitClass> {
    let mut code = 0;
    // SAFETY: the handle is the worker's or none, and the answer goes into a living place.
    let told = unsafe { GetExitCodeProcess(attach::worker_process(), &raw mut code) };
    let class = (told != 0).then(|| class_of(code))?;
    if class == ExitClass::Clean
        && let Some(code) = front::lost()
    {
        // The system ends a worker with the process in front of it, and calls that a success.
        return Some(ExitClass::Killed(code as i32));
    }
    match class {
        ExitClass::Code(_) | ExitClass::Clean if crash_was_told => None,
        class => Some(class),
    }
}

/// The class of an exit code.
///
/// An unhandled exception ends its process with the exception's code; fast-fail, which no handler sees, with 0xC0000409.
fn class_of(code: u32) -> ExitClass {
    /// Errors of the system itself: severity "error", facility 0 (MSDN, NTSTATUS values).
    const SYSTEM_ERROR: u32 = 0xc000_0000;
    const FACILITY: u32 = 0xffff_0000;
    /// STATUS_CONTROL_C_EXIT: somebody closed the console or pressed its keys.
    const CONTROL_C: u32 = 0xc000_013a;
    /// DBG_TERMINATE_PROCESS: the session ended, or a debugger.
    const TERMINATED: u32 = 0x4001_0004;
    match code {
        CONTROL_C | TERMINATED => ExitClass::Killed(code as i32),
        // C++ and .NET exceptions, a breakpoint, a single step, an abort that was told, a misaligned access.
        0xe06d_7363 | 0xe043_4352 | 0x8000_0002..=0x8000_0004 | 0x4000_0015 => {
            ExitClass::Crash(code as i32)
        }
        _ if code & FACILITY == SYSTEM_ERROR => ExitClass::Crash(code as i32),
        _ => ExitClass::from_code(code as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: exceptions and fast-fail are crashes, a program's own codes are codes, also -1.
    #[test]
    fn codes() {
        for crash in [0xc000_0005_u32, 0xc000_00fd, 0xc000_0409, 0xc000_0374, 0xe06d_7363] {
            assert_eq!(class_of(crash), ExitClass::Crash(crash as i32));
        }
        assert_eq!(class_of(0), ExitClass::Clean);
        assert_eq!(class_of(101), ExitClass::Code(101));
        assert_eq!(class_of(u32::MAX), ExitClass::Code(-1));
        assert_eq!(class_of(0xc000_013a), ExitClass::Killed(0xc000_013a_u32 as i32));
    }
}
