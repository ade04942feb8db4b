//! One fault as Windows tells it, or as we tell it for the runtime's ways to die that raise no exception.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use windows_sys::Win32::Foundation::EXCEPTION_STACK_OVERFLOW;
use windows_sys::Win32::System::Diagnostics::Debug::{
    CONTEXT, EXCEPTION_POINTERS, EXCEPTION_RECORD, RtlCaptureContext,
};
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::time;
use crate::black_box::{BlackBox, flags};

/// A fault and what was noted about it.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Where record and context lie; they stay there until the process ends.
    pub pointers: *const EXCEPTION_POINTERS,
    /// See [`flags`].
    pub flags: u32,
    /// The performance counter at the entry, in nanoseconds.
    pub seen_ns: u64,
    /// The thread that met it.
    pub tid: u32,
}

impl Fault {
    /// The fault behind an exception of this thread.
    pub fn of(pointers: *const EXCEPTION_POINTERS) -> Fault {
        Fault { pointers, flags: 0, seen_ns: time::monotonic_ns(), tid: thread_id() }
    }

    fn record(&self) -> Option<&EXCEPTION_RECORD> {
        // SAFETY: the system, or `with_context`, gives a valid pointer or null.
        let pointers = unsafe { self.pointers.as_ref() }?;
        // SAFETY: as above.
        unsafe { pointers.ExceptionRecord.as_ref() }
    }

    /// The exception's code; zero when it isn't known.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.record().map_or(0, |record| record.ExceptionCode as u32)
    }

    /// The exception's first parameter; zero where it has none.
    #[must_use]
    pub fn parameter(&self) -> usize {
        self.record().map_or(0, |record| record.ExceptionInformation[0])
    }

    /// The address that was accessed, where the exception has one, else the instruction's.
    #[must_use]
    pub fn address(&self) -> u64 {
        let Some(record) = self.record() else { return 0 };
        match record.ExceptionCode as u32 {
            // Access violation and in-page error tell the address in their second parameter (MSDN, EXCEPTION_RECORD).
            0xc000_0005 | 0xc000_0006 if record.NumberParameters >= 2 => {
                record.ExceptionInformation[1] as u64
            }
            _ => record.ExceptionAddress as u64,
        }
    }

    /// Stores the crash context in the black box.
    pub fn fill_slot(&self, black_box: &BlackBox) {
        let slot = &black_box.slot;
        let mut remarks = self.flags;
        if self.code() == EXCEPTION_STACK_OVERFLOW as u32 {
            remarks |= flags::NEAR_STACK_POINTER;
        }
        slot.flags.store(remarks, Ordering::Relaxed);
        slot.tid.store(self.tid, Ordering::Relaxed);
        slot.signal.store(self.code() as i32, Ordering::Relaxed);
        slot.code.store(self.parameter() as i32, Ordering::Relaxed);
        slot.address.store(self.address(), Ordering::Relaxed);
        slot.seen_ns.store(self.seen_ns, Ordering::Relaxed);
        slot.seen_real_ns.store(time::real_ns(), Ordering::Relaxed);
        // The guard reads record and context from this process, which waits.
        slot.general.set(0, self.pointers as u64);
        slot.general_count.store(1, Ordering::Relaxed);
        slot.floating_bytes.store(0, Ordering::Relaxed);
        slot.stack_bytes.store(0, Ordering::Relaxed);
    }
}

/// Makes an exception of this code out of the present moment, and calls `then` with it.
pub fn with_context(code: u32, then: impl FnOnce(*const EXCEPTION_POINTERS)) {
    let mut context = MaybeUninit::<CONTEXT>::zeroed();
    // SAFETY: the pointer refers to room for the structure, aligned as its type says.
    unsafe { RtlCaptureContext(context.as_mut_ptr()) };
    let mut record = EXCEPTION_RECORD {
        ExceptionCode: code as i32,
        // EXCEPTION_NONCONTINUABLE
        ExceptionFlags: 1,
        ExceptionRecord: core::ptr::null_mut(),
        ExceptionAddress: here(),
        NumberParameters: 0,
        ExceptionInformation: [0; 15],
    };
    let pointers = EXCEPTION_POINTERS {
        ExceptionRecord: &raw mut record,
        ContextRecord: context.as_mut_ptr(),
    };
    then(&raw const pointers);
}

/// An address in this module, near enough to the frame that the context shows.
fn here() -> *mut core::ffi::c_void {
    here as *const () as *mut core::ffi::c_void
}

/// The calling thread.
#[must_use]
pub fn thread_id() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { GetCurrentThreadId() }
}
