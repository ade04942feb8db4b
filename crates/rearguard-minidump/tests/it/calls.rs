//! The system calls and the crimes of the tests, each behind a function that is safe to call.

#![expect(unsafe_code, reason = "signals, filters and crashes")]

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

pub(crate) fn gettid() -> i32 {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

pub(crate) fn getuid() -> u32 {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::getuid() }
}

/// Sends a signal to one thread.
pub(crate) fn send(pid: i32, tid: i32, signal: i32) {
    // SAFETY: the call takes numbers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    assert_eq!(result, 0);
}

pub(crate) fn kill_this_process() {
    // SAFETY: the call takes numbers.
    unsafe { libc::kill(std::process::id() as i32, libc::SIGKILL) };
}

/// Whether there is something to read, or an end, before the time is up.
pub(crate) fn readable(file: BorrowedFd<'_>, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel writes one structure.
    unsafe { libc::poll(&raw mut poll, 1, time.as_millis() as i32) == 1 }
}

pub(crate) fn ignore(signal: i32) {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

pub(crate) fn on_signal(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: the only handler in these tests adds to an atomic number.
    unsafe { libc::signal(signal, handler as *const () as usize) };
}

/// A handler of crashes.
pub(crate) type CrashHandler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

pub(crate) fn on_crash(handler: CrashHandler) {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
        // SAFETY: all bytes of the structure may be zero.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for.
        assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
    }
}

