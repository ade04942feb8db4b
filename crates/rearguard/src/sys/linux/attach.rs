//! The guard's side of the channel: what was inherited is checked and mapped, the place is taken, and the guard sleeps until something happens.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use rearguard_crashpath::black_box::{
    BLACK_BOX_BYTES, BlackBox, FUTEX_WAITERS, answer, bell, crash, guard, owner,
};
use rearguard_crashpath::keeper::READY_PLACE;
use rearguard_crashpath::spawn::{self, FIRST_FD};
use rearguard_crashpath::{futex, robust, syscall, time};

use super::channel::{BLACK_BOX_PLACE, EXECUTABLE_PLACE, PIDFD_PLACE, RECORD_PLACE};
use super::process::last_errno;
use super::{family, file, front, memfd, proc_text};
use crate::heap::{Text, owned};
use crate::launch::LaunchRecord;
use crate::limits;
use crate::sys::words::Heard;
use crate::text::{push_number, push_signed};

pub(super) const BLACK_BOX_FD: RawFd = FIRST_FD + BLACK_BOX_PLACE as RawFd;
pub(super) const RECORD_FD: RawFd = FIRST_FD + RECORD_PLACE as RawFd;
pub(crate) const EXECUTABLE_FD: RawFd = FIRST_FD + EXECUTABLE_PLACE as RawFd;
pub(crate) const PIDFD: RawFd = FIRST_FD + PIDFD_PLACE as RawFd;
pub(super) const READY_FD: RawFd = FIRST_FD + READY_PLACE as RawFd;

/// Whether a worker can go on after its crash was answered: a handler that was there first may mend the fault then.
pub(crate) const CAN_SURVIVE: bool = true;

/// A standard stream of the worker's, taken by its guard.
pub(crate) type Stream = OwnedFd;

/// What a guard works with.
pub(crate) struct Attached {
    pub(crate) black_box: &'static BlackBox,
    pub(crate) record: LaunchRecord,
}

/// Checks and maps what was inherited; the error says what is wrong with it.
pub(crate) fn attach(nonce: u64) -> Result<Attached, &'static str> {
    if !memfd::has_seals(BLACK_BOX_FD, memfd::SIZE_SEALS) {
        return Err("descriptor 3 is no black box");
    }
    if memfd::size(BLACK_BOX_FD) != Some(BLACK_BOX_BYTES) {
        return Err("the black box has another size");
    }
    if !memfd::has_seals(RECORD_FD, memfd::ALL_SEALS) {
        return Err("descriptor 4 is no launch record");
    }
    let bytes = memfd::read(RECORD_FD, limits::RECORD_BYTES_MAX)
        .ok_or("the launch record can't be read")?;
    let record = LaunchRecord::decode(&bytes).ok_or("the launch record is of another version")?;
    if record.nonce != nonce {
        return Err("the launch record belongs to another worker");
    }
    let mapping =
        memfd::map(BLACK_BOX_FD, BLACK_BOX_BYTES).map_err(|_| "the black box can't be mapped")?;
    // SAFETY: the mapping has the box's size, which is sealed, is aligned to a page and never given back; every content is valid.
    let black_box = unsafe { &*mapping.cast::<BlackBox>() };
    if !black_box.is_ours(nonce) {
        return Err("the black box is of another version or another worker");
    }
    // Signal 0 asks only whether this is a pidfd and we may signal; ESRCH is a worker that has gone already.
    // SAFETY: no memory is involved.
    let asked = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, PIDFD, 0, 0, 0) };
    if asked != 0 && last_errno() != libc::ESRCH && last_errno() != libc::EPERM {
        return Err("descriptor 6 is no pidfd");
    }
    for fd in FIRST_FD..=READY_FD {
        // SAFETY: no memory is involved; a descriptor that isn't there stays so.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(Attached { black_box, record })
}

/// Set by SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);
/// The word that this guard sleeps on, for the handler of SIGTERM.
static BELL: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());

/// Notes the request, and changes the word that the guard is about to sleep on, so that a request between look and sleep isn't slept over.
/// Without the waiters' bit the kernel would not wake us at the worker's end, but a guard that stops waits for that no more.
extern "C" fn on_stop(_signal: i32) {
    STOP.store(true, Ordering::Release);
    ring_for_us();
}

/// Notes a request to stop as its signal does.
#[cfg(feature = "roles")]
pub(super) fn ask_to_stop() {
    on_stop(0);
}

