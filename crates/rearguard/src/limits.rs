//! Every limit of the library, in one place, with its reason and what happens when it is hit.
//! The crash path has its own in `rearguard_crashpath::limits`, restart policy its own in [`crate::config`].

/// The longest application name or version, in bytes. Both become file names and form fields; a longer one is a builder error.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// The longest collector URL, in bytes. What proxies and servers accept; a longer one is a builder error.
pub(crate) const URL_BYTES_MAX: usize = 2_048;

/// The largest launch record, in bytes. The kernel accepts arguments and environment of about 6 MiB together (`execve(2)`); a larger record is an error of `start()`, and the worker runs without a guard.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

/// The largest succession record, in bytes: recovery state and a page of numbers.
pub(crate) const SUCCESSION_BYTES_MAX: usize = 64 << 10;

/// How many strings one list of a record may have. Each takes at least five bytes of the record's limit anyway; a longer list makes the record unreadable.
pub(crate) const LIST_ENTRIES_MAX: usize = 1 << 20;

/// How long a guard waits for the full exit of its worker, in milliseconds. See `FULL_EXIT_MS_MAX` of the crash path; afterwards the guard reports what it knows and leaves.
pub(crate) const FULL_EXIT_MS_MAX: u64 = rearguard_crashpath::limits::FULL_EXIT_MS_MAX as u64;

/// How long a guard waits for the kernel to tell the exit status after the full exit, in milliseconds. The real parent may be slow to reap; afterwards the black box has to do.
pub(crate) const EXIT_STATUS_MS_MAX: u64 = 200;

/// How long after its keeper's end a living worker is asked whether it exec'd another program, in milliseconds.
pub(crate) const EXEC_CHECK_MS: u32 = 20;

/// How long the delivery may keep the guard, in milliseconds; the seed's figure. What isn't delivered stays pending.
pub(crate) const DELIVERY_MS_MAX: u64 = 15_000;

/// How long one report may take where somebody sends by hand, in seconds: a day, which every way to send can count.
#[cfg(feature = "send-now")]
pub(crate) const SEND_NOW_S_MAX: u64 = 86_400;

/// How long a connection to the collector may take, in milliseconds.
pub(crate) const CONNECT_MS_MAX: u64 = 5_000;

/// How much of a collector's answer is read, in bytes. The rest is dropped; ids are short.
pub(crate) const ANSWER_BYTES_MAX: usize = 4_096;

/// The longest wait that a collector's `Retry-After` can ask for, in seconds.
pub(crate) const RETRY_AFTER_S_MAX: u64 = 86_400;

/// How much of the log ring goes into a report, in bytes; the ring's size.
pub(crate) const LOG_BYTES_MAX: usize = rearguard_crashpath::black_box::LOG_WORDS * 8;

/// How many newest reports a store keeps, unless the application says otherwise. The oldest completed go first, then the oldest pending.
pub(crate) const REPORTS_MAX: u64 = 10;

/// The most reports that an application can ask a store to keep. Each entry looks at all of their names, which takes milliseconds at this number; more is a builder error.
pub(crate) const REPORTS_CHOSEN_MAX: u64 = 20_000;

/// How many bytes of a store's reports are kept, unless the application says otherwise.
pub(crate) const STORE_BYTES_MAX: u64 = 128 << 20;

/// How long a report is kept, in seconds, unless the application says otherwise: 365 days.
pub(crate) const REPORT_AGE_S_MAX: u64 = 365 * 86_400;

/// How many reports make room for one that enters. A store that holds far too many, as from an application that once kept more, comes down by so many each time, and nobody waits for a thousand removals.
pub(crate) const REMOVALS_MAX: usize = 16;

/// How many reports are sent from one store in an hour, unless the application says otherwise; what comes after waits.
pub(crate) const UPLOADS_HOURLY_MAX: u64 = 20;

/// The same for a day.
pub(crate) const UPLOADS_DAILY_MAX: u64 = 50;

/// How long after a failed delivery the next try is due, in seconds; each further one after twice the time. What the field does: a quarter of an hour.
pub(crate) const RETRY_S: u64 = 15 * 60;

/// How often a report is tried. Six tries take eight hours at least; a server that has refused to take one for so long doesn't want it, and the user still has it.
pub(crate) const TRIES_MAX: u64 = 6;

/// How old a report may be that is still sent, in seconds: seven days.
pub(crate) const SENDING_AGE_S_MAX: u64 = 7 * 86_400;

/// How many repetitions of a crash are counted, each by a byte in a file. More say nothing new.
pub(crate) const REPEATS_MAX: u64 = 1 << 20;

/// How long a transfer may stand still, in seconds, before it is given up.
pub(crate) const STALL_S_MAX: u64 = 10;

