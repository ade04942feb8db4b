//! The report of one end: from the crash slot, or from the bare exit class, to the store and the collector.
//!
//! Nothing here may hold up the answer to a waiting crash or the restart; what fails here becomes a line in the report.

use std::sync::atomic::Ordering;

use rearguard_crashpath::black_box::{BlackBox, GIVEN_UP, flags};

use crate::config::{ExitClass, PANIC_CODE};
use crate::delivery::{Sender, Sent};
use crate::evidence;
use crate::fail_spots;
use crate::heap::{List, PutText, Text, add, lossy, owned, system_reason};
use crate::hooks;
use crate::json::hexadecimal;
use crate::launch::LaunchRecord;
use crate::limits;
use crate::metadata::{Delivery, FORBIDDEN, Metadata, Timeline, is_pending};
use crate::report_id::{uuid_bytes, uuid_text};
use crate::reporting::Consent;
use crate::store::{Content, Report, Store};
use crate::supervisor::DeliveryOutcome;
use crate::sys::exit_status::signal_name;
use crate::sys::words::{Crash, Subject};
use crate::sys::{dumper, process};
use crate::text::joined;

/// The end that a guard deals with.
pub(crate) struct Case {
    metadata: Metadata,
    /// What the worker was started with.
    record: &'static LaunchRecord,
    store: Option<Store>,
    report: Option<Report>,
    /// The report that this end was counted with, where it is one of many.
    repeats: Option<&'static str>,
    /// Whether the report of this end is in somebody else's hands, who sends it.
    is_elsewhere: bool,
    /// What makes this end the same as others.
    signature: Option<u64>,
    /// Whether this end was survived and is reported, so that the next begins anew.
    is_over: bool,
}

impl Case {
    pub(crate) fn new(record: &'static LaunchRecord, late_guard: bool) -> Case {
        Case {
            metadata: Metadata {
                application: &record.name,
                version: &record.version,
                role: &record.role,
                incarnation: record.incarnation,
                worker_pid: record.worker_pid,
                guard_pid: std::process::id(),
                late_guard,
                system: process::system_name(),
                ..Metadata::default()
            },
            record,
            store: None,
            report: None,
            repeats: None,
            is_elsewhere: false,
            signature: None,
            is_over: false,
        }
    }

    /// Forgets an end that was survived.
    fn begin_anew(&mut self) {
        self.is_over = false;
        self.forget_report();
        let metadata = &mut self.metadata;
        metadata.exit = None;
        metadata.crash = None;
        metadata.dump_bytes = None;
        metadata.dump_error = None;
        metadata.threads = 0;
        metadata.timeline = Timeline::default();
        metadata.decision = None;
        metadata.next_pid = None;
        metadata.soft_errors.clear();
    }

    /// The moments that the guard itself sees.
    pub(crate) fn timeline(&mut self) -> &mut Timeline {
        &mut self.metadata.timeline
    }

    /// Takes what the black box tells of everything but the crash.
    fn read_black_box(&mut self, black_box: &BlackBox) {
        crate::heap::with_frame_pointer();
        let metadata = &mut self.metadata;
        metadata.uuid = uuid_text(evidence::report_id(black_box)).leak();
        metadata.panic = evidence::panic(black_box);
        metadata.annotations = evidence::annotations(black_box);
        metadata.log = evidence::log(black_box);
        if let Some((call, scrub)) = hooks::get().scrub {
            call(scrub, metadata);
        }
        let life_ns = process::boot_ns().saturating_sub(self.record.started_boot_ns);
        metadata.uptime_ms = life_ns / 1_000_000;
    }

    /// Begins with a crash that waits in the slot, and returns its signal.
    pub(crate) fn open_crash(&mut self, black_box: &BlackBox) -> i32 {
        if self.is_over {
            self.begin_anew();
        }
        self.read_black_box(black_box);
        let crash = evidence::crash(black_box);
        let metadata = &mut self.metadata;
        metadata.real_ns = crash.seen_real_ns;
        metadata.timeline = Timeline { crash_seen: crash.seen_ns, ..Timeline::default() };
        metadata.dump_bytes = None;
        metadata.dump_error = None;
        metadata.exit = Some(ExitClass::Crash(crash.signal));
        let signal = crash.signal;
        metadata.crash = Some(crash);
        self.forget_report();
        signal
    }

