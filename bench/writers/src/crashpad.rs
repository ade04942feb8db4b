//! Crashpad's protocol between client and handler on Linux, as far as a client needs it.
//!
//! From Crashpad's `util/linux/exception_handler_protocol.h`, `util/linux/exception_handler_client.cc` and `client/crashpad_client_linux.cc`: the way of `CrashpadClient::StartHandler`, in which the handler's socket may be shared by many processes.
//! There the handler answers a crash not by the socket but by a SIGCONT for the thread that asked, and says nothing of success.

use std::mem;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::ptr;

use peer_trace::now_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::page::{DUMPED, FAILED, LATE};

/// Where the handler keeps its dumps, in the directory of the sample.
pub(crate) const DATABASE: &str = "database";

/// The version of the messages.
const VERSION: i32 = 1;

/// Asks the handler who it is.
const CHECK_CREDENTIALS: u32 = 0;

/// Asks the handler for a dump.
const CRASH_DUMP_REQUEST: u32 = 1;

/// A message to the handler: version and kind, an address on the asking thread's stack, then three addresses about the client, packed.
fn message(kind: u32, stack: u64, information: u64) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[0..4].copy_from_slice(&VERSION.to_ne_bytes());
    bytes[4..8].copy_from_slice(&kind.to_ne_bytes());
    bytes[8..16].copy_from_slice(&stack.to_ne_bytes());
    bytes[16..24].copy_from_slice(&information.to_ne_bytes());
    bytes
}

/// The handler's arguments: what a client's library gives it, without uploads and without looking after old reports.
pub(crate) fn arguments(directory: &Path, socket: i32) -> Vec<String> {
    vec![
        format!("--database={}", directory.join(DATABASE).display()),
        format!("--initial-client-fd={socket}"),
        "--shared-client-connection".to_owned(),
        "--no-periodic-tasks".to_owned(),
        "--no-rate-limit".to_owned(),
        "--no-upload-gzip".to_owned(),
    ]
}

/// Waits until the handler answers, which it does when it waits for crashes.
pub(crate) fn wait_until_ready(socket: &OwnedFd, wait_max: &Timespec) -> Result<(), String> {
    let asked = send(socket, &message(CHECK_CREDENTIALS, 0, 0), SendFlags::NOSIGNAL);
    asked.map_err(|error| format!("asking Crashpad's handler: {error}"))?;
    let mut entries = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut entries, Some(wait_max)) {
        Ok(0) => return Err("Crashpad's handler didn't become ready in time".to_owned()),
        Ok(_) => {}
        Err(error) => return Err(format!("poll: {error}")),
    }
    let mut answer = [0_u8; 8];
    match recv(socket, &mut answer, RecvFlags::empty()) {
        Ok((_, 8)) => Ok(()),
        Ok((_, length)) => Err(format!("Crashpad's handler answered with {length} bytes")),
        Err(error) => Err(format!("the answer of Crashpad's handler: {error}")),
    }
}

/// Asks for a dump of this process and waits for its end, from within a signal handler.
///
/// `siginfo` and `context` are the addresses of what the kernel gave to that handler.
pub(crate) fn ask(socket: &OwnedFd, tid: i32, siginfo: u64, context: u64, late_ns: u64) -> u32 {
    // The handler reads these bytes in our memory: `ExceptionInformation`, packed.
    let mut information = [0_u8; 20];
    information[0..8].copy_from_slice(&siginfo.to_ne_bytes());
    information[8..16].copy_from_slice(&context.to_ne_bytes());
    information[16..20].copy_from_slice(&tid.to_ne_bytes());
    let answer = continue_signal();
    // Blocked first, so that an early answer waits for us.
    // SAFETY: the set is valid, and the old one isn't asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const answer, ptr::null_mut()) };
    let place = &raw const information as u64;
    let message = message(CRASH_DUMP_REQUEST, place, place);
    if send(socket, &message, SendFlags::NOSIGNAL).is_err() {
        return FAILED;
    }
    // The client's library waits as long.
    let wait = libc::timespec { tv_sec: 5, tv_nsec: 0 };
    loop {
        // SAFETY: set and time are valid, and what came with the signal isn't asked for.
        let got =
            unsafe { libc::sigtimedwait(&raw const answer, ptr::null_mut(), &raw const wait) };
        if got == libc::SIGCONT {
            return DUMPED;
        }
        // The handler stops this thread while it reads its registers, which ends the wait early.
        let interrupted = Errno::from_io_error(&std::io::Error::last_os_error());
        if interrupted != Some(Errno::INTR) || now_ns() > late_ns {
            return LATE;
        }
    }
}

fn continue_signal() -> libc::sigset_t {
    // SAFETY: all bytes of the structure may be zero.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the structure is valid.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the set is valid, and SIGCONT is a signal's number.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCONT) };
    set
}

/// The one dump in the database, wherever the handler has put it.
pub(crate) fn find(directory: &Path) -> Result<PathBuf, String> {
    let mut found = Vec::new();
    collect(&directory.join(DATABASE), &mut found);
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (last, others) => {
            let count = others + usize::from(last.is_some());
            Err(format!("Crashpad's database has {count} dumps"))
        }
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "dmp") {
            found.push(path);
        }
    }
}
