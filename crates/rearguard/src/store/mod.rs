//! Reports on disk: `new/` → `pending/` → `completed/`.
//!
//! A report is a directory. It is built in `tmp/` under a lock that dies with its builder, and appears in `new/` whole, by one rename; every later step is one rename too.
//! So a process that is killed at any instruction leaves the whole report in one place, or rubbish in `tmp/` that the next opener removes.
//! It never waits for anybody, and never deletes what it doesn't know: that is set aside, in `aside/`.

mod repeats;
mod room;
mod schedule;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::config::LARGE_DUMP_BYTES_MAX;
use crate::error::Error;
use crate::fail_spots;
use crate::heap::{List, Text, add, below};
use crate::limits;
use crate::order::sort_by;
use crate::report_id::report_name;
use crate::reporting::{Consent, Reporting};
use crate::sys::file;
use crate::text::{joined, number, push_number};
use crate::wire::{Reader, Writer};

/// The two answers of a user, each a file whose being there is what it says.
const AGREED: &str = "consent-given";
const REFUSED: &str = "consent-withdrawn";

/// How long a UUID's text is.
const UUID_BYTES: usize = 36;

/// The file of an installation's identity.
const INSTALLATION: &str = "installation";

/// How long a file of numbers may be, in bytes.
const WORDS_BYTES_MAX: usize = 64;

/// The ending of a report that is being removed.
const REMOVED: &str = ".removed";

/// How many bytes of a report's name are its time and the dash behind it.
const TIME_BYTES: usize = limits::REPORT_NAME_BYTES - UUID_BYTES;

/// Where a report is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(crate) uuid: &'static str,
    name: &'static str,
    stage: Stage,
    /// An advisory lock on the report's directory; it follows every rename, and dies with its holder.
    _lock: Option<file::Lock>,
}

/// A report's directory that was made and locked before there is a report, with its two files open: what is left for the moment of a crash is two writes and a rename.
#[derive(Debug)]
struct Reservation {
    uuid: &'static str,
    path: &'static Path,
    lock: file::Lock,
    dump: fs::File,
    metadata: fs::File,
}

/// What a report is made of.
pub(crate) struct Content<'a> {
    pub(crate) dump: Option<&'a [u8]>,
    pub(crate) metadata: &'a [u8],
    /// Names without a path, which differ from those of the report's own files.
    pub(crate) attachments: &'a [(Text, List<u8>)],
}

/// A store, open for use.
pub(crate) struct Store {
    root: &'static Path,
    reserved: Option<Reservation>,
    /// What the application chose.
    reporting: Reporting,
    /// How many guards of other lives have left what they had begun: both ended at once, the life and who watched it.
    pub(crate) unclean_ends: u32,
}

/// Keeps a user's answer in a store, before there may be one.
pub(crate) fn remember_consent(root: &Path, is_given: bool) -> Result<(), Error> {
    let (now, before) = if is_given { (AGREED, REFUSED) } else { (REFUSED, AGREED) };
    let path = below(root, now);
    file::create_directories(root)
        .and_then(|()| match file::write_new(path, b"") {
            // It was the answer before.
            Err(_) if file::exists(path) => Ok(()),
            written => written,
        })
        .and_then(|()| remove_if_there(below(root, before)))
        .and_then(|()| file::sync(root))
        .map_err(|failed| Error::file("keeping the consent", path, failed))
}

/// Removes a file; one that isn't there is as good.
fn remove_if_there(path: &Path) -> Result<(), i32> {
    match file::remove(path) {
        Err(failed) if file::exists(path) => Err(failed),
        _ => Ok(()),
    }
}

/// A user's answer in a store; a no goes before a yes, as it does for who sends.
pub(crate) fn consent(root: &Path) -> Option<bool> {
    let is_there = |answer: &str| file::exists(&root.join(answer));
    if is_there(REFUSED) { Some(false) } else { is_there(AGREED).then_some(true) }
}

