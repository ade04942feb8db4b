//! One guard for all roles of an application: the guard of its main process has a second thread, the *doorkeeper*, which stands for all of them.
//!
//! The main process keeps a pair of sockets for its life; every role is born with the one end, every guard with the other.
//! A role's keeper joins by that socket: it hands over black box, launch record, pidfd, and a line of its own.
//! The doorkeeper owns the guard's place in each black box, so that its death shows there, and sleeps on lines and pidfds; nothing else is kept of a member, which costs two pages.
//! Whatever happens to a member, a crash or an end, a process is forked for it, which is an ordinary guard from then on and has all the time it needs.
//!
//! Notice to the next editor: everything that comes by the socket comes from processes that may be hostile. It costs them their guard, and nobody else's.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rearguard_crashpath::black_box::{
    BLACK_BOX_BYTES, BlackBox, Control, FUTEX_WAITERS, crash, guard, owner,
};
use rearguard_crashpath::robust::{Many, Node};
use rearguard_crashpath::spawn::FIRST_FD;
use rearguard_crashpath::{family as line, futex, rights, robust, syscall};

use super::attach::{BLACK_BOX_FD, EXECUTABLE_FD, PIDFD, READY_FD, RECORD_FD};
use super::channel::{GUARDS_END_PLACE, ROLES_END_PLACE};
use super::process::last_errno;
use super::{attach, memfd, proc_text, thread};
use crate::heap::{List, add, owned};
use crate::launch::LaunchRecord;
use crate::limits;
use crate::sys::RoleCommand;
use crate::sys::words::Release;
use crate::text::{number, push_number};

/// Whether this system has a guard for many workers.
pub(crate) const IS_BUILT: bool = true;

/// Where a guard has its end of the sockets, and the end that roles are born with.
const GUARDS_END_FD: RawFd = FIRST_FD + GUARDS_END_PLACE as RawFd;
const ROLES_END_FD: RawFd = FIRST_FD + ROLES_END_PLACE as RawFd;

/// Members' descriptors lie above everything that a guard has at a fixed number.
const ABOVE: RawFd = 64;

/// A role's end of the socket to its family's guard.
pub(crate) struct Tie(OwnedFd);

impl Tie {
    /// Takes the descriptor with this number, if it is such an end, and with this inode where one is told.
    pub(crate) fn of_number(number: u64, inode: Option<u64>) -> Option<Tie> {
        let fd =
            RawFd::try_from(number).ok().filter(|fd| *fd > 2 && memfd::is_packet_socket(*fd))?;
        if inode.is_some() && memfd::inode(fd) != inode {
            return None;
        }
        // SAFETY: whoever started this process has put the socket there, for us alone.
        Some(Tie(unsafe { memfd::take(fd) }))
    }

    /// Its number.
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The sockets of a family, in its main process.
pub(crate) struct Door {
    /// Until the keeper has it in its own table.
    guards_end: Option<OwnedFd>,
    /// In the application's own table, since it is the application that starts roles; exec closes it. The application may close it, and use the number again, so it is a number only.
    roles_end: RawFd,
    inode: u64,
}

impl Door {
    /// Makes the sockets.
    pub(crate) fn open() -> Result<Door, i32> {
        // SAFETY: the descriptors were just made and are nobody else's.
        let [guards_end, roles_end] =
            rights::pair().map_err(|error| error.0)?.map(|fd| unsafe { memfd::take(fd) });
        let inode = memfd::inode(roles_end.as_raw_fd()).ok_or(libc::EBADF)?;
        Ok(Door { guards_end: Some(guards_end), roles_end: roles_end.into_raw_fd(), inode })
    }

    /// The numbers of both ends, the guard's first.
    pub(super) fn numbers(&self) -> [RawFd; 2] {
        [self.guards_end.as_ref().map_or(-1, AsRawFd::as_raw_fd), self.roles_end]
    }

    /// Closes what only the keeper needs.
    pub(crate) fn leave_to_keeper(&mut self) {
        self.guards_end = None;
    }

