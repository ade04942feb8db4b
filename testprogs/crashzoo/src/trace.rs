//! What the zoo tells its tests: one JSON object a line, appended whole by a single write.
//!
//! Nothing here allocates or locks, because some lines are written from crash handlers, and one while the heap is already broken.

use std::fmt::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::{clock, trace_file};

/// Long enough for the longest line: eight fields, of which the texts are bounded by `Text`.
/// A longer line would be cut and is dropped instead, since half an object is worse than none.
const LINE_BYTES_MAX: usize = 512;

/// Long enough for a UUID and for the longest exit class.
const TEXT_BYTES_MAX: usize = 64;

/// What is known about this life, once `start()` has returned.
/// The guard's pid stands apart since it changes.
static FACTS: OnceLock<Facts> = OnceLock::new();
/// 0 while there is none.
static GUARD_PID: AtomicU32 = AtomicU32::new(0);

/// A point in the worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The top of `main`.
    Main,
    /// `start()` is called next; only for whoever measures it.
    Starting,
    /// `start()` has returned.
    Armed,
    /// The guard stands on duty.
    Guarded,
    /// The guard is held off.
    Held,
    /// The next instructions are deadly.
    Dying,
    /// A foreign handler has repaired the fault, and the program went on.
    Recovered,
    /// A foreign handler was called and didn't repair anything.
    ForeignHandler,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Main => "main",
            Event::Starting => "starting",
            Event::Armed => "armed",
            Event::Guarded => "guarded",
            Event::Held => "held",
            Event::Dying => "dying",
            Event::Recovered => "recovered",
            Event::ForeignHandler => "foreign-handler",
        }
    }
}

struct Facts {
    incarnation: u32,
    role: Option<Text>,
    last_report: Option<Text>,
    last_exit_class: Option<Text>,
}

/// The trace file.
/// There is one a process; this value is the permission to say so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace;

impl Trace {
    /// Opens the file for appending.
    /// Without a file, everything that is written is dropped.
    pub(crate) fn open(path: Option<&Path>) -> Result<Trace, String> {
        path.map_or(Ok(()), trace_file::open).map(|()| Trace)
    }

    /// Keeps what the handle knows, for the lines to come.
    pub(crate) fn learn(self, handle: &rearguard::Handle) {
        GUARD_PID.store(handle.guard_pid().unwrap_or(0), Ordering::Relaxed);
        FACTS.get_or_init(|| Facts {
            incarnation: handle.incarnation(),
            role: handle.role().map(|role| Text::of(format_args!("{role}"))),
            last_report: handle
                .last_report()
                .map(|report| Text::of(format_args!("{}", report.id()))),
            last_exit_class: handle.last_exit_class().map(|class| match class.value() {
                Some(value) => Text::of(format_args!("{}:{value}", class.label())),
                None => Text::of(format_args!("{}", class.label())),
            }),
        });
    }

    /// Writes a line about now.
    pub(crate) fn write(self, event: Event) {
        self.write_at(event, clock::now_ns());
    }

    /// Writes a line about a moment that has passed.
    pub(crate) fn write_at(self, event: Event, t_ns: u64) {
        if !trace_file::is_open() {
            return;
        }
        let mut line = Text::<LINE_BYTES_MAX>::new();
        if compose(&mut line, event, t_ns).is_ok() {
            trace_file::append(line.bytes());
        }
    }
}

/// A line from wherever the program is, without the caller having the trace.
pub(crate) fn tell(event: Event) {
    Trace.write(event);
}

fn compose(line: &mut Text<LINE_BYTES_MAX>, event: Event, t_ns: u64) -> fmt::Result {
    let pid = std::process::id();
    write!(line, "{{\"event\":\"{}\",\"t_ns\":{t_ns},\"pid\":{pid},\"guard_pid\":", event.name())?;
    match GUARD_PID.load(Ordering::Relaxed) {
        0 => line.write_str("null")?,
        guard => write!(line, "{guard}")?,
    }
    match FACTS.get() {
        Some(facts) => {
            write!(line, ",\"incarnation\":{},\"last_report\":", facts.incarnation)?;
            quoted(line, facts.last_report.as_ref())?;
            line.write_str(",\"last_exit_class\":")?;
            quoted(line, facts.last_exit_class.as_ref())?;
            line.write_str(",\"role\":")?;
            quoted(line, facts.role.as_ref())?;
            line.write_str("}\n")
        }
        None => {
            line.write_str(",\"incarnation\":null,\"last_report\":null,\"last_exit_class\":null}\n")
        }
    }
}

/// A JSON string, or null.
/// Both texts are made of plain ASCII; anything else becomes a question mark.
fn quoted(line: &mut Text<LINE_BYTES_MAX>, text: Option<&Text>) -> fmt::Result {
    let Some(text) = text else { return line.write_str("null") };
    line.write_char('"')?;
    for byte in text.bytes() {
        let plain = (byte.is_ascii_graphic() || *byte == b' ') && !matches!(byte, b'"' | b'\\');
        line.write_char(if plain { char::from(*byte) } else { '?' })?;
    }
    line.write_char('"')
}

/// A bounded text on the stack.
struct Text<const MAX: usize = TEXT_BYTES_MAX> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Text<MAX> {
    fn new() -> Self {
        Text { bytes: [0; MAX], len: 0 }
    }

    /// Whatever fits of `text`.
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut out = Text::new();
        // What doesn't fit is left out; the bound is chosen so that everything does.
        let _ = out.write_fmt(text);
        out
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const MAX: usize> Write for Text<MAX> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
