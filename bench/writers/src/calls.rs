//! The system calls of a whole dump, by somebody who looks at nothing that comes.
//!
//! It is the lower bound for a writer with two threads: one holds the program's threads and copies from them, the other reads what doesn't need them held.
//! Nothing is parsed beyond what the next call needs, nothing is encoded, and the file's contents mean nothing.
//! The order of the work is the fastest that was found: both threads read names, since a name costs as much as a thread that is held, and the one that reads lets the program's threads run on its processor, since they have to run to stop.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crash_context::CrashContext;
use libc::{c_long, c_void};

/// The register sets (see elf.h): the general one, and the one that holds all others' state.
const GENERAL: usize = 1;
#[cfg(target_arch = "x86_64")]
const STATE: usize = 0x202;
#[cfg(target_arch = "aarch64")]
const STATE: usize = 2;

/// What is copied of one stack at most.
const STACK_BYTES_MAX: usize = 3200;

/// What is copied of the beginning of a module.
const HEAD_BYTES: usize = 4096;

/// How many modules there are: less than the first means that they weren't found.
const MODULES: [usize; 2] = [3, 5];

/// The end of the list of mappings, where the libraries are.
const LIBRARIES_BYTES: usize = 3000;

/// How much one read asks for.
const CHUNK_BYTES: usize = 16 * 1024;

/// Pieces that one call of process_vm_readv takes.
const PIECES_MAX: usize = 1024;

/// One of so many names is read by the thread that holds, before it does.
const NAMES_SHARE: usize = 4;

/// Numbers that may be other processes' before the threads are listed.
const GAPS_MAX: usize = 32;

/// The stack of the second thread.
const ROOM_BYTES: usize = 256 * 1024;

/// How long the second thread's end is waited for awake, and how long a sleep is then.
const AWAKE: Duration = Duration::from_micros(60);
const SLEEP: Duration = Duration::from_micros(30);

/// A set of processors, a bit for each.
type Processors = [u64; 16];

/// What the two threads share.
struct Order {
    pid: i32,
    crashed: i32,
    /// The stack pointer of the crashed thread.
    stack: usize,
    count: usize,
    task: OwnedFd,
    /// Where the stacks go: address and bytes.
    body: (usize, usize),
    /// The program's threads, once they are listed.
    tids: OnceLock<Vec<i32>>,
    /// The threads were told to stop.
    is_called: AtomicBool,
    /// The id of the second thread.
    own: AtomicI32,
    /// What came of the second thread's work, once that is done.
    held: OnceLock<Result<Held, String>>,
}

/// What was held and read.
#[derive(Clone, Copy, Default)]
struct Held {
    stopped: usize,
    register_sets: usize,
}

/// The second thread is made once before, as that of rearguard-minidump is: its stack is there afterwards.
pub(crate) fn rehearse() -> Result<(), String> {
    join(start(nothing, ptr::null_mut(), None)?);
    Ok(())
}

extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
    ptr::null_mut()
}

/// Makes all calls for a program with so many `threads` beside the one that crashed, and writes a file of so many bytes.
pub(crate) fn write(
    crash: &CrashContext,
    threads: usize,
    bytes: usize,
    path: &Path,
) -> Result<(), String> {
    let directory = open(None, path_of(&mut [0; 32], "/proc/", crash.pid, "")?, libc::O_DIRECTORY)?;
    let task = open(Some(&directory), c"task", libc::O_DIRECTORY)?;
    let order = Order {
        pid: crash.pid,
        crashed: crash.tid,
        stack: crashed_stack(crash),
        count: thread_count(&task)?,
        task,
        body: (room(bytes)?, bytes),
        tids: OnceLock::new(),
        is_called: AtomicBool::new(false),
        own: AtomicI32::new(0),
        held: OnceLock::new(),
    };
    let second = if order.count > 1 { Some(Second::start(&order)?) } else { None };
    let read = meanwhile(&order, &directory, second.is_some());
    if second.is_none() {
        order.held.get_or_init(|| hold(&order));
    }
    let created = File::create(path).map_err(|error| error.to_string());
    let held = loop {
        match order.held.get() {
            Some(held) => break held,
            None => thread::yield_now(),
        }
    };
    // SAFETY: the memory was mapped with this length and is never unmapped; the second thread doesn't write to it any more.
    let body = unsafe { slice::from_raw_parts(order.body.0 as *const u8, bytes) };
    let written =
        created.and_then(|mut file| file.write_all(body).map_err(|error| error.to_string()));
    if let Some(second) = second {
        second.end(order.own.load(Ordering::Relaxed));
    }
    read.and(written)?;
    let Held { stopped, register_sets } = held.clone()?;
    if stopped < threads || stopped + 1 != order.count || register_sets != 2 * stopped {
        let count = order.count;
        return Err(format!("{stopped} of {count} threads stopped, {register_sets} register sets"));
    }
    Ok(())
}