    /// Number and inode of the end that roles are born with; `None` when the application has closed it, or put something else in its place.
    pub(crate) fn told(&self) -> Option<(u64, u64)> {
        let is_there = memfd::inode(self.roles_end) == Some(self.inode);
        is_there.then_some((u64::try_from(self.roles_end).ok()?, self.inode))
    }

    /// Lets a program that the application starts have it.
    pub(crate) fn lend(&self, command: &mut RoleCommand) {
        let (fd, inode) = (self.roles_end, self.inode);
        let keep_over_exec = move || {
            // Without it the role has a guard of its own.
            if memfd::inode(fd) == Some(inode) {
                // SAFETY: no memory is involved.
                unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
            }
            Ok(())
        };
        // SAFETY: the closure makes two system calls and touches no memory but its own.
        unsafe { command.pre_exec(keep_over_exec) };
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.told().is_some() {
            syscall::close(self.roles_end);
        }
    }
}

/// One worker that the doorkeeper stands for.
struct Member {
    /// The line to its keeper.
    line: RawFd,
    /// Black box, launch record, pidfd, executable or -1.
    given: [RawFd; 4],
    nonce: u64,
    pid: u32,
    slot: usize,
}

/// A process that is a member's guard; it is our child, and reaped by its pidfd.
struct Sent {
    pid: i32,
    pidfd: RawFd,
}

/// The process that a guard's thread belongs to: a doorkeeper isn't its process's main thread.
pub(crate) fn process_of(tid: u32) -> u32 {
    let group = || {
        let status = proc_text::read(&proc_text::of_process(tid, "status"))?;
        u32::try_from(number(proc_text::field(&status, "Tgid:")?, 10)?).ok()
    };
    group().unwrap_or(tid)
}

/// How many members there are; the guard's own thread waits for none.
static MEMBERS: AtomicU32 = AtomicU32::new(0);
/// In a forked guard: the thread whose place it takes over. Zero elsewhere.
static PREDECESSOR: AtomicU32 = AtomicU32::new(0);
/// In a forked guard: whether the family's main process was gone when it was forked.
static IS_ORPHANED: AtomicBool = AtomicBool::new(false);
/// In a forked guard: whether it is one of a role.
static IS_ROLES_GUARD: AtomicBool = AtomicBool::new(false);
/// Set by the guard before it makes the doorkeeper.
static RUN: std::sync::OnceLock<fn(u64) -> !> = std::sync::OnceLock::new();
/// The words of all members.
static ENDS: Many = Many::new();

/// In a guard that was forked: the thread that had its place.
pub(crate) fn predecessor() -> Option<u32> {
    Some(PREDECESSOR.load(Ordering::Relaxed)).filter(|tid| *tid != 0)
}

/// Whether this is a role's guard, and the main process of its family is gone: nobody is there to use another life of the role.
pub(crate) fn is_orphaned() -> bool {
    IS_ORPHANED.load(Ordering::Relaxed)
}

/// The end that a role's next life is to be born with, in a role's guard.
pub(crate) fn roles_end() -> Option<RawFd> {
    IS_ROLES_GUARD.load(Ordering::Relaxed).then_some(ROLES_END_FD)
}

/// Becomes the guard of a family: starts the doorkeeper, which lets `run` go on in a process of its own for each member that needs one.
pub(crate) fn open(run: fn(u64) -> !) {
    let _ = RUN.set(run);
    raise_limit();
    for fd in [GUARDS_END_FD, ROLES_END_FD] {
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // Roles that aren't let in have guards of their own.
    let _ = thread::start(doorkeeper, limits::DOORKEEPER_STACK_BYTES, 0);
}

/// Every member has five descriptors.
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer refers to a living structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max.min(65_536).max(limit.rlim_cur);
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Waits until no member is left, or this guard is asked to stop.
pub(crate) fn await_members() {
    attach::listen_at(&MEMBERS);
    loop {
        // The bit is what a request to stop takes away, so that it isn't slept over.
        let word = MEMBERS.fetch_or(FUTEX_WAITERS, Ordering::AcqRel) | FUTEX_WAITERS;
        if word == FUTEX_WAITERS || attach::stop_requested() {
            return;
        }
        futex::wait(&MEMBERS, word, None);
    }
}

/// Waits while the application holds its guard off and there are members, for whom the guard stays.
pub(crate) fn await_release(control: &Control) -> Release {
    if control.held.load(Ordering::Acquire) == 0 {
        return Release::Leave;
    }
    while MEMBERS.load(Ordering::Acquire) & !FUTEX_WAITERS != 0 {
        let is_over = control.held.load(Ordering::Acquire) == 0;
        if is_over || control.crash.load(Ordering::Acquire) != crash::IDLE {
            return Release::GoOn;
        }
        if attach::stop_requested() {
            return Release::Leave;
        }
        // The worker's end while it holds its guard off is its own affair.
        if attach::wait_gone(limits::STOP_HEARD_MS_MAX as u32) {
            return Release::Stay;
        }
    }
    Release::Leave
}

extern "C" fn doorkeeper(_none: *mut libc::c_void) -> *mut libc::c_void {
    // A full memory, or a kernel that refuses, leaves roles to guards of their own.
    if let Some(places) = Places::make() {
        let mut keeping =
            Doorkeeper { places, is_open: true, members: List::new(), sent: List::new() };
        loop {
            keeping.turn();
        }
    }
    syscall::close(GUARDS_END_FD);
    core::ptr::null_mut()
}

/// What the doorkeeper has.
struct Doorkeeper {
    places: Places,
    /// Whether somebody may still come.
    is_open: bool,
    members: List<Member>,
    sent: List<Sent>,
}

impl Doorkeeper {
    /// What can have news: the door, each member's line and pidfd, each guard that was sent.
    fn entries(&self) -> List<libc::pollfd> {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut entries = List::new();
        let has_room = self.is_open && self.members.len() < limits::MEMBERS_MAX;
        add(&mut entries, entry(if has_room { GUARDS_END_FD } else { -1 }));
        for member in &self.members {
            let [_, _, pidfd, _] = member.given;
            add(&mut entries, entry(member.line));
            add(&mut entries, entry(pidfd));
        }
        for sent in &self.sent {
            add(&mut entries, entry(sent.pidfd));
        }
        entries
    }

    /// Sleeps until there are news, and sees to all of them.
    fn turn(&mut self) {
        // Nothing may be half done here when the other thread divides the process, the heap least of all.
        let before = Turn::begin();
        let mut entries = self.entries();
        drop(before);
        let polled = syscall::poll(&mut entries, u32::MAX);
        let _turn = Turn::begin();
        let entries = entries;
        if !matches!(polled, Ok(count) if count > 0) {
            return;
        }
        let mut news = entries.iter().map(|entry| entry.revents != 0);
        let knocked = news.next() == Some(true);
        let mut wanted = List::new();
        for member in &self.members {
            let has_called = news.next() == Some(true);
            let has_ended = news.next() == Some(true);
            if has_called || has_ended {
                add(&mut wanted, member.nonce);
            }
        }
        self.sent.as_mut_vec().retain(|sent| {
            // One without a pidfd is asked whenever something else has happened.
            let may_be_over = news.next() == Some(true) || sent.pidfd < 0;
            !(may_be_over && is_reaped(sent))
        });
        for nonce in wanted {
            self.send_guard(nonce);
        }
        if knocked {
            self.admit();
        }
        MEMBERS.store(self.members.len() as u32, Ordering::Release);
        futex::wake_all(&MEMBERS);
    }

    /// Takes one worker in, if everything about it is as it should be. Otherwise its line is closed, which tells its keeper.
    fn admit(&mut self) {
        let mut bytes = [0u8; 8];
        let mut fds = [-1; rights::FDS_MAX];
        let Ok(received) = rights::receive(GUARDS_END_FD, &mut bytes, &mut fds) else { return };
        // Somebody has shut the socket down for all; whoever comes later has a guard of its own.
        self.is_open = received.bytes != 0;
        let mut moved = [-1; 5];
        for (fd, place) in fds.iter().take(received.fds).zip(&mut moved) {
            // SAFETY: no memory is involved.
            *place = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, ABOVE) };
        }
        for fd in fds.iter().take(received.fds) {
            syscall::close(*fd);
        }
        let [black_box, record, pidfd, line, executable] = moved;
        let nonce = u64::from_le_bytes(bytes);
        let is_whole = received.bytes == bytes.len()
            && memfd::has_seals(black_box, memfd::SIZE_SEALS)
            && memfd::size(black_box) == Some(BLACK_BOX_BYTES)
            && memfd::has_seals(record, memfd::ALL_SEALS)
            && is_pidfd(pidfd)
            && memfd::is_packet_socket(line)
            && !is_hung_up(line);
        let pid = if is_whole { admissible(black_box, record, pidfd, nonce) } else { None };
        // One process has one place, whatever it says.
        let pid = pid.filter(|pid| {
            self.members.iter().all(|member| member.pid != *pid && member.nonce != nonce)
        });
        let slot = pid.and_then(|_| self.places.take(black_box, nonce));
        let (Some(pid), Some(slot)) = (pid, slot) else {
            moved.into_iter().filter(|fd| *fd >= 0).for_each(syscall::close);
            return;
        };
        let given = [black_box, record, pidfd, executable];
        add(&mut self.members, Member { line, given, nonce, pid, slot });
        tell_on_duty(line);
    }

