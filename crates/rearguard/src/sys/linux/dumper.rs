//! Step 6 of the story: from the crash slot to a minidump in memory, by our own writer.

use rearguard_minidump::{CrashContext, Limits, Registers, Request, Step, capture};

use crate::config::DumpSize;
use crate::heap::{List, Text, add, owned};
use crate::sys::words::{Dump, Subject};

/// What goes into a minidump by choice, beyond what every one has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    chosen: rearguard_minidump::Extras,
    /// A bit for each that was chosen.
    pub(crate) bits: u32,
}

impl Default for Extras {
    /// The linker's list, which tells nothing of the user, for readers that make a core file of a minidump.
    fn default() -> Extras {
        Extras { chosen: rearguard_minidump::Extras::default().linker_list(), bits: 0 }
    }
}

impl Extras {
    pub(crate) fn open_files(self) -> Extras {
        Extras { chosen: self.chosen.open_files(), bits: self.bits | 1 }
    }

    pub(crate) fn indirect_memory(self, bytes_max: usize) -> Extras {
        Extras { chosen: self.chosen.indirect_memory(bytes_max), bits: self.bits | 2 }
    }

    pub(crate) fn scrubbed_stacks(self) -> Extras {
        Extras { chosen: self.chosen.scrub_stacks(), bits: self.bits | 4 }
    }
}

/// Takes a minidump of a worker that waits at its crash. `probe` is called at each step, with its name, where there are fail spots.
///
/// The keeper isn't stopped: it sleeps, touches nothing of the application's, and a worker of one thread then has nobody to be stopped.
pub(crate) fn take(
    subject: &Subject<'_>,
    probe: &(dyn Fn(&'static str) + Sync),
) -> Result<Dump, Text> {
    let Subject { pid, keeper_tid, crash, .. } = *subject;
    let Some(registers) = Registers::from_signal_context(&crash.general, &crash.floating) else {
        return Err(owned("the crash slot holds no registers"));
    };
    let mut annotations = List::new();
    for (key, value) in subject.annotations {
        add(&mut annotations, (key.as_str(), value.as_str()));
    }
    let at_step = |step: Step| probe(step_name(step));
    let stack_copy =
        (!crash.stack.is_empty()).then_some((crash.stack_address, crash.stack.as_slice()));
    let request = Request {
        pid: pid as i32,
        crash: Some(CrashContext {
            tid: crash.tid,
            signal: crash.signal,
            code: crash.code,
            address: crash.address,
            registers,
            stack_copy,
        }),
        limits: limits_of(subject.size),
        exempt: &[keeper_tid],
        report_id: subject.report_id,
        annotations: &annotations,
        extras: subject.extras.chosen,
        probe: if cfg!(feature = "fail-spots") { Some(&at_step) } else { None },
        ..Request::new(pid as i32)
    };
    let captured = capture(&request).map_err(|error| Text::from(String::from(&error)))?;
    let threads = captured.thread_count();
    let mut soft_errors = List::new();
    for error in captured.soft_errors() {
        add(&mut soft_errors, Text::from(String::from(error)));
    }
    let (bytes, times) = captured.finish();
    Ok(Dump {
        bytes: bytes.into(),
        threads_stopped_ns: times.threads_stopped_ns,
        threads_released_ns: times.threads_released_ns,
        threads,
        soft_errors,
    })
}

/// What each size means for the writer.
fn limits_of(size: DumpSize) -> Limits {
    let mut limits = Limits { file_bytes_max: size.bytes_max(), ..Limits::default() };
    let (crashed, others) = match size {
        DumpSize::Small => (64 << 10, 8 << 10),
        DumpSize::Standard => return limits,
        DumpSize::Large => (1 << 20, 128 << 10),
    };
    limits.crash_stack_bytes_max = crashed;
    limits.stack_bytes_per_thread_max = others;
    limits
}

/// Takes a dump of this guard itself, and forgets it.
///
/// The first dump of a process costs half as much again as the second, since code and memory are touched for the first time; so it is taken while nobody waits.
pub(crate) fn rehearse() {
    let own = std::process::id() as i32;
    let request = Request { exempt: &[own], extras: Extras::default().chosen, ..Request::new(own) };
    if let Ok(captured) = capture(&request) {
        drop(captured.encode());
    }
}

/// The name of a step for a test's fail spot.
fn step_name(step: Step) -> &'static str {
    match step {
        Step::BeforeSeize => "before-seize",
        Step::Seized => "seized",
        Step::Stopped => "stopped",
        Step::RegistersRead => "registers-read",
        Step::StacksCopied => "stacks-copied",
        Step::Released => "released",
        Step::ModulesRead => "modules-read",
        Step::BeforeEncode => "before-encode",
    }
}
