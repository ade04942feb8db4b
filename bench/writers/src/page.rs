//! The memory that stage, writer and program share: what the handler knows of the crash, and what the program has measured.

use std::cell::UnsafeCell;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crash_context::CrashContext;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// The program has been told that its dump is written.
pub(crate) const DUMPED: u32 = 1;
/// The program has been told that there is no dump.
pub(crate) const FAILED: u32 = 2;
/// The program has waited in vain.
pub(crate) const LATE: u32 = 3;

/// Its bytes are zero in the beginning, which is a valid value of every field.
#[repr(C)]
pub(crate) struct Page {
    /// The clock directly before the faulting instruction.
    pub(crate) fault_ns: AtomicU64,
    /// The clock when the handler had its answer.
    pub(crate) answered_ns: AtomicU64,
    /// What the answer was; 0 before there is one.
    pub(crate) outcome: AtomicU32,
    /// The watching thread's last look at the clock; 0 before it has begun, or where there is none.
    pub(crate) looked_ns: AtomicU64,
    /// The longest time between two looks at the clock of the watching thread.
    pub(crate) gap_ns: AtomicU64,
    crash: UnsafeCell<CrashContext>,
}

// SAFETY: the one field that isn't atomic is written by the crashing thread alone, before it asks for the dump, and read by the writer alone, after it was asked.
unsafe impl Sync for Page {}

impl Page {
    /// New memory for a page, which child processes inherit.
    pub(crate) fn create() -> Result<OwnedFd, String> {
        let fd = memfd_create("writers", MemfdFlags::empty())
            .map_err(|error| format!("memfd_create: {error}"))?;
        ftruncate(&fd, size_of::<Page>() as u64).map_err(|error| format!("ftruncate: {error}"))?;
        Ok(fd)
    }

    /// Maps it for as long as the process lives.
    pub(crate) fn map(fd: &OwnedFd) -> Result<&'static Page, String> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free place, so nothing that is mapped already is replaced.
        let place =
            unsafe { mmap(ptr::null_mut(), size_of::<Page>(), rights, MapFlags::SHARED, fd, 0) };
        let place = place.map_err(|error| format!("mmap: {error}"))?.cast::<Page>();
        // SAFETY: the mapping is as long as the type, is never removed, and holds a valid value as the type's documentation says.
        Ok(unsafe { &*place })
    }

    /// What is known of the crash, to be filled in by the handler before it asks.
    ///
    /// # Safety
    ///
    /// The caller is the only thread of all processes that uses the crash.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that there is no other reference")]
    pub(crate) unsafe fn crash_mut(&self) -> &mut CrashContext {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.crash.get() }
    }

    /// The crash as the handler has left it.
    ///
    /// # Safety
    ///
    /// The handler has filled it in, and the caller knows it by what the handler sent afterwards.
    pub(crate) unsafe fn crash(&self) -> &CrashContext {
        // SAFETY: the handler doesn't touch it again, by the caller's promise.
        unsafe { &*self.crash.get() }
    }

    pub(crate) fn outcome(&self) -> &'static str {
        match self.outcome.load(Ordering::Acquire) {
            0 => "the program's handler had no answer when the program ended",
            DUMPED => "dumped",
            FAILED => "the writer says that there is no dump",
            _ => "the writer didn't answer in time",
        }
    }
}
