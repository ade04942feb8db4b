//! The keeper: the one thread that rearguard adds to a worker.
//!
//! It starts the guard and the standby behind it, sleeps on the guard's life, and puts the next in its place.
//! It is for quiet times: at a crash, when nothing can be created any more, the crashed thread calls the standby by itself.

use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{IntoRawHandle, OwnedHandle};
use std::sync::atomic::Ordering;

use rearguard_crashpath::black_box::{BlackBox, Handover, crash};
use rearguard_crashpath::guards::{self, Window};
use rearguard_crashpath::limits as crash_limits;
use rearguard_crashpath::{standing, time};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Storage::FileSystem::SYNCHRONIZE;
use windows_sys::Win32::System::JobObjects::{
    CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Memory::FILE_MAP_READ;
use windows_sys::Win32::System::Threading::{
    DETACHED_PROCESS, EVENT_MODIFY_STATE, INFINITE, PROCESS_CREATE_PROCESS, PROCESS_DUP_HANDLE,
    PROCESS_QUERY_INFORMATION, PROCESS_VM_READ, WaitForSingleObject,
};

use super::front;
use super::handles::{self, raw, this_process};
use super::process;
use super::spawn::{self, Created, Start};
use super::threads;

/// What a guard may do with its worker: look at it and its memory, take its streams and a snapshot, wait for its end.
const PROCESS_RIGHTS: u32 = PROCESS_QUERY_INFORMATION
    | PROCESS_VM_READ
    | PROCESS_DUP_HANDLE
    | PROCESS_CREATE_PROCESS
    | SYNCHRONIZE;

/// The keeper's stack in bytes.
const STACK_BYTES: usize = 256 * 1024;

/// What the keeper works with.
pub(super) struct Keeping {
    pub(super) black_box: &'static BlackBox,
    pub(super) section: OwnedHandle,
    pub(super) record: OwnedHandle,
    /// The guard argument.
    pub(super) argument: Vec<u16>,
    pub(super) environment: Vec<Vec<u16>>,
    /// Whether a guard is called at once, or only by a crash.
    pub(super) resident: bool,
}

/// Starts the keeper; the error is the system's.
pub(super) fn start(keeping: Keeping) -> Result<(), u32> {
    threads::start(STACK_BYTES, move || keep(&keeping)).map(drop)
}

/// The keeper's life. Beyond the intensity it ends; a crash still finds the standby.
fn keep(keeping: &Keeping) {
    let mut window = Window::default();
    while window.admit(time::monotonic_ns() / 1_000_000) {
        if !standing::has_standby()
            && let Err(error) = make_standby(keeping)
        {
            guards::note_start();
            guards::note_failure(error as i32);
            return;
        }
        if !keeping.resident {
            // A crash calls the standby; one that is lost meanwhile is replaced.
            standing::set(&standing::READY);
            if !wait_for_end(standing::STANDBY.get()) {
                return;
            }
            if keeping.black_box.control.crash.load(Ordering::Acquire) != crash::IDLE {
                return stand_behind_the_crash(keeping);
            }
            standing::drop_standby();
            if !await_wanted(keeping) {
                return;
            }
            continue;
        }
        standing::call_standby(keeping.black_box);
        let guard = standing::GUARD.get();
        await_ready(guard);
        if !standing::has_standby()
            && let Err(error) = make_standby(keeping)
        {
            guards::note_failure(error as i32);
        }
        if !wait_for_end(guard) {
            return;
        }
        if keeping.black_box.control.crash.load(Ordering::Acquire) != crash::IDLE {
            return stand_behind_the_crash(keeping);
        }
        if !await_wanted(keeping) {
            return;
        }
    }
}

/// Sleeps while the application holds its guard off; false when that can't be waited for.
fn await_wanted(keeping: &Keeping) -> bool {
    let control = &keeping.black_box.control;
    while control.held.load(Ordering::Acquire) != 0 {
        standing::end_standby();
        standing::PARKED.store(1, Ordering::Release);
        if !wait_for_end(standing::WANTED.get()) {
            return false;
        }
    }
    standing::PARKED.store(0, Ordering::Release);
    true
}

/// A guard has ended at a crash. The crashed thread calls the standby by itself; another is put behind that one, if this process can still create something.
/// Where the heap is locked this thread never comes back, and is missed by nobody.
fn stand_behind_the_crash(keeping: &Keeping) {
    const LOOK_MS: u32 = 20;
    let wait_ns = u64::from(crash_limits::GUARD_READY_MS_MAX) * 1_000_000;
    let deadline_ns = time::monotonic_ns().saturating_add(wait_ns);
    while standing::has_standby() {
        if time::monotonic_ns() >= deadline_ns {
            return;
        }
        time::sleep_ms(LOOK_MS);
    }
    if let Err(error) = make_standby(keeping) {
        guards::note_failure(error as i32);
    }
}

/// Sleeps until a guard has ended, or an event is set; false when it can't be waited for.
fn wait_for_end(guard: HANDLE) -> bool {
    // SAFETY: the handle is never closed.
    unsafe { WaitForSingleObject(guard, INFINITE) == 0 }
}

/// Waits until a guard has taken its place or has ended; at the deadline it is ended.
fn await_ready(guard: HANDLE) {
    let wait_ns = u64::from(crash_limits::GUARD_READY_MS_MAX) * 1_000_000;
    let deadline_ns = time::monotonic_ns().saturating_add(wait_ns);
    match standing::wait_two(standing::READY.get(), guard, deadline_ns) {
        Some(0) => {}
        Some(_) => guards::note_failure(0),
        None => {
            guards::note_failure(0);
            standing::end_guard(guard, crash_limits::GUARD_DEATH_MS_MAX);
        }
    }
}

/// Creates the standby: a guard that stands still until a crash or the keeper calls it, and ends with this process if nobody does.
///
/// It inherits one handle, the black box, as its standard input; the others are put into it, with the least rights, since whatever is inheritable here could be taken by any other process that the application starts.
fn make_standby(keeping: &Keeping) -> Result<(), u32> {
    let program: Vec<u16> = process::program().as_os_str().encode_wide().collect();
    let mut command_line = vec![u16::from(b'"')];
    command_line.extend_from_slice(&program);
    command_line.extend_from_slice(&[u16::from(b'"'), u16::from(b' ')]);
    command_line.extend_from_slice(&keeping.argument);
    // A duplicate that is inheritable for this moment only.
    let section = handles::duplicate(this_process(), raw(&keeping.section), this_process(), None)?;
    let job = ending_job()?;
    let none = core::ptr::null_mut();
    let created = spawn::create_suspended(&Start {
        program: &program,
        command_line: &command_line,
        environment: &keeping.environment,
        directory: &system_directory(),
        streams: Some([raw(&section), none, none]),
        handles: &[],
        job: raw(&job),
        flags: DETACHED_PROCESS,
    })?;
    // Should this fail, the job's end is the process's.
    hand_over(keeping, &created)?;
    front::note_guard(&created);
    standing::put_standby(
        created.process.into_raw_handle().cast(),
        created.thread.into_raw_handle().cast(),
        job.into_raw_handle().cast(),
        created.pid,
    );
    Ok(())
}

/// A job whose processes the system ends when its last handle is closed, by whatever end of this process.
fn ending_job() -> Result<OwnedHandle, u32> {
    job(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE)
}

/// A job with these limits.
pub(super) fn job(limit_flags: u32) -> Result<OwnedHandle, u32> {
    // SAFETY: neither attributes nor name are given.
    let job = handles::own(unsafe { CreateJobObjectW(core::ptr::null(), core::ptr::null()) })?;
    if limit(raw(&job), limit_flags) { Ok(job) } else { Err(handles::last_error()) }
}

/// Gives a job these limits, in the place of those that it has; false when that isn't allowed.
pub(super) fn limit(job: HANDLE, limit_flags: u32) -> bool {
    // SAFETY: all bytes of the structure may be zero.
    let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { core::mem::zeroed() };
    limits.BasicLimitInformation.LimitFlags = limit_flags;
    let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
    // SAFETY: the pointer and the size are those of a living structure.
    let set = unsafe {
        SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size,
        )
    };
    set != 0
}

