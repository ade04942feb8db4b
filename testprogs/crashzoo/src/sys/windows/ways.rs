//! The ways that take Windows: its runtimes, its fast ends, its heap, a main thread that leaves.

#![expect(unsafe_code, reason = "the ways of the system: a locked heap, a thread that ends itself")]

use std::io::Error;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::System::Memory::{GetProcessHeap, HeapLock};
use windows_sys::Win32::System::Threading::{
    ExitThread, GetCurrentThreadId, OpenThread, SYNCHRONIZATION_SYNCHRONIZE, WaitForSingleObject,
};

use super::super::WAIT_MAX;
use super::{fault as own_fault, process, raise};
use crate::fault;
use crate::trace::{self, Event};

/// All ways of this system, as the usage text lists them.
pub(crate) const LISTED: &str = "  none exit-3 null-write null-call jump-bad-address bad-stack abort ill fpe trap stack-overflow panic
  panic-in-thread panic-abort panic-in-drop oom terminate crash-in-handler crash-x8 malloc-locked
  main-exited foreign-handler foreign-handler-after recovered-fault broken-pipe purecall
  invalid-parameter cpp-exception heap-corruption fast-fail";

/// The exit code of `terminate`, which nothing else gives.
const TERMINATED: u32 = 9;

/// A way that other systems don't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Purecall,
    InvalidParameter,
    CppException,
    HeapCorruption,
    FastFail,
    Terminate,
}

pub(crate) const WORDS: [(&str, Way); 6] = [
    ("purecall", Way::Purecall),
    ("invalid-parameter", Way::InvalidParameter),
    ("cpp-exception", Way::CppException),
    ("heap-corruption", Way::HeapCorruption),
    ("fast-fail", Way::FastFail),
    ("terminate", Way::Terminate),
];

/// Whether a way has its own moment of dying, or none.
pub(crate) fn says_so_itself(_way: Way) -> bool {
    false
}

/// Dies.
/// A status is for the ways that are survived on purpose, nothing for those that failed to kill.
pub(crate) fn die(way: Way) -> Result<Option<u8>, String> {
    match way {
        Way::Purecall => raise::purecall(),
        Way::InvalidParameter => raise::invalid_parameter(),
        Way::CppException => raise::cpp_exception(),
        Way::HeapCorruption => raise::heap_corruption(),
        Way::FastFail => own_fault::fast_fail(),
        Way::Terminate => process::terminate(TERMINATED),
    }
    Ok(None)
}

/// Asks for more than there are addresses.
pub(crate) fn out_of_memory() -> Result<(), String> {
    let never = Vec::<u8>::with_capacity(isize::MAX.unsigned_abs());
    std::hint::black_box(never.as_ptr());
    Ok(())
}

/// Faults with the heap's lock held: whoever waits for a thread that needs the heap waits for ever.
pub(crate) fn malloc_locked() -> Result<(), String> {
    // SAFETY: the call has no preconditions.
    let heap = unsafe { GetProcessHeap() };
    // SAFETY: the process's heap lives as long as the process.
    if unsafe { HeapLock(heap) } == 0 {
        return Err(format!("malloc-locked: {}", Error::last_os_error()));
    }
    fault::null_write();
    Ok(())
}

/// Ends the main thread alone, then faults in another one.
pub(crate) fn main_exited() -> Result<(), String> {
    if std::thread::current().name() != Some("main") {
        return Err("main-exited: it needs --thread main".to_owned());
    }
    // SAFETY: the call has no preconditions.
    let id = unsafe { GetCurrentThreadId() };
    // SAFETY: plain numbers only.
    let raw = unsafe { OpenThread(SYNCHRONIZATION_SYNCHRONIZE, 0, id) };
    if raw.is_null() {
        return Err(format!("main-exited: {}", Error::last_os_error()));
    }
    // SAFETY: the handle was made just now and is nobody else's.
    let main = unsafe { OwnedHandle::from_raw_handle(raw) };
    let wait_ms = u32::try_from(WAIT_MAX.as_millis()).unwrap_or(u32::MAX);
    std::thread::Builder::new()
        .name("heir".to_owned())
        .spawn(move || {
            // SAFETY: the handle is open through the call.
            unsafe { WaitForSingleObject(main.as_raw_handle(), wait_ms) };
            trace::tell(Event::Dying);
            fault::null_write();
        })
        .map_err(|error| format!("main-exited: {error}"))?;
    // SAFETY: this ends the calling thread alone; what the program still uses lives in statics.
    unsafe { ExitThread(0) }
}
