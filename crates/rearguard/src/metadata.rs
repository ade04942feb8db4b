//! A report's metadata: everything that is known of one end of a worker, written as JSON beside the minidump.

use crate::config::{ExitClass, MAIN_ROLE};
use crate::evidence::{self, Panic};
use crate::heap::{List, PutBytes, PutText, Text, add, copied, owned};
use crate::json::{Json, hexadecimal, put_quoted};
use crate::report_id::readable_time;
use crate::sys::exit_status::signal_name;
use crate::sys::words::Crash;
use crate::text::{contains, find, joined, number, push_number};

/// The schema's number; a reader refuses a larger one.
const SCHEMA: u64 = 2;

/// The moments of one crash, CLOCK_MONOTONIC in nanoseconds; zero for what didn't happen or isn't known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Timeline {
    pub(crate) crash_seen: u64,
    pub(crate) threads_stopped: u64,
    pub(crate) threads_released: u64,
    pub(crate) dump_finished: u64,
    pub(crate) worker_released: u64,
    pub(crate) full_exit: u64,
    pub(crate) restarted: u64,
}

/// What became of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery<'a> {
    /// It waits, and why.
    Pending(&'a str),
    /// A server took it, and answered this.
    Uploaded {
        /// The HTTP status.
        status: u16,
        /// What the server said, most often an id.
        answer: &'a str,
    },
    /// A server took it and threw it away.
    Discarded {
        /// The HTTP status.
        status: u16,
        /// What the server said: by which rule.
        answer: &'a str,
    },
    /// It will not be sent, and why.
    Skipped(&'a str),
    /// A server refused it.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        answer: &'a str,
    },
}

impl Delivery<'_> {
    /// State, status if there is one, and the reason or the answer.
    fn parts(&self) -> (&'static str, u16, &str) {
        match *self {
            Delivery::Pending(reason) => (PENDING, 0, reason),
            Delivery::Uploaded { status, answer } => ("uploaded", status, answer),
            Delivery::Discarded { status, answer } => ("discarded", status, answer),
            Delivery::Skipped(reason) => ("skipped", 0, reason),
            Delivery::Refused { status, answer } => ("refused", status, answer),
        }
    }

    /// The same in one line for a person.
    pub(crate) fn in_words(&self) -> Text {
        let (state, status, text) = self.parts();
        let mut line = joined(&[state, ": "]);
        if status != 0 {
            push_number(&mut line, u64::from(status));
            line.put_char(' ');
        }
        line.put(text);
        line
    }
}

/// Why a report is skipped whose user had forbidden to send it.
pub(crate) const FORBIDDEN: &str = "the user's variable forbids it";

/// The state of a report that waits.
const PENDING: &str = "pending";

/// What is known of a report's deliveries so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// How often it was sent, or was about to be.
    pub(crate) count: u64,
    /// When the next try is due, in seconds since 1970; zero for at once.
    pub(crate) next_s: u64,
    /// How many further crashes of its signature were counted with it.
    pub(crate) repeats: u64,
    /// What came of each, as the inside of a list in JSON.
    attempts: Text,
}

impl Tries {
    /// Adds what came of one.
    pub(crate) fn add(&mut self, attempt: &str) {
        if !self.attempts.is_empty() {
            self.attempts.put(", ");
        }
        put_quoted(&mut self.attempts, attempt);
    }
}

impl Default for Delivery<'_> {
    fn default() -> Self {
        Delivery::Pending("not tried yet")
    }
}

/// Everything that is known of one end.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) uuid: &'static str,
    pub(crate) application: &'static str,
    pub(crate) version: &'static str,
    /// Which of the application's roles; empty for its main process.
    pub(crate) role: &'static str,
    pub(crate) incarnation: u32,
    pub(crate) worker_pid: u32,
    pub(crate) guard_pid: u32,
    /// Whether the guard was started only when the crash waited already.
    pub(crate) late_guard: bool,
    pub(crate) system: Text,
    pub(crate) real_ns: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) exit: Option<ExitClass>,
    pub(crate) crash: Option<Crash>,
    pub(crate) panic: Option<Panic>,
    /// The minidump's size in bytes, if there is one.
    pub(crate) dump_bytes: Option<usize>,
    /// Why there is none.
    pub(crate) dump_error: Option<Text>,
    pub(crate) threads: usize,
    pub(crate) timeline: Timeline,
    /// Whether the worker is started again, after how long, and why or why not.
    pub(crate) decision: Option<(Option<u64>, &'static str)>,
    pub(crate) next_pid: Option<u32>,
    pub(crate) annotations: List<(Text, Text)>,
    pub(crate) log: Text,
    pub(crate) soft_errors: List<Text>,
    pub(crate) delivery: Delivery<'static>,
}

