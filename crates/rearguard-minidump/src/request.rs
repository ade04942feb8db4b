//! What a caller asks for, and the limits that hold whatever the target does.
//!
//! Plain data without a system call, so it is the same on every system.

use core::fmt;

use crate::{Registers, extras};

/// What the crash handler of the target knows about its crash.
#[derive(Clone, Debug)]
pub struct CrashContext<'a> {
    /// The thread that crashed; it is never stopped.
    pub tid: i32,
    /// The number of the signal.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// The true `si_addr`.
    pub address: u64,
    /// The registers at the fault, from the signal context.
    pub registers: Registers,
    /// What the handler itself copied of its stack: start address and bytes.
    ///
    /// It is used when the memory of the target can't be read.
    pub stack_copy: Option<(u64, &'a [u8])>,
}

/// A stream of the caller's own, put into the dump as it is.
#[derive(Clone, Copy, Debug)]
pub struct UserStream<'a> {
    /// The type in the directory; values above 0xffff are free for the use of applications.
    pub stream_type: u32,
    /// The contents.
    pub bytes: &'a [u8],
}

/// What goes into a dump by choice, beyond what every dump has.
///
/// Each choice is code of its own, which an executable that never asks for it doesn't hold.
/// The default is none of them; [`Request::new`] begins with the open files and the linker's list.
///
/// ```
/// use rearguard_minidump::Extras;
///
/// let extras = Extras::default().open_files().scrub_stacks().indirect_memory(64 * 1024);
/// # let _ = extras;
/// ```
#[derive(Clone, Copy, Default)]
pub struct Extras {
    pub(crate) open_files: Option<extras::Beside>,
    pub(crate) linker: Option<extras::InMemory>,
    pub(crate) command_line: Option<extras::Beside>,
    pub(crate) environment: Option<extras::Beside>,
    pub(crate) indirect: Option<(extras::Indirect, usize)>,
    pub(crate) scrub: Option<extras::Scrub>,
}

impl Extras {
    /// The open descriptors and what they lead to (MINIDUMP_HANDLE_DATA_STREAM); paths of files may tell of their user.
    pub fn open_files(self) -> Extras {
        Extras { open_files: Some(extras::OPEN_FILES), ..self }
    }

    /// The list of loaded objects that the dynamic linker keeps for debuggers (`r_debug`, see link.h), and the dynamic section of the executable.
    ///
    /// Readers that rebuild a core file from a minidump want it; others have all that they need in the list of modules.
    pub fn linker_list(self) -> Extras {
        Extras { linker: Some(extras::LINKER), ..self }
    }

    /// The command line, which may hold secrets.
    pub fn command_line(self) -> Extras {
        Extras { command_line: Some(extras::COMMAND_LINE), ..self }
    }

    /// The environment, which often holds secrets.
    ///
    /// It is what the process was started with; the stack that holds the same strings stays out of the dump.
    pub fn environment(self) -> Extras {
        Extras { environment: Some(extras::ENVIRONMENT), ..self }
    }

    /// 512 bytes around what the registers and the stack of the crashing thread point to, then what the registers of the others do; `bytes_max` in all, and 1 MiB at most.
    ///
    /// Without a crash there are the registers of all threads.
    /// It is read while the threads are held, which lengthens that by about two microseconds for each.
    /// An address whose memory another process serves (userfaultfd(2), a file of FUSE) may hold up the dump, and with it the target, until the dumper is ended.
    pub fn indirect_memory(self, bytes_max: usize) -> Extras {
        Extras { indirect: Some((extras::INDIRECT, bytes_max)), ..self }
    }

    /// Overwrites all words of stacks, indirect memory and general registers that are neither small (4096 at most, by their amount) nor point into a mapped file, into code or into the same stack, and leaves floating-point and vector registers out.
    ///
    /// Frames can still be found: the stack pointer, the frame pointer and the instruction pointer stay, and so do return addresses.
    /// What a debugger shows of variables isn't true then, and pointers into the heap are gone too.
    /// The word that is put there is `0x0defaced0defaced`, as Breakpad's readers know it.
    pub fn scrub_stacks(self) -> Extras {
        Extras { scrub: Some(extras::SCRUB), ..self }
    }
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras").finish_non_exhaustive()
    }
}

/// One dump to take.
pub struct Request<'a> {
    /// The process.
    pub pid: i32,
    /// The crash, or `None` for a dump of a living process.
    pub crash: Option<CrashContext<'a>>,
    /// Threads that are never stopped; the crashing thread is exempt without being named.
    ///
    /// A dump of a living process names the thread there that waits for the dump.
    pub exempt: &'a [i32],
    /// The limits.
    pub limits: Limits,
    /// The report's UUID, in the order in which it is written; zeros for none.
    pub report_id: [u8; 16],
    /// Keys and values; readers of minidumps know them as Crashpad's simple annotations.
    pub annotations: &'a [(&'a str, &'a str)],
    /// Streams of the caller's own.
    pub user_streams: &'a [UserStream<'a>],
    /// What goes into the dump by choice.
    pub extras: Extras,
    /// Called at each step, for tests that end or stop the dumping process there.
    ///
    /// It may be called on another thread and a stack of 256 KiB; a panic in it ends the process.
    pub probe: Option<&'a (dyn Fn(Step) + Sync)>,
}

