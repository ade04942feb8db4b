//! Reports on disk: `new/` → `pending/` → `completed/`.
//!
//! A report is a directory. It is built in `tmp/` under a lock that dies with its builder, and appears in `new/` whole, by one rename; every later step is one rename too.
//! So a process that is killed at any instruction leaves the whole report in one place, or rubbish in `tmp/` that the next opener removes.
//! It never waits for anybody, and never deletes what it doesn't know.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::LARGE_DUMP_BYTES_MAX;
use crate::error::Error;
use crate::heap::{add, below, owned};
use crate::limits;
use crate::order::insertion_sort;
use crate::report_id::report_name;
use crate::sys::file;
use crate::text::{joined, number, push_number};

/// How long a UUID's text is.
const UUID_BYTES: usize = 36;

/// How many bytes of a report's name are its time and the dash behind it.
const TIME_BYTES: usize = limits::REPORT_NAME_BYTES - UUID_BYTES;

/// Where a report is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Written, not yet durable.
    New,
    /// Durable, not yet delivered.
    Pending,
    /// Delivered, refused, or kept for the user alone.
    Completed,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::New, Stage::Pending, Stage::Completed];

    fn directory(self) -> &'static str {
        match self {
            Stage::New => "new",
            Stage::Pending => "pending",
            Stage::Completed => "completed",
        }
    }
}

/// One report in a store, held by this process alone.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) uuid: String,
    name: String,
    stage: Stage,
    /// An advisory lock on the report's directory; it follows every rename, and dies with its holder.
    _lock: Option<file::Lock>,
}

/// A report's directory that was made and locked before there is a report, with its two files open: what is left for the moment of a crash is two writes and a rename.
#[derive(Debug)]
struct Reservation {
    uuid: String,
    path: PathBuf,
    lock: file::Lock,
    dump: fs::File,
    metadata: fs::File,
}

/// A store, open for use.
pub(crate) struct Store {
    root: PathBuf,
    reserved: Option<Reservation>,
    /// How many guards of other lives have left what they had begun: both ended at once, the life and who watched it.
    pub(crate) unclean_ends: u32,
}

impl Store {
    /// Makes what is missing of a store, and removes what dead builders left; those of this life's report are known.
    pub(crate) fn open(root: &Path, own_uuid: &str) -> Result<Store, Error> {
        for directory in ["tmp", "new", "pending", "completed"] {
            let path = below(root, directory);
            file::create_directories(&path)
                .map_err(|failed| Error::file("making the store", &path, failed))?;
        }
        let mut store = Store { root: root.to_owned(), reserved: None, unclean_ends: 0 };
        store.remove_rubbish(own_uuid);
        Ok(store)
    }

    /// Leaves word for the next start by hand that this run was a crash loop.
    pub(crate) fn note_given_up(&self) {
        let _ = file::write_new(&self.word_of_a_loop(), b"");
    }

    /// Whether such a word was there; the first who asks takes it.
    pub(crate) fn take_given_up(&self) -> bool {
        file::remove(&self.word_of_a_loop()).is_ok()
    }

    fn word_of_a_loop(&self) -> PathBuf {
        below(&self.root, "tmp/given-up")
    }