impl Metadata {
    /// The JSON text.
    pub(crate) fn to_json(&self) -> List<u8> {
        crate::heap::with_frame_pointer();
        let mut json = Json::new();
        json.open();
        json.number("schema", SCHEMA);
        json.text("id", self.uuid);
        json.text("application", self.application);
        json.text("version", self.version);
        json.text("role", shown_role(self.role));
        json.text("time", &readable_time(self.real_ns));
        json.number("incarnation", u64::from(self.incarnation));
        json.number("worker_pid", u64::from(self.worker_pid));
        json.number("guard_pid", u64::from(self.guard_pid));
        json.bool("late_guard", self.late_guard);
        json.text("system", &self.system);
        json.number("uptime_ms", self.uptime_ms);
        self.exit(&mut json);
        self.crash(&mut json);
        self.panic(&mut json);
        self.minidump(&mut json);
        self.timeline(&mut json);
        self.decision(&mut json);
        self.application_facts(&mut json);
        json.texts("soft_errors", self.soft_errors.iter().map(Text::as_str));
        // Always last: a later guard replaces it without understanding the rest.
        write_delivery(self.delivery, &Tries::default(), &mut json);
        json.close();
        json.finish()
    }

    fn exit(&self, json: &mut Json) {
        let Some(class) = self.exit else { return json.null("exit") };
        json.object("exit");
        json.text("class", class.label());
        match class.value() {
            Some(value) => json.signed("value", shown(value)),
            None => json.null("value"),
        }
        let name = match class {
            ExitClass::Crash(signal) | ExitClass::Killed(signal) => Some(signal_name(signal)),
            ExitClass::Clean | ExitClass::Code(_) | ExitClass::Hang | ExitClass::Unknown => None,
        };
        json.optional_text("signal", name);
        json.close();
    }

    fn crash(&self, json: &mut Json) {
        let Some(crash) = &self.crash else { return json.null("crash") };
        json.object("crash");
        json.signed("signal", shown(crash.signal));
        json.text("signal_name", signal_name(crash.signal));
        json.signed("code", i64::from(crash.code));
        json.text("address", &hexadecimal(crash.address));
        json.signed("thread", i64::from(crash.tid));
        if crash.sender_pid == 0 {
            json.null("sender_pid");
        } else {
            json.number("sender_pid", u64::from(crash.sender_pid));
        }
        json.texts("flags", evidence::flag_names(crash.flags));
        json.close();
    }

    fn panic(&self, json: &mut Json) {
        let Some(panic) = &self.panic else { return json.null("panic") };
        json.object("panic");
        json.text("message", &panic.message);
        json.text("location", &panic.location);
        json.text("thread", &panic.thread);
        json.number("count", u64::from(panic.count));
        json.close();
    }

    fn minidump(&self, json: &mut Json) {
        match self.dump_bytes {
            Some(bytes) => {
                json.object("minidump");
                json.text("file", &joined(&[self.uuid, ".dmp"]));
                json.number("bytes", bytes as u64);
                json.number("threads", self.threads as u64);
                json.close();
            }
            None => json.null("minidump"),
        }
        json.optional_text("minidump_error", self.dump_error.as_deref());
    }

    fn timeline(&self, json: &mut Json) {
        let timeline = &self.timeline;
        json.object("timeline");
        for (name, at_ns) in [
            ("crash_seen", timeline.crash_seen),
            ("threads_stopped", timeline.threads_stopped),
            ("threads_released", timeline.threads_released),
            ("dump_finished", timeline.dump_finished),
            ("worker_released", timeline.worker_released),
            ("full_exit", timeline.full_exit),
            ("restarted", timeline.restarted),
        ] {
            match at_ns {
                0 => json.null(name),
                at_ns => json.number(name, at_ns),
            }
        }
        json.close();
    }

    fn decision(&self, json: &mut Json) {
        let Some((restart, reason)) = self.decision else { return json.null("decision") };
        json.object("decision");
        json.bool("restart", restart.is_some());
        match restart {
            Some(delay_ms) => json.number("delay_ms", delay_ms),
            None => json.null("delay_ms"),
        }
        json.text("reason", reason);
        match self.next_pid {
            Some(pid) => json.number("next_pid", u64::from(pid)),
            None => json.null("next_pid"),
        }
        json.close();
    }