    /// Lets a process of its own be the guard of a member from here on.
    fn send_guard(&mut self, nonce: u64) {
        let Some(at) = self.members.iter().position(|member| member.nonce == nonce) else { return };
        let member = self.members.as_mut_vec().swap_remove(at);
        let doorkeeper = syscall::gettid() as u32;
        // Whoever calls without end has a guard of its own in the end.
        let may_send = self.sent.len() < limits::MEMBERS_MAX;
        let pid = if may_send { fork() } else { -1 };
        if pid == 0 {
            PREDECESSOR.store(doorkeeper, Ordering::Relaxed);
            go_as_guard(&member);
        }
        self.places.give_back(member.slot);
        for fd in member.given.into_iter().chain([member.line]).filter(|fd| *fd >= 0) {
            syscall::close(fd);
        }
        if pid > 0 {
            // SAFETY: no memory is involved.
            let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd;
            add(&mut self.sent, Sent { pid, pidfd });
        }
    }
}

/// Divides this process; a machine that has no room for another is asked for a while. Zero in the new process, negative for none.
fn fork() -> i32 {
    for _ in 0..limits::FORK_TRIES_MAX {
        // SAFETY: the new process has this thread alone, and goes on as a guard that shares nothing with this one; the other thread sleeps.
        let pid = unsafe { libc::fork() };
        if pid >= 0 {
            return pid;
        }
        super::process::sleep_ms(limits::FORK_WAIT_MS);
    }
    -1
}

