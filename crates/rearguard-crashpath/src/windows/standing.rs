//! How the worker stands with its guards: a few words that the keeper writes, and that the crashed thread and the application read.
//!
//! There are two guards: one on duty, and a *standby* that was created suspended, since nothing can be created once the process heap may be locked.
//! Whoever takes the standby, keeper or crashed thread, takes it by one exchange, and resumes it.

use core::sync::atomic::{AtomicIsize, AtomicU32, Ordering};

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::JobObjects::{
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, ResetEvent, ResumeThread, SetEvent, TerminateProcess,
    WaitForMultipleObjects, WaitForSingleObject,
};

use super::time;
use crate::black_box::{BlackBox, guard};
use crate::guards;

/// A handle that others may read at any moment; zero for none.
pub struct Place(AtomicIsize);

impl Place {
    const EMPTY: Place = Place(AtomicIsize::new(0));

    /// Puts a handle here.
    pub fn put(&self, handle: HANDLE) {
        self.0.store(handle as isize, Ordering::Release);
    }

    /// The handle; null for none.
    #[must_use]
    pub fn get(&self) -> HANDLE {
        self.0.load(Ordering::Acquire) as HANDLE
    }

    fn take(&self) -> HANDLE {
        self.0.swap(0, Ordering::AcqRel) as HANDLE
    }
}

/// Set by a crashed thread when its slot is filled.
pub static CRASHED: Place = Place::EMPTY;
/// Set by the guard when the waiting crash has its answer.
pub static ANSWERED: Place = Place::EMPTY;
/// Set by a guard that has taken its place; reset by whoever sees it dead.
pub static READY: Place = Place::EMPTY;
/// Set by the application that lets its guard come back.
pub static WANTED: Place = Place::EMPTY;
/// Not zero while the keeper knows that no guard is wanted, and makes none.
pub static PARKED: AtomicU32 = AtomicU32::new(0);
/// The process of the guard that was started or resumed last.
pub static GUARD: Place = Place::EMPTY;
/// The standby's process, and its suspended thread.
pub static STANDBY: Place = Place::EMPTY;
static STANDBY_THREAD: Place = Place::EMPTY;
/// The job that ends the standby when this process ends without having called it.
static STANDBY_JOB: Place = Place::EMPTY;

static STANDBY_PID: AtomicU32 = AtomicU32::new(0);

/// Puts a process that was created suspended where a crash finds it. `job` ends its processes when its last handle is closed.
pub fn put_standby(process: HANDLE, thread: HANDLE, job: HANDLE, pid: u32) {
    STANDBY.put(process);
    STANDBY_JOB.put(job);
    STANDBY_PID.store(pid, Ordering::Release);
    // Last: who finds the thread finds the rest.
    STANDBY_THREAD.put(thread);
}

/// Whether a standby is there.
#[must_use]
pub fn has_standby() -> bool {
    !STANDBY_THREAD.get().is_null()
}

/// Forgets a standby that has ended, so that another can be put in its place. A crash that takes it meanwhile finds that it has ended.
pub fn drop_standby() {
    STANDBY_THREAD.take();
    STANDBY_JOB.take();
    STANDBY.take();
}

/// Ends the standby, if there is one; false when it is still there after a second.
pub fn end_standby() -> bool {
    const END_MS_MAX: u32 = 1_000;
    if STANDBY_THREAD.take().is_null() {
        return true;
    }
    STANDBY_JOB.take();
    end_guard(STANDBY.take(), END_MS_MAX)
}

/// Makes the standby the guard and lets it run; false when there is none.
pub fn call_standby(black_box: &BlackBox) -> bool {
    let thread = STANDBY_THREAD.take();
    if thread.is_null() {
        return false;
    }
    let job = STANDBY_JOB.take();
    if !job.is_null() {
        // From here on it outlives us.
        // SAFETY: all bytes of the structure may be zero: no limit.
        let limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { core::mem::zeroed() };
        let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
        // SAFETY: the pointer and the size are those of a living structure.
        unsafe {
            SetInformationJobObject(
                job,
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size,
            )
        };
    }
    vacate(black_box);
    guards::note_guard(STANDBY_PID.load(Ordering::Acquire));
    GUARD.put(STANDBY.take());
    guards::note_start();
    // SAFETY: the handle is the suspended thread's, and ours alone since the exchange.
    unsafe { ResumeThread(thread) != u32::MAX }
}

/// Whether a process has ended.
#[must_use]
pub fn is_gone(process: HANDLE) -> bool {
    // SAFETY: a handle that isn't one makes the wait fail.
    unsafe { WaitForSingleObject(process, 0) == WAIT_OBJECT_0 }
}

/// Waits for a process's end until `deadline_ns`; false when it is still there then.
#[must_use]
pub fn wait_gone(process: HANDLE, deadline_ns: u64) -> bool {
    let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()).div_ceil(1_000_000);
    let wait_ms = u32::try_from(left_ms).unwrap_or(u32::MAX - 1);
    // SAFETY: a handle that isn't one makes the wait fail.
    unsafe { WaitForSingleObject(process, wait_ms) == WAIT_OBJECT_0 }
}

/// Ends a guard and waits until that is true, at most `wait_ms`; false when it isn't then.
pub fn end_guard(process: HANDLE, wait_ms: u32) -> bool {
    // SAFETY: the handle is that of a process which the keeper created.
    unsafe { TerminateProcess(process, 1) };
    // SAFETY: as above.
    unsafe { WaitForSingleObject(process, wait_ms) == WAIT_OBJECT_0 }
}

/// Ends this process with this exit code: no exit handler, no DLL is asked.
pub fn end_this_process(code: u32) -> ! {
    loop {
        // SAFETY: the pseudo handle is always valid.
        let process = unsafe { GetCurrentProcess() };
        // SAFETY: as above.
        unsafe { TerminateProcess(process, code) };
    }
}

/// Gives the place free after a guard's death, before the next is let run.
pub fn vacate(black_box: &BlackBox) {
    let ready = READY.get();
    if !ready.is_null() {
        // SAFETY: the event is never closed.
        unsafe { ResetEvent(ready) };
    }
    black_box.control.guard.store(guard::VACANT, Ordering::Release);
}

/// Sets an event, if it is there.
pub fn set(place: &Place) {
    let event = place.get();
    if !event.is_null() {
        // SAFETY: a handle that isn't an event's makes the call fail.
        unsafe { SetEvent(event) };
    }
}

/// Waits for any of two objects until `deadline_ns`: which, or `None` at the deadline or when they can't be waited for.
#[must_use]
pub fn wait_two(first: HANDLE, second: HANDLE, deadline_ns: u64) -> Option<u32> {
    let handles = [first, second];
    let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()).div_ceil(1_000_000);
    let wait_ms = u32::try_from(left_ms).unwrap_or(u32::MAX - 1);
    // SAFETY: the array has two living handles; bad ones make the call fail.
    let woken = unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, wait_ms) };
    let index = woken.wrapping_sub(WAIT_OBJECT_0);
    (index < 2).then_some(index)
}

/// Waits until a guard is on duty; false when none is at `deadline_ns`.
#[must_use]
pub fn wait_guarded(deadline_ns: u64) -> bool {
    let ready = READY.get();
    if ready.is_null() {
        return false;
    }
    let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()).div_ceil(1_000_000);
    let wait_ms = u32::try_from(left_ms).unwrap_or(u32::MAX - 1);
    // SAFETY: the event is never closed.
    unsafe { WaitForSingleObject(ready, wait_ms) == WAIT_OBJECT_0 }
}
