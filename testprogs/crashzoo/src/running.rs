//! The worker's circumstances: what it was started with, which thread dies, who stands around, what memory there is.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use crate::args::{Args, DyingThread};
use crate::sys;
use crate::ways::{self, Way};

/// Enough for a thread that only parks; thousands of them have to fit.
const IDLE_STACK_BYTES: usize = 64 * 1024;

const MIB: usize = 1024 * 1024;

/// The variable that `--print-args` tells.
const VARIABLE: &str = "ZOO_ENV";

/// What a foreign thread is to do, and what came of it.
static FOREIGN: Mutex<Option<ForeignTask>> = Mutex::new(None);

#[derive(Debug)]
enum ForeignTask {
    Ordered(Way),
    Done(Result<u8, String>),
}

/// Appends what this life was started with, a line each: the command line, the current directory, the variable.
///
/// One write, so that lives that overlap don't mix their lines.
pub(crate) fn print_args(path: &Path) -> Result<(), String> {
    let problem = |error| format!("--print-args {}: {error}", path.display());
    let directory = std::env::current_dir().map_err(problem)?;
    let variable = std::env::var_os(VARIABLE).unwrap_or_default();
    let mut lines = sys::process::command_line();
    for text in [directory.as_os_str(), &variable] {
        lines.push(b'\n');
        lines.extend_from_slice(text.as_encoded_bytes());
    }
    lines.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(problem)?;
    file.write_all(&lines).map_err(problem)
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
    let small_stack = args.small_stack;
    let die = move || {
        if let Some(room_bytes) = small_stack {
            sys::neighbours::use_small_stack(room_bytes)?;
        }
        ways::die(way)
    };
    match args.thread {
        DyingThread::Main => die(),
        DyingThread::Std => thread::Builder::new()
            .name("doomed".to_owned())
            .spawn(die)
            .map_err(|error| format!("--thread std: {error}"))?
            .join()
            // The panic of a thread that somebody waits for is the program's own, exit status 101.
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        DyingThread::Foreign => die_in_foreign_thread(way),
    }
}

fn die_in_foreign_thread(way: Way) -> Result<u8, String> {
    *FOREIGN.lock().unwrap_or_else(PoisonError::into_inner) = Some(ForeignTask::Ordered(way));
    sys::thread::run_foreign(foreign_thread)?;
    match FOREIGN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(ForeignTask::Done(result)) => result,
        Some(ForeignTask::Ordered(_)) | None => Err("--thread foreign: it did nothing".to_owned()),
    }
}

/// A thread that std has never heard of: for its own stack's end it has no other stack but what it asks rearguard for.
fn foreign_thread() {
    let protection = rearguard::protect_this_thread();
    if let Err(error) = &protection {
        eprintln!("crashzoo: --thread foreign: no protection: {error}");
    }
    let task = FOREIGN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ForeignTask::Ordered(way)) = task {
        let result = ways::die(way);
        *FOREIGN.lock().unwrap_or_else(PoisonError::into_inner) = Some(ForeignTask::Done(result));
    }
}
