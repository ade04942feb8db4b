//! The keeper: the one thread that rearguard adds to a worker.
//!
//! It owns the descriptors that a guard needs, in a descriptor table of its own, and starts guards; nothing else.
//! It sleeps on the guard's life and wakes only when a guard ends, a crash is answered, or a crashed thread calls.
//! It must never touch the heap or a lock: when it is needed most, the process around it has crashed.

use core::sync::atomic::{AtomicU32, Ordering};

use super::family::{Family, Line};
use super::futex;
use super::handler;
use super::spawn::{self, Plan};
use super::standing;
use super::syscall::{self, Errno, call, plain};
use super::time;
use crate::black_box::{BlackBox, FUTEX_WAITERS, answer, crash, guard, owner};
use crate::guards::{self, Window};
use crate::limits;

/// The place among the handed descriptors of the pipe's end by which a guard's READY, or its end, is seen.
pub const READY_PLACE: usize = 4;

/// What the keeper works with; it keeps the pointers for the life of the process.
pub struct Keeping {
    /// The mapped black box.
    pub black_box: &'static BlackBox,
    /// How to start a guard; null where the guard is the process that started this one, and there is no other.
    pub plan: *mut Plan,
    /// Whether a guard is started at once, or only when a crash calls for one.
    pub resident: bool,
    /// The guard of many workers that is asked first, if there is one.
    pub family: Option<Family>,
}