/// What the kernel gives to a handler: code, address, general and floating-point registers.
pub(crate) fn crash(
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) -> (i32, u64, Vec<u64>, Vec<u8>) {
    // SAFETY: the kernel passes a valid structure to the handler, which is the only caller.
    let info = unsafe { &*info };
    // SAFETY: the signals of the handler have an address.
    let address = unsafe { info.si_addr() } as u64;
    // SAFETY: the kernel passes a valid context to the handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let (general, fp) = registers(context);
    (info.si_code, address, general, fp)
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> (Vec<u64>, Vec<u8>) {
    let general = context.uc_mcontext.gregs.iter().map(|word| *word as u64).collect();
    // The pointer to the floating-point registers follows, a field that not every C library names.
    let machine = (&raw const context.uc_mcontext).cast::<*const u8>();
    // SAFETY: the structure has more words than the general registers.
    let place = unsafe { machine.add(context.uc_mcontext.gregs.len()) };
    // SAFETY: it is a word within the structure.
    let fp = unsafe { place.read() };
    // SAFETY: the kernel saves at least the 512 bytes of FXSAVE there.
    let fp = unsafe { std::slice::from_raw_parts(fp, 512) };
    (general, fp.to_vec())
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> (Vec<u64>, Vec<u8>) {
    let machine = &context.uc_mcontext;
    let mut general = machine.regs.to_vec();
    general.extend([machine.sp, machine.pc, machine.pstate]);
    // Records of the floating-point unit and others end the structure, in a field that not every C library names: 4096 bytes, of which this is the first record on every kernel.
    let records = (&raw const *machine).cast::<u8>().wrapping_add(size_of_val(machine) - 4096);
    // SAFETY: the kernel has filled the structure, to which the record belongs.
    let record = unsafe { std::slice::from_raw_parts(records, 16 + 32 * 16) };
    let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
    // FPSIMD_MAGIC of asm/sigcontext.h; then come fpsr, fpcr, and the vector registers.
    if word(0) != 0x4650_8001 {
        return (general, Vec::new());
    }
    // In the order of ptrace: fpsr and fpcr are last.
    (general, [&record[16..], &record[8..16]].concat())
}

/// Gives the thread a stack for signals on which a handler that allocates has room.
pub(crate) fn large_signal_stack() {
    let bytes: &'static mut [u8] = Box::leak(vec![0_u8; 256 * 1024].into_boxed_slice());
    let stack =
        libc::stack_t { ss_sp: bytes.as_mut_ptr().cast(), ss_flags: 0, ss_size: bytes.len() };
    // SAFETY: the memory is never freed and serves nothing else.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }, 0);
}

pub(crate) fn write_to(address: usize) {
    // SAFETY: there is none; the write is the crash that the test is about.
    unsafe { ptr::without_provenance_mut::<u8>(address).write_volatile(1) };
}

pub(crate) fn jump_to(address: usize) {
    // SAFETY: there is none; the jump is the crash that the test is about.
    let nowhere: extern "C" fn() = unsafe { mem::transmute(address) };
    nowhere();
}

/// Ends the calling thread alone.
pub(crate) fn exit_thread() {
    // SAFETY: nothing of the thread is used afterwards, since the process never returns to it.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Sleeps in vfork until there is a byte to read.
pub(crate) fn vfork_until_readable(file: BorrowedFd<'_>) {
    let fd = file.as_raw_fd();
    #[expect(deprecated, reason = "the thing to test")]
    // SAFETY: the child makes two system calls and touches nothing but a variable of its own frame.
    let child = unsafe { libc::vfork() };
    if child == 0 {
        let mut byte = 0_u8;
        // SAFETY: the kernel writes at most one byte.
        unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
        // SAFETY: a child of vfork ends this way.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the status isn't asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
}

/// Gives up what lets root look into other people's processes.
pub(crate) fn become_nobody() {
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::setresgid(65534, 65534, 65534) }, 0);
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
}

/// Lets some system calls fail with EPERM from now on, as the filters of containers do.
pub(crate) fn deny(numbers: &[libc::c_long]) {
    answer(numbers, libc::EPERM as u32);
}

/// Lets a filter answer some system calls in the kernel's place from now on, with an error number or with success.
pub(crate) fn answer(numbers: &[libc::c_long], errno: u32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for number in numbers {
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        program.push(libc::sock_filter { code: equal, jt: 0, jf: 1, k: *number as u32 });
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the filter, which is valid during the call.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(result, 0);
}

/// A descriptor that is neither a file nor a pipe nor a socket.
pub(crate) fn event_counter() -> OwnedFd {
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor was just made, and nobody else closes it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn page_bytes() -> usize {
    // SAFETY: the call takes a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Maps that many bytes of a file, or of nothing; the memory is never given back.
pub(crate) fn map(file: Option<BorrowedFd<'_>>, bytes: usize, protection: i32) -> usize {
    let anonymous = if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | anonymous;
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: the kernel chooses a place where nothing is.
    let place = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0) };
    assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    place.addr()
}

/// Takes the access to every second page of memory from [`map`] that was never used, so that each page is a mapping of its own.
pub(crate) fn alternate(start: usize, pages: usize) {
    for page in (1..pages).step_by(2) {
        let place = ptr::without_provenance_mut(start + page * page_bytes());
        // SAFETY: nobody uses the memory.
        let result = unsafe { libc::mprotect(place, page_bytes(), libc::PROT_NONE) };
        assert_eq!(result, 0, "page {page}: {}", std::io::Error::last_os_error());
    }
}

/// Makes a ring of the linker's list of objects; the process can't exit in order afterwards.
pub(crate) fn loop_the_linkers_list() -> bool {
    /// The part that debuggers know (link.h).
    #[repr(C)]
    struct Link {
        base: usize,
        name: *const u8,
        dynamic: *const u8,
        next: *mut Link,
        previous: *mut Link,
    }
    // SAFETY: no name and a known flag; it loads nothing.
    let first: *mut Link = unsafe { libc::dlopen(ptr::null(), libc::RTLD_NOW) }.cast();
    if first.is_null() {
        return false;
    }
    let mut last = first;
    loop {
        // SAFETY: the linker's handle of the program is the first entry of its list, which nobody changes meanwhile.
        let next = unsafe { (*last).next };
        if next.is_null() {
            break;
        }
        last = next;
    }
    // SAFETY: the entry is the linker's own, and nobody follows the list before the process is killed.
    unsafe { (*last).next = first };
    true
}