/// The second thread, and the processors that the first one may use again afterwards.
struct Second {
    thread: libc::pthread_t,
    is_pinned: bool,
}

impl Second {
    /// Starts it on another processor than this one, where there is one, and keeps the first thread where it is, where there is but one other.
    fn start(order: &Order) -> Result<Second, String> {
        let mut others: Processors = [0; 16];
        // SAFETY: the kernel writes at most that many bytes of the set.
        let result =
            unsafe { libc::sched_getaffinity(0, size_of_val(&others), others.as_mut_ptr().cast()) };
        called(result.into(), "sched_getaffinity")?;
        // SAFETY: the call takes nothing.
        let at = called(unsafe { libc::sched_getcpu() }.into(), "sched_getcpu")?;
        let mut here: Processors = [0; 16];
        here[at / 64] = 1 << (at % 64);
        others[at / 64] &= !here[at / 64];
        let count: u32 = others.iter().map(|word| word.count_ones()).sum();
        let is_pinned = count == 1;
        if is_pinned {
            run_on(&here);
        }
        let argument = (&raw const *order).cast_mut().cast();
        let thread = start(beside, argument, (count > 0).then_some(&others))?;
        Ok(Second { thread, is_pinned })
    }

    /// Waits until the kernel has ended it, which lets the program's threads go.
    fn end(self, tid: i32) {
        join(self.thread);
        // SAFETY: the call takes nothing.
        let own = unsafe { libc::getpid() };
        let start = Instant::now();
        while is_there(own, tid) {
            if start.elapsed() < AWAKE { thread::yield_now() } else { thread::sleep(SLEEP) }
        }
        if self.is_pinned {
            run_on(&[u64::MAX; 16]);
        }
    }
}

extern "C" fn beside(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `write` passes its own order, which is there until this thread has ended.
    let order = unsafe { &*argument.cast_const().cast::<Order>() };
    // SAFETY: the call takes nothing.
    order.own.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    order.held.get_or_init(|| hold(order));
    ptr::null_mut()
}

/// Lists and holds the threads, reads their registers and copies the stacks.
fn hold(order: &Order) -> Result<Held, String> {
    let tids = order.tids.get_or_init(|| list(order));
    let others = || tids.iter().copied().filter(|tid| *tid != order.crashed);
    for tid in others() {
        trace(libc::PTRACE_SEIZE, tid, 0, ptr::null_mut(), "PTRACE_SEIZE")?;
    }
    read_names(order, tids.get(names_of_first(order.count)..).unwrap_or_default(), false)?;
    for tid in others() {
        trace(libc::PTRACE_INTERRUPT, tid, 0, ptr::null_mut(), "PTRACE_INTERRUPT")?;
    }
    order.is_called.store(true, Ordering::Relaxed);
    let mut held = Held::default();
    let mut stacks = Vec::with_capacity(order.count);
    stacks.push(piece(order.stack, STACK_BYTES_MAX));
    let mut words = [0_usize; 64];
    let mut state = [0_u8; 4096];
    for tid in others().rev() {
        while !register_set(tid, GENERAL, words.as_mut_ptr().cast(), size_of_val(&words))? {
            wait_stop(tid)?;
        }
        held.stopped += 1;
        held.register_sets += 1;
        if register_set(tid, STATE, state.as_mut_ptr().cast(), state.len())? {
            held.register_sets += 1;
        }
        stacks.push(stack(&words));
    }
    copy(order.pid, &stacks, order.body)?;
    Ok(held)
}