    fn application_facts(&self, json: &mut Json) {
        json.object("annotations");
        for (key, value) in &self.annotations {
            json.text(key, value);
        }
        json.close();
        json.text("log", &self.log);
    }
}

/// A role's name for a person.
pub(crate) fn shown_role(role: &str) -> &str {
    if role.is_empty() { MAIN_ROLE } else { role }
}

/// A code as its system writes it: an NTSTATUS and other codes of Windows have no sign.
fn shown(value: i32) -> i64 {
    if value < 0 { i64::from(value as u32) } else { i64::from(value) }
}

fn write_delivery(delivery: Delivery<'_>, tries: &Tries, json: &mut Json) {
    crate::heap::with_frame_pointer();
    let (state, status, text) = delivery.parts();
    json.object("delivery");
    json.text("state", state);
    if status != 0 {
        json.number("status", u64::from(status));
    }
    json.text(if status == 0 { "reason" } else { "answer" }, text);
    json.number("tries", tries.count);
    json.number("next_try_s", tries.next_s);
    json.number("repeats", tries.repeats);
    json.raw("attempts", &joined(&["[", &tries.attempts, "]"]));
    json.close();
}

/// What a later guard needs of a report that it didn't write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadBack {
    pub(crate) application: Text,
    pub(crate) version: Text,
    /// Empty in reports that are older than roles.
    pub(crate) role: Text,
    pub(crate) annotations: List<(Text, Text)>,
    /// Whether the report waits for delivery.
    pub(crate) is_pending: bool,
    pub(crate) tries: Tries,
}

impl ReadBack {
    /// Which kind of process it was, for a collector.
    pub(crate) fn role(&self) -> &str {
        if cfg!(feature = "roles") { shown_role(&self.role) } else { MAIN_ROLE }
    }
}

/// The members that a later guard looks for: only the metadata's own stand behind a line's end.
const APPLICATION: &str = "\n  \"application\": ";
const VERSION: &str = "\n  \"version\": ";
const ROLE: &str = "\n  \"role\": ";
const ANNOTATIONS: &str = "\n  \"annotations\": {";
const DELIVERY: &str = "\n  \"delivery\": {";

/// Reads back what [`Metadata::to_json`] wrote, so that no reader of all JSON has to be in every guard.
/// A file in another form gives `None`, and stays as it is.
pub(crate) fn read_back(json: &[u8]) -> Option<ReadBack> {
    let text = core::str::from_utf8(json).ok()?;
    let value = |marker: &str| Some(string(behind(text, marker)?)?.0);
    let mut annotations = List::new();
    let mut rest = behind(text, ANNOTATIONS)?;
    while let Some((key, after)) = string(rest.trim_start_matches([',', '\n', ' '])) {
        let (value, after) = string(after.strip_prefix(": ")?)?;
        add(&mut annotations, (key, value));
        rest = after;
    }
    let delivery = behind(text, DELIVERY)?;
    let count = |marker: &str| {
        let digits = behind(delivery, marker).unwrap_or_default();
        let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(0);
        number(digits.as_bytes().get(..end).unwrap_or_default(), 10).unwrap_or(0)
    };
    let attempts = behind(delivery, "\"attempts\": [").and_then(|list| before(list, "]\n"));
    Some(ReadBack {
        application: value(APPLICATION)?,
        version: value(VERSION)?,
        role: if cfg!(feature = "roles") { value(ROLE).unwrap_or_default() } else { Text::new() },
        annotations,
        is_pending: says_pending(delivery),
        tries: Tries {
            count: count("\"tries\": "),
            next_s: count("\"next_try_s\": "),
            repeats: 0,
            attempts: owned(attempts.unwrap_or_default()),
        },
    })
}

/// Whether metadata say that their report waits for a server; only their last member does.
pub(crate) fn is_pending(json: &[u8]) -> bool {
    let delivery = core::str::from_utf8(json).ok().and_then(|text| behind(text, DELIVERY));
    delivery.is_some_and(says_pending)
}

/// How metadata say that a delivery ended: the state, and the reason where there is one.
#[cfg(feature = "send-now")]
pub(crate) fn delivery_state(json: &[u8]) -> Option<(Text, Text)> {
    let delivery = behind(core::str::from_utf8(json).ok()?, DELIVERY)?;
    let member = |marker| Some(string(behind(delivery, marker)?)?.0);
    Some((member("\"state\": ")?, member("\"reason\": ").unwrap_or_default()))
}