impl Request<'_> {
    /// A dump of a living process with the default limits, with its open files and the linker's list.
    pub fn new(pid: i32) -> Self {
        Request {
            pid,
            crash: None,
            exempt: &[],
            limits: Limits::default(),
            report_id: [0; 16],
            annotations: &[],
            user_streams: &[],
            extras: Extras::default().open_files().linker_list(),
            probe: None,
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The steps of a capture, in their order.
///
/// From [`Step::Seized`] to [`Step::StacksCopied`] threads of the target are held, and until [`Step::Released`] they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing has been done to the target yet.
    BeforeSeize,
    /// The threads known so far are traced, and still run.
    Seized,
    /// All threads but the exempt ones are stopped.
    Stopped,
    /// Their registers are read.
    RegistersRead,
    /// Their stacks are copied.
    StacksCopied,
    /// Modules, names and texts are read, and the stacks of threads that weren't held.
    ModulesRead,
    /// The target isn't needed any more.
    BeforeEncode,
    /// All threads run again, and none is traced; told by whatever takes the bytes out of the capture.
    Released,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Step; 8] = [
        Step::BeforeSeize,
        Step::Seized,
        Step::Stopped,
        Step::RegistersRead,
        Step::StacksCopied,
        Step::ModulesRead,
        Step::BeforeEncode,
        Step::Released,
    ];
}

/// When the target was held, in nanoseconds of CLOCK_MONOTONIC; all 0 when no thread was stopped although there were some to be.
///
/// A target of which every thread waits already is held without being stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Before the first thread was asked to stop.
    pub first_stop_ns: u64,
    /// When all threads were stopped.
    pub threads_stopped_ns: u64,
    /// When all threads were seen to have been let go: not earlier than they were, and not before the bytes were made, or written by [`Capture::write_to`](crate::Capture::write_to).
    pub threads_released_ns: u64,
}

/// The limits of one dump.
///
/// What is hit shows as a [`SoftError`](crate::SoftError) in the dump; none of them makes the dump fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many threads are stopped and described; the others keep running and are left out. By default 2,048.
    ///
    /// Of more threads it is the main thread and those whose ids are nearest to the crashing thread's.
    pub threads_max: usize,
    /// Bytes of stack of a thread that didn't crash, counted from its stack pointer. By default 32 KiB.
    pub stack_bytes_per_thread_max: usize,
    /// Bytes of stack of the crashing thread; a quarter of them is for the far end of a stack that is larger. By default 128 KiB.
    pub crash_stack_bytes_max: usize,
    /// How many mapped files are looked at and listed. By default 1,024.
    pub modules_max: usize,
    /// Bytes of `/proc/<pid>/maps` that are read; the mappings behind are unknown to the dump. By default 4 MiB.
    ///
    /// Its text in the dump has at most a quarter of what is left of `file_bytes_max`.
    pub maps_bytes_max: usize,
    /// Bytes of each other text of the system that goes into the dump. By default 16 KiB.
    pub text_bytes_max: usize,
    /// How many open files are listed. By default 256.
    pub files_max: usize,
    /// Bytes of the whole dump, kept to the byte. By default 8 MiB.
    ///
    /// What goes first when not everything fits: the machine, the crash with its registers and the list of threads; the crashing thread's stack from its stack pointer, then its far end; modules; annotations; the caller's streams; registers of the other threads, names, open files, mappings, texts with command line and environment among them; at last the stacks of the others, of which all get the same share, or, where that were less than 2 KiB, those get 2 KiB whose ids are nearest to the crashing thread's.
    /// Indirect memory stands with the far end; the linker's list with the names.
    /// About 10 KiB are held for what went wrong, and a limit under 32 KiB counts as 32 KiB.
    pub file_bytes_max: usize,
    /// How long threads are waited for until they stop, in milliseconds. By default 300.
    pub stop_wait_ms_max: u32,
    /// How long an earlier tracer that was just killed is waited for, in milliseconds. By default 200.
    pub seize_retry_ms_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // A thousand threads is the most that measurements of servers show; twice that is room, and holds the contexts under 3 MB.
            threads_max: 2048,
            // Holds the frames of nearly every waiting thread, and 200 threads that all fill it under 7 MB.
            stack_bytes_per_thread_max: 32 * 1024,
            // An overflow shows its cycle of frames at the near end and who began it at the far end; the 8 MiB between are repetition.
            crash_stack_bytes_max: 128 * 1024,
            // Large desktop programs map 400 to 600 files.
            modules_max: 1024,
            // About 40,000 mappings, more than large virtual machines have; reading them takes the kernel some 20 ms.
            maps_bytes_max: 4 * 1024 * 1024,
            // Holds `status` and `os-release` whole, and `cpuinfo` of about ten processors.
            text_bytes_max: 16 * 1024,
            // Each takes a system call or two; programs with more are servers, whose many files are sockets that look alike.
            files_max: 256,
            // What collectors take without complaint is 20 MB and more, and most dumps are under 1 MB.
            file_bytes_max: 8 * 1024 * 1024,
            // A thread that doesn't stop within 0.3 s sleeps in the kernel without regard to signals; the crashing thread waits meanwhile.
            stop_wait_ms_max: 300,
            // The kernel takes well under 1 ms a traced thread to end a killed tracer.
            seize_retry_ms_max: 200,
        }
    }
}