/// The ids of the program's threads: those that follow the main thread's closely are asked for by their numbers, and only where these aren't all the kernel lists them.
fn list(order: &Order) -> Vec<i32> {
    let mut tids = Vec::with_capacity(order.count);
    let mut misses = GAPS_MAX + order.count / 4;
    let mut tid = order.pid;
    while tids.len() < order.count && misses > 0 {
        if is_there(order.pid, tid) {
            tids.push(tid);
        } else {
            misses -= 1;
        }
        tid = tid.wrapping_add(1);
    }
    if tids.len() < order.count {
        tids.clear();
        // What is wrong with it shows when threads are missing.
        let _ = for_each_entry(&order.task, |name| {
            tids.extend(name.to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        });
    }
    tids
}

/// How many names the first thread reads.
fn names_of_first(count: usize) -> usize {
    count - count / NAMES_SHARE
}

/// What is read while the threads are held, by the first of two threads or by the only one.
fn meanwhile(order: &Order, directory: &OwnedFd, has_second: bool) -> Result<(), String> {
    let maps = read_mappings(directory)?;
    let mut chunk = [0; CHUNK_BYTES];
    for name in [c"auxv", c"stat", c"status"] {
        let file = open(Some(directory), name, 0)?;
        while read(&file, &mut chunk)? > 0 {}
    }
    read_heads(order.pid, &maps)?;
    let files = open(Some(directory), c"fd", libc::O_DIRECTORY)?;
    for_each_entry(&files, |name| {
        // SAFETY: the name ends with NUL, and the kernel writes at most that many bytes to the buffer. The two entries that are no links make it fail.
        unsafe {
            libc::readlinkat(
                files.as_raw_fd(),
                name.as_ptr(),
                chunk.as_mut_ptr().cast(),
                chunk.len(),
            )
        };
    })?;
    // SAFETY: no byte of the memory, which is mapped with this length, changes.
    let result = unsafe {
        libc::madvise(order.body.0 as *mut c_void, order.body.1, libc::MADV_POPULATE_WRITE)
    };
    called(result.into(), "MADV_POPULATE_WRITE")?;
    let tids = if has_second {
        loop {
            match (order.tids.get(), order.held.get()) {
                (Some(tids), _) => break tids,
                (None, Some(_)) => return Err("no threads were listed".to_owned()),
                (None, None) => thread::yield_now(),
            }
        }
    } else {
        order.tids.get_or_init(|| list(order))
    };
    read_names(order, tids.get(..names_of_first(order.count)).unwrap_or_default(), has_second)
}

/// Reads names; one `with_second` thread lets the program's threads run on this processor, once they were told to stop.
fn read_names(order: &Order, tids: &[i32], with_second: bool) -> Result<(), String> {
    let mut name = [0; 64];
    for tid in tids {
        if with_second && order.is_called.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let file = open(Some(&order.task), path_of(&mut [0; 32], "", *tid, "/comm")?, 0)?;
        read(&file, &mut name)?;
    }
    Ok(())
}

fn read_mappings(directory: &OwnedFd) -> Result<Vec<u8>, String> {
    let file = open(Some(directory), c"maps", 0)?;
    let mut maps = Vec::new();
    loop {
        let filled = maps.len();
        maps.resize(filled + CHUNK_BYTES, 0);
        let got = read(&file, &mut maps[filled..])?;
        maps.truncate(filled + got);
        if got == 0 {
            return Ok(maps);
        }
    }
}

/// Copies the beginnings of the executable, which is listed first, and of the libraries, which are among the last.
fn read_heads(pid: i32, maps: &[u8]) -> Result<(), String> {
    let last = maps.get(maps.len().saturating_sub(LIBRARIES_BYTES)..).unwrap_or_default();
    let lines = maps.split(|byte| *byte == b'\n').take(1);
    let lines = lines.chain(last.split(|byte| *byte == b'\n').skip(1));
    let starts = lines.filter_map(|line| {
        let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
        let (start, _) = words.next()?.split_once('-')?;
        let is_first = words.nth(1)?.bytes().all(|digit| digit == b'0');
        let is_file = words.nth(2)?.starts_with('/');
        if is_first && is_file { usize::from_str_radix(start, 16).ok() } else { None }
    });
    let [min, max] = MODULES;
    let heads: Vec<libc::iovec> = starts.take(max).map(|start| piece(start, HEAD_BYTES)).collect();
    if heads.len() < min {
        return Err(format!("{} modules were found", heads.len()));
    }
    let mut bytes = vec![0_u8; heads.len() * HEAD_BYTES];
    copy(pid, &heads, (bytes.as_mut_ptr() as usize, bytes.len()))
}

/// Copies pieces of the program's memory behind each other to a place, each as far as it can be read; one of which nothing can be read is an error.
fn copy(pid: i32, pieces: &[libc::iovec], place: (usize, usize)) -> Result<(), String> {
    let (mut start, mut left) = place;
    let mut next = 0;
    while let Some(rest) = pieces.get(next..).filter(|rest| !rest.is_empty()) {
        let count = rest.len().min(PIECES_MAX);
        let local = piece(start, left);
        // SAFETY: the kernel writes at most `left` bytes to `start`, which the callers have there, and only reads the other process.
        let got = unsafe {
            libc::process_vm_readv(pid, &raw const local, 1, rest.as_ptr(), count as _, 0)
        };
        let mut got = called(got as c_long, "process_vm_readv")?;
        start += got;
        left -= got;
        for piece in &rest[..count] {
            next += 1;
            if got == 0 {
                return Err("a piece of memory couldn't be read".to_owned());
            }
            if got < piece.iov_len {
                break;
            }
            got -= piece.iov_len;
        }
    }
    Ok(())
}

fn piece(address: usize, len: usize) -> libc::iovec {
    libc::iovec { iov_base: address as *mut c_void, iov_len: len }
}

/// What is copied of a stack: up to the thread's own data above it, which is near the mapping's end.
#[cfg(target_arch = "x86_64")]
fn stack(words: &[usize; 64]) -> libc::iovec {
    // rsp and fs_base of `user_regs_struct`.
    let (pointer, end) = (words[19], words[21]);
    let len = if pointer < end { end - pointer } else { STACK_BYTES_MAX };
    piece(pointer, len.min(STACK_BYTES_MAX))
}

#[cfg(target_arch = "aarch64")]
fn stack(words: &[usize; 64]) -> libc::iovec {
    piece(words[31], STACK_BYTES_MAX)
}

#[cfg(target_arch = "x86_64")]
fn crashed_stack(crash: &CrashContext) -> usize {
    crash.context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize
}

#[cfg(target_arch = "aarch64")]
fn crashed_stack(crash: &CrashContext) -> usize {
    crash.context.uc_mcontext.sp as usize
}

/// One request of ptrace, which reads and writes at most what `data` points to.
fn trace(
    request: libc::c_uint,
    tid: i32,
    address: usize,
    data: *mut c_void,
    what: &str,
) -> Result<(), String> {
    // SAFETY: the callers pass nothing, or a valid structure for the request.
    let result = unsafe { libc::ptrace(request as _, tid, address as *mut c_void, data) };
    called(result, what).map(|_| ())
}

/// Reads a register set of at most `len` bytes to `place`; false when the thread isn't stopped.
fn register_set(tid: i32, set: usize, place: *mut c_void, len: usize) -> Result<bool, String> {
    let mut buffer = libc::iovec { iov_base: place, iov_len: len };
    let data: *mut c_void = (&raw mut buffer).cast();
    // SAFETY: the kernel writes at most `iov_len` bytes to `place`, which the caller has there.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_GETREGSET as _, tid, set as *mut c_void, data) };
    if result != -1 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) {
        Ok(false)
    } else {
        Err(format!("PTRACE_GETREGSET: {error}"))
    }
}

