//! Starting a process without the C library, from any state of the caller.
//!
//! A plain fork costs 18 ms a GiB, runs the application's fork handlers, and is seen by its waits.
//! Here a short-lived *middle* is cloned that shares the caller's memory, it clones the process that is wanted and ends; the caller reaps the middle with `__WCLONE`, so the application's own waits see neither (as a subreaper or PID 1 it does see the orphan).
//! Between clone and exec the child runs on stacks of its own, with all signals blocked, and touches nothing but its [`Plan`].

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

pub use super::descriptors::{FIRST_FD, HANDOVER_MAX, Handed};
use super::stack::Stack;
use super::syscall::{self, Errno, Result, call, plain, signal_bit};
use super::{descriptors, futex, time};
use crate::black_box::{crash, start};
use crate::limits;

/// How many environment strings can have the child's process id.
pub const PID_PLACES: usize = 4;

/// The digits of the largest process id.
pub const PID_DIGITS: usize = 10;

/// How many resource limits can be set.
pub const RLIMITS_MAX: usize = 16;

/// What a starter waits for before it execs.
#[derive(Clone, Copy)]
pub struct Gate {
    /// The place in `handed` of the pidfd whose process must be gone.
    pub pidfd_place: usize,
    /// How long to wait after that, in nanoseconds.
    pub delay_ns: u64,
    /// The word in the black box by which one starter of many is chosen.
    pub start: *const AtomicU32,
    /// For a starter that is made while a crash waits: the word that says whether it still counts.
    /// A worker that survived its crash and ends later has an end of its own, which is another guard's to judge.
    pub crash: *const AtomicU32,
}

/// What the new process is to its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// Nobody's child whose waits would tell, in a process group of its own.
    Orphan,
    /// The caller's child, in its process group; the kernel ends it with the calling thread (`prctl(2)`, PR_SET_PDEATHSIG).
    Child {
        /// The caller's process id.
        parent: i32,
    },
}

/// What became of a child.
#[repr(C)]
pub struct Outcome {
    /// The process id; zero before it exists.
    pub pid: AtomicI32,
    /// Not zero until the child has exec'd or ended; the kernel clears it and wakes.
    pub running: AtomicU32,
    /// The error that ended it before exec; zero for none.
    pub errno: AtomicI32,
    /// Not zero once nothing but the exec was left to do; without it, a child that no longer runs was ended from outside.
    pub execing: AtomicU32,
    /// Not zero when another starter was chosen.
    pub lost: AtomicU32,
    /// Not zero when the process before it was not gone in time.
    pub late: AtomicU32,
    /// Not zero when the recorded directory could not be entered, and `/` was.
    pub directory_gone: AtomicU32,
}

impl Outcome {
    /// Nothing happened yet.
    #[must_use]
    pub const fn new() -> Outcome {
        Outcome {
            pid: AtomicI32::new(0),
            running: AtomicU32::new(0),
            errno: AtomicI32::new(0),
            execing: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            late: AtomicU32::new(0),
            directory_gone: AtomicU32::new(0),
        }
    }

    /// Waits until the child has exec'd or ended; false when it hasn't at `deadline_ns` of CLOCK_MONOTONIC.
    pub fn wait(&self, deadline_ns: u64) -> bool {
        loop {
            let running = self.running.load(Ordering::Acquire);
            if running == 0 {
                return true;
            }
            if futex::wait(&self.running, running, Some(deadline_ns)) == futex::Woken::TimedOut {
                return !self.is_running();
            }
        }
    }

