//! What this process is, and where it began.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use rearguard_crashpath::black_box::foreground;
use rearguard_crashpath::spawn::RLIMITS_MAX;
pub(crate) use rearguard_crashpath::time::{boot_ns, monotonic_ns, real_ns};
use rearguard_crashpath::{syscall, time};

use super::{file, proc_text};
use crate::config::StartBlock;
use crate::heap::{List, PutBytes, Text, add, below, copied, lossy, owned, zeros};
use crate::sys::words::Surroundings;
use crate::text::{after, contains, joined, number};

/// The last error of the C library.
pub(crate) fn last_errno() -> i32 {
    // SAFETY: asking has no conditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library keeps the number for as long as this thread lives, and nobody else changes it.
    unsafe { place.read() }
}

/// The program's arguments, its own name first.
pub(crate) fn arguments() -> List<List<u8>> {
    crate::heap::with_frame_pointer();
    let mut arguments = List::new();
    for argument in std::env::args_os() {
        add(&mut arguments, argument.into_vec().into());
    }
    arguments
}

/// The environment as it is, malformed entries included.
pub(super) fn environment() -> List<List<u8>> {
    let mut entries = List::new();
    for entry in Variables::all() {
        add(&mut entries, copied(entry));
    }
    entries
}

/// The value of an environment variable.
pub(crate) fn variable(name: &[u8]) -> Option<List<u8>> {
    let value = Variables::all().find_map(|entry| after(after(entry, name)?, b"="));
    value.map(|value| copied(value))
}

/// The entries of the environment; `start()` is called before other threads could change it.
struct Variables(*const *const libc::c_char);

impl Variables {
    fn all() -> Variables {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        // SAFETY: the C library keeps this array.
        Variables(unsafe { environ })
    }
}

impl Iterator for Variables {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the array is null-terminated, and we have not passed its end.
        let entry = unsafe { self.0.read() };
        if entry.is_null() {
            return None;
        }
        // SAFETY: the entry wasn't the last, so there is one more.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: every entry is NUL-terminated.
        Some(unsafe { CStr::from_ptr(entry) }.to_bytes())
    }
}

/// What `/proc/self/status` says, read once at the start.
#[derive(Default)]
pub(crate) struct Status {
    /// Whether a debugger is on this process.
    pub(crate) is_traced: bool,
    umask: Option<u32>,
}

impl Status {
    /// Reads it; without `/proc` there is no debugger that we could know of.
    pub(crate) fn read() -> Status {
        let Some(text) = proc_text::read(OWN_STATUS) else { return Status::default() };
        Status {
            is_traced: has_tracer(&text),
            umask: proc_text::field(&text, "Umask:")
                .and_then(|mask| u32::try_from(number(mask, 8)?).ok()),
        }
    }
}

const OWN_STATUS: &str = "/proc/self/status";

/// Whether somebody traces the process that has this status file.
pub(super) fn is_traced(path: &str) -> bool {
    proc_text::read(path).is_some_and(|text| has_tracer(&text))
}

fn has_tracer(status: &[u8]) -> bool {
    proc_text::field(status, "TracerPid:").is_some_and(|tracer| tracer != b"0")
}

/// Gathers what the next worker is to be started with.
pub(crate) fn surroundings(status: &Status) -> Surroundings {
    Surroundings {
        program: program(),
        arguments: arguments(),
        environment: environment(),
        directory: directory(),
        umask: status.umask.unwrap_or_else(umask),
        signal_mask: signal_mask(),
        ignored_signals: ignored_signals(),
        user: effective_user(),
        seccomp: seccomp(),
        rlimits: rlimits(),
        streams: List::new(),
        #[cfg(feature = "guard-first")]
        front: 0,
    }
}

/// The working directory; empty when it was removed.
fn directory() -> List<u8> {
    let mut path = zeros(libc::PATH_MAX as usize);
    // SAFETY: pointer and length are those of living memory.
    let got = unsafe { libc::getcwd(path.as_mut_ptr().cast(), path.len()) };
    let path = CStr::from_bytes_until_nul(&path).unwrap_or_default().to_bytes();
    // A directory that this process can't reach by a path is told in parentheses.
    if got.is_null() || !path.starts_with(b"/") { List::new() } else { copied(path) }
}