/// Forgets, in a forked guard, what the other was asked, and where it slept.
#[cfg(feature = "roles")]
pub(super) fn forget_requests() {
    BELL.store(core::ptr::null_mut(), Ordering::Release);
    STOP.store(false, Ordering::Release);
}

/// Sleeps on another word from here on.
#[cfg(feature = "roles")]
pub(super) fn listen_at(word: &'static AtomicU32) {
    BELL.store(core::ptr::from_ref(word).cast_mut(), Ordering::Release);
}

/// Changes the word that this guard sleeps on, so that it looks around. Signal-safe.
pub(super) fn ring_for_us() {
    // SAFETY: the pointer is null, or refers to the black box, which is never unmapped.
    if let Some(bell) = unsafe { BELL.load(Ordering::Acquire).as_ref() } {
        bell.fetch_and(!FUTEX_WAITERS, Ordering::AcqRel);
    }
}

/// In a process that a guard has made beside itself: what was the guard's is not its own.
pub(super) fn leave_alone() {
    BELL.store(core::ptr::null_mut(), Ordering::Release);
    robust::forget();
}

/// Whether this guard was asked to stop; each request is told once.
pub(crate) fn stop_requested() -> bool {
    STOP.swap(false, Ordering::AcqRel)
}

/// Makes a process that looks and behaves like a guard: named, nowhere in the way, deaf to the terminal.
pub(crate) fn become_guard(application: &str, black_box: &'static BlackBox) {
    let bell = core::ptr::from_ref(&black_box.control.bell).cast_mut();
    BELL.store(bell, Ordering::Release);
    let mut name = [0u8; 16];
    let suffix = b"-guard";
    let length = application.len().min(15 - suffix.len());
    for (place, byte) in name.iter_mut().zip(application.bytes().take(length).chain(*suffix)) {
        *place = byte;
    }
    // SAFETY: sixteen bytes with a NUL at the end.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // Who stands in front of its worker passes signals on.
    if !front::is_front() {
        hear_signals();
    }
}

/// Deaf to the terminal; SIGTERM is a request to stop.
pub(super) fn hear_signals() {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGPIPE,
        // A limit on file sizes is an error of the write, not the end of the guard.
        libc::SIGXFSZ,
    ] {
        // SAFETY: ignoring a signal has no conditions.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: every bit pattern is valid for the structure, and it was zeroed.
    let action = unsafe { action.assume_init_mut() };
    // Without SA_RESTART: a sleep must end so that the request is seen.
    action.sa_sigaction = on_stop as *const () as usize;
    // The alarm was for a process that doesn't come this far.
    spawn::set_alarm(0);
    // SAFETY: the handler only sets a flag.
    unsafe { libc::sigaction(libc::SIGTERM, action, core::ptr::null_mut()) };
}

/// Takes the guard's place, so that the kernel tells our end to the worker; false when it is taken.
pub(crate) fn take_place(black_box: &'static BlackBox) -> bool {
    let taken = own_place(black_box);
    // The end of the pipe tells the keeper to look.
    syscall::close(READY_FD);
    taken
}

/// The same, where no keeper waits for it.
pub(super) fn own_place(black_box: &'static BlackBox) -> bool {
    let control = &black_box.control;
    if robust::tell_my_end(&control.guard).is_err() {
        return false;
    }
    // The place is free when nobody was there, when the last one died, or when a crash calls.
    let taken = control
        .guard
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            // Whoever has divided itself leaves its place to who came of it.
            let is_left_to_us = owner(word).is_some() && owner(word) == family::predecessor();
            (guard::is_free(word) || is_left_to_us).then_some(own_word())
        })
        .is_ok();
    if taken {
        futex::wake_all(&control.guard);
    }
    taken
}

#[inline(always)]
fn own_word() -> u32 {
    syscall::gettid() as u32 | FUTEX_WAITERS
}

/// Tries whether this guard may read the worker's memory, and tells the worker if so.
pub(crate) fn try_reading(black_box: &BlackBox, pid: u32) {
    let mut word = 0u64;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<u64>() };
    let remote = libc::iovec {
        iov_base: black_box.header.address.load(Ordering::Relaxed) as *mut libc::c_void,
        iov_len: size_of::<u64>(),
    };
    // SAFETY: the local piece is a living number; the remote one is the kernel's to check.
    let read =
        unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    if read == 8 {
        black_box.control.reader.store(syscall::gettid() as u32, Ordering::Release);
    }
}