/// Waits until a thread has stopped, and leaves its status where it is.
fn wait_stop(tid: i32) -> Result<(), String> {
    // SAFETY: all bytes of the structure may be zero.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the kernel writes one such structure.
    let result = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, &raw mut info, flags) };
    called(result.into(), "waitid")?;
    if info.si_code == libc::CLD_TRAPPED || info.si_code == libc::CLD_STOPPED {
        Ok(())
    } else {
        Err("a thread ended".to_owned())
    }
}

/// Whether a process has a thread.
fn is_there(pid: i32, tid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) == 0 }
}

/// How many threads there are: the kernel counts each as a link of their directory.
fn thread_count(task: &OwnedFd) -> Result<usize, String> {
    // SAFETY: all bytes of the structure may be zero.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one such structure.
    let result = unsafe { libc::fstat(task.as_raw_fd(), &raw mut stat) };
    called(result.into(), "fstat")?;
    (stat.st_nlink as usize).checked_sub(2).ok_or_else(|| "no threads".to_owned())
}

/// Memory for the file's body.
fn room(bytes: usize) -> Result<usize, String> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses a free place, so nothing that is mapped already is replaced.
    let place = unsafe { libc::mmap(ptr::null_mut(), bytes, rights, flags, -1, 0) };
    called(place as c_long, "mmap")
}