fn says_pending(delivery: &str) -> bool {
    contains(delivery.as_bytes(), b"\"state\": \"pending\"")
}

/// What stands behind the first `marker`.
fn behind<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.get(find(text.as_bytes(), marker.as_bytes())? + marker.len()..)
}

/// What stands before the first `marker`.
fn before<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.get(..find(text.as_bytes(), marker.as_bytes())?)
}

/// Reads one quoted string, and gives what follows it.
fn string(text: &str) -> Option<(Text, &str)> {
    let mut value = Text::new();
    let rest = text.strip_prefix('"')?;
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, rest.get(at + 1..)?)),
            '\\' => value.put_char(match characters.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let mut code = 0;
                    for _ in 0..4 {
                        code = code * 16 + characters.next()?.1.to_digit(16)?;
                    }
                    char::from_u32(code)?
                }
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            other => value.put_char(other),
        }
    }
    None
}

/// Replaces the delivery, always the last member, in metadata that another guard wrote.
pub(crate) fn with_delivery(
    json: &[u8],
    delivery: Delivery<'_>,
    tries: &Tries,
) -> Option<List<u8>> {
    let head = before(core::str::from_utf8(json).ok()?, DELIVERY)?;
    let mut tail = Json::new();
    tail.open();
    write_delivery(delivery, tries, &mut tail);
    tail.close();
    let mut whole = copied(head.as_bytes());
    // The tail begins with the brace that the metadata have already.
    whole.put(tail.finish().get(1..)?);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            uuid: "u",
            application: "a \"pp\"",
            version: "1\\2",
            role: "",
            incarnation: 3,
            worker_pid: 1,
            guard_pid: 2,
            late_guard: false,
            system: "Linux".into(),
            real_ns: 0,
            uptime_ms: 5,
            exit: Some(ExitClass::Crash(11)),
            crash: None,
            panic: Some(Panic {
                message: "\n  \"delivery\": {".into(),
                location: "x".into(),
                thread: "main".into(),
                count: 1,
            }),
            dump_bytes: None,
            dump_error: None,
            threads: 0,
            timeline: Timeline::default(),
            decision: Some((None, "policy says never")),
            next_pid: None,
            annotations: vec![
                ("odd".into(), "\u{1}é\n".into()),
                ("state".into(), "pending".into()),
                ("version".into(), "9".into()),
            ]
            .into(),
            log: "  \"application\": \"evil\"\n".into(),
            soft_errors: List::new(),
            delivery: Delivery::default(),
        }
    }

    // Goal: what a later guard reads back is what was written, whatever the texts pretend to be; and its own verdict is JSON again.
    #[test]
    fn a_later_guard_reads_and_replaces() {
        let metadata = metadata();
        let json = metadata.to_json();
        let back = read_back(&json).expect("it is our own");
        assert_eq!(back.application, metadata.application);
        assert_eq!(back.version, metadata.version);
        assert_eq!(back.role, if cfg!(feature = "roles") { "main" } else { "" });
        assert_eq!(back.annotations, metadata.annotations);
        assert!(back.is_pending);
        let uploaded = Delivery::Uploaded { status: 200, answer: "CrashID=\"1\"" };
        let mut tries = Tries { count: 2, next_s: 7, repeats: 3, ..Tries::default() };
        tries.add("one \"quoted\"\n");
        tries.add("two");
        let replaced = with_delivery(&json, uploaded, &tries).expect("it has a delivery");
        let value: serde_json::Value = serde_json::from_slice(&replaced).expect("it is JSON");
        assert_eq!(value["delivery"]["answer"], "CrashID=\"1\"");
        assert_eq!(value["panic"]["message"], "\n  \"delivery\": {");
        assert_eq!(value["delivery"]["attempts"][0], "one \"quoted\"\n");
        assert_eq!(value["delivery"]["attempts"][1], "two");
        assert_eq!(value["delivery"]["repeats"], 3);
        let again = read_back(&replaced).expect("it is our own");
        assert!(!again.is_pending);
        // Those are counted anew from their file.
        tries.repeats = 0;
        assert_eq!(again.tries, tries);
        for length in 0..json.len() {
            let _ = read_back(&json[..length]);
        }
    }
}