    /// Whether the child has neither exec'd nor ended.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) != 0
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything that the child does. All pointers must stay valid until [`Outcome::running`] is zero.
pub struct Plan {
    /// The program's path, NUL-terminated; null to exec `executable` at once.
    pub path: *const u8,
    /// The place in `handed` of the executable's inode, for when the path leads nowhere; `HANDOVER_MAX` for none.
    pub executable_place: usize,
    /// Null-terminated array of NUL-terminated arguments.
    pub arguments: *const *const u8,
    /// Null-terminated array of NUL-terminated environment strings.
    pub environment: *const *const u8,
    /// Where the child writes its own process id in decimal before it execs: room for eleven bytes at the end of an environment string. Null for nowhere.
    pub pid_digits: [*mut u8; PID_PLACES],
    /// Its relation to the caller.
    pub kinship: Kinship,
    /// Whether it has the caller's descriptors as they are, those that exec closes excepted; streams and `handed` then mean nothing.
    pub keeps_descriptors: bool,
    /// The descriptors for 0 to 2; -1 for `/dev/null`.
    pub streams: [i32; 3],
    /// The descriptors from [`FIRST_FD`] on.
    pub handed: [Handed; HANDOVER_MAX],
    /// The signal mask to begin with.
    pub signal_mask: u64,
    /// The signals to ignore, one bit each; all others get their default.
    pub ignored_signals: u64,
    /// The directory to begin in, NUL-terminated; null to stay.
    pub directory: *const u8,
    /// The umask to begin with; `u32::MAX` to keep the caller's.
    pub umask: u32,
    /// Resource limits: resource, soft, hard. Unused places have a negative resource.
    pub rlimits: [(i32, u64, u64); RLIMITS_MAX],
    /// When the kernel ends the new program, in milliseconds, unless it says otherwise (`setitimer(2)`, kept over exec); 0 for never.
    /// So a guard that hangs before it becomes one doesn't outlive a worker that is no longer there to end it.
    pub alarm_ms: u32,
    /// For a starter.
    pub gate: Option<Gate>,
    /// What became of it.
    pub outcome: Outcome,
    /// The middle's stack and the child's.
    pub stacks: [Stack; 2],
}

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl rearguard_crashpath_clone",
    ".hidden rearguard_crashpath_clone",
    ".type rearguard_crashpath_clone,@function",
    "rearguard_crashpath_clone:",
    // rdi flags, rsi top of the stack, rdx function, rcx argument, r8 word to clear
    "sub rsi, 16",
    "mov [rsi], rdx",
    "mov [rsi + 8], rcx",
    "xor edx, edx",
    "mov r10, r8",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    "xor ebp, ebp",
    "pop rax",
    "pop rdi",
    "call rax",
    "ud2",
    ".size rearguard_crashpath_clone, . - rearguard_crashpath_clone",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl rearguard_crashpath_clone",
    ".hidden rearguard_crashpath_clone",
    ".type rearguard_crashpath_clone,@function",
    "rearguard_crashpath_clone:",
    // x0 flags, x1 top of the stack, x2 function, x3 argument, x4 word to clear
    "stp x2, x3, [x1, #-16]!",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x8, #220",
    "svc #0",
    "cbz x0, 2f",
    "ret",
    "2:",
    "mov x29, xzr",
    "ldp x1, x0, [sp], #16",
    "blr x1",
    "brk #0",
    ".size rearguard_crashpath_clone, . - rearguard_crashpath_clone",
);

unsafe extern "C" {
    fn rearguard_crashpath_clone(
        flags: usize,
        stack_top: usize,
        function: extern "C" fn(*mut u8) -> !,
        argument: *mut u8,
        clear: *const AtomicU32,
    ) -> isize;
}

/// Starts what `plan` says and returns its process id as soon as it exists; [`Outcome::wait`] tells when it has exec'd.
///
/// # Errors
///
/// EAGAIN or ENOMEM when the kernel makes no process.
///
/// # Safety
///
/// Every pointer of the plan must be valid until its outcome says that the child no longer runs, and the plan must not be used for another start until then.
pub unsafe fn spawn(plan: *mut Plan) -> Result<i32> {
    // A handler of the application must not run in a process that only borrows its memory.
    let mask = syscall::block_all_signals();
    // SAFETY: the caller answers for the plan.
    let result = unsafe { spawn_blocked(plan) };
    syscall::set_signal_mask(mask);
    result
}

