//! The program that crashes: threads, heap, a crash handler that asks for a dump, the fault.

use std::hint;
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crash_context::{CrashContext, ucontext_t};
use peer_trace::{now_ns, null_write, stand_around};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{PTracer, Pid, set_ptracer};

use crate::args::{Args, Contestant};
use crate::crashpad;
use crate::page::{DUMPED, FAILED, LATE, Page};

/// How long the program stands before it dies, so that its own beginning isn't measured as a part of its end.
const STANDS: Duration = Duration::from_millis(50);

/// How long the handler waits for its answer; a thousand threads take a twentieth of it.
const ANSWER_S_MAX: i64 = 10;

/// How long the watching thread may take to begin, and to look at the clock after the dump.
const WATCH_MAX: Duration = Duration::from_secs(5);

/// What the handler needs, made ready before it stands.
struct Handler {
    page: &'static Page,
    socket: OwnedFd,
    writer: Contestant,
    /// Whether there is a watching thread.
    watched: bool,
}

static HANDLER: OnceLock<Handler> = OnceLock::new();

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let page = Page::map(&args.take_page()?)?;
    let handler =
        Handler { page, socket: args.take_socket()?, writer: args.writer, watched: args.watch };
    HANDLER.set(handler).map_err(|_| "the handler stands already")?;
    // Where Yama is, nobody but an ancestor may trace a process that hasn't said so; elsewhere the call fails and isn't needed.
    let _ = set_ptracer(PTracer::ProcessID(Pid::from_raw(args.writer_pid).ok_or("no writer")?));
    stand_on_crash();
    let heap = heap(args.heap_mib);
    stand_around(args.threads);
    thread::sleep(STANDS);
    if args.watch {
        begin_to_watch(page)?;
    }
    page.fault_ns.store(now_ns(), Ordering::Release);
    null_write();
    // The compiler mustn't let the heap go before.
    hint::black_box(&heap);
    Err("it lived on".to_owned())
}

/// Memory of which every page has been written to.
fn heap(mib: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; mib << 20];
    for at in (0..bytes.len()).step_by(4096) {
        bytes[at] = 1;
    }
    hint::black_box(bytes)
}

/// Starts the thread that stands for the application's others, and returns when it runs.
fn begin_to_watch(page: &'static Page) -> Result<(), String> {
    thread::spawn(move || watch(page));
    let deadline_ns = now_ns() + WATCH_MAX.as_nanos() as u64;
    while page.looked_ns.load(Ordering::Acquire) == 0 {
        if now_ns() > deadline_ns {
            return Err("the watching thread doesn't run".to_owned());
        }
        thread::yield_now();
    }
    Ok(())
}

/// Looks at the clock until the process ends, and notes for how long it was kept from it.
fn watch(page: &Page) {
    let mut longest_ns = 0;
    let mut last_ns = now_ns();
    loop {
        let now = now_ns();
        if now - last_ns > longest_ns {
            longest_ns = now - last_ns;
            page.gap_ns.store(longest_ns, Ordering::Release);
        }
        // After the gap: who sees this look sees the gap before it too.
        page.looked_ns.store(now, Ordering::Release);
        last_ns = now;
    }
}

/// Installs the handler, with room for it.
fn stand_on_crash() {
    let room: &'static mut [u8] = Box::leak(vec![0_u8; 64 * 1024].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: room.as_mut_ptr().cast(), ss_flags: 0, ss_size: room.len() };
    // SAFETY: the memory is never freed and serves nothing else.
    unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    // SAFETY: all bytes of the structure may be zero.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_crash as *const () as usize;
    // SA_SIGINFO for the registers; SA_ONSTACK since a crash handler can't rely on the stack of who crashed.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and makes only calls that a handler may make.
    unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
}