/// Tells the worker what became of the store.
pub(crate) fn tell_store(black_box: &BlackBox, state: u32) {
    black_box.control.store.store(state, Ordering::Release);
    futex::wake_all(&black_box.control.store);
}

/// Takes the place again after the worker survived the crash that was answered.
pub(crate) fn take_place_again(black_box: &BlackBox) -> bool {
    let word = &black_box.control.guard;
    let taken = word
        .compare_exchange(guard::ANSWERED, own_word(), Ordering::AcqRel, Ordering::Relaxed)
        .is_ok();
    futex::wake_all(word);
    taken
}

/// Answers the waiting crash.
pub(crate) fn answer_crash(black_box: &BlackBox, dumped: bool) {
    let control = &black_box.control;
    let value = if dumped { answer::DUMPED } else { answer::FAILED };
    control.answer.store(value, Ordering::Release);
    control.guard.store(guard::ANSWERED, Ordering::Release);
    futex::wake_all(&control.guard);
}

/// Sleeps until a crash waits, the worker ends, or this guard is to stop. While all is well nothing wakes it.
pub(crate) fn watch(attached: &Attached) -> Heard {
    let control = &attached.black_box.control;
    loop {
        // Read before everything that is asked below: what changes afterwards changes the word, and the sleep is refused.
        let word = control.bell.load(Ordering::Acquire);
        if owner(word).is_some() && word & FUTEX_WAITERS == 0 {
            // A request to stop took the bit, ours or that of a guard before us; without it the kernel doesn't wake at the worker's end.
            let again = word | FUTEX_WAITERS;
            let _ = control.bell.compare_exchange(word, again, Ordering::AcqRel, Ordering::Relaxed);
            continue;
        }
        if stop_requested() {
            return Heard::Stop;
        }
        front::look_after_children();
        if control.deliver.swap(0, Ordering::AcqRel) != 0 {
            return Heard::Deliver;
        }
        if control.crash.load(Ordering::Acquire) == crash::WAITING
            && control.answer.load(Ordering::Acquire) == answer::NONE
        {
            return Heard::Crash;
        }
        if control.crash.load(Ordering::Acquire) == crash::CLAIMED {
            if !await_slot(&control.crash) && wait_gone(0) {
                return Heard::Gone;
            }
            continue;
        }
        if control.held.load(Ordering::Acquire) != 0 && !front::is_front() {
            return Heard::Stop;
        }
        if owner(word).is_some() {
            futex::wait(&control.bell, word, None);
            continue;
        }
        // The keeper's thread has ended, isn't there yet, or a crash has moved on without us: the pidfd knows.
        if wait_gone(limits::EXEC_CHECK_MS) {
            return Heard::Gone;
        }
        if word != bell::RUNG && word != 0 && is_replaced(attached.record.worker_pid) {
            return Heard::Replaced;
        }
    }
}

/// Waits while a crashed thread fills its slot, for a moment at most; false when it still does.
/// It takes microseconds, so a short look comes before the sleep; the application's callback may take longer.
fn await_slot(word: &AtomicU32) -> bool {
    let start_ns = time::monotonic_ns();
    while time::monotonic_ns().saturating_sub(start_ns) < limits::SLOT_LOOK_NS_MAX {
        if word.load(Ordering::Acquire) != crash::CLAIMED {
            return true;
        }
        super::process::let_others_run();
    }
    let deadline_ns = start_ns.saturating_add(u64::from(limits::EXEC_CHECK_MS) * 1_000_000);
    futex::wait(word, crash::CLAIMED, Some(deadline_ns));
    word.load(Ordering::Acquire) != crash::CLAIMED
}

/// Waits for the full exit after the answer, or for the news that the worker survived.
pub(crate) fn await_end(attached: &Attached, survived_before: u32, deadline_ns: u64) -> Heard {
    const SLICE_MS: u32 = 250;
    let control = &attached.black_box.control;
    while time::monotonic_ns() < deadline_ns {
        if stop_requested() || front::take_stop().is_some() {
            return Heard::Stop;
        }
        if wait_gone(SLICE_MS) {
            return Heard::Gone;
        }
        if control.survived.load(Ordering::Acquire) != survived_before {
            return Heard::Survived;
        }
    }
    Heard::Nothing
}