/// How often a guard asks for a store's lock, under which room is made and turns are taken. That takes milliseconds; after half a second the holder is stopped, and what is left undone is done by the next guard.
pub(crate) const STORE_LOCK_TRIES_MAX: u32 = 100;

/// The pause between two such questions, in milliseconds.
pub(crate) const STORE_LOCK_WAIT_MS: u64 = 5;

/// How often a new report's directory is made when sweepers of the store take it for rubbish, each in the instant before it is locked. Afterwards the report counts as not written.
pub(crate) const BUILDING_TRIES_MAX: u32 = 100;

/// How many entries of one store directory are looked at: three times what an application can ask for. More are not ours, or a store that another limit has failed to hold.
pub(crate) const STORE_ENTRIES_MAX: usize = 3 * REPORTS_CHOSEN_MAX as usize;

/// The largest metadata file that is read back, in bytes.
pub(crate) const METADATA_BYTES_MAX: usize = 1 << 20;

/// How much of a `/proc` text is read, in bytes.
pub(crate) const PROC_BYTES_MAX: usize = 64 << 10;

/// How much of a worker's memory map is searched for the black box, in bytes.
pub(crate) const MAPS_BYTES_MAX: usize = 16 << 20;

/// How long a line to the user's terminal may block, in milliseconds. A terminal that was stopped with Ctrl-S must not hold the guard.
pub(crate) const TERMINAL_MS_MAX: u32 = 200;

/// After how many short lives in a row a life is in safe mode, unless the application says otherwise: the last that the default policy begins.
pub(crate) const SAFE_MODE_AFTER_DEFAULT: u32 = 2;

/// How long an application waits for its guard to leave, in milliseconds. It takes one or two, and longer only when the guard makes something durable.
pub(crate) const HOLD_MS_MAX: u64 = 2_000;

/// How long after a request to stop (SIGINT, SIGTERM, SIGQUIT, SIGHUP) a crash counts as its consequence, in milliseconds. What a program does while it ends may fail; nobody wants it back then.
pub(crate) const STOP_MEMORY_MS: u64 = 30_000;

/// How long a starter may take beyond its delay, in milliseconds. An exec takes one; beyond ten seconds the start is closed and given up.
pub(crate) const START_MS_MAX: u64 = 10_000;

/// How many remarks a report's metadata holds. More say the same again.
pub(crate) const SOFT_ERRORS_MAX: usize = 64;

/// How soon a guard that waits for a start hears a request to stop, in milliseconds.
pub(crate) const STOP_HEARD_MS_MAX: u64 = 250;

/// How long a woken guard looks for the crash slot to be filled before it sleeps for it, in nanoseconds. Filling takes a fifth of it; a sleep and a wake-up as long.
pub(crate) const SLOT_LOOK_NS_MAX: u64 = 100_000;

/// The length of a report's name: its time, a dash, its UUID.
pub(crate) const REPORT_NAME_BYTES: usize = 60;

/// How many workers one guard stands for. Each costs two pages and five descriptors; beyond it a role has a guard of its own.
pub(crate) const MEMBERS_MAX: usize = 256;

/// The stack of a doorkeeper in bytes, on which the guards go on that it forks: as much as a main thread of musl has at least, with room for a TLS library. Only what is used is memory.
pub(crate) const DOORKEEPER_STACK_BYTES: usize = 1 << 20;

/// How often a family's guard tries to divide itself. Together with the pause it is a fifth of a second; beyond it a crash is left to the keeper, and an end without one isn't recorded.
pub(crate) const FORK_TRIES_MAX: u32 = 20;

/// The pause between two such tries, in milliseconds.
pub(crate) const FORK_WAIT_MS: u64 = 10;

/// How long one turn of a doorkeeper is awaited before the process is divided all the same, in milliseconds. It takes one or two.
pub(crate) const TURN_MS_MAX: u64 = 500;

/// How many files an application can name that go with a report; each with its rotated siblings. More is a builder error.
pub(crate) const ATTACHMENTS_MAX: usize = 16;

/// How much of one attached file goes with a report, in bytes: its end.
pub(crate) const ATTACHMENT_BYTES_MAX: usize = 256 << 10;

/// How much of all of them, in bytes. They are read while the crashed process waits, which takes a millisecond at this size.
pub(crate) const ATTACHMENTS_BYTES_MAX: usize = 1 << 20;

/// The longest name of an attachment, in bytes; what is longer is cut.
pub(crate) const ATTACHMENT_NAME_BYTES_MAX: usize = 100;

/// How soon a transfer by another program hears that the consent was withdrawn, in milliseconds.
pub(crate) const CONSENT_ASKED_MS: u64 = 50;
