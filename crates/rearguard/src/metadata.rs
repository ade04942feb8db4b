//! A report's metadata: everything that is known of one end of a worker, written as JSON beside the minidump.

use crate::config::{ExitClass, MAIN_ROLE};
use crate::evidence::{self, Panic};
use crate::heap::{PutBytes, PutText, add, copied};
use crate::json::{Json, hexadecimal};
use crate::report_id::readable_time;
use crate::sys::exit_status::signal_name;
use crate::sys::words::Crash;
use crate::text::joined;

/// The schema's number; a reader refuses a larger one.
const SCHEMA: u64 = 1;

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

impl Default for Delivery<'_> {
    fn default() -> Self {
        Delivery::Pending("not tried yet")
    }
}

/// Everything that is known of one end.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) uuid: String,
    pub(crate) application: &'static str,
    pub(crate) version: &'static str,
    /// Which of the application's roles; empty for its main process.
    pub(crate) role: &'static str,
    pub(crate) incarnation: u32,
    pub(crate) worker_pid: u32,
    pub(crate) guard_pid: u32,
    /// Whether the guard was started only when the crash waited already.
    pub(crate) late_guard: bool,
    pub(crate) system: String,
    pub(crate) real_ns: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) exit: Option<ExitClass>,
    pub(crate) crash: Option<Crash>,
    pub(crate) panic: Option<Panic>,
    /// The minidump's size in bytes, if there is one.
    pub(crate) dump_bytes: Option<usize>,
    /// Why there is none.
    pub(crate) dump_error: Option<String>,
    pub(crate) threads: usize,
    pub(crate) timeline: Timeline,
    /// Whether the worker is started again, after how long, and why or why not.
    pub(crate) decision: Option<(Option<u64>, &'static str)>,
    pub(crate) next_pid: Option<u32>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) log: String,
    pub(crate) soft_errors: Vec<String>,
    pub(crate) delivery: Delivery<'static>,
}

impl Metadata {
    /// The JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = Json::new();
        json.open();
        json.number("schema", SCHEMA);
        json.text("id", &self.uuid);
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
        json.texts("soft_errors", self.soft_errors.iter().map(String::as_str));
        // Always last: a later guard replaces it without understanding the rest.
        write_delivery(self.delivery, &mut json);
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
                json.text("file", &joined(&[&self.uuid, ".dmp"]));
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

fn write_delivery(delivery: Delivery<'_>, json: &mut Json) {
    json.object("delivery");
    let (state, status, text) = match delivery {
        Delivery::Pending(reason) => ("pending", 0, reason),
        Delivery::Uploaded { status, answer } => ("uploaded", status, answer),
        Delivery::Skipped(reason) => ("skipped", 0, reason),
        Delivery::Refused { status, answer } => ("refused", status, answer),
    };
    json.text("state", state);
    if status != 0 {
        json.number("status", u64::from(status));
    }
    json.text(if status == 0 { "reason" } else { "answer" }, text);
    json.close();
}

/// What a later guard needs of a report that it didn't write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadBack {
    pub(crate) application: String,
    pub(crate) version: String,
    /// Empty in reports that are older than roles.
    pub(crate) role: String,
    pub(crate) annotations: Vec<(String, String)>,
    /// Whether the report waits for delivery.
    pub(crate) is_pending: bool,
}

/// An object that something is read back from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Annotations,
    Delivery,
    Other,
}

/// Reads back what [`Metadata::to_json`] wrote: one member a line, so that no reader of all JSON has to be in every guard.
/// A file in another form gives `None`, and stays as it is.
pub(crate) fn read_back(json: &[u8]) -> Option<ReadBack> {
    let text = core::str::from_utf8(json).ok()?;
    let mut back = ReadBack::default();
    // A bit for each thing that has to be there.
    let mut found = 0;
    let mut section = Section::Other;
    for line in text.split('\n') {
        let inner = line.strip_prefix("    ");
        let Some((key, rest)) = string(inner.unwrap_or(line.trim_ascii_start())) else { continue };
        let Some(rest) = rest.strip_prefix(": ") else { continue };
        if rest == "{" {
            section = match key.as_str() {
                "annotations" => Section::Annotations,
                "delivery" => Section::Delivery,
                _ => Section::Other,
            };
            continue;
        }
        let Some((value, _)) = string(rest) else { continue };
        match (inner, section, key.as_str()) {
            (Some(_), Section::Annotations, _) => add(&mut back.annotations, (key, value)),
            (Some(_), Section::Delivery, "state") => {
                back.is_pending = value == "pending";
                found |= 1;
            }
            (None, _, "application") => {
                back.application = value;
                found |= 2;
            }
            (None, _, "version") => {
                back.version = value;
                found |= 4;
            }
            (None, _, "role") if cfg!(feature = "roles") => back.role = value,
            _ => {}
        }
    }
    (found == 7).then_some(back)
}

/// Reads one quoted string, and gives what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
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
pub(crate) fn with_delivery(json: &[u8], delivery: Delivery<'_>) -> Option<Vec<u8>> {
    let marker = b"\n  \"delivery\": {";
    let at = json.windows(marker.len()).rposition(|window| window == marker)?;
    let mut tail = Json::new();
    tail.open();
    write_delivery(delivery, &mut tail);
    tail.close();
    let mut whole = copied(json.get(..at)?);
    // The tail begins with the brace that the metadata have already.
    whole.put(tail.finish().get(1..)?);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            uuid: "u".into(),
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
            annotations: vec![("state".into(), "\u{1}é\n".into()), ("version".into(), "9".into())],
            log: "  \"application\": \"evil\"\n".into(),
            soft_errors: Vec::new(),
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
        assert_eq!(back.role, "main");
        assert_eq!(back.annotations, metadata.annotations);
        assert!(back.is_pending);
        let uploaded = Delivery::Uploaded { status: 200, answer: "CrashID=\"1\"" };
        let replaced = with_delivery(&json, uploaded).expect("it has a delivery");
        let value: serde_json::Value = serde_json::from_slice(&replaced).expect("it is JSON");
        assert_eq!(value["delivery"]["answer"], "CrashID=\"1\"");
        assert_eq!(value["panic"]["message"], "\n  \"delivery\": {");
        assert!(!read_back(&replaced).expect("it is our own").is_pending);
        for length in 0..json.len() {
            let _ = read_back(&json[..length]);
        }
    }
}
