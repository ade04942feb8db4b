//! The application's crash callback: its last word, said in the crashed thread.

/// What the application's crash callback learns.
#[derive(Clone, Copy, Debug)]
pub struct CrashInfo {
    /// The signal; on Windows the exception's code (an NTSTATUS).
    pub signal: i32,
    /// `si_code`; on Windows the exception's first parameter, cut to 32 bits: of an access violation 0 is a read, 1 a write, 8 an execution.
    pub code: i32,
    /// The address of the fault; zero where the signal has none.
    pub address: u64,
    /// The crashed thread.
    pub tid: i32,
}

/// The type of the callback. It runs in the crashed thread: on Linux on the emergency stack, on Windows on the thread's own.
pub type Callback = fn(&CrashInfo);