/// The part of [`spawn`] during which all signals are blocked.
///
/// # Safety
///
/// As there.
unsafe fn spawn_blocked(plan: *mut Plan) -> Result<i32> {
    // SAFETY: the caller answers for the plan; nobody else uses it yet.
    let given = unsafe { &*plan };
    let outcome = &given.outcome;
    outcome.pid.store(0, Ordering::Relaxed);
    outcome.errno.store(0, Ordering::Relaxed);
    outcome.execing.store(0, Ordering::Relaxed);
    outcome.lost.store(0, Ordering::Relaxed);
    outcome.late.store(0, Ordering::Relaxed);
    outcome.directory_gone.store(0, Ordering::Relaxed);
    outcome.running.store(1, Ordering::Release);
    if given.kinship != Kinship::Orphan {
        // SAFETY: the caller answers for the plan.
        let child = unsafe { clone_child(plan, libc::SIGCHLD) };
        if child < 0 {
            outcome.running.store(0, Ordering::Release);
            return Err(Errno(-(child as i32)));
        }
        outcome.pid.store(child as i32, Ordering::Release);
        return Ok(child as i32);
    }
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as usize;
    let [middle_stack, _] = given.stacks;
    // SAFETY: the stack is the plan's own, and CLONE_VFORK keeps us here until the middle has left it.
    let middle = unsafe {
        rearguard_crashpath_clone(
            flags,
            middle_stack.top(),
            run_middle,
            plan.cast(),
            core::ptr::null(),
        )
    };
    if middle < 0 {
        outcome.running.store(0, Ordering::Release);
        return Err(Errno(-(middle as i32)));
    }
    reap(middle as i32);
    match outcome.pid.load(Ordering::Acquire) {
        pid if pid > 0 => Ok(pid),
        error => {
            outcome.running.store(0, Ordering::Release);
            Err(Errno(-error))
        }
    }
}

/// Reaps the middle, which has ended already; `__WCLONE` alone sees a child with exit signal 0.
fn reap(middle: i32) {
    while let Err(Errno(libc::EINTR)) = plain!(libc::SYS_wait4, middle, 0, libc::__WCLONE, 0) {}
}

/// The middle: makes the child and ends, so that the child is nobody's whose waits would tell.
extern "C" fn run_middle(plan: *mut u8) -> ! {
    let plan = plan.cast::<Plan>();
    // SAFETY: `spawn` passes its plan, keeps it alive, and sleeps until this process has ended.
    let child = unsafe { clone_child(plan, 0) };
    // SAFETY: as above.
    let given = unsafe { &*plan };
    // The child may have stored its own pid already; it is the same number.
    given.outcome.pid.store(child as i32, Ordering::Release);
    syscall::exit(0);
}

/// Clones the child; the result is the kernel's.
///
/// # Safety
///
/// As [`spawn`].
unsafe fn clone_child(plan: *mut Plan, end_signal: i32) -> isize {
    // SAFETY: the caller answers for the plan.
    let given = unsafe { &*plan };
    let flags = (libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | end_signal) as usize;
    let [_, child_stack] = given.stacks;
    // SAFETY: the stack is the plan's own, and the plan lives until `running` is cleared.
    unsafe {
        rearguard_crashpath_clone(
            flags,
            child_stack.top(),
            run_child,
            plan.cast(),
            &raw const given.outcome.running,
        )
    }
}

/// The child: puts everything in place, waits at the gate, execs.
extern "C" fn run_child(plan: *mut u8) -> ! {
    // SAFETY: it is `spawn`'s plan, and lives until the kernel clears `running`, which it does when this process execs or ends.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let error = match prepare(plan) {
        Ok(()) => match pass_gate(plan) {
            Passage::Chosen => exec(plan),
            Passage::Lost => {
                plan.outcome.lost.store(1, Ordering::Release);
                syscall::exit(0);
            }
            Passage::Late => {
                plan.outcome.late.store(1, Ordering::Release);
                syscall::exit(0);
            }
        },
        Err(error) => error,
    };
    plan.outcome.errno.store(error.0, Ordering::Release);
    syscall::exit(127);
}

