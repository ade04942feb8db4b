//! `rearguard prune`: removes reports that are beyond a bound, the oldest first.
//!
//! A report that another process has in hand stays, and so does one that waits to be sent, unless that is asked for.
//! Each goes by one rename first, so that nobody ever sees a part of one.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;
use crate::reports::{Entry, Where, entries, only_one};
use crate::terminal::{harmless, show};

/// The ending that the library gives to what is being removed; what of it is left is cleared away by the next guard.
const REMOVED: &str = ".removed";

/// What guards know together of a store's reports; see DELIVERY.md.
const USAGE: &str = "usage";

/// What is beyond them goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) older_than: Option<Duration>,
    pub(crate) keep: Option<usize>,
    pub(crate) bytes: Option<u64>,
    /// Also what waits to be sent.
    pub(crate) waiting: bool,
}

/// Removes what is beyond the bounds, or says what it would remove.
pub(crate) fn run(bounds: &Bounds, place: &Where, is_dry: bool) -> Result<(), Failure> {
    let entries = entries(place)?;
    only_one(entries.iter().map(Entry::store).collect(), "there are")?;
    let chosen = bounds.beyond(&entries, SystemTime::now());
    let mut text = String::new();
    let (mut count, mut bytes, mut failed) = (0, 0_u64, Vec::new());
    for Sized { entry, bytes: size } in chosen {
        match if is_dry { Ok(()) } else { remove(entry) } {
            Ok(()) => {
                let (id, stage) = (entry.short_id(), entry.stage);
                text.push_str(&format!("{id}  {stage}  {}\n", ByteSize(size)));
                count += 1;
                bytes += size;
            }
            Err(reason) => failed.push(format!("{}: {reason}", entry.directory.display())),
        }
    }
    let done = if is_dry { "would be removed" } else { "removed" };
    text.push_str(&format!("{count} of {} reports {done}, {}\n", entries.len(), ByteSize(bytes)));
    show(&harmless_lines(&text))?;
    match &failed[..] {
        [] => Ok(()),
        [only] => Err(Failure::from(only.clone())),
        [first, rest @ ..] => Err(Failure::from(format!("{first} (and {} others)", rest.len()))),
    }
}

fn harmless_lines(text: &str) -> String {
    text.lines().map(|line| harmless(line) + "\n").collect()
}

/// A report and its bytes on the disk.
struct Sized<'e> {
    entry: &'e Entry,
    bytes: u64,
}

impl Bounds {
    /// What is beyond, the oldest first; `entries` are the newest first.
    fn beyond<'e>(&self, entries: &'e [Entry], now: SystemTime) -> Vec<Sized<'e>> {
        // What is older than time itself is nothing.
        let oldest = self.older_than.and_then(|age| now.checked_sub(age));
        let oldest = oldest.filter(|time| *time > SystemTime::UNIX_EPOCH).map(time_in_name);
        let mut chosen = Vec::new();
        let (mut kept, mut kept_bytes, mut is_full) = (0_usize, 0_u64, false);
        for entry in entries {
            let size = bytes_of(&entry.directory);
            let is_old = oldest.as_ref().is_some_and(|oldest| entry.name < *oldest);
            let is_one_too_many = self.keep.is_some_and(|keep| kept >= keep);
            // All that are older than one that has no room have none either, and the newest has always.
            let is_too_much = |most| kept_bytes.saturating_add(size) > most && kept > 0;
            is_full |= self.bytes.is_some_and(is_too_much);
            let may_go = self.waiting || entry.stage == "completed";
            if may_go && (is_old || is_one_too_many || is_full) {
                chosen.push(Sized { entry, bytes: size });
            } else {
                kept += 1;
                kept_bytes += size;
            }
        }
        chosen.reverse();
        chosen
    }
}

/// A moment as reports' names begin with it; names sort by time.
fn time_in_name(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string().replace(['-', ':'], "")
}

fn bytes_of(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Removes a report whole, unless somebody has it in hand.
fn remove(entry: &Entry) -> Result<(), String> {
    let words = |error: std::io::Error| format!("it stays: {error}");
    let directory = File::open(&entry.directory).map_err(words)?;
    // As guards hold what they have in hand; the lock goes with the descriptor.
    flock(&directory, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "it stays: another process has it in hand".to_owned())?;
    let rubbish = entry.store().join("tmp");
    DirBuilder::new().recursive(true).mode(0o700).create(&rubbish).map_err(words)?;
    let rubbish = rubbish.join(format!("{}{REMOVED}", entry.name));
    // One that was interrupted before has left its beginning there.
    let _ = fs::remove_dir_all(&rubbish);
    fs::rename(&entry.directory, &rubbish).map_err(words)?;
    // What guards know together of number and bytes isn't so any more; without it they count anew.
    let _ = fs::remove_file(entry.store().join(USAGE));
    fs::remove_dir_all(&rubbish)
        .map_err(|error| format!("it is removed, and {} is left: {error}", rubbish.display()))
}