/// The keeper's life. The calling thread becomes the keeper, and its descriptor table is the one that the plan's numbers mean.
///
/// # Safety
///
/// The plan and all that it points to must be valid for the life of the process, and used by nobody else.
pub unsafe fn keep(keeping: &Keeping) -> ! {
    let control = &keeping.black_box.control;
    let tid = syscall::gettid() as u32;
    keeping.black_box.header.keeper_tid.store(tid, Ordering::Relaxed);
    // The guard learns of the worker's end by the end of this thread: death, exec, whatever way.
    if super::robust::tell_my_end(&control.bell).is_ok() {
        let _ = control.bell.compare_exchange(
            0,
            tid | FUTEX_WAITERS,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
    standing::serve();
    let mut window = Window::default();
    let mut wanted = keeping.resident;
    let mut started_for_crash = 0;
    let mut line = Line::new();
    loop {
        let word = control.guard.load(Ordering::Acquire);
        if word == guard::ANSWERED {
            after_the_answer(keeping.black_box, tid);
        } else if word == guard::LEFT || owner(word).is_some() {
            if keeping.plan.is_null() {
                // This guard came by itself, and nobody else has said so.
                standing::tell_news();
            }
            futex::wait_and_pass_on(&control.guard, word, None);
            wanted = keeping.resident;
        } else if keeping.plan.is_null() {
            await_front(keeping.black_box, word);
        } else if control.held.load(Ordering::Acquire) != 0
            && control.crash.load(Ordering::Acquire) == crash::IDLE
        {
            futex::wait_and_pass_on(&control.guard, word, None);
            wanted = keeping.resident;
        } else {
            let crashed = control.crash.load(Ordering::Acquire) != crash::IDLE;
            started_for_crash = if crashed { started_for_crash + 1 } else { 0 };
            if started_for_crash > limits::GUARDS_PER_CRASH_MAX {
                nobody_comes(&control.guard, word);
                continue;
            }
            let admitted = crashed || (wanted && window.admit(time::monotonic_ns() / 1_000_000));
            if admitted {
                let comes = keeping
                    .family
                    .as_ref()
                    .is_some_and(|family| line.ask(family, control, crashed));
                if !comes {
                    // SAFETY: the caller answers for the plan.
                    unsafe { start_guard(keeping) };
                }
                handler::touch_stacks();
                wanted = keeping.resident;
            } else {
                // Nothing more is tried by itself; a crash still calls, and changes the word.
                wanted = false;
                if word == guard::CALLED {
                    // The application let its guard come back; the next call is to be heard too.
                    let _ = control.guard.compare_exchange(
                        word,
                        guard::VACANT,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    futex::wake_all(&control.guard);
                    continue;
                }
                futex::wait_and_pass_on(&control.guard, word, None);
            }
        }
    }
}

/// Lets the crashed thread see that nobody comes; it ends without a dump.
fn nobody_comes(place: &AtomicU32, word: u32) {
    let _ = place.compare_exchange(word, guard::LEFT, Ordering::AcqRel, Ordering::Relaxed);
    futex::wake_all(place);
}

/// Waits for a guard that nobody here can start. A crash that finds none waits no longer for it than a guard may take to come.
fn await_front(black_box: &'static BlackBox, word: u32) {
    handler::touch_stacks();
    let control = &black_box.control;
    let crashed = control.crash.load(Ordering::Acquire) != crash::IDLE;
    let wait_ns = u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000;
    let deadline_ns = crashed.then(|| time::monotonic_ns().saturating_add(wait_ns));
    let woken = futex::wait_and_pass_on(&control.guard, word, deadline_ns);
    standing::tell_news();
    if woken == futex::Woken::TimedOut {
        nobody_comes(&control.guard, word);
    }
}

/// Starts a guard and waits until it has taken its place, has ended, or is late and is ended.
///
/// # Safety
///
/// As [`keep`].
unsafe fn start_guard(keeping: &Keeping) {
    // An application that has lowered its limit of descriptors to nothing leaves none for a pipe; then a guard that ends early is noticed only at the deadline.
    let [read_end, write_end] = pipe().unwrap_or([-1, -1]);
    // SAFETY: the caller answers for the plan, and no start is under way.
    let plan = unsafe { &mut *keeping.plan };
    if let Some(place) = plan.handed.get_mut(READY_PLACE) {
        *place = spawn::Handed { fd: write_end, until_exec: false };
    }
    guards::note_start();
    // SAFETY: as above.
    let started = unsafe { spawn::spawn(keeping.plan) };
    if write_end >= 0 {
        syscall::close(write_end);
    }
    match started {
        Ok(pid) => {
            guards::note_guard(pid as u32);
            syscall::allow_tracer(pid as u32);
            await_ready(keeping, pid, read_end);
        }
        Err(Errno(error)) => {
            guards::note_failure(error);
            guards::note_guard(0);
            back_off();
        }
    }
    if read_end >= 0 {
        syscall::close(read_end);
    }
    standing::tell_news();
}

/// Waits until a guard has taken its place or has ended; at the deadline it is ended.
fn await_ready(keeping: &Keeping, pid: i32, read_end: i32) {
    let control = &keeping.black_box.control;
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000);
    let late = if read_end >= 0 {
        !wait_for_end_of_pipe(read_end, deadline_ns)
    } else {
        !wait_for_owner(&control.guard, pid as u32, deadline_ns)
    };
    // SAFETY: the plan is the keeper's alone.
    let outcome = unsafe { &(*keeping.plan).outcome };
    if is_on_duty(control.guard.load(Ordering::Acquire), pid as u32)
        || control.answer.load(Ordering::Acquire) != answer::NONE
    {
        return;
    }
    if late {
        end_late_starter(pid);
    }
    // The stacks and the plan may be used again only when the child has left them; one that the kernel doesn't end is waited for.
    while !outcome.wait(time::monotonic_ns().saturating_add(1_000_000_000)) {}
    guards::note_failure(outcome.errno.load(Ordering::Acquire));
    guards::note_guard(0);
    back_off();
}

/// Waits for the end of the pipe: the guard closes it when it has taken its place, the kernel when it has ended.
fn wait_for_end_of_pipe(read_end: i32, deadline_ns: u64) -> bool {
    while let left_ns = deadline_ns.saturating_sub(time::monotonic_ns())
        && left_ns > 0
    {
        let mut entry = [libc::pollfd { fd: read_end, events: libc::POLLIN, revents: 0 }];
        match syscall::poll(&mut entry, (left_ns / 1_000_000) as u32 + 1) {
            Ok(0) | Err(Errno(libc::EINTR)) => {}
            Ok(_) => return true,
            // Without room for even this question the word itself is looked at by the caller.
            Err(_) => time::sleep_ns(1_000_000),
        }
    }
    false
}

/// Whether a process that was started has the guard's place, or what has come of it: a crash may have divided it before anybody looked.
#[inline(always)]
fn is_on_duty(word: u32, started: u32) -> bool {
    owner(word).is_some_and(|owner| guards::comes_of(owner, started))
}

/// Waits until a process that was started has the guard's place.
pub(super) fn wait_for_owner(word: &AtomicU32, pid: u32, deadline_ns: u64) -> bool {
    loop {
        let value = word.load(Ordering::Acquire);
        if is_on_duty(value, pid) {
            return true;
        }
        if futex::wait_and_pass_on(word, value, Some(deadline_ns)) == futex::Woken::TimedOut {
            return false;
        }
    }
}

/// Ends a process that was started as a guard and didn't become one in time.
/// It is nobody's child that we could wait for, so a pidfd makes sure that the number still means it.
pub(super) fn end_late_starter(pid: i32) {
    let Ok(pidfd) = plain!(libc::SYS_pidfd_open, pid, 0) else {
        // No descriptor is left; the number was given two seconds ago, and is used again much later.
        let _ = syscall::kill(pid, libc::SIGKILL);
        return;
    };
    let _ = plain!(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0, 0);
    let mut entry = [libc::pollfd { fd: pidfd as i32, events: libc::POLLIN, revents: 0 }];
    let _ = syscall::poll(&mut entry, limits::GUARD_DEATH_MS_MAX);
    syscall::close(pidfd as i32);
}

/// A short pause after a failed start, so that a machine without free processes isn't pressed harder.
fn back_off() {
    time::sleep_ns(10_000_000);
}

/// Waits whether the worker dies of its crash; if it lives, it is armed again with a new slot.
fn after_the_answer(black_box: &'static BlackBox, tid: u32) {
    let control = &black_box.control;
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::SURVIVED_MS) * 1_000_000);
    while control.guard.load(Ordering::Acquire) == guard::ANSWERED {
        if futex::wait(&control.guard, guard::ANSWERED, Some(deadline_ns)) == futex::Woken::TimedOut
        {
            break;
        }
    }
    if control.crash.load(Ordering::Acquire) != crash::RELEASED {
        // The crashed thread hasn't left its wait; there is nothing to decide yet.
        return time::sleep_ns(100_000_000);
    }
    let mut id = [0u8; 16];
    // SAFETY: the pointer refers to sixteen living bytes.
    let _ = unsafe { call(libc::SYS_getrandom, [id.as_mut_ptr() as usize, id.len(), 0, 0, 0, 0]) };
    black_box.make_ready(id);
    control.bell.store(tid | FUTEX_WAITERS, Ordering::Release);
    control.survived.fetch_add(1, Ordering::Release);
    futex::wake_all(&control.bell);
    // The guard that answered takes its place again; only if it has gone meanwhile is the place given to another.
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000);
    while control.guard.load(Ordering::Acquire) == guard::ANSWERED {
        if futex::wait(&control.guard, guard::ANSWERED, Some(deadline_ns)) == futex::Woken::TimedOut
        {
            let _ = control.guard.compare_exchange(
                guard::ANSWERED,
                guard::VACANT,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }
    // Only now, so that the next crash finds a guard, or a place for one.
    handler::arm_again();
}

/// A pipe whose ends are closed by exec.
fn pipe() -> Option<[i32; 2]> {
    let mut ends = [-1i32; 2];
    // SAFETY: the pointer refers to two living numbers.
    unsafe {
        call(libc::SYS_pipe2, [ends.as_mut_ptr() as usize, libc::O_CLOEXEC as usize, 0, 0, 0, 0])
    }
    .ok()?;
    Some(ends)
}