/// One of the two words by which the threads of a family's guard keep out of each other's way: the doorkeeper is at work.
static AT_WORK: AtomicU32 = AtomicU32::new(0);
/// The other thread is about to divide the process.
static DIVIDING: AtomicU32 = AtomicU32::new(0);

/// While it lives the doorkeeper is at work.
struct Turn;

impl Turn {
    fn begin() -> Turn {
        loop {
            AT_WORK.store(1, Ordering::SeqCst);
            if DIVIDING.load(Ordering::SeqCst) == 0 {
                return Turn;
            }
            drop(Turn);
            futex::wait(&DIVIDING, 1, None);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        AT_WORK.store(0, Ordering::SeqCst);
        futex::wake_all(&AT_WORK);
    }
}

/// Waits until the doorkeeper isn't at work, and keeps it so; for a moment at most.
fn stop_the_doorkeeper() {
    DIVIDING.store(1, Ordering::SeqCst);
    let deadline_ns = super::process::monotonic_ns() + limits::TURN_MS_MAX * 1_000_000;
    while AT_WORK.load(Ordering::SeqCst) != 0 {
        if futex::wait(&AT_WORK, 1, Some(deadline_ns)) == futex::Woken::TimedOut {
            return;
        }
    }
}

fn let_the_doorkeeper_go_on() {
    DIVIDING.store(0, Ordering::SeqCst);
    futex::wake_all(&DIVIDING);
}

/// The process that may be a member by these descriptors: the one that the pidfd means is the one of the record, it is where the black box is mapped, and it has no fewer and no other rights than this process.
///
/// A guard that is sent dumps it and starts its next life with the rights of this process. What a role sends that was confined, by its launcher or by itself, is not believed; its own guard is confined as it is.
fn admissible(black_box: RawFd, record: RawFd, pidfd: RawFd, nonce: u64) -> Option<u32> {
    let bytes = memfd::read(record, limits::RECORD_BYTES_MAX)?;
    let record = LaunchRecord::decode(&bytes)?;
    let pid = process_of_pidfd(pidfd)?;
    let is_its_own = record.nonce == nonce && record.worker_pid == pid;
    let is_mapped = || attach::maps_black_box(pid, black_box) == Some(true);
    (is_its_own && is_mapped() && has_our_rights(pid)).then_some(pid)
}

/// The process that a pidfd means, in our own namespace (`pidfd_open(2)`).
fn process_of_pidfd(pidfd: RawFd) -> Option<u32> {
    let mut path = owned("/proc/self/fdinfo/");
    push_number(&mut path, pidfd.unsigned_abs().into());
    let text = proc_text::read(&path)?;
    u32::try_from(number(proc_text::field(&text, "Pid:")?, 10)?).ok()
}

/// Whether a process has exactly the rights that this one has, as far as the kernel tells.
fn has_our_rights(pid: u32) -> bool {
    const RIGHTS: [&str; 10] = [
        "Uid:",
        "Gid:",
        "Groups:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
    ];
    const PLACES: [&str; 8] =
        ["root", "ns/user", "ns/mnt", "ns/pid", "ns/net", "ns/ipc", "ns/uts", "ns/cgroup"];
    let own = std::process::id();
    let status = |pid| proc_text::read(&proc_text::of_process(pid, "status"));
    let (Some(ours), Some(theirs)) = (status(own), status(pid)) else { return false };
    let link = |pid, name| {
        let path = proc_text::of_process(pid, name);
        super::file::read_link(super::process::path(path.as_bytes())).ok()
    };
    RIGHTS.iter().all(|key| proc_text::field(&ours, key) == proc_text::field(&theirs, key))
        && PLACES.iter().all(|name| {
            let ours = link(own, name);
            ours.is_some() && ours == link(pid, name)
        })
}

/// Whether a keeper has given its line up.
fn is_hung_up(line: RawFd) -> bool {
    let mut entry = [libc::pollfd { fd: line, events: 0, revents: 0 }];
    matches!(syscall::poll(&mut entry, 0), Ok(count) if count > 0)
}

/// Says who is on duty: this thread.
fn tell_on_duty(line: RawFd) {
    let _ = rights::send(line, &(syscall::gettid() as u32).to_le_bytes(), &[]);
}

/// Whether a process that was sent is over.
fn is_reaped(sent: &Sent) -> bool {
    // SAFETY: no memory is involved.
    let reaped = unsafe { libc::waitpid(sent.pid, core::ptr::null_mut(), libc::WNOHANG) };
    if reaped == 0 {
        return false;
    }
    if sent.pidfd >= 0 {
        syscall::close(sent.pidfd);
    }
    true
}

/// Whether this is a pidfd of a process that may be signalled, or is gone.
fn is_pidfd(fd: RawFd) -> bool {
    // SAFETY: no memory is involved.
    let asked = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, 0, 0) };
    asked == 0 || last_errno() == libc::ESRCH || last_errno() == libc::EPERM
}

