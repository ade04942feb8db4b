//! The C runtime's own ways to die, which raise no exception: `abort`, an invalid parameter, a call of a pure virtual function.
//!
//! The runtime is found where the program has it: the functions are looked up in the library that is loaded, since which of them there are differs from runtime to runtime.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

use super::handler::{End, crash_without_exception};

/// STATUS_FATAL_APP_EXIT: what an `abort` is told as.
const ABORT: u32 = 0x4000_0015;
/// STATUS_INVALID_CRUNTIME_PARAMETER.
const INVALID_PARAMETER: u32 = 0xc000_0417;
/// STATUS_NONCONTINUABLE_EXCEPTION: what a pure call is told as, as in Breakpad.
const PURE_CALL: u32 = 0xc000_0025;

const SIGABRT: c_int = 22;
/// The largest of the runtime's values that are no addresses: default, ignore, get, acknowledge.
const NO_HANDLER_MAX: usize = 4;

type Signal = unsafe extern "C" fn(c_int, usize) -> usize;
type SetHandler = unsafe extern "C" fn(usize) -> usize;

/// The handlers that were there first.
static EARLIER_ABORT: AtomicUsize = AtomicUsize::new(0);

/// The runtimes that a program may have, newest first.
const RUNTIMES: [&[u16]; 3] =
    [&wide(b"ucrtbase.dll\0"), &wide(b"vcruntime140.dll\0"), &wide(b"msvcrt.dll\0")];

/// Installs our handlers in every runtime that is loaded.
pub(super) fn arm() {
    for module in loaded() {
        let earlier = set_abort_handler(module, on_abort as *const () as usize);
        if earlier > NO_HANDLER_MAX && earlier != on_abort as *const () as usize {
            EARLIER_ABORT.store(earlier, Ordering::Release);
        }
        let invalid_parameter = on_invalid_parameter as *const () as usize;
        set_handler(module, c"_set_invalid_parameter_handler", invalid_parameter);
        set_handler(module, c"_set_purecall_handler", on_pure_call as *const () as usize);
    }
}

/// The runtimes that are loaded.
fn loaded() -> impl Iterator<Item = *mut c_void> {
    RUNTIMES.into_iter().filter_map(|name| {
        // SAFETY: the name ends with a NUL.
        let module = unsafe { GetModuleHandleW(name.as_ptr()) };
        (!module.is_null()).then_some(module)
    })
}

/// Sets what a runtime calls at an `abort`, and says what it was; zero, the default, also where there is no such function.
fn set_abort_handler(module: *mut c_void, handler: usize) -> usize {
    let Some(signal) = function(module, c"signal") else { return 0 };
    // SAFETY: this is the function's type in every C runtime.
    let signal: Signal = unsafe { core::mem::transmute(signal) };
    // SAFETY: the handler is ours, which may run in any state, or what was there before.
    unsafe { signal(SIGABRT, handler) }
}

fn set_handler(module: *mut c_void, name: &core::ffi::CStr, handler: usize) {
    if let Some(set) = function(module, name) {
        // SAFETY: both functions have this type.
        let set: SetHandler = unsafe { core::mem::transmute(set) };
        // SAFETY: the handlers never return.
        unsafe { set(handler) };
    }
}

/// Puts the earlier handler back for `abort`; the other two have none that a program could ask for.
pub(super) fn disarm() {
    for module in loaded() {
        set_abort_handler(module, EARLIER_ABORT.load(Ordering::Acquire));
        set_handler(module, c"_set_invalid_parameter_handler", 0);
        set_handler(module, c"_set_purecall_handler", 0);
    }
}

fn function(
    module: *mut c_void,
    name: &core::ffi::CStr,
) -> Option<unsafe extern "system" fn() -> isize> {
    // SAFETY: the module is loaded, and the name ends with a NUL.
    unsafe { GetProcAddress(module, name.as_ptr().cast()) }
}

/// An `abort`: reported, then the runtime goes on to its end.
extern "C" fn on_abort(signal: c_int) {
    crash_without_exception(ABORT, End::ByTheRuntime);
    let earlier = EARLIER_ABORT.load(Ordering::Acquire);
    if earlier != 0 {
        // SAFETY: it was installed as a handler of this signal.
        let earlier: extern "C" fn(c_int) = unsafe { core::mem::transmute(earlier) };
        earlier(signal);
    }
}

extern "C" fn on_invalid_parameter(
    _expression: *const u16,
    _function: *const u16,
    _file: *const u16,
    _line: u32,
    _reserved: usize,
) {
    crash_without_exception(INVALID_PARAMETER, End::ByUs);
}

extern "C" fn on_pure_call() {
    crash_without_exception(PURE_CALL, End::ByUs);
}

/// ASCII as UTF-16.
const fn wide<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut wide = [0; N];
    let mut at = 0;
    while at < N {
        wide[at] = text[at] as u16;
        at += 1;
    }
    wide
}
