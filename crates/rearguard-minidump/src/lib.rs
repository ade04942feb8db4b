//! Writes a minidump of another Linux process.
//!
//! [`capture`] stops the threads of a process for as long as it takes to copy registers and stacks, reads at the same time what doesn't need them stopped, and returns a [`Capture`].
//! [`Capture::encode`] then makes the bytes of a minidump without touching the process again.
//! The guard of the `rearguard` crate is the main caller, but nothing here depends on it: any program that may trace the target can use the crate.
//!
//! Everything that is read from the target is taken for hostile.
//! Each size and each address is checked before it is used, each loop has a limit that is named in [`Limits`] or beside the loop, and whatever can't be read becomes a [`SoftError`] inside the dump.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rearguard_minidump::{Request, capture};
//!
//! let request = Request::new(4711);
//! let captured = capture(&request)?;
//! for error in captured.soft_errors() {
//!     eprintln!("{error}");
//! }
//! captured.write_to(&mut std::fs::File::create("4711.dmp")?)?;
//! # Ok(())
//! # }
//! ```
//!
//! The caller needs what a debugger needs (ptrace(2), "Ptrace access mode checking"): the same user, under Yama the target's word (PR_SET_PTRACER), or CAP_SYS_PTRACE.
//!
//! A crash is dumped while its handler waits: the handler stores what it was given where the dumper finds it, in memory that both have or through a pipe, and the dumper makes a [`CrashContext`] of it.
//! [`Registers::from_signal_context`] takes the arrays of the `ucontext_t` as they are.
//!
//! # What it never does
//!
//! - It never stops the crashing thread: a thread that is held by a tracer can't give up waiting for an answer.
//! - It never uses SIGSTOP: what PTRACE_SEIZE holds is released by the kernel when the tracer dies, a thread stopped by a signal stays stopped.
//! - It never puts the command line or the environment into a dump that wasn't asked for them, not even as the top of the main thread's stack.
//!
//! # Systems
//!
//! Linux on x86_64 and aarch64.
//! On other systems the crate compiles, and [`capture`] returns an error for which [`Error::is_unsupported`] is true.

// The code for one system is chosen here and nowhere else, so that the modules below need no `cfg` of their own.
macro_rules! on_supported_systems {
    ($($item:item)*) => {$(
        #[cfg(all(
            target_os = "linux",
            target_pointer_width = "64",
            target_endian = "little",
            any(target_arch = "x86_64", target_arch = "aarch64")
        ))]
        $item
    )*};
}

macro_rules! on_other_systems {
    ($($item:item)*) => {$(
        #[cfg(not(all(
            target_os = "linux",
            target_pointer_width = "64",
            target_endian = "little",
            any(target_arch = "x86_64", target_arch = "aarch64")
        )))]
        $item
    )*};
}

pub use error::Error;
pub use request::{CrashContext, Extras, Limits, Request, Step, Times, UserStream};
pub use soft_error::SoftError;

on_supported_systems! {
    mod bytes;
    #[expect(dead_code, reason = "one of its kinds is for the other systems")]
    mod error;
    mod encode;
    mod heap;
    mod linux;
    mod parse;
    mod registers;
    mod request;
    mod snapshot;
    mod soft_error;
    mod text;

    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub mod fuzzing;

    use linux::extras;
    pub use linux::{Capture, capture};
    pub use registers::Registers;
}

on_other_systems! {
    #[expect(dead_code, reason = "most of its kinds are for the supported systems")]
    mod error;
    #[expect(dead_code, reason = "only errors are put into words")]
    mod heap;
    #[expect(dead_code, reason = "what was chosen is for the supported systems")]
    mod request;
    #[expect(dead_code, reason = "only the public type is needed")]
    mod soft_error;
    #[expect(dead_code, reason = "no text of a kernel is read")]
    mod text;
    mod unsupported;

    use unsupported::extras;
    pub use unsupported::{Capture, Registers, capture};
}