/// Where a store keeps what is no report of ours.
pub(crate) const ASIDE: &str = "aside";

/// Forgets by which identity collectors know this installation.
pub(crate) fn forget_installation(root: &Path) -> Result<(), Error> {
    let path = below(root, INSTALLATION);
    remove_if_there(path)
        .map_err(|failed| Error::file("resetting the installation's id", path, failed))
}

impl Report {
    /// Whether somebody has to make it durable yet.
    pub(crate) fn is_new(&self) -> bool {
        self.stage == Stage::New
    }

    /// Where it is on its way.
    #[cfg(feature = "send-now")]
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Its directory's name, which begins with its time.
    pub(crate) fn name(&self) -> &str {
        self.name
    }
}

impl Store {
    /// Makes what is missing of a store, and removes what dead builders left; those of this life's report are known.
    pub(crate) fn open(
        root: &'static Path,
        own_uuid: &str,
        reporting: &Reporting,
    ) -> Result<Store, Error> {
        crate::heap::with_frame_pointer();
        for directory in ["tmp", "new", "pending", "completed", repeats::DIRECTORY, ASIDE] {
            let path = below(root, directory);
            file::create_directories(path)
                .map_err(|failed| Error::file("making the store", path, failed))?;
        }
        let mut store = Store { root, reserved: None, reporting: *reporting, unclean_ends: 0 };
        store.remove_rubbish(own_uuid);
        Ok(store)
    }

    /// The same store for whoever works beside its opener: nothing is reserved in it.
    pub(crate) fn once_more(&self) -> Store {
        Store { root: self.root, reserved: None, reporting: self.reporting, unclean_ends: 0 }
    }

    /// A store that is there already, for a process that has no report of its own: nothing is reserved or swept, and no room is made, which is for guards, who know the application's limits.
    #[cfg(feature = "send-now")]
    pub(crate) fn at(root: &'static Path, reporting: &Reporting) -> Option<Store> {
        let reporting = Reporting {
            reports_max: u64::MAX,
            bytes_max: u64::MAX,
            age_s_max: u64::MAX,
            ..*reporting
        };
        file::is_directory(below(root, Stage::Pending.directory())).then_some(Store {
            root,
            reserved: None,
            reporting,
            unclean_ends: 0,
        })
    }

    /// The report of a UUID, wherever it is.
    #[cfg(feature = "send-now")]
    pub(crate) fn named(&self, uuid: &str) -> List<(&'static str, Stage)> {
        let mut found: List<(&'static str, Stage)> = List::new();
        for stage in Stage::ALL {
            for name in &self.names(stage) {
                if uuid_of(name) == uuid && found.is_empty() {
                    add(&mut found, (name, stage));
                }
            }
        }
        found
    }

    /// Whether the user's answer allows that a report leaves this machine.
    pub(crate) fn may_send(&self) -> bool {
        let look = |answer: &str| file::size(below(self.root, answer));
        // What can't be looked at may be a no.
        let is_refused = !matches!(look(REFUSED), Err(file::NOT_THERE));
        match self.reporting.consent {
            Consent::Denied => false,
            Consent::Granted => !is_refused,
            Consent::Ask => !is_refused && look(AGREED).is_ok(),
        }
    }

    /// Leaves word for the next start by hand that this run was a crash loop.
    pub(crate) fn note_given_up(&self) {
        let _ = file::write_new(self.word_of_a_loop(), b"");
    }

    /// Whether such a word was there; the first who asks takes it.
    pub(crate) fn take_given_up(&self) -> bool {
        file::remove(self.word_of_a_loop()).is_ok()
    }

    #[inline(always)]
    fn word_of_a_loop(&self) -> &'static Path {
        below(self.root, "tmp/given-up")
    }

