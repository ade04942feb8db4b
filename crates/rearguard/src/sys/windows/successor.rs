//! Starting the next worker: once the full exit is seen, the guard itself creates it, tells it what it succeeds, and lets it run; or asks the process in front to do so.

use std::cell::{Cell, RefCell};
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::sync::atomic::Ordering;

use rearguard_crashpath::black_box::{BlackBox, foreground, start};
use rearguard_crashpath::time;
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, HANDLE};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_CONSOLE, CREATE_NO_WINDOW, ResumeThread, TerminateProcess,
};

use super::attach::Stream;
use super::front::{self, Front};
use super::handles::{self, raw};
use super::libraries::Library;
use super::spawn::{self, Start};
use super::wide;
use crate::error::Error;
use crate::heap::List;
use crate::launch::{LIFE_NAME, LIFE_VARIABLE, LaunchRecord, Succession};
use crate::limits::SUCCESSION_BYTES_MAX;
use crate::sys::words::{Started, When};

/// How many bytes in front of a succession record tell whose it is.
const PID_BYTES: usize = 4;

/// What every starter of this guard is made from.
#[derive(Clone)]
pub(crate) struct Recipe {
    program: Vec<u16>,
    command_line: Vec<u16>,
    environment: Vec<Vec<u16>>,
    directory: Vec<u16>,
}

impl Recipe {
    /// Not on this system yet.
    #[cfg(feature = "roles")]
    pub(crate) fn for_role(_record: &LaunchRecord, role: &str) -> Result<Recipe, Error> {
        Err(Error::refused("starting a role", role, "it is not built for this system"))
    }

    /// Copies what the launch record says.
    pub(crate) fn new(record: &LaunchRecord) -> Result<Recipe, Error> {
        let around = &record.surroundings;
        let program = wide::from_bytes(&around.program);
        if program.is_empty() {
            return Err(Error::system(
                "preparing the next worker",
                "",
                ERROR_FILE_NOT_FOUND as i32,
            ));
        }
        Ok(Recipe {
            program,
            command_line: around.arguments.first().map_or_else(Vec::new, |it| wide::from_bytes(it)),
            environment: around.environment.iter().map(|entry| wide::from_bytes(entry)).collect(),
            directory: wide::from_bytes(&around.directory),
        })
    }
}

/// A start that will happen.
pub(crate) struct Starter {
    recipe: Recipe,
    succession: List<u8>,
    streams: RefCell<[Option<Stream>; 3]>,
    delay_ms: u64,
    black_box: &'static BlackBox,
    /// When the start is due, once the full exit was seen; zero before.
    due_ns: Cell<u64>,
    pid: Cell<u32>,
    directory_gone: Cell<bool>,
}

/// Prepares the start. It happens in [`Starter::wait`], after the full exit.
pub(crate) fn prepare(
    recipe: &Recipe,
    _record: &LaunchRecord,
    succession: &Succession,
    streams: &mut [Option<Stream>; 3],
    when: When,
    black_box: &'static BlackBox,
) -> Result<Starter, Error> {
    // That the start follows a crash changes nothing here: it waits for the full exit in any case.
    let When { delay_ms, at_crash: _ } = when;
    Ok(Starter {
        recipe: recipe.clone(),
        succession: succession.encode(),
        streams: RefCell::new(core::mem::take(streams)),
        delay_ms,
        black_box,
        due_ns: Cell::new(0),
        pid: Cell::new(0),
        directory_gone: Cell::new(false),
    })
}

impl Starter {
    /// Waits until the start is due, and starts; at most until `deadline_ns`.
    pub(crate) fn wait(&self, deadline_ns: u64) -> Started {
        let now_ns = time::monotonic_ns();
        if self.due_ns.get() == 0 {
            self.due_ns.set(now_ns.saturating_add(self.delay_ms.saturating_mul(1_000_000)));
        }
        let until_ns = self.due_ns.get().min(deadline_ns);
        let left_ms = until_ns.saturating_sub(now_ns).div_ceil(1_000_000);
        if left_ms > 0 {
            time::sleep_ms(u32::try_from(left_ms).unwrap_or(u32::MAX - 1));
        }
        if time::monotonic_ns() < self.due_ns.get() {
            return Started::NotYet;
        }
        let word = &self.black_box.control.start;
        if word
            .compare_exchange(start::OPEN, self.claim(), Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // Whoever has claimed it has asked by now, or is gone.
            front::nothing_follows();
            return Started::Lost;
        }
        match self.start() {
            Ok(()) => Started::Yes,
            Err(error) => Started::Failed(error as i32),
        }
    }