/// In a forked process: what was the other's is not its own.
fn begin_alone() {
    // They are the doorkeeper's.
    MEMBERS.store(0, Ordering::Relaxed);
    DIVIDING.store(0, Ordering::Relaxed);
    attach::forget_requests();
    robust::forget();
}

/// Lets a process of its own deal with what has happened to the main worker; true in that process. In the other it returns when that has ended.
pub(crate) fn send_for_main(black_box: &'static BlackBox) -> bool {
    let word = &black_box.control.guard;
    let own = syscall::gettid() as u32;
    let earlier = syscall::block_all_signals();
    stop_the_doorkeeper();
    let pid = fork();
    if pid != 0 {
        let_the_doorkeeper_go_on();
    }
    if pid == 0 {
        PREDECESSOR.store(own, Ordering::Relaxed);
        begin_alone();
        // The worker knows that one only, and ends it if this one is silent.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if syscall::getppid() != own as i32 {
            syscall::exit_group(crate::role::EXIT_GUARD_NOT_NEEDED);
        }
        for fd in [GUARDS_END_FD, ROLES_END_FD] {
            syscall::close(fd);
        }
        // The members' lines are to end with their own guards.
        // SAFETY: no memory is involved; nothing of this guard's own lies so high.
        unsafe { libc::syscall(libc::SYS_close_range, ABOVE, libc::c_uint::MAX, 0) };
        attach::listen_at(&black_box.control.bell);
        syscall::set_signal_mask(earlier);
        return attach::own_place(black_box);
    }
    syscall::set_signal_mask(earlier);
    if pid < 0 {
        // Nobody can be sent; then this process goes on itself.
        return true;
    }
    await_end_of(pid);
    // One that has ended before it took the place leaves a crash to the keeper.
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
        (owner(value) == Some(own)).then_some(guard::VACANT)
    });
    futex::wake_all(word);
    false
}

