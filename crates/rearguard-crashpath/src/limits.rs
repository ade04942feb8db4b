//! Every time and size of the crash path, in one place.
//!
//! A limit says why it has this value and what happens when it is hit.

/// The stack on which a crash is handled, in bytes.
/// The thread's own may be the very thing that overflowed, and its alternate stack may leave only 5 KiB below an AVX-512 frame.
/// An overflow of this one meets a guard page and counts as a crash within the crash.
pub const EMERGENCY_STACK_BYTES: usize = 64 * 1024;

/// The stack for a crash within the crash, in bytes.
/// It runs only rearguard's own code, which needs about 1 KiB, below a signal frame of up to 12 KiB.
pub const NESTED_STACK_BYTES: usize = 32 * 1024;

/// The alternate signal stack of a thread that asks for one, in bytes.
/// Foreign handlers run there too, so it is larger than our own entry needs.
pub const ALTERNATE_STACK_BYTES: usize = 64 * 1024;

/// The stack of a process between clone and exec, in bytes.
pub const SPAWN_STACK_BYTES: usize = 16 * 1024;

/// How much of its stack a crashing thread copies into the black box, in bytes.
/// It is what a reader gets where neither ptrace nor memory reads are allowed; the rest is lost then.
pub const STACK_COPY_BYTES_MAX: usize = 64 * 1024;

/// How long a crashed worker waits for one guard's answer unless the application says otherwise, in milliseconds.
/// A dump takes milliseconds; five seconds is a machine that swaps. Afterwards the guard is ended and a late one is tried.
pub const DUMP_WAIT_MS_DEFAULT: u32 = 5_000;

/// The longest [`DUMP_WAIT_MS_DEFAULT`] that an application may choose, in milliseconds.
pub const DUMP_WAIT_MS_MAX: u32 = 60_000;

/// How many guards one crash may use up. After that the worker dies without a dump.
pub const GUARDS_PER_CRASH_MAX: u32 = 3;

/// How long a started guard has until it takes its place, in milliseconds; the seed's figure.
/// Afterwards the process that was started is ended, and counts as failed.
pub const GUARD_READY_MS_MAX: u32 = 2_000;

/// How much later than the keeper the kernel ends a guard that didn't take its place, in milliseconds. It is for the case that the keeper is gone.
pub const GUARD_ALARM_SLACK_MS: u32 = 1_000;

/// How long a crashed worker waits for a killed guard to be provably gone, in milliseconds.
/// A killed process goes in microseconds unless it sits in the kernel; then no second guard is started, so that there are never two.
pub const GUARD_DEATH_MS_MAX: u32 = 2_000;

/// How many guards the keeper starts within [`RESPAWN_PERIOD_MS`] while no crash is waiting.
/// Beyond it the worker runs on alone, and only a crash starts another guard.
pub const RESPAWN_INTENSITY_MAX: usize = 5;

/// The sliding window of [`RESPAWN_INTENSITY_MAX`], in milliseconds.
pub const RESPAWN_PERIOD_MS: u64 = 60_000;

/// How long the keeper waits after the answer before it takes the worker for a survivor of its own crash, in milliseconds.
/// A handler that was there first may have repaired the fault after all.
pub const SURVIVED_MS: u32 = 1_000;

/// How long a starter waits for the full exit of the worker before it, in milliseconds.
/// A core dump of a large process takes minutes; a process that is still there after ten is stuck in the kernel, and nothing is started beside it.
pub const FULL_EXIT_MS_MAX: u32 = 600_000;

/// How many foreign handlers can be under way at once with their fault remembered.
/// One more is still asked, but a crash inside it is reported as its own instead of the fault that it was asked about.
pub const ASKING_MAX: usize = 16;

/// How much of a thread's stack Windows keeps for the handling of an overflow there, in bytes.
/// Dispatching an exception takes up to 12 KiB with AVX-512 state, the handler about 1 KiB; the rest is for an earlier filter and the application's callback.
pub const STACK_GUARANTEE_BYTES: u32 = 64 * 1024;

/// How often in a row a handler may overrun the alternate stack before the process ends without a report. Once is a fault like any other; an endless row would never end by itself.
pub const OVERRUNS_MAX: u32 = 64;
