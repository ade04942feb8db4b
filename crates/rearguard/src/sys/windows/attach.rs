//! The guard's side of the channel: what was handed over is checked and mapped, the place is taken, and the guard sleeps until something happens.

use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicIsize, Ordering};

use rearguard_crashpath::black_box::{
    BLACK_BOX_BYTES, BlackBox, Handover, answer, crash, foreground, guard,
};
use rearguard_crashpath::time;
use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Console::{
    AttachConsole, GetStdHandle, STD_INPUT_HANDLE, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::Threading::{
    GetProcessId, INFINITE, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::{beside, front, handles, process, session};
use crate::config::StartBlock;
use crate::launch::LaunchRecord;
use crate::limits;
use crate::sys::words::Heard;

/// Whether a worker can go on after its crash was answered: here it ends itself then.
pub(crate) const CAN_SURVIVE: bool = false;

/// A standard stream of the worker's, taken by its guard.
pub(crate) type Stream = OwnedHandle;

/// What a guard works with.
pub(crate) struct Attached {
    pub(crate) black_box: &'static BlackBox,
    pub(crate) record: LaunchRecord,
    crashed: HANDLE,
}

/// The worker's process, for the modules that ask about it.
static WORKER: AtomicIsize = AtomicIsize::new(0);
/// The events that this guard sets.
static ANSWERED: AtomicIsize = AtomicIsize::new(0);
static READY: AtomicIsize = AtomicIsize::new(0);

/// The worker's process; null before a guard has attached.
pub(super) fn worker_process() -> HANDLE {
    WORKER.load(Ordering::Acquire) as HANDLE
}

/// Checks and maps what was handed over; the error says what is wrong with it.
pub(crate) fn attach(nonce: u64) -> Result<Attached, &'static str> {
    // SAFETY: no memory is involved.
    let section = unsafe { GetStdHandle(STD_INPUT_HANDLE) };
    let view = handles::map(section, BLACK_BOX_BYTES, true)
        .map_err(|_| "standard input is no black box")?;
    if handles::view_bytes(view) < BLACK_BOX_BYTES {
        return Err("the black box has another size");
    }
    // SAFETY: the view has the box's size, is aligned to a page and never given back; every content is valid.
    let black_box = unsafe { &*view.cast_const().cast::<BlackBox>() };
    if !black_box.is_ours(nonce) {
        return Err("the black box is of another version or another worker");
    }
    let handed = black_box
        .handovers
        .iter()
        .find(|place| place.pid.load(Ordering::Acquire) == std::process::id())
        .ok_or("the black box has no handles for this process")?;
    let value = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed) as isize;
    let Handover { process, record, crashed, answered, ready, .. } = handed;
    let bytes = handles::read_section(value(record) as HANDLE, limits::RECORD_BYTES_MAX)
        .ok_or("the launch record can't be read")?;
    let record = LaunchRecord::decode(&bytes).ok_or("the launch record is of another version")?;
    if record.nonce != nonce {
        return Err("the launch record belongs to another worker");
    }
    // SAFETY: a handle that is no process's makes the call fail.
    if unsafe { GetProcessId(value(process) as HANDLE) } != record.worker_pid {
        return Err("the worker's process handle isn't the worker's");
    }
    WORKER.store(value(process), Ordering::Release);
    ANSWERED.store(value(answered), Ordering::Release);
    READY.store(value(ready), Ordering::Release);
    front::reach(&record);
    Ok(Attached { black_box, record, crashed: value(crashed) as HANDLE })
}

/// False: what Windows tells a process, that its session ends, forbids the restart ([`restart_block`]) and lets the rest be finished.
pub(crate) fn stop_requested() -> bool {
    false
}

/// Makes a process that is nowhere in the way: no window of the system's when it fails itself.
pub(crate) fn become_guard(_application: &str, _black_box: &'static BlackBox) {
    // SAFETY: no memory is involved.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
    session::listen();
}