/// Waits for a guard that was sent for the main worker; a request to stop is passed on to it.
fn await_end_of(pid: i32) {
    let mut was_asked = false;
    // SAFETY: no memory is involved.
    while unsafe { libc::waitpid(pid, core::ptr::null_mut(), 0) } < 0 && last_errno() == libc::EINTR
    {
        if attach::stop_requested() {
            was_asked = true;
            let _ = syscall::kill(pid, libc::SIGTERM);
        }
    }
    if was_asked {
        // It is meant for this process too.
        attach::ask_to_stop();
    }
}

/// In a forked process: everything at its place, and on as a guard.
fn go_as_guard(member: &Member) -> ! {
    let is_orphaned = {
        let mut main = [libc::pollfd { fd: PIDFD, events: libc::POLLIN, revents: 0 }];
        matches!(syscall::poll(&mut main, 0), Ok(count) if count > 0)
    };
    IS_ORPHANED.store(is_orphaned, Ordering::Relaxed);
    IS_ROLES_GUARD.store(true, Ordering::Relaxed);
    begin_alone();
    syscall::close(READY_FD);
    let [black_box, record, pidfd, executable] = member.given;
    for (fd, number) in [
        (black_box, BLACK_BOX_FD),
        (record, RECORD_FD),
        (pidfd, PIDFD),
        (executable, EXECUTABLE_FD),
        // The line closes with this process, which tells the keeper.
        (member.line, GUARDS_END_FD),
    ] {
        // SAFETY: no memory is involved.
        if unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) } < 0 {
            syscall::close(number);
        }
    }
    let first = ROLES_END_FD + 1;
    // SAFETY: no memory is involved; what is there is the other members'.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } != 0 {
        (first..65_536).for_each(syscall::close);
    }
    tell_on_duty(GUARDS_END_FD);
    syscall::set_signal_mask(0);
    match RUN.get() {
        Some(run) => run(member.nonce),
        None => syscall::exit_group(crate::role::EXIT_GUARD_NOT_NEEDED),
    }
}