    /// Tries whether a file can be made in the store.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        let probe = self.building_path("probe");
        // One that a killed guard of the same number left must not stand in the way for ever.
        let _ = file::remove(probe);
        file::write_new(probe, b"")
            .and_then(|()| file::remove(probe))
            .map_err(|failed| Error::file("writing to the store", self.root, failed))
    }

    /// The UUID by which collectors know this installation: random, made at first use, gone with the store; empty for an application that wants none.
    pub(crate) fn installation_id(&self) -> Text {
        if !self.reporting.has_identity {
            return Text::new();
        }
        let lock = self.lock();
        let path = below(self.root, INSTALLATION);
        if let Ok(id) = file::read(path, UUID_BYTES + 1)
            && id.len() == UUID_BYTES
            && let Some(id) = Text::from_utf8(id)
        {
            return id;
        }
        let mut random = [0; 16];
        crate::sys::process::random(&mut random);
        let id = crate::report_id::uuid_text(random);
        if lock.is_some() {
            let _ = self.replace(path, id.as_bytes()).and_then(|()| file::sync(path));
        }
        id
    }

    /// Holds off all others that would send beside their guards; `None` where one does already.
    pub(crate) fn lock_for_sending(&self) -> Option<file::Lock> {
        file::try_lock(below(self.root, Stage::Pending.directory()))
    }

    /// Gives a file of the store's own another content, by one rename. Its callers hold the lock.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), i32> {
        let next = below(self.root, "tmp/next");
        // What a killed guard left.
        let _ = file::remove(next);
        file::write_new(next, content).and_then(|()| file::rename(next, path))
    }

    /// Numbers that a file of the store's own holds; zeros where it can't be read.
    fn read_words<const N: usize>(&self, name: &str) -> [u64; N] {
        let mut words = List::new();
        match file::read(below(self.root, name), WORDS_BYTES_MAX) {
            Ok(bytes) if Reader::new(&bytes).words(&mut words).is_some() => {}
            _ => words.clear(),
        }
        words.as_slice().try_into().unwrap_or([0; N])
    }

    /// Gives such a file other numbers. Its callers hold the lock.
    fn write_words(&self, name: &str, words: &[u64]) -> Result<(), i32> {
        let mut writer = Writer::new();
        writer.words(words);
        self.replace(below(self.root, name), &writer.finish())
    }

    /// Waits for the one lock of a store, for as long as a few milliseconds of somebody's work may take.
    fn lock(&self) -> Option<file::Lock> {
        await_lock(self.root)
    }

    fn path(&self, stage: Stage, name: &str) -> &'static Path {
        below(below(self.root, stage.directory()), name)
    }

    /// Where a report's directory is now.
    pub(crate) fn directory(&self, report: &Report) -> &'static Path {
        self.path(report.stage, report.name)
    }

    /// Where one of a report's own files is.
    fn file(&self, report: &Report, extension: &str) -> &'static Path {
        below(self.directory(report), file_name(report.uuid, extension))
    }

    /// Finds a report that an earlier guard of the same crash has finished writing. It is given with its lock if it still waits and nobody else has it in hand.
    pub(crate) fn find(&self, real_ns: u64, uuid: &'static str) -> Option<(Report, bool)> {
        let (report, is_held) = self.take(report_name(real_ns, uuid).leak())?;
        let is_ours = is_held && report.stage != Stage::Completed;
        Some((report, is_ours))
    }

    /// Takes a report by its name, wherever it is now, and says whether this process alone has it in hand then.
    pub(crate) fn take(&self, name: &'static str) -> Option<(Report, bool)> {
        let is_there = |stage: &Stage| file::is_directory(self.path(*stage, name));
        let stage = Stage::ALL.into_iter().find(is_there)?;
        let lock = file::try_lock(self.path(stage, name));
        // Who had the lock before may have moved it on.
        let is_held = lock.is_some() && is_there(&stage);
        Some((Report { uuid: uuid_of(name), name, stage, _lock: lock }, is_held))
    }

    /// What waits in the store, oldest first: reports of guards that were ended before they were done, and those that no server has taken yet. What is no report is set aside.
    pub(crate) fn waiting(&self) -> List<(&'static str, Stage)> {
        let mut waiting = List::new();
        for stage in [Stage::New, Stage::Pending] {
            let directory = below(self.root, stage.directory());
            for name in file::names(directory, limits::STORE_ENTRIES_MAX) {
                match name.to_str() {
                    Some(name) if is_report_name(name) => add(&mut waiting, (name, stage)),
                    _ => self.put_aside(stage, name),
                }
            }
        }
        sort_by(&mut waiting, |waiting| waiting.0);
        waiting
    }

    /// Whether anything waits for who sends, or only to be made durable; without a look at each name.
    pub(crate) fn has_waiting(&self, may_send: bool) -> bool {
        let holds_any = |stage: Stage| file::holds_any(below(self.root, stage.directory()));
        holds_any(Stage::New) || may_send && holds_any(Stage::Pending)
    }

    fn put_aside(&self, stage: Stage, name: &OsStr) {
        let directory = below(self.root, stage.directory());
        let place = below(below(self.root, ASIDE), name);
        // One of the same name that is there already is nobody's to replace.
        if !file::exists(place) {
            let _ = file::rename(below(directory, name), place);
        }
    }

    /// Puts aside what looked like a report and can't be read as one.
    pub(crate) fn set_aside(&self, report: &Report) {
        self.put_aside(report.stage, OsStr::new(&report.name));
    }

    /// Takes a waiting report that nobody holds.
    pub(crate) fn adopt(&self, (name, stage): (&'static str, Stage)) -> Option<Report> {
        let uuid = uuid_of(name);
        let lock = file::try_lock(self.path(stage, name))?;
        Some(Report { uuid, name, stage, _lock: Some(lock) })
    }

    /// Makes everything for a report of this UUID that doesn't need the report itself.
    pub(crate) fn reserve(&mut self, real_ns: u64, uuid: &'static str) -> Result<(), i32> {
        self.reserved = Some(self.prepare(&report_name(real_ns, uuid), uuid)?);
        Ok(())
    }

    fn prepare(&self, name: &str, uuid: &'static str) -> Result<Reservation, i32> {
        crate::heap::with_frame_pointer();
        let path = self.building_path(name);
        let lock = begin_building(path)?;
        let dump = file::create_new(below(path, file_name(uuid, "dmp")));
        let metadata = file::create_new(below(path, file_name(uuid, "json")));
        match (dump, metadata) {
            (Ok(dump), Ok(metadata)) => Ok(Reservation { uuid, path, lock, dump, metadata }),
            (Err(failed), _) | (_, Err(failed)) => {
                let _ = file::remove_directory(path);
                Err(failed)
            }
        }
    }

    /// Removes what was reserved and not used.
    pub(crate) fn give_back(&mut self) {
        if let Some(Reservation { path, dump, metadata, lock, .. }) = self.reserved.take() {
            drop((dump, metadata));
            let _ = file::remove_directory(path);
            drop(lock);
        }
    }

    /// Fills a reservation and puts it into `new/` under its report's name.
    fn fill(
        &self,
        reserved: Reservation,
        name: &'static str,
        content: &Content<'_>,
    ) -> Result<Report, i32> {
        let Reservation { uuid, path, lock, dump: dump_file, metadata: metadata_file } = reserved;
        let written = match content.dump {
            Some(dump) => file::write(&dump_file, dump),
            None => Ok(()),
        };
        fail_spots::pass("dump-stored");
        let written = written.and_then(|()| file::write(&metadata_file, content.metadata));
        fail_spots::pass("metadata-stored");
        // Where a directory with open files in it can't be renamed, they must be closed by now.
        drop((dump_file, metadata_file));
        let written = match content.dump {
            Some(_) => written,
            None => written.and_then(|()| file::remove(below(path, file_name(uuid, "dmp")))),
        };
        for (name, attachment) in content.attachments {
            let path = below(path, name);
            // One that doesn't fit is left out; the report is worth more.
            if let Ok(made) = file::create_new(path)
                && file::write(&made, attachment).is_err()
            {
                let _ = file::remove(path);
            }
        }
        match written.and_then(|()| file::rename(path, self.path(Stage::New, name))) {
            Ok(()) => Ok(Report { uuid, name, stage: Stage::New, _lock: Some(lock) }),
            Err(failed) => {
                let _ = file::remove_directory(path);
                Err(failed)
            }
        }
    }

    /// Where a report is built.
    fn building_path(&self, name: &str) -> &'static Path {
        below(below(self.root, "tmp"), of_this_process(name))
    }

    /// Puts a report into `new/`, whole.
    pub(crate) fn create(
        &mut self,
        real_ns: u64,
        uuid: &'static str,
        content: &Content<'_>,
    ) -> Result<Report, Error> {
        let name = report_name(real_ns, uuid).leak();
        // Should what was reserved fail, everything is made anew by the caller's second attempt.
        let prepared = match self.reserved.take_if(|reserved| reserved.uuid == uuid) {
            Some(reserved) => Ok(reserved),
            None => self.prepare(name, uuid),
        };
        prepared
            .and_then(|reserved| self.fill(reserved, name, content))
            .map_err(|failed| Error::file("writing a report", self.root, failed))
    }

    /// Replaces a report's metadata by one rename.
    pub(crate) fn update(&self, report: &Report, metadata: &[u8]) -> Result<(), i32> {
        let next = self.file(report, "json.next");
        let _ = file::remove(next);
        file::write_new(next, metadata).and_then(|()| file::sync(next)).and_then(|()| {
            fail_spots::pass("update-written");
            file::rename(next, self.file(report, "json"))
        })
    }

    /// Makes a report durable and moves it to `pending/`; makes room for it by the store's limits.
    pub(crate) fn make_durable(&self, report: &mut Report) -> Result<(), i32> {
        if report.stage != Stage::New {
            return Ok(());
        }
        let directory = self.directory(report);
        for name in file::names(directory, limits::STORE_ENTRIES_MAX) {
            file::sync(below(directory, name))?;
        }
        file::sync(directory)?;
        fail_spots::pass("synced");
        self.move_to(report, Stage::Pending)?;
        self.make_room(report);
        Ok(())
    }

    /// Moves a report to `completed/`.
    #[inline(always)]
    pub(crate) fn complete(&self, report: &mut Report) -> Result<(), i32> {
        self.move_to(report, Stage::Completed)
    }

    fn move_to(&self, report: &mut Report, stage: Stage) -> Result<(), i32> {
        if report.stage == stage {
            return Ok(());
        }
        let (from, to) = (self.directory(report), self.path(stage, report.name));
        file::rename(from, to)?;
        report.stage = stage;
        // The rename is done; that a power cut could undo it is worth no failure.
        let _ = file::sync(below(self.root, stage.directory()));
        Ok(())
    }

    /// How large a report's minidump is, if it has one.
    pub(crate) fn dump_bytes(&self, report: &Report) -> Option<usize> {
        let path = self.file(report, "dmp");
        usize::try_from(file::size(path).ok()?).ok()
    }

    /// A report's minidump, if it has one.
    pub(crate) fn read_dump(&self, report: &Report) -> Option<List<u8>> {
        let path = self.file(report, "dmp");
        read_whole(path, LARGE_DUMP_BYTES_MAX * 2)
    }

    /// The files that go with a report, by their names.
    pub(crate) fn attachments(&self, report: &Report) -> List<(&'static str, List<u8>)> {
        let directory = self.directory(report);
        let mut attachments = List::new();
        for name in file::names(directory, limits::STORE_ENTRIES_MAX) {
            let path = below(directory, name);
            if let Some(name) = name.to_str()
                && !name.starts_with(report.uuid)
                && let Some(content) = read_whole(path, limits::ATTACHMENT_BYTES_MAX)
            {
                add(&mut attachments, (name, content));
            }
        }
        sort_by(&mut attachments, |attachment| attachment.0);
        attachments
    }

    /// Whether there are metadata, whether or not they can be read.
    pub(crate) fn has_metadata(&self, report: &Report) -> bool {
        file::exists(self.file(report, "json"))
    }

    /// A report's metadata, as far as a reasonable one goes.
    pub(crate) fn read_metadata(&self, report: &Report) -> Option<List<u8>> {
        let path = self.file(report, "json");
        read_whole(path, limits::METADATA_BYTES_MAX)
    }

    /// The names of the reports of one stage, in no order, at most as many as one directory is allowed.
    fn names(&self, stage: Stage) -> List<&'static str> {
        let mut names = List::new();
        for name in file::names(below(self.root, stage.directory()), limits::STORE_ENTRIES_MAX) {
            if let Some(name) = name.to_str()
                && is_report_name(name)
            {
                add(&mut names, name);
            }
        }
        names
    }

    /// Removes a report: first whole, by one rename, since its own guard may be about to write to it by its name; false when it isn't there any more.
    fn remove(&self, stage: Stage, name: &str) -> bool {
        // Not as a builder's name: nobody has ended over it.
        let rubbish = below(below(self.root, "tmp"), joined(&[name, REMOVED]));
        if file::rename(self.path(stage, name), rubbish).is_err() {
            return false;
        }
        let _ = file::remove_directory(rubbish);
        true
    }

    /// Removes what builders left that are gone; one that lives holds its lock.
    ///
    /// Every guard has a report's directory reserved while it stands by, and takes it away when it leaves. So one that is left by another life is the trace of an end that nobody has seen: of power, of a container, of everything at once.
    fn remove_rubbish(&mut self, own_uuid: &str) {
        let tmp = below(self.root, "tmp");
        for name in file::names(tmp, limits::STORE_ENTRIES_MAX) {
            // Behind the dot stands the builder's number, or that it was a whole report once.
            let parts =
                name.to_str().and_then(|name| name.split_at_checked(limits::REPORT_NAME_BYTES));
            let Some((report, ending)) = parts.filter(|(report, _)| is_report_name(report)) else {
                continue;
            };
            let is_removed = ending == REMOVED;
            let builder = ending.strip_prefix('.').unwrap_or_default();
            if !is_removed && number(builder.as_bytes(), 10).is_none() {
                continue;
            }
            let path = below(tmp, name);
            let is_own = report.ends_with(own_uuid);
            // The kernel tells of a guard's death before it has let go of what that had locked.
            let lock = if is_own { await_lock(path) } else { file::try_lock(path) };
            let is_gone = lock.is_some() && file::remove_directory(path).is_ok();
            if is_gone && !is_own && !is_removed {
                self.unclean_ends = self.unclean_ends.saturating_add(1);
            }
        }
    }
}

/// Waits for a lock, for as long as a few milliseconds of somebody's work may take.
fn await_lock(path: &Path) -> Option<file::Lock> {
    for _ in 0..limits::STORE_LOCK_TRIES_MAX {
        if let Some(lock) = file::try_lock(path) {
            return Some(lock);
        }
        crate::sys::process::sleep_ms(limits::STORE_LOCK_WAIT_MS);
    }
    None
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
fn of_this_process(name: &str) -> Text {
    let mut name = joined(&[name, "."]);
    push_number(&mut name, u64::from(std::process::id()));
    name
}

fn file_name(uuid: &str, extension: &str) -> Text {
    joined(&[uuid, ".", extension])
}

/// The UUID in a report's name.
pub(crate) fn uuid_of(name: &str) -> &str {
    name.get(TIME_BYTES..).unwrap_or_default()
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
fn read_whole(path: &Path, bytes_max: usize) -> Option<List<u8>> {
    file::read(path, bytes_max + 1).ok().filter(|content| content.len() <= bytes_max)
}

fn directory_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    for name in file::names(path, limits::STORE_ENTRIES_MAX) {
        bytes += file::size(below(path, name)).unwrap_or(0);
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