/// A path from the root on, without asking whether it is there.
pub(crate) fn absolute(path: &Path) -> Option<&'static Path> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let bytes = path.as_os_str().as_bytes();
    let from = if bytes.starts_with(b"/") { List::new() } else { directory() };
    if from.is_empty() && !bytes.starts_with(b"/") {
        return None;
    }
    let mut whole = List::new();
    for name in from.split(|byte| *byte == b'/').chain(bytes.split(|byte| *byte == b'/')) {
        if !name.is_empty() && name != b"." {
            whole.put(b"/");
            whole.put(name);
        }
    }
    if whole.is_empty() {
        whole.put(b"/");
    }
    Some(self::path(&whole))
}

/// The path by which this very program is executed again. `None` where what runs is a loader, which has the application as an argument.
///
/// Not what a restart would take: a package's image is its own affair once it runs.
#[cfg(any(feature = "guard-first", feature = "roles"))]
pub(crate) fn own_program() -> Option<List<u8>> {
    let running = path(RUNNING);
    let inode = file::inode(running).ok()?;
    let is_running = |name: &[u8]| file::inode(path(name)) == Ok(inode);
    if executed_name()
        .is_some_and(|name| file::inode(path(&name)).is_ok_and(|executed| executed != inode))
    {
        return None;
    }
    // By its name, since the process is named after it; a file that was moved or removed has none.
    match file::read_link(running) {
        Ok(name) if is_running(&name) => Some(name),
        _ => Some(copied(RUNNING)),
    }
}

/// A command that starts this very program again, under the name that it was started by.
#[cfg(feature = "roles")]
pub(crate) fn own_command() -> crate::sys::RoleCommand {
    use std::os::unix::process::CommandExt as _;
    let program = own_program().unwrap_or_else(program);
    let mut command = crate::sys::RoleCommand::new(path(&program));
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
}

/// The executable of this process.
#[cfg(any(feature = "guard-first", feature = "roles"))]
const RUNNING: &[u8] = b"/proc/self/exe";

/// The path to start again: the package's own file where the program runs from a mounted image, else the executable.
fn program() -> List<u8> {
    if !is_privileged()
        && let Some(image) = variable(b"APPIMAGE")
        && image.first() == Some(&b'/')
    {
        return image;
    }
    match file::read_link(Path::new("/proc/self/exe")) {
        Ok(path) => as_it_was_named(path),
        Err(_) => executed_name()
            .and_then(|name| absolute(path(&name)))
            .map_or_else(List::new, path_bytes),
    }
}

/// Takes away the remark that the kernel puts behind the path of a file that is gone: it may come back.
fn as_it_was_named(mut path: List<u8>) -> List<u8> {
    const REMARK: &[u8] = b" (deleted)";
    if path.ends_with(REMARK) && !file::exists(self::path(&path)) {
        path.truncate(path.len() - REMARK.len());
    }
    path
}

/// The path that the kernel executed, for where there is no `/proc`.
pub(crate) fn executed_name() -> Option<List<u8>> {
    // SAFETY: asking for an entry of the auxiliary vector has no conditions.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel put a NUL-terminated string there for the life of the process.
    Some(copied(unsafe { CStr::from_ptr(address) }.to_bytes()))
}

/// Whether the kernel gave this process more rights than its caller has; then no variable of the caller's is believed.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: asking for an entry of the auxiliary vector has no conditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Asks by setting it; for kernels and places without the line in `/proc`.
fn umask() -> u32 {
    // SAFETY: no memory is involved; the two calls leave the mask as it was.
    let mask = unsafe { libc::umask(0o077) };
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    mask
}

fn signal_mask() -> u64 {
    let mask = syscall::block_all_signals();
    syscall::set_signal_mask(mask);
    mask
}

fn ignored_signals() -> u64 {
    let mut ignored = 0;
    for signal in 1..=64 {
        let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the pointer refers to room for the structure; asking changes nothing.
        if unsafe { libc::sigaction(signal, core::ptr::null(), action.as_mut_ptr()) } != 0 {
            continue;
        }
        // SAFETY: sigaction filled it; it was zeroed before.
        if unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN {
            ignored |= syscall::signal_bit(signal);
        }
    }
    // Rust's runtime ignores SIGPIPE before `main`; a new start of the same program does so by itself, and one that doesn't wants the default.
    ignored & !syscall::signal_bit(libc::SIGPIPE)
}