/// Takes the guard's place; false when it is taken.
pub(crate) fn take_place(black_box: &'static BlackBox) -> bool {
    let word = &black_box.control.guard;
    let own = std::process::id();
    let taken =
        word.compare_exchange(guard::VACANT, own, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if taken {
        set(&READY);
    }
    taken
}

fn set(event: &AtomicIsize) {
    // SAFETY: a handle that is no event's makes the call fail.
    unsafe { SetEvent(event.load(Ordering::Acquire) as HANDLE) };
}

/// The handle was given with the right to read.
pub(crate) fn try_reading(black_box: &BlackBox, _pid: u32) {
    black_box.control.reader.store(std::process::id(), Ordering::Release);
}

/// Tells the worker what became of the store.
pub(crate) fn tell_store(black_box: &BlackBox, state: u32) {
    black_box.control.store.store(state, Ordering::Release);
}

/// Takes the place again after the worker survived; a crash that was answered is never survived here.
pub(crate) fn take_place_again(_black_box: &BlackBox) -> bool {
    false
}

/// Answers the waiting crash.
pub(crate) fn answer_crash(black_box: &BlackBox, dumped: bool) {
    let control = &black_box.control;
    let value = if dumped { answer::DUMPED } else { answer::FAILED };
    control.answer.store(value, Ordering::Release);
    set(&ANSWERED);
}

/// Sleeps until a crash waits, the worker ends, or what waits in the store may be sent. While all is well nothing wakes it.
pub(crate) fn watch(attached: &Attached) -> Heard {
    let control = &attached.black_box.control;
    loop {
        if control.crash.load(Ordering::Acquire) == crash::WAITING
            && control.answer.load(Ordering::Acquire) == answer::NONE
        {
            return Heard::Crash;
        }
        if control.held.load(Ordering::Acquire) != 0 {
            beside::abandon();
            return Heard::Stop;
        }
        if control.deliver.swap(0, Ordering::AcqRel) != 0 {
            return Heard::Deliver;
        }
        let handles = [worker_process(), attached.crashed];
        session::set_at_work(false);
        // SAFETY: the array has two handles.
        let woken = unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, INFINITE) };
        session::set_at_work(true);
        match woken.wrapping_sub(WAIT_OBJECT_0) {
            0 => return Heard::Gone,
            1 => {}
            // The event's handle can't be waited for; the worker's end still can, and a crash is looked for.
            _ if wait_gone(limits::EXEC_CHECK_MS) => return Heard::Gone,
            _ => {}
        }
    }
}

/// Waits for the full exit after the answer.
pub(crate) fn await_end(_attached: &Attached, _survived_before: u32, deadline_ns: u64) -> Heard {
    const SLICE_MS: u32 = 1_000;
    while time::monotonic_ns() < deadline_ns {
        if wait_gone(SLICE_MS) {
            return Heard::Gone;
        }
    }
    Heard::Nothing
}

/// Waits until the worker's process is gone; false when it isn't after `wait_ms`.
fn wait_gone(wait_ms: u32) -> bool {
    // SAFETY: the handle is the worker's.
    unsafe { WaitForSingleObject(worker_process(), wait_ms) == WAIT_OBJECT_0 }
}

/// Whether a shell waits for the worker, which waits at its crash.
pub(crate) fn is_foreground_job(attached: &Attached) -> bool {
    attached.black_box.control.foreground.load(Ordering::Relaxed) == foreground::JOB
}

/// Takes the worker's standard streams while it waits at its crash, and joins its console, if it has one; a place is empty where that isn't allowed.
pub(crate) fn take_streams(attached: &Attached, _tid: i32) -> [Option<Stream>; 3] {
    if attached.black_box.control.foreground.load(Ordering::Relaxed) != foreground::NO {
        // The keys that end a console's programs are not for the guard.
        // SAFETY: without a function the keys are ignored.
        unsafe { SetConsoleCtrlHandler(None, 1) };
        // SAFETY: no memory is involved; where there is no console the call fails.
        unsafe { AttachConsole(attached.record.worker_pid) };
    }
    [0, 1, 2].map(|number: usize| {
        let value = *attached.record.surroundings.streams.get(number)?;
        let handle = value as isize as HANDLE;
        if handle.is_null() || value as isize == -1 {
            return None;
        }
        handles::duplicate(worker_process(), handle, handles::this_process(), None).ok()
    })
}

/// What forbids a restart: the end of the session, or of the program for an update.
pub(crate) fn restart_block(_record: &LaunchRecord) -> Option<StartBlock> {
    (session::is_ending() || process::is_shutting_down()).then_some(StartBlock::SessionEnd)
}