/// The system's directory: a guard must not hold the application's.
fn system_directory() -> Vec<u16> {
    let mut path = vec![0; 260];
    // SAFETY: the buffer has as many units as are told.
    let length = unsafe {
        windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW(path.as_mut_ptr(), 260)
    };
    path.truncate((length as usize).min(path.len()));
    path
}

/// Puts a guard's handles into it, and writes their values down where it looks for them.
fn hand_over(keeping: &Keeping, created: &Created) -> Result<(), u32> {
    let into = |handle: HANDLE, access: u32| -> Result<u64, u32> {
        let value =
            handles::duplicate_value(this_process(), handle, raw(&created.process), Some(access))?;
        Ok(value as isize as u64)
    };
    let process = into(this_process(), PROCESS_RIGHTS)?;
    let record = into(raw(&keeping.record), FILE_MAP_READ)?;
    let crashed = into(standing::CRASHED.get(), SYNCHRONIZE | EVENT_MODIFY_STATE)?;
    let answered = into(standing::ANSWERED.get(), EVENT_MODIFY_STATE)?;
    let ready = into(standing::READY.get(), EVENT_MODIFY_STATE)?;
    let place = free_place(keeping.black_box).ok_or(0_u32)?;
    place.process.store(process, Ordering::Relaxed);
    place.record.store(record, Ordering::Relaxed);
    place.crashed.store(crashed, Ordering::Relaxed);
    place.answered.store(answered, Ordering::Relaxed);
    place.ready.store(ready, Ordering::Relaxed);
    place.pid.store(created.pid, Ordering::Release);
    Ok(())
}

/// A place for a guard that isn't the one on duty.
fn free_place(black_box: &'static BlackBox) -> Option<&'static Handover> {
    let in_use = guards::guard_pid();
    let holder = |place: &&Handover| place.pid.load(Ordering::Relaxed);
    let places = &black_box.handovers;
    let free = places.iter().find(|place| holder(place) == 0);
    free.or_else(|| places.iter().find(|place| holder(place) != in_use))
}
