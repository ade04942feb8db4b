//! What a crash leaves: the metadata's timeline from the store, and the minidump as the reference reader sees it.

use std::fs;
use std::path::{Path, PathBuf};

use minidump::{
    Minidump, MinidumpException, MinidumpModuleList, MinidumpSystemInfo, MinidumpThreadList,
    MinidumpThreadNames, Module,
};
use serde_json::Value;

/// The moments of the timeline, in the words of the metadata.
const MOMENTS: [(&str, &str); 7] = [
    ("crash_seen", "the crash handler has seen the crash"),
    ("threads_stopped", "the guard has stopped the other threads"),
    ("threads_released", "and let go of them"),
    ("dump_finished", "the minidump is in the store"),
    ("worker_released", "the worker may die"),
    ("full_exit", "the worker's process is gone"),
    ("restarted", "the next worker is started"),
];

/// One line of the timeline: milliseconds after the crash was seen, and what happened.
pub(super) type Moment = (f64, &'static str);

/// The timeline of a report, in the order in which things happened.
pub(super) fn timeline(store: &Path, report: &str) -> Result<Vec<Moment>, String> {
    let name = format!("{report}.json");
    let path = find(store, &name)
        .ok_or_else(|| format!("{name} is nowhere in the store {}", store.display()))?;
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let at = |key: &str| metadata.get("timeline")?.get(key)?.as_u64();
    let begin = at("crash_seen").ok_or_else(|| format!("{name} has no timeline"))?;
    let mut moments = Vec::new();
    for (key, words) in MOMENTS {
        let t_ns = at(key).ok_or_else(|| format!("{name}: the timeline lacks {key}"))?;
        let after = t_ns
            .checked_sub(begin)
            .ok_or_else(|| format!("{name}: {key} is earlier than the crash"))?;
        // Exact enough for a demo: 2^53 ns are a hundred days.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a few milliseconds, shown with three digits"
        )]
        moments.push((after as f64 / 1e6, words));
    }
    moments.sort_by(|left, right| left.0.total_cmp(&right.0));
    Ok(moments)
}

/// A file by name, anywhere below a directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name {
            return Some(path);
        }
    }
    None
}

/// What a minidump says about the crash.
#[derive(Clone, Debug)]
pub(super) struct Crash {
    pub(super) reason: String,
    pub(super) address: u64,
    pub(super) thread: u32,
    pub(super) thread_name: String,
    pub(super) place: String,
    pub(super) threads: usize,
    pub(super) modules: usize,
}

/// Reads a minidump.
pub(super) fn read_dump(bytes: &[u8]) -> Result<Crash, String> {
    let problem = |what: &str, error: minidump::Error| format!("the minidump's {what}: {error}");
    let dump = Minidump::read(bytes).map_err(|error| problem("header", error))?;
    let system: MinidumpSystemInfo =
        dump.get_stream().map_err(|error| problem("system info", error))?;
    let exception: MinidumpException<'_> =
        dump.get_stream().map_err(|error| problem("exception", error))?;
    let threads: MinidumpThreadList<'_> =
        dump.get_stream().map_err(|error| problem("thread list", error))?;
    let names: MinidumpThreadNames =
        dump.get_stream().map_err(|error| problem("thread names", error))?;
    let modules: MinidumpModuleList =
        dump.get_stream().map_err(|error| problem("module list", error))?;
    let context = exception.context(&system, None).ok_or("the minidump has no registers")?;
    let instruction = context.get_instruction_pointer();
    let place = match modules.module_at_address(instruction) {
        Some(module) => {
            let file = module.code_file();
            let name = file.rsplit('/').next().unwrap_or_default();
            format!("{name}+{:#x}", instruction - module.base_address())
        }
        None => format!("{instruction:#x}, in no module"),
    };
    let thread = exception.get_crashing_thread_id();
    Ok(Crash {
        reason: exception.get_crash_reason(system.os, system.cpu).to_string(),
        address: exception.get_crash_address(system.os, system.cpu),
        thread,
        thread_name: names.get_name(thread).unwrap_or_default().into_owned(),
        place,
        threads: threads.threads.len(),
        modules: modules.iter().count(),
    })
}