    /// Creates the next worker, and lets it run.
    fn start(&self) -> Result<(), u32> {
        if let Some(asked) = front::next_worker(&self.succession, &self.streams) {
            let pid = asked?;
            self.pid.set(pid);
            self.black_box.control.start.store(pid, Ordering::Release);
            return Ok(());
        }
        let mut framed = vec![0; PID_BYTES];
        framed.extend_from_slice(&self.succession);
        let section = handles::section(framed.len() + handles::LENGTH_BYTES)?;
        let mut environment = self.recipe.environment.clone();
        let mut life = wide::from_bytes(LIFE_VARIABLE);
        life.extend((raw(&section) as isize).to_string().encode_utf16());
        environment.push(life);
        let streams = self.streams.borrow();
        let values = [0, 1, 2].map(|number: usize| {
            let stream = streams.get(number).and_then(Option::as_ref);
            stream.map_or(core::ptr::null_mut(), |stream| raw(stream))
        });
        let mut start = Start {
            program: &self.recipe.program,
            command_line: &self.recipe.command_line,
            environment: &environment,
            directory: &self.recipe.directory,
            streams: values.iter().any(|value| !value.is_null()).then_some(values),
            handles: &[raw(&section)],
            job: core::ptr::null_mut(),
            flags: self.console_flags(),
        };
        let created = spawn::create_suspended(&start).or_else(|error| {
            if start.directory.is_empty() || path_exists(start.directory) {
                return Err(error);
            }
            // The directory was removed meanwhile; a worker somewhere else is better than none.
            self.directory_gone.set(true);
            start.directory = &[];
            spawn::create_suspended(&start)
        })?;
        framed[..PID_BYTES].copy_from_slice(&created.pid.to_le_bytes());
        let told = handles::fill(&section, &framed);
        allow_foreground(created.pid);
        // SAFETY: the handle is the suspended thread's.
        let runs = told.is_ok() && unsafe { ResumeThread(raw(&created.thread)) } != u32::MAX;
        if !runs {
            let error = handles::last_error();
            // SAFETY: the handle is the process's that we created.
            unsafe { TerminateProcess(created.process.as_raw_handle().cast(), 1) };
            return Err(told.err().unwrap_or(error));
        }
        self.pid.set(created.pid);
        self.black_box.control.start.store(created.pid, Ordering::Release);
        Ok(())
    }

    /// What a console program is to have: the console that the guard has joined, one of its own as before, or none.
    fn console_flags(&self) -> u32 {
        match self.black_box.control.foreground.load(Ordering::Relaxed) {
            _ if super::process::foreground() != foreground::NO => 0,
            foreground::ALONE => CREATE_NEW_CONSOLE,
            _ => CREATE_NO_WINDOW,
        }
    }

    /// The next worker's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// By which value it claims the start: the guard's own, until there is a process.
    pub(crate) fn claim(&self) -> u32 {
        std::process::id()
    }

    /// Whether the recorded directory was gone.
    pub(crate) fn directory_gone(&self) -> bool {
        self.directory_gone.get()
    }

    /// There is nothing to end: until the start there is no process.
    pub(crate) fn end(&self, _black_box: &BlackBox) {}

    /// What is in front of a worker is never this process here.
    pub(crate) fn take_socket(&mut self) -> Option<Front> {
        None
    }

    /// Gives back the worker's streams.
    pub(crate) fn into_streams(self) -> [Option<Stream>; 3] {
        self.streams.into_inner()
    }
}

fn path_exists(directory: &[u16]) -> bool {
    use std::os::windows::ffi::OsStringExt;
    std::path::Path::new(&std::ffi::OsString::from_wide(directory)).is_dir()
}

/// Lets the next worker come to the front, as far as this process may grant that.
fn allow_foreground(pid: u32) {
    type Allow = unsafe extern "system" fn(u32) -> i32;
    let Some(library) = Library::load("user32.dll") else { return };
    // SAFETY: this is the function's type.
    let allow: Option<Allow> = unsafe { library.function(c"AllowSetForegroundWindow") };
    if let Some(allow) = allow {
        // SAFETY: no memory is involved.
        unsafe { allow(pid) };
    }
}

/// What the guard told this process, if one started it, and where its front is, if it has one.
pub(crate) fn take() -> (Option<Succession>, Option<u64>) {
    take_told().unwrap_or((None, None))
}

/// The same. The variable is taken away: children must not take it for theirs.
/// Its value is a section's handle, and behind a colon the process id of a front.
fn take_told() -> Option<(Option<Succession>, Option<u64>)> {
    use std::os::windows::ffi::OsStrExt;
    use windows_sys::Win32::System::Environment::SetEnvironmentVariableW;
    let name = core::str::from_utf8(LIFE_NAME).ok()?;
    let value = std::env::var_os(name)?;
    let wide_name: Vec<u16> = std::ffi::OsStr::new(name).encode_wide().chain([0]).collect();
    // SAFETY: the name ends with a zero; no value takes the variable away.
    unsafe { SetEnvironmentVariableW(wide_name.as_ptr(), core::ptr::null()) };
    let (value, front) = front::split_off(value.to_str()?)?;
    let section: isize = value.parse().ok()?;
    let section = section as HANDLE;
    let content = handles::read_section(section, SUCCESSION_BYTES_MAX)?;
    let (pid, record) = content.split_first_chunk::<PID_BYTES>()?;
    if u32::from_le_bytes(*pid) != std::process::id() {
        return None;
    }
    let told = match front {
        None => (Some(Succession::decode(record)?), None),
        Some(front) => front::told(front, record)?,
    };
    // It is what the guard handed over: it says so itself, so it is ours to close.
    // SAFETY: the handle was inherited for this purpose, and nobody else knows it.
    drop(unsafe {
        <OwnedHandle as std::os::windows::io::FromRawHandle>::from_raw_handle(section.cast())
    });
    Some(told)
}