/// The effective user.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// The seccomp mode of this process.
#[inline(always)]
pub(crate) fn seccomp() -> u32 {
    // SAFETY: no memory is involved. In strict mode this call would be the end, but then we would not be here.
    let mode = unsafe { libc::prctl(libc::PR_GET_SECCOMP) };
    u32::try_from(mode).unwrap_or(0)
}

fn rlimits() -> List<(i32, u64, u64)> {
    let mut limits = List::new();
    for resource in 0..16 {
        let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer refers to a living structure.
        if unsafe { libc::prlimit64(0, resource, core::ptr::null(), &raw mut limit) } == 0 {
            add(&mut limits, (resource as i32, limit.rlim_cur, limit.rlim_max));
        }
    }
    limits
}

/// The limits of a program that is to begin with those of the one with these surroundings, whatever has become of them since.
pub(crate) fn planned_rlimits(surroundings: &Surroundings) -> [(i32, u64, u64); RLIMITS_MAX] {
    let mut limits = [(-1, 0, 0); RLIMITS_MAX];
    for (place, limit) in limits.iter_mut().zip(&surroundings.rlimits) {
        *place = *limit;
    }
    limits
}

/// What this process is to its terminal, if it has one: a value of [`foreground`].
pub(crate) fn foreground() -> u32 {
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe {
        libc::open(c"/dev/tty".as_ptr(), libc::O_RDONLY | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    if fd < 0 {
        // No controlling terminal.
        return foreground::NO;
    }
    // SAFETY: no memory is involved.
    let group = unsafe { libc::tcgetpgrp(fd) };
    syscall::close(fd);
    // SAFETY: always succeeds.
    if group == unsafe { libc::getpgrp() } { foreground::JOB } else { foreground::NO }
}

/// Who else restarts this process, if anybody does.
pub(crate) fn outer_supervisor() -> Option<StartBlock> {
    if std::process::id() == 1 {
        return Some(StartBlock::PidOne);
    }
    if variable(b"KUBERNETES_SERVICE_HOST").is_some() {
        return Some(StartBlock::Kubernetes);
    }
    let exec_pid = number(&variable(b"SYSTEMD_EXEC_PID")?, 10)?;
    if exec_pid != u64::from(std::process::id()) {
        return None;
    }
    // Desktop sessions start applications as units of their own named `app-…`; those are no services.
    let group = proc_text::read("/proc/self/cgroup").unwrap_or_default();
    (!contains(&group, b"/app-")).then_some(StartBlock::Service)
}

/// Fills `bytes` with randomness of the kernel's.
#[inline(always)]
pub(crate) fn random(bytes: &mut [u8]) {
    // SAFETY: pointer and length are those of a living slice. Up to 256 bytes come whole (getrandom(2)).
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
}

/// The calling thread, as the kernel numbers it.
pub(crate) fn thread_id() -> u32 {
    syscall::gettid() as u32
}

/// Gives the processor to whoever else wants it.
pub(crate) fn let_others_run() {
    // SAFETY: no memory is involved.
    unsafe { libc::sched_yield() };
}

/// Gives the pages of freed memory back to the system, as far as the C library can.
pub(crate) fn give_back_memory() {
    // musl gives back by itself what is worth it.
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory in use is touched.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Ends the process at once, without exit handlers of the application's.
#[inline(always)]
pub(crate) fn exit(status: i32) -> ! {
    syscall::exit_group(status)
}

/// The name of the machine's kernel and its release, for the report.
pub(crate) fn system_name() -> Text {
    let mut name = core::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the pointer refers to room for the structure.
    if unsafe { libc::uname(name.as_mut_ptr()) } != 0 {
        return owned("Linux");
    }
    // SAFETY: uname filled it; it was zeroed before.
    let name = unsafe { name.assume_init() };
    // SAFETY: the field is NUL-terminated.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    joined(&["Linux ", &lossy(release.to_bytes())])
}

/// Turns bytes that came from a path into one again.
pub(crate) fn path(bytes: &[u8]) -> &'static Path {
    Path::new(OsStr::from_bytes(copied(bytes).leak()))
}

/// The bytes of a path.
#[inline(always)]
pub(crate) fn path_bytes(path: &Path) -> List<u8> {
    copied(path.as_os_str().as_bytes())
}

/// The user's home directory.
pub(crate) fn home() -> Option<List<u8>> {
    variable(b"HOME")
}

/// When a process that delivers is ended whatever it does, in milliseconds: an application's own transport may never come back.
const DELIVERY_ALARM_MS: u32 = crate::limits::DELIVERY_MS_MAX as u32 + 2_000;

/// Readies this process for sending: the ends of its children can be waited for, since who sends may start a program; and it ends if a transport of the application's never comes back, but for a front, whose worker has its alarm.
pub(crate) fn begin_delivery() {
    if super::front::is_front() {
        return;
    }
    for signal in [libc::SIGCHLD, libc::SIGALRM] {
        // SAFETY: the default has no conditions.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    rearguard_crashpath::spawn::set_alarm(DELIVERY_ALARM_MS);
}

/// Ends who works beside this guard, and returns when it has: nobody is to run the file any more.
pub(crate) fn end_beside() {
    let pid = BESIDE.load(Ordering::Relaxed);
    if is_there(pid, libc::WNOHANG) {
        let _ = syscall::kill(pid, libc::SIGKILL);
        is_there(pid, 0);
    }
}

/// Whether a child of ours lives; with no flags it is waited for until it doesn't.
fn is_there(child: i32, flags: i32) -> bool {
    // SAFETY: no memory is involved; only a child of ours is asked about.
    child > 0 && unsafe { libc::waitpid(child, core::ptr::null_mut(), flags) } == 0
}

/// The last process that works beside this guard.
static BESIDE: AtomicI32 = AtomicI32::new(0);

/// Lets a process of its own do something that takes its time, of which nobody waits for the end; it isn't done where there can be none.
///
/// To be called by a guard with one thread, which goes on at once. What the guard has open isn't open there.
pub(crate) fn beside(work: impl FnOnce() + Send + 'static) {
    // Nobody waits for it, and nothing is to be left of it either; a front looks after all that it has.
    if !super::front::is_front() {
        // SAFETY: ignoring a signal has no conditions.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    // One at a time, whoever asks and how often: it sends all that waits.
    if is_there(BESIDE.load(Ordering::Relaxed), libc::WNOHANG) {
        return;
    }
    // SAFETY: this process has one thread, so the new one has all that it needs.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        BESIDE.store(pid, Ordering::Relaxed);
        return;
    }
    super::attach::leave_alone();
    // SAFETY: the default has no conditions.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
    begin_delivery();
    // SAFETY: no memory is involved; nothing of what was open is used again.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } != 0 {
        (3..1024).for_each(syscall::close);
    }
    work();
    exit(0)
}

/// Where this application's reports go unless it says otherwise: `$STATE_DIRECTORY`, `$XDG_STATE_HOME/<app>/crashes`, or `~/.local/state/<app>/crashes`.
pub(crate) fn default_store(name: &str) -> Option<&'static Path> {
    if is_privileged() {
        return None;
    }
    let absolute = |name: &[u8]| variable(name).filter(|path| path.first() == Some(&b'/'));
    if let Some(states) = absolute(b"STATE_DIRECTORY") {
        // A unit may have several, with colons between (systemd.exec(5)); the first is ours as well as any.
        let first = states.split(|byte| *byte == b':').next()?;
        return Some(below(path(first), "crashes"));
    }
    let state = absolute(b"XDG_STATE_HOME")
        .map(|state| path(&state))
        .or_else(|| Some(below(path(&absolute(b"HOME")?), ".local/state")))?;
    Some(below(below(state, name), "crashes"))
}

/// Ends this process as nothing can prevent; for fail spots.
pub(crate) fn kill_self() {
    let _ = syscall::kill(syscall::getpid(), libc::SIGKILL);
}

/// Stops this process; for fail spots.
pub(crate) fn stop_self() {
    let _ = syscall::kill(syscall::getpid(), libc::SIGSTOP);
}

/// Sleeps; for fail spots.
pub(crate) fn sleep_ms(duration_ms: u64) {
    time::sleep_ns(duration_ms.saturating_mul(1_000_000));
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a path is made absolute as the standard library does it, whether it is there or not.
    #[test]
    fn paths_become_absolute() {
        for path in ["a", "./a//b/.", "../a", "/", "//", "/a/./b//", "/a/../b", "."] {
            let (ours, theirs) = (absolute(Path::new(path)), std::path::absolute(path));
            let theirs = theirs.expect("it can be made");
            assert_eq!(ours, Some(theirs.components().as_path()), "{path}");
        }
        assert_eq!(absolute(Path::new("")), None);
    }
}