    /// Tries whether a file can be made in the store.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        let probe = self.building_path("probe");
        // One that a killed guard of the same number left must not stand in the way for ever.
        let _ = file::remove(&probe);
        file::write_new(&probe, b"")
            .and_then(|()| file::remove(&probe))
            .map_err(|failed| Error::file("writing to the store", &self.root, failed))
    }

    /// The UUID by which collectors know this installation: random, made at first use, gone with the store.
    pub(crate) fn installation_id(&self) -> String {
        let path = below(&self.root, "installation");
        let read = || {
            let id = file::read(&path, UUID_BYTES + 1).ok().filter(|id| id.len() == UUID_BYTES)?;
            String::from_utf8(id).ok()
        };
        if let Some(id) = read() {
            return id;
        }
        let mut random = [0; 16];
        crate::sys::process::random(&mut random);
        let id = crate::report_id::uuid_text(random);
        match file::write_new(&path, id.as_bytes()) {
            Ok(()) => id,
            // Another guard was faster; its id is as good.
            Err(_) => read().unwrap_or(id),
        }
    }

    fn path(&self, stage: Stage, name: &str) -> PathBuf {
        below(&below(&self.root, stage.directory()), name)
    }

    /// Where a report's directory is now.
    pub(crate) fn directory(&self, report: &Report) -> PathBuf {
        self.path(report.stage, &report.name)
    }

    /// Finds a report that an earlier guard of the same crash has finished writing.
    pub(crate) fn find(&self, real_ns: u64, uuid: &str) -> Option<Report> {
        let name = report_name(real_ns, uuid);
        Stage::ALL.into_iter().find(|stage| file::is_directory(&self.path(*stage, &name))).map(
            |stage| {
                let lock = file::try_lock(&self.path(stage, &name));
                Report { uuid: owned(uuid), name, stage, _lock: lock }
            },
        )
    }

    /// Takes the reports that nobody holds: those of guards that were ended before they were done, and those that no server has taken yet. Oldest first.
    pub(crate) fn adopt(&self) -> Vec<Report> {
        let mut adopted = Vec::new();
        for stage in [Stage::New, Stage::Pending] {
            for name in self.names(stage) {
                let Some(uuid) = name.get(TIME_BYTES..).map(str::to_owned) else { continue };
                let Some(lock) = file::try_lock(&self.path(stage, &name)) else { continue };
                add(&mut adopted, Report { uuid, name, stage, _lock: Some(lock) });
            }
        }
        adopted
    }

    /// Makes everything for a report of this UUID that doesn't need the report itself.
    pub(crate) fn reserve(&mut self, real_ns: u64, uuid: &str) -> Result<(), i32> {
        self.reserved = Some(self.prepare(&report_name(real_ns, uuid), uuid)?);
        Ok(())
    }

    fn prepare(&self, name: &str, uuid: &str) -> Result<Reservation, i32> {
        let path = self.building_path(name);
        let lock = begin_building(&path)?;
        let dump = file::create_new(&below(&path, file_name(uuid, "dmp")));
        let metadata = file::create_new(&below(&path, file_name(uuid, "json")));
        match (dump, metadata) {
            (Ok(dump), Ok(metadata)) => {
                Ok(Reservation { uuid: owned(uuid), path, lock, dump, metadata })
            }
            (Err(failed), _) | (_, Err(failed)) => {
                let _ = file::remove_directory(&path);
                Err(failed)
            }
        }
    }

    /// Removes what was reserved and not used.
    pub(crate) fn give_back(&mut self) {
        if let Some(Reservation { path, dump, metadata, lock, .. }) = self.reserved.take() {
            drop((dump, metadata));
            let _ = file::remove_directory(&path);
            drop(lock);
        }
    }

    /// Fills a reservation and puts it into `new/` under its report's name.
    fn fill(
        &self,
        reserved: Reservation,
        name: String,
        dump: Option<&[u8]>,
        metadata: &[u8],
    ) -> Result<Report, i32> {
        let Reservation { uuid, path, lock, dump: dump_file, metadata: metadata_file } = reserved;
        let written = match dump {
            Some(dump) => file::write(&dump_file, dump),
            None => Ok(()),
        };
        let written = written.and_then(|()| file::write(&metadata_file, metadata));
        // Where a directory with open files in it can't be renamed, they must be closed by now.
        drop((dump_file, metadata_file));
        let placed = match dump {
            Some(_) => written,
            None => written.and_then(|()| file::remove(&below(&path, file_name(&uuid, "dmp")))),
        }
        .and_then(|()| file::rename(&path, &self.path(Stage::New, &name)));
        match placed {
            Ok(()) => Ok(Report { uuid, name, stage: Stage::New, _lock: Some(lock) }),
            Err(failed) => {
                let _ = file::remove_directory(&path);
                Err(failed)
            }
        }
    }

    /// Where a report is built.
    fn building_path(&self, name: &str) -> PathBuf {
        below(&below(&self.root, "tmp"), of_this_process(name))
    }

    /// Puts a report into `new/`, whole.
    pub(crate) fn create(
        &mut self,
        real_ns: u64,
        uuid: &str,
        dump: Option<&[u8]>,
        metadata: &[u8],
    ) -> Result<Report, Error> {
        let name = report_name(real_ns, uuid);
        // Should what was reserved fail, everything is made anew by the caller's second attempt.
        let prepared = match self.reserved.take_if(|reserved| reserved.uuid == uuid) {
            Some(reserved) => Ok(reserved),
            None => self.prepare(&name, uuid),
        };
        prepared
            .and_then(|reserved| self.fill(reserved, name, dump, metadata))
            .map_err(|failed| Error::file("writing a report", &self.root, failed))
    }

    /// Replaces a report's metadata by one rename.
    pub(crate) fn update(&self, report: &Report, metadata: &[u8]) -> Result<(), Error> {
        let directory = self.directory(report);
        let next = below(&directory, file_name(&report.uuid, "json.next"));
        let _ = file::remove(&next);
        file::write_new(&next, metadata)
            .and_then(|()| file::rename(&next, &below(&directory, file_name(&report.uuid, "json"))))
            .map_err(|failed| Error::file("updating a report", &directory, failed))
    }

    /// Makes a report durable and moves it to `pending/`; makes room for it by the store's limits.
    pub(crate) fn make_durable(&self, report: &mut Report) -> Result<(), Error> {
        let directory = self.directory(report);
        let error = |failed| Error::file("making a report durable", &directory, failed);
        for extension in ["dmp", "json"] {
            let path = below(&directory, file_name(&report.uuid, extension));
            if file::exists(&path) {
                file::sync(&path).map_err(error)?;
            }
        }
        file::sync(&directory).map_err(error)?;
        self.move_to(report, Stage::Pending)?;
        self.make_room(report);
        Ok(())
    }

    /// Moves a report to `completed/`.
    pub(crate) fn complete(&self, report: &mut Report) -> Result<(), Error> {
        self.move_to(report, Stage::Completed)
    }

    fn move_to(&self, report: &mut Report, stage: Stage) -> Result<(), Error> {
        if report.stage == stage {
            return Ok(());
        }
        let (from, to) = (self.directory(report), self.path(stage, &report.name));
        file::rename(&from, &to).map_err(|failed| Error::file("moving a report", &from, failed))?;
        report.stage = stage;
        // The rename is done; that a power cut could undo it is worth no failure.
        let _ = file::sync(&below(&self.root, stage.directory()));
        Ok(())
    }

    /// A report's minidump, if it has one.
    pub(crate) fn read_dump(&self, report: &Report) -> Option<Vec<u8>> {
        let path = below(&self.directory(report), file_name(&report.uuid, "dmp"));
        read_whole(&path, LARGE_DUMP_BYTES_MAX * 2)
    }

    /// A report's metadata, as far as a reasonable one goes.
    pub(crate) fn read_metadata(&self, report: &Report) -> Option<Vec<u8>> {
        let path = below(&self.directory(report), file_name(&report.uuid, "json"));
        read_whole(&path, limits::METADATA_BYTES_MAX)
    }

    /// The names of the reports of one stage, oldest first, at most as many as one directory is allowed.
    fn names(&self, stage: Stage) -> Vec<String> {
        let mut names = Vec::new();
        for name in file::names(&below(&self.root, stage.directory()), limits::STORE_ENTRIES_MAX) {
            if let Ok(name) = name.into_string()
                && is_report_name(&name)
            {
                add(&mut names, name);
            }
        }
        insertion_sort(&mut names);
        names
    }

    /// Removes the oldest reports beyond the limits: completed ones first, then pending ones, never the one that just came.
    ///
    /// One process at a time: two that count the same reports would remove twice what is too much.
    /// Where the other doesn't come to its end, the next newcomer makes the room.
    fn make_room(&self, newcomer: &Report) {
        let Some(_lock) = self.lock_for_room() else { return };
        let (mut count, mut bytes) = (0, 0);
        for stage in [Stage::Completed, Stage::Pending] {
            for name in self.names(stage) {
                count += 1;
                bytes += directory_bytes(&self.path(stage, &name));
            }
        }
        for stage in [Stage::Completed, Stage::Pending] {
            for name in self.names(stage) {
                if count <= limits::REPORTS_MAX && bytes <= limits::STORE_BYTES_MAX {
                    return;
                }
                let size = directory_bytes(&self.path(stage, &name));
                if name != newcomer.name && self.remove(stage, &name) {
                    count -= 1;
                    bytes = bytes.saturating_sub(size);
                }
            }
        }
    }

    fn lock_for_room(&self) -> Option<file::Lock> {
        for _ in 0..limits::ROOM_LOCK_TRIES_MAX {
            if let Some(lock) = file::try_lock(&self.root) {
                return Some(lock);
            }
            crate::sys::process::sleep_ms(limits::ROOM_LOCK_WAIT_MS);
        }
        None
    }

    /// Removes a report: first whole, by one rename, since its own guard may be about to write to it by its name; false when it isn't there any more.
    fn remove(&self, stage: Stage, name: &str) -> bool {
        let rubbish = self.building_path(name);
        if file::rename(&self.path(stage, name), &rubbish).is_err() {
            return false;
        }
        let _ = file::remove_directory(&rubbish);
        true
    }

    /// Removes what builders left that are gone; one that lives holds its lock.
    ///
    /// Every guard has a report's directory reserved while it stands by, and takes it away when it leaves. So one that is left by another life is the trace of an end that nobody has seen: of power, of a container, of everything at once.
    fn remove_rubbish(&mut self, own_uuid: &str) {
        let tmp = below(&self.root, "tmp");
        for name in file::names(&tmp, limits::STORE_ENTRIES_MAX) {
            // Behind the dot stands the builder's number.
            let uuid = name.to_str().and_then(|name| {
                let (report, builder) = name.split_at_checked(limits::REPORT_NAME_BYTES)?;
                let builder = builder.strip_prefix('.')?.as_bytes();
                let is_ours = is_report_name(report) && number(builder, 10).is_some();
                report.get(TIME_BYTES..).filter(|_| is_ours)
            });
            let Some(uuid) = uuid else { continue };
            let path = below(&tmp, &name);
            if let Some(_lock) = file::try_lock(&path)
                && file::remove_directory(&path).is_ok()
                && uuid != own_uuid
            {
                self.unclean_ends = self.unclean_ends.saturating_add(1);
            }
        }
    }
}