    /// There is no report of this end yet.
    fn forget_report(&mut self) {
        self.report = None;
        self.repeats = None;
        self.is_elsewhere = false;
        self.signature = None;
    }

    /// Writes the minidump and its report into the store; false when there is none.
    pub(crate) fn dump(&mut self, black_box: &BlackBox) -> bool {
        let control = &black_box.control;
        // Only where there was another guard can there be another's report.
        if control.attached.load(Ordering::Relaxed) > 1
            && let Some(found) = self.take_over(black_box)
        {
            return found;
        }
        let Some(crash) = &self.metadata.crash else { return false };
        let subject = Subject {
            pid: self.metadata.worker_pid,
            keeper_tid: black_box.header.keeper_tid.load(Ordering::Relaxed) as i32,
            crash,
            size: self.record.reporting.dump_size,
            extras: hooks::get().extras,
            report_id: evidence::report_id(black_box),
            annotations: &self.metadata.annotations,
        };
        let taken = dumper::take(&subject, &fail_spots::pass);
        let bytes = match taken {
            Ok(mut dump) => {
                self.metadata.timeline.threads_stopped = dump.threads_stopped_ns;
                self.metadata.timeline.threads_released = dump.threads_released_ns;
                self.metadata.threads = dump.threads;
                control.threads_stopped_ns.store(dump.threads_stopped_ns, Ordering::Relaxed);
                control.threads_released_ns.store(dump.threads_released_ns, Ordering::Relaxed);
                control.dumped_threads.store(dump.threads as u64, Ordering::Relaxed);
                for text in dump.soft_errors {
                    add(&mut self.metadata.soft_errors, text);
                }
                self.metadata.dump_bytes = Some(dump.bytes.len());
                if let Some(same_crash) = hooks::get().same_crash {
                    self.signature = (same_crash.of_minidump)(self.program(), &dump.bytes);
                }
                if let Some(redact) = hooks::get().redact {
                    redact(&mut dump.bytes);
                }
                Some(dump.bytes)
            }
            Err(reason) => {
                self.metadata.dump_error = Some(reason);
                None
            }
        };
        fail_spots::pass("dump-encoded");
        if self.is_repeat() {
            self.metadata.timeline.dump_finished = process::monotonic_ns();
            return true;
        }
        let written = self.create_report(bytes.as_deref());
        self.metadata.timeline.dump_finished = process::monotonic_ns();
        let has_dump = bytes.is_some();
        if let Some(bytes) = bytes {
            bytes.give_back();
        }
        if !written && has_dump {
            // A full disk, a limit on file sizes: what is known of the crash is small, and may still fit.
            self.metadata.dump_bytes = None;
            self.metadata.dump_error = Some(owned("the minidump could not be stored"));
            self.create_report(None);
        }
        written && has_dump
    }

    /// What tells crashes of this program from those of others.
    fn program(&self) -> [&'static str; 2] {
        [self.metadata.version, self.metadata.role]
    }

    /// Counts this end with a report of the same signature, if there is one.
    fn is_repeat(&mut self) -> bool {
        let (Some(same_crash), Some(signature)) = (hooks::get().same_crash, self.signature) else {
            return false;
        };
        self.open_store();
        self.repeats = self.store.as_ref().and_then(|store| (same_crash.count)(store, signature));
        self.repeats.is_some()
    }

    /// Takes over the report of an earlier guard of this crash, ended since, that had finished writing; says whether it has a dump.
    pub(crate) fn take_over(&mut self, black_box: &BlackBox) -> Option<bool> {
        crate::heap::with_frame_pointer();
        self.open_store();
        let store = self.store.as_ref()?;
        let (report, is_ours) = store.find(self.metadata.real_ns, self.metadata.uuid)?;
        let dump_bytes = store.dump_bytes(&report);
        // One that somebody sends just now, or that a server has, is complete as it is.
        let is_ours = is_ours
            && (self.record.reporting.is_forbidden || is_pending(&store.read_metadata(&report)?));
        let control = &black_box.control;
        let threads = control.dumped_threads.load(Ordering::Relaxed);
        self.metadata.dump_bytes = dump_bytes;
        self.metadata.threads = usize::try_from(threads).unwrap_or(0);
        let timeline = &mut self.metadata.timeline;
        timeline.threads_stopped = control.threads_stopped_ns.load(Ordering::Relaxed);
        timeline.threads_released = control.threads_released_ns.load(Ordering::Relaxed);
        timeline.dump_finished = process::monotonic_ns();
        self.is_elsewhere = !is_ours;
        self.report = is_ours.then_some(report);
        self.soft_error(owned("an earlier guard wrote the minidump"));
        Some(dump_bytes.is_some())
    }

