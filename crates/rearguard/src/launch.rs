//! The launch record and the succession record.
//!
//! The **launch record** holds what is needed to guard this worker and to start it again.
//! It is sealed before application code runs, so a late guard, which inherits what the worker has become, still starts the next worker as the first one was started.
//! The **succession record** is what the next worker learns of the lives before it.

use crate::config::{ExitClass, History, RestartPolicy, StartBlock};
use crate::heap::{List, Text, add, copied};
use crate::reporting::Reporting;
use crate::settings::Settings;
use crate::sys::words::Surroundings;
use crate::wire::{Reader, Writer};

const LAUNCH_MAGIC: u64 = u64::from_le_bytes(*b"rg-launc");
const SUCCESSION_MAGIC: u64 = u64::from_le_bytes(*b"rg-succe");

/// Changes whenever one of the two records does.
const RECORD_VERSION: u32 = 5;

/// Variables that were meant for one start only: a second process that answers them would be an impostor.
const SINGLE_USE: [&[u8]; 7] = [
    b"XDG_ACTIVATION_TOKEN=",
    b"DESKTOP_STARTUP_ID=",
    b"NOTIFY_SOCKET=",
    b"LISTEN_PID=",
    b"LISTEN_FDS=",
    b"LISTEN_FDNAMES=",
    b"LISTEN_PIDFDID=",
];

/// The variable by which a worker learns that it is a successor: its own process id, so that its children don't take it for theirs.
pub(crate) const LIFE_VARIABLE: &[u8] = b"REARGUARD_LIFE=";

/// Its name alone.
pub(crate) const LIFE_NAME: &[u8] = LIFE_VARIABLE.split_at(LIFE_VARIABLE.len() - 1).0;

/// What is needed to guard this worker and to start it again.
#[derive(Default)]
pub(crate) struct LaunchRecord {
    pub(crate) nonce: u64,
    pub(crate) worker_pid: u32,
    pub(crate) incarnation: u32,
    pub(crate) started_boot_ns: u64,
    pub(crate) name: Text,
    pub(crate) version: Text,
    /// Which of the application's roles it is; empty for its main process.
    pub(crate) role: Text,
    /// Whether this worker's guard stands for its roles too.
    pub(crate) heads_family: bool,
    /// The role that tells the user of the end of a crash loop; empty for none.
    pub(crate) notice: Text,
    /// The store's absolute path; empty when none could be found.
    pub(crate) store: List<u8>,
    pub(crate) collector: Option<Text>,
    /// The file of certificates that a collector's must be signed by; empty for those that the system trusts.
    pub(crate) certificates: List<u8>,
    /// The files that go with a report.
    pub(crate) attachments: List<List<u8>>,
    pub(crate) reporting: Reporting,
    pub(crate) policy: RestartPolicy,
    pub(crate) history: History,
    pub(crate) block: Option<StartBlock>,
    pub(crate) fail_spot: Option<Text>,
    pub(crate) surroundings: Surroundings,
}

impl LaunchRecord {
    pub(crate) fn decode(bytes: &[u8]) -> Option<LaunchRecord> {
        let mut record = LaunchRecord::default();
        record.read(Reader::new(bytes))?;
        Some(record)
    }

    /// Fills a record in place: one that can't be read further is dropped as a whole, and not field by field at every step.
    fn read(&mut self, mut reader: Reader<'_>) -> Option<()> {
        (reader.u64()? == LAUNCH_MAGIC).then_some(())?;
        (reader.u32()? == RECORD_VERSION).then_some(())?;
        self.nonce = reader.u64()?;
        self.worker_pid = reader.u32()?;
        self.incarnation = reader.u32()?;
        self.started_boot_ns = reader.u64()?;
        reader.text(&mut self.name)?;
        reader.text(&mut self.version)?;
        if cfg!(feature = "roles") {
            reader.text(&mut self.role)?;
            self.heads_family = reader.bool()?;
            reader.text(&mut self.notice)?;
        }
        reader.bytes_into(&mut self.store)?;
        reader.optional_text(&mut self.collector)?;
        reader.bytes_into(&mut self.certificates)?;
        reader.list(&mut self.attachments)?;
        let mut words = List::new();
        reader.words(&mut words)?;
        self.reporting = Reporting::from_words(&words)?;
        reader.words(&mut words)?;
        self.policy = RestartPolicy::from_words(&words)?;
        reader.words(&mut words)?;
        self.history = History::from_words(&words)?;
        self.block = match reader.u32()? {
            0 => None,
            number => Some(StartBlock::from_number(number)?),
        };
        reader.optional_text(&mut self.fail_spot)?;
        let around = &mut self.surroundings;
        reader.bytes_into(&mut around.program)?;
        reader.list(&mut around.arguments)?;
        reader.list(&mut around.environment)?;
        reader.bytes_into(&mut around.directory)?;
        around.umask = reader.u32()?;
        around.signal_mask = reader.u64()?;
        around.ignored_signals = reader.u64()?;
        around.user = reader.u32()?;
        around.seccomp = reader.u32()?;
        reader.words(&mut words)?;
        for limit in words.chunks_exact(3) {
            let [name, soft, hard] = *limit else { continue };
            add(&mut around.rlimits, (name as i32, soft, hard));
        }
        reader.words(&mut around.streams)?;
        #[cfg(feature = "guard-first")]
        {
            around.front = reader.u64()?;
        }
        reader.end()
    }
}

