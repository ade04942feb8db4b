//! The worker's circumstances: which thread dies, who stands around, what memory there is.

#![expect(unsafe_code, reason = "mappings and foreign threads come from the C library")]

use std::io::Error;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use crate::args::{Args, DyingThread};
use crate::ways::{self, Way};

/// Enough for a thread that only parks; thousands of them have to fit.
const IDLE_STACK_BYTES: usize = 64 * 1024;

const MIB: usize = 1024 * 1024;

/// What a foreign thread is to do, and what came of it.
static FOREIGN: Mutex<Option<ForeignTask>> = Mutex::new(None);

#[derive(Debug)]
enum ForeignTask {
    Ordered(Way),
    Done(Result<u8, String>),
}

/// Idle threads and touched memory.
pub(crate) fn furnish(args: &Args) -> Result<(), String> {
    let barrier = Arc::new(Barrier::new(args.threads + 1));
    for number in 0..args.threads {
        let barrier = Arc::clone(&barrier);
        thread::Builder::new()
            .name(format!("idle-{number}"))
            .stack_size(IDLE_STACK_BYTES)
            .spawn(move || {
                barrier.wait();
                loop {
                    thread::park();
                }
            })
            .map_err(|error| format!("--threads: {error}"))?;
    }
    // From here on every idle thread has a stack of its own with something on it.
    barrier.wait();
    // Ones, not zeros: zeroed memory isn't touched.
    let heap = vec![1u8; args.heap_mib * MIB];
    std::mem::forget(std::hint::black_box(heap));
    Ok(())
}

/// Dies in the thread that the command line names.
/// `Ok` carries the exit status of the ways that are survived on purpose.
pub(crate) fn die(args: &Args) -> Result<u8, String> {
    let way = args.way;
    match args.thread {
        DyingThread::Main => ways::die(way),
        DyingThread::Std => thread::Builder::new()
            .name("doomed".to_owned())
            .spawn(move || ways::die(way))
            .map_err(|error| format!("--thread std: {error}"))?
            .join()
            // The panic of a thread that somebody waits for is the program's own, exit status 101.
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        DyingThread::Foreign => die_in_foreign_thread(way),
    }
}

fn die_in_foreign_thread(way: Way) -> Result<u8, String> {
    *FOREIGN.lock().unwrap_or_else(PoisonError::into_inner) = Some(ForeignTask::Ordered(way));
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `thread` is a live place for the identifier, null attributes are the defaults, and the routine takes a
    // null argument.
    let failed = unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            std::ptr::null(),
            foreign_thread,
            std::ptr::null_mut(),
        )
    };
    if failed != 0 {
        return Err(format!("--thread foreign: {}", Error::from_raw_os_error(failed)));
    }
    // SAFETY: pthread_create has succeeded, so it has written the identifier.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: the thread was created joinable, and is joined here only.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    match FOREIGN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(ForeignTask::Done(result)) => result,
        Some(ForeignTask::Ordered(_)) | None => Err("--thread foreign: it did nothing".to_owned()),
    }
}

/// A thread that std has never heard of: it has no alternate stack but the one that it asks rearguard for.
extern "C" fn foreign_thread(_argument: *mut libc::c_void) -> *mut libc::c_void {
    let protection = rearguard::protect_this_thread();
    if let Err(error) = &protection {
        eprintln!("crashzoo: --thread foreign: no protection: {error}");
    }
    let task = FOREIGN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ForeignTask::Ordered(way)) = task {
        let result = ways::die(way);
        *FOREIGN.lock().unwrap_or_else(PoisonError::into_inner) = Some(ForeignTask::Done(result));
    }
    std::ptr::null_mut()
}

/// The size of a page.
/// Asked once, so that handlers can have it too.
pub(crate) fn page_bytes() -> usize {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    let known = BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: sysconf takes a plain number.
    let asked = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = usize::try_from(asked).unwrap_or(4096);
    BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// The address of fresh pages that nobody may read, write or execute.
pub(crate) fn forbidden_pages(count: usize) -> Result<usize, String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(count * page_bytes(), libc::PROT_NONE, flags, -1)
}

/// The address of a readable page whose file has been cut off under it.
pub(crate) fn truncated_page() -> Result<usize, String> {
    let bytes = page_bytes();
    let length = libc::off_t::try_from(bytes).map_err(|error| error.to_string())?;
    // SAFETY: the name is a C string.
    let file = unsafe { libc::memfd_create(c"crashzoo-bus".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(format!("bus: {}", Error::last_os_error()));
    }
    // SAFETY: plain numbers only.
    unsafe { libc::ftruncate(file, length) };
    let page = map(bytes, libc::PROT_READ, libc::MAP_SHARED, file)?;
    // SAFETY: plain numbers only.
    unsafe { libc::ftruncate(file, 0) };
    Ok(page)
}

fn map(
    bytes: usize,
    access: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
) -> Result<usize, String> {
    // SAFETY: the kernel chooses the address, so no mapping of anybody's is replaced.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, file, 0) };
    if address == libc::MAP_FAILED {
        return Err(format!("mmap: {}", Error::last_os_error()));
    }
    Ok(address as usize)
}

/// Gives up root for good, as a daemon does that has opened what only root may open.
pub(crate) fn drop_user(user: u32) -> Result<(), String> {
    // SAFETY: no memory is involved; the C library tells every thread.
    if unsafe { libc::setgid(user) } != 0 {
        return Err(format!("--drop-user: setgid({user}): {}", Error::last_os_error()));
    }
    // SAFETY: as above.
    if unsafe { libc::setuid(user) } != 0 {
        return Err(format!("--drop-user: setuid({user}): {}", Error::last_os_error()));
    }
    Ok(())
}
