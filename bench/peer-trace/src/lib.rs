//! What the measured programs have in common with crashzoo, and do in the same way: command line, trace, idle threads, fault.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

/// The command line, a part of crashzoo's.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// `--store DIR`: where dumps go.
    pub store: Option<PathBuf>,
    /// `--trace FILE`: where one JSON object a line is appended.
    pub trace: Option<PathBuf>,
    /// `--threads N`: idle threads that stand around.
    pub threads: usize,
    /// `--after MS`: waits before it dies.
    pub after: Duration,
    /// `null-write`, or `none` to come to an end by itself.
    pub dies: bool,
}

impl Args {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// One line that names the argument.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, String> {
        Args::read(&mut Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    fn read(parser: &mut Parser) -> Result<Args, lexopt::Error> {
        let mut args = Args::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("store") => args.store = Some(parser.value()?.into()),
                Arg::Long("trace") => args.trace = Some(parser.value()?.into()),
                Arg::Long("threads") => args.threads = parser.value()?.parse()?,
                Arg::Long("after") => args.after = Duration::from_millis(parser.value()?.parse()?),
                Arg::Value(way) if way == "null-write" => args.dies = true,
                Arg::Value(way) if way == "none" => args.dies = false,
                other => return Err(other.unexpected()),
            }
        }
        Ok(args)
    }
}

/// The trace file, or nothing.
#[derive(Debug)]
pub struct Trace(Option<File>);

impl Trace {
    /// Opens the file of `--trace` for appending.
    ///
    /// # Errors
    ///
    /// A file that can't be opened.
    pub fn open(args: &Args) -> Result<Trace, String> {
        let Some(path) = &args.trace else { return Ok(Trace(None)) };
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map(|file| Trace(Some(file))).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes a line about now.
    pub fn write(&self, event: &str) {
        self.write_at(event, now_ns());
    }

    /// Writes a line about a moment that has passed.
    pub fn write_at(&self, event: &str, t_ns: u64) {
        self.append(event, t_ns, "");
    }

    /// Writes a line about now and a number of bytes.
    pub fn write_size(&self, event: &str, bytes: usize) {
        self.append(event, now_ns(), &format!(",\"bytes\":{bytes}"));
    }

    /// Appends a line whole, by one call, so that two processes don't mix theirs.
    fn append(&self, event: &str, t_ns: u64, more: &str) {
        let Some(mut file) = self.0.as_ref() else { return };
        let pid = std::process::id();
        let line = format!("{{\"event\":\"{event}\",\"t_ns\":{t_ns},\"pid\":{pid}{more}}}\n");
        // A line that is missing shows in the figures that need it.
        let _ = file.write_all(line.as_bytes());
    }
}

/// The monotonic clock, in nanoseconds.
#[must_use]
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec, which is all that the call writes to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The life of a measured worker from where its handler stands: idle threads, the wait, the fault.
pub fn live(args: &Args, trace: &Trace) {
    stand_around(args.threads);
    thread::sleep(args.after);
    if args.dies {
        trace.write("dying");
        null_write();
    }
}

/// Starts idle threads, and returns when all of them run.
pub fn stand_around(threads: usize) {
    let barrier = Arc::new(Barrier::new(threads + 1));
    for _ in 0..threads {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            barrier.wait();
            loop {
                thread::park();
            }
        });
    }
    barrier.wait();
}

/// The same fault as crashzoo's, in an instruction that no compiler can take for unreachable.
pub fn null_write() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the store goes to address 0, where nothing lives, and faults; that is its purpose.
    unsafe {
        std::arch::asm!("mov dword ptr [{0}], 1", in(reg) 0_usize)
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("str wzr, [{0}]", in(reg) 0_usize)
    }
}