/// Everything between clone and gate.
fn prepare(plan: &Plan) -> Result<()> {
    reset_dispositions(plan.ignored_signals);
    match plan.kinship {
        // Its own process group in the same session: Ctrl-C at the terminal isn't meant for it, and nothing typed there is read by it.
        Kinship::Orphan => {
            let _ = plain!(libc::SYS_setpgid, 0, 0);
        }
        Kinship::Child { parent } => {
            let _ = plain!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0);
            // A parent that ended before that was asked for ends nobody.
            if syscall::getppid() != parent {
                return Err(Errno(libc::ESRCH));
            }
        }
    }
    if !plan.keeps_descriptors {
        // A lowered descriptor limit of the application must not stand in the way of the numbers used here.
        raise_descriptor_limit();
        descriptors::place(&plan.streams, &plan.handed)?;
    }
    if plan.umask != u32::MAX {
        let _ = plain!(libc::SYS_umask, plan.umask);
    }
    enter_directory(plan);
    for (resource, soft, hard) in plan.rlimits {
        if resource >= 0 {
            set_rlimit(resource, soft, hard);
        }
    }
    if plan.alarm_ms > 0 {
        set_alarm(plan.alarm_ms);
    }
    Ok(())
}

/// Enters the directory, or `/` where it is gone: a relative path then fails in the open, and nothing is held.
fn enter_directory(plan: &Plan) {
    if plan.directory.is_null() {
        return;
    }
    // SAFETY: the plan's directory is NUL-terminated.
    let entered = unsafe { call(libc::SYS_chdir, [plan.directory as usize, 0, 0, 0, 0, 0]) };
    if entered.is_err() {
        plan.outcome.directory_gone.store(1, Ordering::Relaxed);
        let root = c"/";
        // SAFETY: the string is static and NUL-terminated.
        let _ = unsafe { call(libc::SYS_chdir, [root.as_ptr() as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Sets every signal to its default, or to ignored where the plan says so; exec would keep what the application ignores now.
fn reset_dispositions(ignored: u64) {
    for signal in 1..=64 {
        let handler = if ignored & signal_bit(signal) == 0 { libc::SIG_DFL } else { libc::SIG_IGN };
        // The kernel's structure: handler, flags, restorer, mask.
        let action = [handler, 0, 0, 0];
        // SAFETY: the pointer refers to a living value of the kernel's size; no handler of ours is installed.
        let _ = unsafe {
            call(libc::SYS_rt_sigaction, [signal as usize, action.as_ptr() as usize, 0, 8, 0, 0])
        };
    }
}

fn set_rlimit(resource: i32, soft: u64, hard: u64) {
    let limit = [soft, hard];
    // SAFETY: the pointer refers to two living words, the kernel's rlimit64.
    let done = unsafe {
        call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0])
    };
    if done.is_err() {
        // The hard limit was lowered since; the soft one is still worth having.
        let mut current = [0u64; 2];
        // SAFETY: as above, for the kernel to write.
        let _ = unsafe {
            call(
                libc::SYS_prlimit64,
                [0, resource as usize, 0, current.as_mut_ptr() as usize, 0, 0],
            )
        };
        let [_, hard_now] = current;
        let limit = [soft.min(hard_now), hard_now];
        // SAFETY: as above.
        let _ = unsafe {
            call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0])
        };
    }
}

/// Lets the kernel send SIGALRM after this time; 0 takes it back.
pub fn set_alarm(after_ms: u32) {
    // The kernel's itimerval: interval and value, seconds and microseconds each.
    let timer = [0u64, 0, u64::from(after_ms / 1_000), u64::from(after_ms % 1_000) * 1_000];
    // SAFETY: the pointer refers to a living value of the kernel's layout; ITIMER_REAL is 0.
    let _ = unsafe { call(libc::SYS_setitimer, [0, timer.as_ptr() as usize, 0, 0, 0, 0]) };
}

fn raise_descriptor_limit() {
    // Asking for the impossible falls back to the hard limit inside `set_rlimit`.
    set_rlimit(libc::RLIMIT_NOFILE as i32, u64::MAX, u64::MAX);
}

enum Passage {
    Chosen,
    Lost,
    Late,
}

/// Waits for the full exit and the delay, and claims the one start.
fn pass_gate(plan: &Plan) -> Passage {
    let Some(gate) = plan.gate else { return Passage::Chosen };
    let pid = syscall::getpid();
    plan.outcome.pid.store(pid, Ordering::Release);
    let deadline_ns =
        time::monotonic_ns().saturating_add(u64::from(limits::FULL_EXIT_MS_MAX) * 1_000_000);
    loop {
        let left_ns = deadline_ns.saturating_sub(time::monotonic_ns());
        if left_ns == 0 {
            return Passage::Late;
        }
        let mut entry = [libc::pollfd {
            fd: FIRST_FD + gate.pidfd_place as i32,
            events: libc::POLLIN,
            revents: 0,
        }];
        match syscall::poll(&mut entry, (left_ns / 1_000_000) as u32 + 1) {
            Ok(count) if count > 0 => break,
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(_) => return Passage::Late,
        }
    }
    if gate.delay_ns > 0 {
        time::sleep_ns(gate.delay_ns);
    }
    // SAFETY: null, or a word in the mapped black box, which the plan keeps alive.
    if unsafe { gate.crash.as_ref() }
        .is_some_and(|word| word.load(Ordering::Acquire) == crash::IDLE)
    {
        return Passage::Lost;
    }
    // SAFETY: the word lies in the mapped black box, which the plan keeps alive.
    let word = unsafe { &*gate.start };
    if word.compare_exchange(start::OPEN, pid as u32, Ordering::AcqRel, Ordering::Acquire).is_err()
    {
        return Passage::Lost;
    }
    Passage::Chosen
}

/// Writes `pid` in decimal, with a NUL behind it.
fn write_digits(place: *mut u8, pid: i32) {
    let mut digits = [0u8; PID_DIGITS + 1];
    let mut length = 0;
    let mut rest = pid as u32;
    let mut scale = 1_000_000_000;
    while scale > 0 {
        let digit = (rest / scale) as u8;
        rest %= scale;
        scale /= 10;
        if (digit > 0 || length > 0 || scale == 0)
            && let Some(byte) = digits.get_mut(length)
        {
            *byte = b'0' + digit;
            length += 1;
        }
    }
    // SAFETY: the plan's promise is room for eleven bytes, to which nobody else refers between clone and exec.
    unsafe { place.copy_from_nonoverlapping(digits.as_ptr(), digits.len()) };
}

/// Execs by path, or by inode where there is no path or it leads nowhere.
fn exec(plan: &Plan) -> Errno {
    for place in plan.pid_digits {
        if !place.is_null() {
            write_digits(place, syscall::getpid());
        }
    }
    plan.outcome.execing.store(1, Ordering::Release);
    syscall::set_signal_mask(plan.signal_mask);
    let (arguments, environment) = (plan.arguments as usize, plan.environment as usize);
    let mut error = Errno(libc::ENOENT);
    if !plan.path.is_null() {
        // SAFETY: path, arguments and environment are NUL- and null-terminated, says the plan's promise.
        let done = unsafe {
            call(libc::SYS_execve, [plan.path as usize, arguments, environment, 0, 0, 0])
        };
        if let Err(by_path) = done {
            error = by_path;
        }
    }
    if plan.executable_place < HANDOVER_MAX {
        let fd = FIRST_FD as usize + plan.executable_place;
        let empty = c"";
        // SAFETY: as above; the empty path with AT_EMPTY_PATH names the descriptor itself (execveat(2)).
        let done = unsafe {
            call(
                libc::SYS_execveat,
                [
                    fd,
                    empty.as_ptr() as usize,
                    arguments,
                    environment,
                    libc::AT_EMPTY_PATH as usize,
                    0,
                ],
            )
        };
        if let Err(by_inode) = done {
            error = by_inode;
        }
    }
    // Nothing of the application may run here, so the mask is closed again before the caller notes the error.
    let _ = syscall::block_all_signals();
    error
}