/// Makes a thread, where they are given on one of these processors.
fn start(
    work: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
    processors: Option<&Processors>,
) -> Result<libc::pthread_t, String> {
    // SAFETY: any bytes will do, the call below fills them.
    let mut attributes: libc::pthread_attr_t = unsafe { mem::zeroed() };
    // SAFETY: the structure is valid and not in use.
    unsafe { libc::pthread_attr_init(&raw mut attributes) };
    // SAFETY: the structure was filled by the call above.
    unsafe { libc::pthread_attr_setstacksize(&raw mut attributes, ROOM_BYTES) };
    if let Some(set) = processors {
        let (size, place) = (size_of_val(set), set.as_ptr().cast());
        // SAFETY: the structure is valid, and the set, whose size is told, is copied.
        unsafe { libc::pthread_attr_setaffinity_np(&raw mut attributes, size, place) };
    }
    // SAFETY: any bytes will do, the call below fills them.
    let mut thread: libc::pthread_t = unsafe { mem::zeroed() };
    // SAFETY: the callers keep what `argument` points to until the thread has ended.
    let errno =
        unsafe { libc::pthread_create(&raw mut thread, &raw const attributes, work, argument) };
    // SAFETY: the structure was filled above and isn't used any more.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    if errno == 0 { Ok(thread) } else { Err(format!("pthread_create: error {errno}")) }
}

/// Waits until the C library says that a thread has ended.
fn join(thread: libc::pthread_t) {
    // SAFETY: the thread was made by `start`, and its makers join it once.
    unsafe { libc::pthread_join(thread, ptr::null_mut()) };
}

/// Lets the calling thread run on these processors alone.
fn run_on(set: &Processors) {
    // SAFETY: the kernel reads the set, whose size is told.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set.as_ptr().cast()) };
}

/// Opens for reading, relative to a directory or to the working directory.
fn open(directory: Option<&OwnedFd>, path: &CStr, flags: i32) -> Result<OwnedFd, String> {
    let directory = directory.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
    let flags = flags | libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: `path` ends with NUL, and no mode is read without O_CREAT.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), flags) };
    called(fd.into(), "openat")?;
    // SAFETY: the call above returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads into `buffer`; 0 is the end.
fn read(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, String> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let got = unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    called(got as c_long, "read")
}

/// Calls `each` with the names in a directory.
fn for_each_entry(directory: &OwnedFd, mut each: impl FnMut(&CStr)) -> Result<(), String> {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let fd = directory.as_raw_fd();
    loop {
        let (place, len) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: the kernel writes at most `len` bytes to `place`.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, place, len) };
        let got = called(got, "getdents64")?;
        if got == 0 {
            return Ok(());
        }
        // An entry is two words of 8 bytes, its length in 2, a byte for its kind, then the name.
        let mut rest = &buffer[..got];
        while let Some(length) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let name = rest.get(19..length).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            let Some(name) = name else { break };
            each(name);
            rest = &rest[length..];
        }
    }
}

/// What is before a number, the number, and what is behind it, as a path.
fn path_of<'b>(
    buffer: &'b mut [u8; 32],
    before: &str,
    number: i32,
    behind: &str,
) -> Result<&'b CStr, String> {
    write!(&mut buffer[..], "{before}{number}{behind}\0").map_err(|error| error.to_string())?;
    CStr::from_bytes_until_nul(buffer).map_err(|error| error.to_string())
}

/// The result of a call that returns -1 for failure.
fn called(result: c_long, what: &str) -> Result<usize, String> {
    usize::try_from(result).map_err(|_| format!("{what}: {}", std::io::Error::last_os_error()))
}