    /// Opens the store and tries whether it can be written, while nobody waits; the error is the system's number.
    pub(crate) fn try_store(&mut self, black_box: &BlackBox) -> Result<(), u32> {
        if self.record.store.is_empty() {
            return Err(0);
        }
        let uuid = uuid_text(evidence::report_id(black_box)).leak();
        let store = Store::open(process::path(&self.record.store), uuid, &self.record.reporting);
        let tried = store.and_then(|store| store.probe().map(|()| store));
        match tried {
            Ok(store) => {
                // It is the main process's to hear.
                let is_heard = self.record.role.is_empty() && store.take_given_up();
                let given_up = if is_heard { GIVEN_UP } else { 0 };
                let found = store.unclean_ends | given_up;
                black_box.control.unclean_ends.store(found, Ordering::Release);
                self.store = Some(store);
                self.reserve(black_box);
                Ok(())
            }
            Err(error) => Err(error.os_code().unwrap_or(0).unsigned_abs()),
        }
    }

    /// Lets the store prepare the report that a crash of this life would have.
    fn reserve(&mut self, black_box: &BlackBox) {
        let uuid = uuid_text(evidence::report_id(black_box)).leak();
        if let Some(store) = &mut self.store {
            store.give_back();
            // Without it a report is only a little slower.
            let _ = store.reserve(process::real_ns(), uuid);
        }
    }

    /// Leaves nothing in the store that isn't a report.
    pub(crate) fn give_back(&mut self) {
        if let Some(store) = &mut self.store {
            store.give_back();
        }
    }

    fn open_store(&mut self) {
        if self.store.is_some() {
            return;
        }
        if self.record.store.is_empty() {
            self.soft_error(owned("there is no store"));
            return;
        }
        match Store::open(
            process::path(&self.record.store),
            self.metadata.uuid,
            &self.record.reporting,
        ) {
            Ok(store) => self.store = Some(store),
            Err(error) => self.soft_error(error.text().into()),
        }
    }

    fn create_report(&mut self, dump: Option<&[u8]>) -> bool {
        self.metadata.delivery = self.planned_delivery();
        let hooks = hooks::get();
        let attachments = match hooks.attach {
            Some(attach) => (attach.read)(&self.record.attachments),
            None => List::new(),
        };
        // A store that was opened long ago may have been cleared away since; it is made again.
        for attempt in ["first", "second"] {
            self.open_store();
            let Some(store) = &mut self.store else { return false };
            let content =
                Content { dump, metadata: &text_of(&self.metadata), attachments: &attachments };
            match store.create(self.metadata.real_ns, self.metadata.uuid, &content) {
                Ok(report) => {
                    if let (Some(same_crash), Some(signature)) = (hooks.same_crash, self.signature)
                    {
                        (same_crash.lead)(store, signature, &report);
                    }
                    self.report = Some(report);
                    return true;
                }
                Err(_) if attempt == "first" => {
                    self.give_back();
                    self.store = None;
                }
                Err(error) => self.soft_error(error.text().into()),
            }
        }
        false
    }

    /// Notes what went wrong without stopping anything.
    pub(crate) fn soft_error(&mut self, text: Text) {
        if self.metadata.soft_errors.len() < crate::limits::SOFT_ERRORS_MAX {
            add(&mut self.metadata.soft_errors, text);
        }
    }

    /// Leaves word in the store that there is no next life because the last ones were too short, or too many.
    pub(crate) fn given_up(&self) {
        if let Some(store) = &self.store
            && self.record.role.is_empty()
        {
            store.note_given_up();
        }
    }

    /// Notes the decision.
    pub(crate) fn decided(&mut self, restart_after_ms: Option<u64>, reason: &'static str) {
        self.metadata.decision = Some((restart_after_ms, reason));
    }

    /// Notes the next worker.
    pub(crate) fn restarted(&mut self, pid: u32, directory_gone: bool) {
        self.metadata.next_pid = Some(pid);
        if directory_gone {
            let text = "the working directory is gone; the next worker began in /";
            self.soft_error(owned(text));
        }
    }