/// A life that begins now, and what its launch record is written from.
pub(crate) struct Life<'a> {
    pub(crate) nonce: u64,
    pub(crate) started_boot_ns: u64,
    pub(crate) settings: &'a Settings,
    /// Which of the application's roles it is; empty for its main process.
    pub(crate) role: &'a str,
    pub(crate) heads_family: bool,
    pub(crate) store: &'a [u8],
    pub(crate) reporting: Reporting,
    pub(crate) succession: Option<&'a Succession>,
    pub(crate) block: Option<StartBlock>,
    pub(crate) surroundings: &'a Surroundings,
}

impl Life<'_> {
    /// The launch record, as [`LaunchRecord::decode`] reads it.
    pub(crate) fn encode(&self) -> List<u8> {
        let settings = self.settings;
        let mut writer = Writer::new();
        writer.u64(LAUNCH_MAGIC);
        writer.u32(RECORD_VERSION);
        writer.u64(self.nonce);
        writer.u32(std::process::id());
        writer.u32(self.succession.map_or(0, |succession| succession.incarnation));
        writer.u64(self.started_boot_ns);
        writer.bytes(settings.name.as_bytes());
        writer.bytes(settings.version.as_bytes());
        if cfg!(feature = "roles") {
            writer.bytes(self.role.as_bytes());
            writer.bool(self.heads_family);
            writer.bytes(settings.notice_role().as_bytes());
        }
        writer.bytes(self.store);
        writer.optional(settings.collector.as_ref().map(|url| url.as_bytes()));
        writer.bytes(&settings.certificates);
        writer.list(&settings.attachments);
        writer.words(&self.reporting.to_words());
        writer.words(&settings.restart.to_words());
        let history =
            self.succession.map_or_else(History::default, |succession| succession.history);
        writer.words(&history.to_words());
        writer.u32(self.block.map_or(0, |block| block.number()));
        writer.optional(settings.fail_spot.as_ref().map(|spot| spot.as_bytes()));
        let around = self.surroundings;
        writer.bytes(&around.program);
        writer.list(&around.arguments);
        writer.list(&around.environment);
        writer.bytes(&around.directory);
        writer.u32(around.umask);
        writer.u64(around.signal_mask);
        writer.u64(around.ignored_signals);
        writer.u32(around.user);
        writer.u32(around.seccomp);
        let mut limits = List::new();
        for (name, soft, hard) in &around.rlimits {
            for word in [*name as u64, *soft, *hard] {
                add(&mut limits, word);
            }
        }
        writer.words(&limits);
        writer.words(&around.streams);
        #[cfg(feature = "guard-first")]
        writer.u64(around.front);
        writer.finish()
    }
}

/// Takes out of an environment what was meant for one start only.
pub(crate) fn remove_single_use(environment: &mut List<List<u8>>) {
    environment.as_mut_vec().retain(|entry| {
        !entry.starts_with(LIFE_VARIABLE)
            && !SINGLE_USE.iter().any(|single_use| entry.starts_with(single_use))
    });
}

/// What the next worker learns of the lives before it.
#[derive(Clone)]
pub(crate) struct Succession {
    /// The number of the life that begins.
    pub(crate) incarnation: u32,
    pub(crate) history: History,
    /// How the life before ended.
    pub(crate) last_class: ExitClass,
    /// The report of that end, if there is one.
    pub(crate) last_report: Option<[u8; 16]>,
    /// Whether the standard streams could not be handed on, and are null.
    pub(crate) streams_lost: bool,
    /// What the application left for the next life.
    pub(crate) recovery: Option<List<u8>>,
}

impl Succession {
    pub(crate) fn encode(&self) -> List<u8> {
        let mut writer = Writer::new();
        writer.u64(SUCCESSION_MAGIC);
        writer.u32(RECORD_VERSION);
        writer.u32(self.incarnation);
        writer.words(&self.history.to_words());
        writer.bytes(self.last_class.label().as_bytes());
        writer.u32(self.last_class.value().unwrap_or(0) as u32);
        writer.optional(self.last_report.as_ref().map(<[u8; 16]>::as_slice));
        writer.bool(self.streams_lost);
        writer.optional(self.recovery.as_deref());
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Succession> {
        let mut succession = Succession {
            incarnation: 0,
            history: History::default(),
            last_class: ExitClass::Unknown,
            last_report: None,
            streams_lost: false,
            recovery: None,
        };
        succession.read(Reader::new(bytes))?;
        Some(succession)
    }

    fn read(&mut self, mut reader: Reader<'_>) -> Option<()> {
        (reader.u64()? == SUCCESSION_MAGIC).then_some(())?;
        (reader.u32()? == RECORD_VERSION).then_some(())?;
        self.incarnation = reader.u32()?;
        let mut words = List::new();
        reader.words(&mut words)?;
        self.history = History::from_words(&words)?;
        let label = core::str::from_utf8(reader.bytes()?).ok()?;
        self.last_class = ExitClass::from_label(label, Some(reader.u32()? as i32))?;
        self.last_report = match reader.optional()? {
            None => None,
            Some(id) => Some(id.try_into().ok()?),
        };
        self.streams_lost = reader.bool()?;
        self.recovery = reader.optional()?.map(|bytes| copied(bytes));
        reader.end()
    }
}
