//! How much a store keeps: number, bytes and age, looked at when a report enters.
//!
//! Age and order stand in the reports' names; how many bytes they are together is kept in a file, so that a full store costs one look at each directory and not one at each report.

use super::{Report, Stage, Store, directory_bytes};
use crate::heap::List;
use crate::limits;
use crate::report_id::compact_time;
use crate::sys::process;

/// Of how many reports, and how many bytes they are together.
const USAGE: &str = "usage";

impl Store {
    /// Removes reports that are too old, and the oldest beyond the limits: completed ones first, then pending ones, never the one that just came; at most so many at once.
    ///
    /// One process at a time: two that count the same reports would remove twice what is too much.
    /// Where the other doesn't come to its end, the next newcomer makes the room.
    pub(super) fn make_room(&self, newcomer: &Report) {
        let Some(_lock) = self.lock() else { return };
        let reporting = &self.reporting;
        let age_ns = reporting.age_s_max.saturating_mul(1_000_000_000);
        let oldest = compact_time(process::real_ns().saturating_sub(age_ns));
        let mut stages = [Stage::Completed, Stage::Pending].map(|stage| (stage, self.names(stage)));
        let mut count = stages.iter().map(|(_, names)| names.len() as u64).sum();
        let [known, mut bytes] = self.read_words(USAGE);
        bytes = bytes.saturating_add(directory_bytes(self.directory(newcomer)));
        if known.checked_add(1) != Some(count) || bytes > reporting.bytes_max {
            // Somebody else has added or removed something, or it matters to be right.
            bytes = 0;
            for (stage, names) in &stages {
                for name in names {
                    bytes += directory_bytes(self.path(*stage, name));
                }
            }
        }
        let mut removals = limits::REMOVALS_MAX;
        for (stage, names) in &mut stages {
            names.as_mut_vec().retain(|name| *name != newcomer.name);
            while let Some(name) = take_least(names) {
                let is_too_much = count > reporting.reports_max || bytes > reporting.bytes_max;
                if removals == 0 || !is_too_much && *name >= *oldest {
                    break;
                }
                let size = directory_bytes(self.path(*stage, name));
                if self.remove(*stage, name) {
                    count -= 1;
                    bytes = bytes.saturating_sub(size);
                    removals -= 1;
                }
            }
        }
        let _ = self.write_words(USAGE, &[count, bytes]);
    }
}

/// Takes the least of these out, in time proportional to their number.
fn take_least(names: &mut List<&'static str>) -> Option<&'static str> {
    let mut least = 0;
    for (at, name) in names.iter().enumerate() {
        if names.get(least).is_some_and(|so_far| name < so_far) {
            least = at;
        }
    }
    (least < names.len()).then(|| names.as_mut_vec().swap_remove(least))
}