    /// Notes a start that failed.
    pub(crate) fn start_failed(&mut self, errno: i32) {
        self.soft_error(joined(&["starting the next worker: ", &system_reason(errno)]));
    }

    /// The report that an end of this class leaves, for the next worker to know.
    pub(crate) fn report_id(&self, black_box: &BlackBox, class: ExitClass) -> Option<[u8; 16]> {
        if let Some(leader) = self.repeats {
            return uuid_bytes(leader);
        }
        let has_report = match self.metadata.crash {
            Some(_) => self.report.is_some() || self.is_elsewhere,
            // It is written beside the start, which doesn't wait for it.
            None => class != ExitClass::Clean && self.store.is_some(),
        };
        has_report.then(|| evidence::report_id(black_box))
    }

    /// Whether a foreign handler was asked about the crash, and may yet mend it when it gets the signal again.
    pub(crate) fn may_be_survived(&self) -> bool {
        self.metadata.crash.as_ref().is_some_and(|crash| crash.flags & flags::FOREIGN_ASKED != 0)
    }

    /// The thread that crashed; zero without a crash.
    pub(crate) fn crashed_thread(&self) -> i32 {
        self.metadata.crash.as_ref().map_or(0, |crash| crash.tid)
    }

    /// Begins with an end that no crash came before.
    pub(crate) fn open_end(&mut self, black_box: &BlackBox, class: ExitClass) {
        self.read_black_box(black_box);
        self.metadata.real_ns = process::real_ns();
        self.signature = None;
        if let (Some(same_crash), Some(panic), ExitClass::Code(PANIC_CODE)) =
            (hooks::get().same_crash, &self.metadata.panic, class)
        {
            self.signature = Some((same_crash.of_panic)(self.program(), &panic.location));
        }
        self.is_repeat();
    }

    /// The full exit is there: notes how it ended, and makes a report of its own where there was no crash to make one.
    pub(crate) fn close(&mut self, black_box: &BlackBox, class: ExitClass, with_report: bool) {
        if self.metadata.crash.is_none() && self.metadata.uuid.is_empty() {
            self.open_end(black_box, class);
        }
        self.metadata.exit = Some(class);
        self.metadata.timeline.worker_released =
            black_box.control.worker_released_ns.load(Ordering::Relaxed);
        if with_report && self.report.is_none() && self.repeats.is_none() && !self.is_elsewhere {
            self.create_report(None);
        }
    }

    /// The worker lives on after its dump; the report says so.
    pub(crate) fn survived(&mut self, black_box: &BlackBox) {
        self.metadata.exit = None;
        self.metadata.timeline.worker_released =
            black_box.control.worker_released_ns.load(Ordering::Relaxed);
        self.soft_error(owned("the worker survived this crash"));
        self.is_over = true;
    }

    /// Makes the report durable; true also when there is none to make so.
    pub(crate) fn make_durable(&mut self, black_box: &BlackBox) -> bool {
        if self.metadata.timeline.worker_released == 0 && self.metadata.crash.is_some() {
            self.metadata.timeline.worker_released =
                black_box.control.worker_released_ns.load(Ordering::Relaxed);
        }
        self.metadata.delivery = self.planned_delivery();
        let (Some(store), Some(report)) = (&self.store, &mut self.report) else { return true };
        let updated = store.update(report, &text_of(&self.metadata));
        let durable = store.make_durable(report);
        if let Delivery::Skipped(_) = self.metadata.delivery {
            let _ = store.complete(report);
        }
        if self.is_over {
            self.begin_anew();
            self.reserve(black_box);
        }
        updated.is_ok() && durable.is_ok()
    }