/// Where the words of all members are mapped: for each a page for the kernel's list, and behind it the first page of its black box.
struct Places {
    start: *mut u8,
    page: usize,
    is_taken: [bool; limits::MEMBERS_MAX],
}

/// How far before the end of its page a node lies.
const NODE_ROOM: usize = 64;

impl Places {
    /// Reserves addresses, no memory.
    fn make() -> Option<Places> {
        // SAFETY: no memory is involved.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        let bytes = limits::MEMBERS_MAX * 2 * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start =
            unsafe { libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let word = core::mem::offset_of!(BlackBox, control)
            + core::mem::offset_of!(rearguard_crashpath::black_box::Control, guard);
        let distance = isize::try_from(NODE_ROOM + word).ok()?;
        // SAFETY: this is the one thread that uses the list, and it is done once.
        unsafe { ENDS.begin(distance) }.ok()?;
        Some(Places { start: start.cast(), page, is_taken: [false; limits::MEMBERS_MAX] })
    }

    fn address(&self, slot: usize) -> *mut u8 {
        self.start.wrapping_add(slot * 2 * self.page)
    }

    /// Maps the words of a black box, and takes the guard's place there; `None` when it is another's.
    fn take(&mut self, black_box: RawFd, nonce: u64) -> Option<usize> {
        let slot = self.is_taken.iter().position(|taken| !taken)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let own = self.address(slot);
        let shared = own.wrapping_add(self.page);
        // SAFETY: the range is reserved for this, and nothing of it is in use.
        let done = unsafe { libc::mprotect(own.cast(), self.page, access) };
        // SAFETY: as above.
        let mapped = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            libc::mmap(shared.cast(), self.page, access, flags, black_box, 0)
        };
        if done != 0 || mapped == libc::MAP_FAILED {
            self.unmap(slot);
            return None;
        }
        let black_box = shared.cast_const().cast::<BlackBox>();
        // SAFETY: the first page holds header and control words, which are atomic numbers of any value; it is unmapped when nothing refers to it any more.
        let header = unsafe { &(*black_box).header };
        // SAFETY: as above.
        let control = unsafe { &(*black_box).control };
        if let Some(taken) = self.is_taken.get_mut(slot) {
            *taken = true;
        }
        self.link();
        let word = syscall::gettid() as u32 | FUTEX_WAITERS;
        let is_ours = header.nonce.load(Ordering::Relaxed) == nonce
            && control
                .guard
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
                    guard::is_free(value).then_some(word)
                })
                .is_ok();
        if !is_ours {
            self.give_back(slot);
            return None;
        }
        futex::wake_all(&control.guard);
        Some(slot)
    }

    fn give_back(&mut self, slot: usize) {
        if let Some(taken) = self.is_taken.get_mut(slot) {
            *taken = false;
        }
        self.link();
        self.unmap(slot);
    }

    fn unmap(&self, slot: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range is this slot's alone, and nothing refers to it any more.
        unsafe {
            libc::mmap(self.address(slot).cast(), 2 * self.page, libc::PROT_NONE, flags, -1, 0)
        };
    }

    /// Tells the kernel where all words are.
    fn link(&self) {
        let taken = self.is_taken.iter().enumerate().filter(|(_, taken)| **taken);
        let node = |slot| self.address(slot).wrapping_add(self.page - NODE_ROOM).cast::<Node>();
        // SAFETY: the pages of taken slots are mapped and writable, with the black box's first page behind them.
        unsafe { ENDS.set(taken.map(|(slot, _)| node(slot))) };
    }
}

/// The first page of a black box has all words that are used here, and the keeper's message fits.
const _: () = {
    assert!(
        core::mem::offset_of!(BlackBox, control)
            + size_of::<rearguard_crashpath::black_box::Control>()
            <= 4_096
    );
    assert!(line::ON_DUTY_BYTES == size_of::<u32>());
};