/// Makes a report's directory in `tmp/` and locks it.
///
/// Between the two a sweeper may take it for what a dead builder left; what it has locked or removed is made again.
fn begin_building(path: &Path) -> Result<file::Lock, i32> {
    for _ in 0..limits::BUILDING_TRIES_MAX {
        match file::create_directory(path) {
            Ok(()) => {}
            // What an earlier guard with our number left, or what a sweeper is about to remove, is rubbish.
            Err(_) if file::is_directory(path) => {
                let _ = file::remove_directory(path);
                continue;
            }
            Err(failed) => return Err(failed),
        }
        if let Some(lock) = file::try_lock(path)
            && file::is_linked(&lock, path)
        {
            return Ok(lock);
        }
    }
    Err(0)
}

/// A name that no other process uses at the same time.
fn of_this_process(name: &str) -> String {
    let mut name = joined(&[name, "."]);
    push_number(&mut name, u64::from(std::process::id()));
    name
}

fn file_name(uuid: &str, extension: &str) -> String {
    joined(&[uuid, ".", extension])
}

/// Whether a name has the form that this store gives: time, dash, UUID.
fn is_report_name(name: &str) -> bool {
    name.len() == limits::REPORT_NAME_BYTES
        && name.as_bytes().iter().enumerate().all(|(position, byte)| match position {
            8 => *byte == b'T',
            15 => *byte == b'.',
            22 => *byte == b'Z',
            23 | 32 | 37 | 42 | 47 => *byte == b'-',
            0..=22 => byte.is_ascii_digit(),
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A file's content, if it is no longer than that.
fn read_whole(path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
    file::read(path, bytes_max + 1).ok().filter(|content| content.len() <= bytes_max)
}

fn directory_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    for name in file::names(path, limits::STORE_ENTRIES_MAX) {
        bytes += file::size(&below(path, name)).unwrap_or(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: only the store's own form counts as a report, so nothing foreign is ever moved or removed.
    #[test]
    fn report_names() {
        let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
        assert!(is_report_name(&report_name(1_700_000_000_000_000_000, uuid)));
        assert!(!is_report_name("README"));
        assert!(!is_report_name(&report_name(0, uuid).replace('T', "t")));
        assert!(!is_report_name(&report_name(0, uuid)[1..]));
    }
}
