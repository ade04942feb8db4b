//! What a port and the rest of the crate say to each other: values without a system call, the same on every system.

use super::family::{Door, Tie};
use super::front::Front;
use crate::config::DumpSize;
use crate::heap::{List, Text};

/// What connects a worker with other processes of ours; at most one of them.
#[derive(Default)]
pub(crate) struct Ties<'a> {
    /// To the process in front of it.
    pub(crate) front: Option<Front>,
    /// To the guard of its role's family.
    pub(crate) family: Option<Tie>,
    /// The family that it is the head of.
    pub(crate) door: Option<&'a mut Door>,
}

/// What a process was started with and in.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The program's path; empty when it can't be found out.
    pub(crate) program: List<u8>,
    /// Arguments, the program's own name first.
    pub(crate) arguments: List<List<u8>>,
    /// Environment, `NAME=value` each.
    pub(crate) environment: List<List<u8>>,
    /// The working directory; empty when it was removed.
    pub(crate) directory: List<u8>,
    pub(crate) umask: u32,
    pub(crate) signal_mask: u64,
    pub(crate) ignored_signals: u64,
    /// The effective user.
    pub(crate) user: u32,
    /// The seccomp mode: 0 is none.
    pub(crate) seccomp: u32,
    /// Resource, soft, hard.
    pub(crate) rlimits: List<(i32, u64, u64)>,
    /// The values of the standard handles, on systems that have handles.
    pub(crate) streams: List<u64>,
    /// Where the process in front of this one is to be found, on systems where that is another than its guard; zero for none.
    #[cfg(feature = "guard-first")]
    pub(crate) front: u64,
}

/// The crash context.
pub(crate) struct Crash {
    pub(crate) tid: i32,
    pub(crate) signal: i32,
    pub(crate) code: i32,
    pub(crate) address: u64,
    pub(crate) sender_pid: u32,
    pub(crate) flags: u32,
    pub(crate) seen_ns: u64,
    pub(crate) seen_real_ns: u64,
    /// General registers in the order of the kernel's signal context; on Windows the address of the EXCEPTION_POINTERS alone.
    pub(crate) general: List<u64>,
    pub(crate) floating: List<u8>,
    pub(crate) stack_address: u64,
    pub(crate) stack: List<u8>,
}

/// A minidump and what is known of its making.
pub(crate) struct Dump {
    pub(crate) bytes: List<u8>,
    /// When all threads were held and let go, by the monotonic clock; zero where that isn't known.
    pub(crate) threads_stopped_ns: u64,
    pub(crate) threads_released_ns: u64,
    pub(crate) threads: usize,
    pub(crate) soft_errors: List<Text>,
}

/// What a minidump is made of, beside the process itself.
pub(crate) struct Subject<'a> {
    pub(crate) pid: u32,
    /// The keeper's thread, which needn't be stopped.
    pub(crate) keeper_tid: i32,
    pub(crate) crash: &'a Crash,
    pub(crate) size: DumpSize,
    pub(crate) extras: super::dumper::Extras,
    pub(crate) report_id: [u8; 16],
    pub(crate) annotations: &'a [(Text, Text)],
}

/// Why a transfer that the user's word has ended has failed.
pub(crate) const WITHDRAWN: &str = "the consent was withdrawn";

/// What is to be sent, and for how long at most.
pub(crate) struct Post<'a> {
    pub(crate) url: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    /// Whether the body is compressed by gzip (RFC 1952).
    pub(crate) is_compressed: bool,
    pub(crate) user_agent: &'a str,
    /// The file of certificates that the server's must be signed by; empty for the system's.
    pub(crate) certificates: &'a [u8],
    /// Asked again and again while something is sent, with how many bytes of the body were taken and how many it has, or twice zero where nobody knows; once it says no, nothing more is.
    pub(crate) may_send: &'a dyn Fn(usize, usize) -> bool,
    pub(crate) timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server answered; the body is cut at the limit.
    Response {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: List<u8>,
        /// `Retry-After`, as it came; empty for none.
        retry_after: List<u8>,
    },
    /// There was no answer; the reason is for a person.
    Failed(Text),
    /// This system has nothing to send with.
    NoBackEnd,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// The next worker runs.
    Yes,
    /// Another starter was chosen.
    Lost,
    /// The worker before it was not gone in time.
    Late,
    /// The exec failed with this error.
    Failed(i32),
    /// It is still under way at the deadline.
    NotYet,
}

/// When a starter starts.
#[derive(Clone, Copy)]
pub(crate) struct When {
    /// How long after the full exit.
    pub(crate) delay_ms: u64,
    /// Whether a crash waits, so that the start holds only if the worker doesn't survive it.
    pub(crate) at_crash: bool,
}

/// What a guard does that is held off while it stands for others too.
#[cfg_attr(not(feature = "roles"), expect(dead_code, reason = "it stands for nobody else"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// It leaves.
    Leave,
    /// It stands guard as before.
    GoOn,
    /// It stays for the others alone.
    Stay,
}

/// What ended a guard's sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A crash waits in the slot.
    Crash,
    /// The worker is gone, by the pidfd.
    Gone,
    /// The worker's process runs another program.
    Replaced,
    /// The worker survived the crash that was answered.
    Survived,
    /// This guard was asked to stop.
    Stop,
    /// What waits in the store may be sent now.
    Deliver,
    /// The deadline passed.
    Nothing,
}