/// Asks for the dump, notes when the answer came, and lets the process die of its fault.
extern "C" fn on_crash(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if let Some(handler) = HANDLER.get() {
        let late_ns = now_ns() + ANSWER_S_MAX.unsigned_abs() * 1_000_000_000;
        let outcome = match handler.writer {
            Contestant::Crashpad => {
                let tid = rustix::thread::gettid().as_raw_nonzero().get();
                crashpad::ask(&handler.socket, tid, info as u64, context as u64, late_ns)
            }
            Contestant::Rearguard
            | Contestant::MinidumpWriter
            | Contestant::Floor
            | Contestant::Calls => {
                publish(handler.page, number, info, context.cast());
                ask(&handler.socket, late_ns)
            }
        };
        let answered_ns = now_ns();
        handler.page.answered_ns.store(answered_ns, Ordering::Release);
        handler.page.outcome.store(outcome, Ordering::Release);
        if handler.watched {
            wait_for_look(handler.page, answered_ns);
        }
    }
    // SAFETY: all bytes of the structure may be zero, which is the default action.
    let action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the default action runs no code; the faulting instruction, run again, then ends the process.
    unsafe { libc::sigaction(number, &raw const action, ptr::null_mut()) };
}

/// Lets the watching thread look at the clock once more: a process that died before would take the longest gap with it.
fn wait_for_look(page: &Page, answered_ns: u64) {
    let late_ns = answered_ns + WATCH_MAX.as_nanos() as u64;
    while page.looked_ns.load(Ordering::Acquire) <= answered_ns && now_ns() < late_ns {
        // A wait for nothing: the two threads may have one processor between them.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 100_000 }));
    }
}

/// Puts what the kernel says of the fault where the writer finds it.
fn publish(page: &Page, number: i32, info: *const libc::siginfo_t, context: *const ucontext_t) {
    // SAFETY: one thread crashes, and the writer doesn't look before it is asked.
    let crash = unsafe { page.crash_mut() };
    crash.pid = rustix::process::getpid().as_raw_nonzero().get();
    crash.tid = rustix::thread::gettid().as_raw_nonzero().get();
    crash.siginfo.ssi_signo = number.unsigned_abs();
    // SAFETY: the kernel passes a valid structure to the handler.
    let info = unsafe { &*info };
    crash.siginfo.ssi_code = info.si_code;
    // SAFETY: the signal of a memory fault has an address.
    crash.siginfo.ssi_addr = unsafe { info.si_addr() } as u64;
    // SAFETY: the kernel has put the context onto this stack, and more than its length behind it.
    unsafe { context.copy_to_nonoverlapping(&raw mut crash.context, 1) };
    publish_fp(crash);
}

#[cfg(target_arch = "x86_64")]
fn publish_fp(crash: &mut CrashContext) {
    let saved = crash.context.uc_mcontext.fpregs;
    if !saved.is_null() {
        // SAFETY: the kernel saves at least the 512 bytes of FXSAVE there.
        unsafe { saved.copy_to_nonoverlapping(&raw mut crash.float_state, 1) };
    }
}

#[cfg(target_arch = "aarch64")]
fn publish_fp(crash: &mut CrashContext) {
    // The kernel puts this record first, and others may follow.
    let saved =
        (&raw const crash.context.uc_mcontext.__reserved).cast::<crash_context::fpregset_t>();
    // SAFETY: the place is longer than the record, and any bytes are a valid one.
    unsafe { saved.copy_to_nonoverlapping(&raw mut crash.float_state, 1) };
}

/// Asks the writer of one of the crates, and waits for its answer.
fn ask(socket: &OwnedFd, late_ns: u64) -> u32 {
    if send(socket, &[1], SendFlags::NOSIGNAL).is_err() {
        return FAILED;
    }
    let wait = Timespec { tv_sec: ANSWER_S_MAX, tv_nsec: 0 };
    let mut answer = [0_u8];
    loop {
        let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait));
        if ready.is_ok_and(|count| count > 0) {
            return match recv(socket, &mut answer, RecvFlags::empty()) {
                Ok((_, 1)) if u32::from(answer[0]) == DUMPED => DUMPED,
                _ => FAILED,
            };
        }
        // A writer that stops this thread ends the wait early.
        if now_ns() > late_ns {
            return LATE;
        }
    }
}
