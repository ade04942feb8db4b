//! The same crash, many times: one report, and a count.
//!
//! The first report of a signature leads; for each further crash within the window a byte is appended to a file beside its minidump, which is one system call that no two processes can mix up.

use std::path::Path;

use super::{Report, Stage, Store, TIME_BYTES, file_name, is_report_name};
use crate::heap::{Text, below};
use crate::limits::{REPEATS_MAX, REPORT_NAME_BYTES, STORE_ENTRIES_MAX};
use crate::report_id::compact_time;
use crate::sys::{file, process};
use crate::text::push_hexadecimal;

/// Where for each signature its leader's name stands.
pub(super) const DIRECTORY: &str = "repeats";

/// How many signatures are known. Beyond it all begin anew, which costs one more report of each.
const SIGNATURES_MAX: usize = 256;

impl Store {
    fn signature_path(&self, signature: u64) -> &'static Path {
        let mut name = Text::new();
        push_hexadecimal(&mut name, signature);
        below(below(self.root, DIRECTORY), name)
    }

    /// Counts a crash of this signature, if one within the window has a report, and gives that report's UUID.
    pub(crate) fn count_repeat(&self, signature: u64) -> Option<&'static str> {
        let window_ns = self.reporting.same_crash_s.saturating_mul(1_000_000_000);
        let name = file::read(self.signature_path(signature), REPORT_NAME_BYTES).ok()?;
        let name = Text::from_utf8(name)?.leak();
        if !is_report_name(name) {
            return None;
        }
        let now_ns = process::real_ns();
        // A leader of the future is one from before the clock was set back; it leads no more.
        if name < compact_time(now_ns.saturating_sub(window_ns)).as_str()
            || name > compact_time(now_ns).as_str()
        {
            return None;
        }
        let uuid = name.get(TIME_BYTES..)?;
        // Its guard may be moving it on just now: from where it was looked for last to where it was looked for before.
        Stage::ALL.into_iter().chain(Stage::ALL).find_map(|stage| {
            let path = below(self.path(stage, name), file_name(uuid, "repeats"));
            if file::size(path).is_ok_and(|size| size >= REPEATS_MAX) {
                return Some(());
            }
            file::append(path, b"+").ok()
        })?;
        Some(uuid)
    }

    /// Makes a report the one that others of its signature are counted with.
    pub(crate) fn lead(&self, signature: u64, report: &Report) {
        // A crash may wait for this; whoever doesn't lead costs one more report.
        let Some(_lock) = file::try_lock(self.root) else { return };
        let directory = below(self.root, DIRECTORY);
        let names = file::names(directory, STORE_ENTRIES_MAX);
        if names.len() >= SIGNATURES_MAX {
            for name in names {
                let _ = file::remove(below(directory, name));
            }
        }
        let _ = self.replace(self.signature_path(signature), report.name.as_bytes());
    }

    /// How many crashes were counted with a report.
    pub(crate) fn repeats(&self, report: &Report) -> u64 {
        file::size(self.file(report, "repeats")).unwrap_or(0)
    }
}