    /// What is to become of the report; written with it from its first moment, since another guard may find it in any.
    fn planned_delivery(&self) -> Delivery<'static> {
        match (&self.record.collector, self.record.reporting.consent) {
            // First: whoever sends by hand must know of it.
            _ if self.record.reporting.is_forbidden => Delivery::Skipped(FORBIDDEN),
            _ if !is_delivered(&self.metadata) => Delivery::Skipped("neither a crash nor a panic"),
            (None, _) => Delivery::Pending("no collector is set"),
            (Some(_), Consent::Denied) => Delivery::Pending("no consent"),
            (Some(_), Consent::Ask) => Delivery::Pending("the user has not said yes"),
            (Some(_), Consent::Granted) => Delivery::default(),
        }
    }

    /// Delivers the report, and then what earlier guards had to leave, for at most `deadline_ms` in all.
    pub(crate) fn deliver(&mut self, deadline_ms: u64) -> DeliveryOutcome {
        let report = self.report.take();
        process::begin_delivery();
        let Some(sender) = self.sender(deadline_ms) else { return DeliveryOutcome::NothingToSend };
        let sent = report.map_or(Sent::Nothing, |mut report| sender.send(&mut report, true));
        // A server that didn't take the newest report is not asked to take older ones.
        sender.send_waiting(sent != Sent::Waits);
        match sent {
            Sent::Accepted => DeliveryOutcome::Accepted,
            Sent::Refused => DeliveryOutcome::Refused,
            Sent::Waits => DeliveryOutcome::Retry,
            Sent::Nothing => DeliveryOutcome::NothingToSend,
        }
    }

    /// Lets somebody else send what waits in the store, while this guard stands by.
    pub(crate) fn deliver_beside(&self) {
        crate::heap::with_frame_pointer();
        let Some(sender) = self.sender(limits::DELIVERY_MS_MAX) else { return };
        if sender.store.has_waiting(sender.is_allowed()) {
            // It may go on while this guard opens its store anew, so it has one of its own.
            let (store, record) = (sender.store.once_more(), self.record);
            let Sender { hooks, deadline_ns, .. } = sender;
            process::beside(move || {
                Sender { record, store: &store, hooks, deadline_ns }.send_beside();
            });
        }
    }

    /// What reports are sent with, where any may be.
    fn sender(&self, deadline_ms: u64) -> Option<Sender<'_>> {
        let sender = Sender {
            record: self.record,
            store: self.store.as_ref()?,
            hooks: hooks::get(),
            deadline_ns: process::monotonic_ns()
                .saturating_add(deadline_ms.saturating_mul(1_000_000)),
        };
        Some(sender)
    }

    /// What the user is told, in one line.
    pub(crate) fn line(&self) -> Text {
        let metadata = &self.metadata;
        let mut line = joined(&[metadata.application, " ", metadata.version]);
        if cfg!(feature = "roles") && !metadata.role.is_empty() {
            line.put(" (");
            line.put(metadata.role);
            line.put(")");
        }
        match &metadata.crash {
            Some(Crash { signal, address, flags: remarks, .. }) => {
                line.put(" crashed (");
                if remarks & flags::NEAR_STACK_POINTER != 0 {
                    line.put("most likely a stack overflow, ");
                }
                line.put(signal_name(*signal));
                if *address != 0 {
                    line.put(" at ");
                    line.put(&hexadecimal(*address));
                }
                line.put_char(')');
            }
            None => line.put(" ended abnormally"),
        }
        if self.report.is_some() || self.repeats.is_some() || self.is_elsewhere {
            // By its id and the store: the report itself moves on while this is read.
            line.put(if self.repeats.is_some() { " once more; report " } else { "; report " });
            line.put(self.repeats.unwrap_or(metadata.uuid));
            line.put(" in ");
            line.put(&lossy(&self.record.store));
        } else {
            line.put("; no report could be written");
        }
        match metadata.decision {
            Some((Some(_), _)) => line.put("; restarted"),
            Some((None, reason)) => {
                line.put("; not restarted: ");
                line.put(reason);
            }
            None => {}
        }
        line.put_char('\n');
        line
    }
}

/// The metadata's text, as it is stored.
fn text_of(metadata: &Metadata) -> List<u8> {
    let mut text = metadata.to_json();
    if let Some(redact) = hooks::get().redact {
        redact(&mut text);
    }
    text
}

/// Whether an end is one that collectors are told of: a crash, a panic, a hang. The others are the user's own business and stay here.
fn is_delivered(metadata: &Metadata) -> bool {
    metadata.crash.is_some()
        || match metadata.exit {
            Some(ExitClass::Crash(_) | ExitClass::Hang) => true,
            Some(ExitClass::Code(code)) => code == PANIC_CODE && metadata.panic.is_some(),
            Some(ExitClass::Clean | ExitClass::Killed(_) | ExitClass::Unknown) | None => false,
        }
}
