//! The end of the session, and the Restart Manager that closes a program for an update: both ask the windows of a process, so a guard has one that nobody sees.
//!
//! It has a thread of its own, since who doesn't answer within five seconds counts as hung, and a dump may take longer.
//! Its end is the process's end.

use std::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Win32::Foundation::HWND;
use windows_sys::Win32::System::Threading::{SetProcessShutdownParameters, Sleep};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    MSG, WM_ENDSESSION, WM_QUERYENDSESSION, WNDCLASSW, WS_EX_NOACTIVATE, WS_EX_TOOLWINDOW, WS_POPUP,
};

use super::libraries::Library;
use super::{threads, wide};

/// The window's class, by which a test finds it.
const CLASS: &str = "RearguardSession";

/// The thread's stack in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// How long the end of the session waits for a guard that is at work, in milliseconds. After five seconds it would count as hung.
const END_WAIT_MS_MAX: u32 = 4_000;

/// A guard is told after the worker, and after every ordinary program: the lowest level that applications may take (MSDN, SetProcessShutdownParameters).
const SHUTDOWN_LEVEL: u32 = 0x100;

/// Whether the windows of this session are being asked, or have been told, to end.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Whether this guard is at work on an end, and not asleep.
static AT_WORK: AtomicBool = AtomicBool::new(true);

/// Whether the session ends, or the Restart Manager closes the program.
pub(super) fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire)
}

/// Notes whether the guard is at work.
pub(super) fn set_at_work(at_work: bool) {
    AT_WORK.store(at_work, Ordering::Release);
}

/// Begins to listen. Where there is no session, as in a service, nobody will ask.
pub(super) fn listen() {
    // SAFETY: no memory is involved.
    unsafe { SetProcessShutdownParameters(SHUTDOWN_LEVEL, 0) };
    // Its failure is the lack of somebody to ask.
    let _ = threads::start(STACK_BYTES, || {
        let _ = run();
    });
}

/// user32's functions. It is loaded here alone, so no application has it for our sake.
type RegisterClass = unsafe extern "system" fn(*const WNDCLASSW) -> u16;
type CreateWindow = unsafe extern "system" fn(
    u32,
    *const u16,
    *const u16,
    u32,
    i32,
    i32,
    i32,
    i32,
    HWND,
    *const core::ffi::c_void,
    *const core::ffi::c_void,
    *const core::ffi::c_void,
) -> HWND;
type GetMessage = unsafe extern "system" fn(*mut MSG, HWND, u32, u32) -> i32;
type DispatchMessage = unsafe extern "system" fn(*const MSG) -> isize;
type DefaultProcedure = unsafe extern "system" fn(HWND, u32, usize, isize) -> isize;

/// Makes the window and serves it.
fn run() -> Option<()> {
    let library = Library::load("user32.dll")?;
    // SAFETY: these are the functions' types.
    let (register, create, next, dispatch) = unsafe {
        (
            library.function::<RegisterClass>(c"RegisterClassW")?,
            library.function::<CreateWindow>(c"CreateWindowExW")?,
            library.function::<GetMessage>(c"GetMessageW")?,
            library.function::<DispatchMessage>(c"DispatchMessageW")?,
        )
    };
    let name = wide::literal(CLASS);
    let class = WNDCLASSW {
        lpfnWndProc: Some(on_message),
        lpszClassName: name.as_ptr(),
        // SAFETY: all bytes of the structure may be zero.
        ..unsafe { core::mem::zeroed() }
    };
    // SAFETY: the structure and the name live through the call, which copies them.
    if unsafe { register(&raw const class) } == 0 {
        return None;
    }
    // Neither visible, nor in a task bar, nor ever in front; a window for messages alone (HWND_MESSAGE) isn't asked.
    let aside = WS_EX_TOOLWINDOW | WS_EX_NOACTIVATE;
    let (nobody, none) = (core::ptr::null_mut(), core::ptr::null());
    // SAFETY: the class is registered, and its name lives through the call.
    let window = unsafe {
        create(
            aside,
            name.as_ptr(),
            core::ptr::null(),
            WS_POPUP,
            0,
            0,
            0,
            0,
            nobody,
            none,
            none,
            none,
        )
    };
    if window.is_null() {
        return None;
    }
    // SAFETY: all bytes of the structure may be zero.
    let mut message: MSG = unsafe { core::mem::zeroed() };
    // SAFETY: the message is a living structure.
    while unsafe { next(&raw mut message, nobody, 0, 0) } > 0 {
        // SAFETY: as above.
        unsafe { dispatch(&raw const message) };
    }
    Some(())
}

/// Answers the two questions that matter; everything else has the system's own answer.
unsafe extern "system" fn on_message(
    window: HWND,
    message: u32,
    first: usize,
    second: isize,
) -> isize {
    match message {
        WM_QUERYENDSESSION => {
            ENDING.store(true, Ordering::Release);
            // A guard is in nobody's way.
            1
        }
        WM_ENDSESSION => {
            let ends = first != 0;
            ENDING.store(ends, Ordering::Release);
            let mut waited_ms = 0;
            // The system may end this process once it has its answer; what is being written can still be finished.
            while ends && AT_WORK.load(Ordering::Acquire) && waited_ms < END_WAIT_MS_MAX {
                const SLICE_MS: u32 = 20;
                // SAFETY: no memory is involved.
                unsafe { Sleep(SLICE_MS) };
                waited_ms += SLICE_MS;
            }
            0
        }
        _ => {
            let Some(library) = Library::load("user32.dll") else { return 0 };
            // SAFETY: this is the function's type.
            let default = unsafe { library.function::<DefaultProcedure>(c"DefWindowProcW") };
            // SAFETY: the arguments are the system's own.
            default.map_or(0, |default| unsafe { default(window, message, first, second) })
        }
    }
}