/// Waits until the worker's process is gone; false when it isn't after `wait_ms`.
pub(super) fn wait_gone(wait_ms: u32) -> bool {
    let mut entry = [libc::pollfd { fd: PIDFD, events: libc::POLLIN, revents: 0 }];
    matches!(syscall::poll(&mut entry, wait_ms), Ok(count) if count > 0)
}

/// Whether a living process has maps, and the black box isn't among them: it exec'd.
fn is_replaced(pid: u32) -> bool {
    maps_black_box(pid, BLACK_BOX_FD) == Some(false)
}

/// Whether a black box is among the maps of a living process; `None` where these can't be seen.
pub(super) fn maps_black_box(pid: u32, black_box: RawFd) -> Option<bool> {
    let path = proc_text::of_process(pid, "maps").into_string();
    let maps = file::read(Path::new(&path), limits::MAPS_BYTES_MAX).unwrap_or_default();
    if maps.is_empty() {
        return None;
    }
    let is_there = has_black_box(&maps, black_box);
    // It is asked again and again while a process is slow to end.
    maps.give_back();
    is_there
}

/// The same for a text of maps.
fn has_black_box(maps: &[u8], black_box: RawFd) -> Option<bool> {
    // By its inode: a program that executes itself has a black box too, and another guard.
    let inode = memfd::inode(black_box)?;
    let mut number = Text::new();
    push_number(&mut number, inode);
    let number = number.into_string();
    let is_there = maps.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
        fields.nth(4) == Some(number.as_bytes())
            && fields.next().is_some_and(|name| name.starts_with(b"/memfd:rearguard-black-box"))
    });
    Some(is_there)
}

/// Whether the worker, which waits at its crash, is the foreground job of a terminal: the shell takes the terminal back when it ends, and nothing can be started in its place.
pub(crate) fn is_foreground_job(attached: &Attached) -> bool {
    proc_text::stat(attached.record.worker_pid)
        .is_some_and(|stat| stat.terminal != 0 && stat.foreground_group == stat.process_group)
}

/// Takes the worker's standard streams while it waits at its crash; a place is empty where that isn't allowed.
/// `tid` is the crashed thread, by which the table is found when the main thread is gone.
pub(crate) fn take_streams(attached: &Attached, tid: i32) -> [Option<Stream>; 3] {
    let pid = attached.record.worker_pid;
    let thread = if main_thread_is_gone(pid) { thread_pidfd(pid, tid) } else { None };
    let from = thread.as_ref().map_or(PIDFD, AsRawFd::as_raw_fd);
    [0, 1, 2].map(|number| {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, from, number, 0) };
        // SAFETY: the descriptor was just made and is nobody else's.
        (fd >= 0).then(|| unsafe { memfd::take(fd as RawFd) })
    })
}

fn main_thread_is_gone(pid: u32) -> bool {
    proc_text::stat(pid).is_some_and(|stat| stat.state == b'Z')
}

/// A pidfd on a thread (Linux 6.9 and later), if it is one of that process: the number comes from the black box.
fn thread_pidfd(pid: u32, tid: i32) -> Option<OwnedFd> {
    /// `PIDFD_THREAD`.
    const OF_A_THREAD: i32 = libc::O_EXCL;
    let mut name = owned("task/");
    push_signed(&mut name, i64::from(tid));
    if !file::exists(Path::new(&proc_text::of_process(pid, &name))) {
        return None;
    }
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, OF_A_THREAD) };
    // SAFETY: the descriptor was just made and is nobody else's.
    (fd >= 0).then(|| unsafe { memfd::take(fd as RawFd) })
}

/// Whether the worker gave up rights since its launch, so that a late guard, which inherited that, must not start the next one.
pub(crate) fn restart_block(record: &LaunchRecord) -> Option<crate::config::StartBlock> {
    if family::is_orphaned() {
        return Some(crate::config::StartBlock::FamilyEnded);
    }
    // Our own tracing is over by now.
    if super::process::is_traced(&proc_text::of_process(record.worker_pid, "status")) {
        return Some(crate::config::StartBlock::Debugger);
    }
    if super::process::effective_user() != record.surroundings.user {
        return Some(crate::config::StartBlock::PrivilegeDrop);
    }
    if super::process::seccomp() != record.surroundings.seccomp {
        return Some(crate::config::StartBlock::Seccomp);
    }
    None
}
