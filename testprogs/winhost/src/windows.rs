//! Starts the program within a job, waits for it, then for everything that it has started.

#![expect(unsafe_code, reason = "jobs have no safe face")]

use std::ffi::OsString;
use std::io::Read;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Console::{
    AllocConsole, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent, GetConsoleProcessList,
    GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleCtrlHandler,
    SetStdHandle,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation,
    QueryInformationJobObject, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    FindWindowW, GetDesktopWindow, SMTO_NORMAL, SendMessageTimeoutW, WM_ENDSESSION,
    WM_QUERYENDSESSION,
};

/// The program gets no console of ours, unless it is asked for: it would be taken for the foreground job of a shell.
const DETACHED: u32 = 0x8;

/// How long the pipe of `--pipe` may take to end once nobody is left.
const PIPE_END_MAX: Duration = Duration::from_secs(10);

/// What the command line says.
struct Request {
    deadline: Duration,
    command_line: Option<OsString>,
    directory: Option<OsString>,
    end_session: bool,
    console: bool,
    pipe: bool,
    end_when: Option<PathBuf>,
    keys_when: Option<PathBuf>,
    lines: usize,
    program: OsString,
    arguments: Vec<OsString>,
}

fn parse() -> Result<Request, String> {
    let mut arguments = std::env::args_os().skip(1);
    let mut request = Request {
        deadline: Duration::from_secs(60),
        command_line: None,
        directory: None,
        end_session: false,
        console: false,
        pipe: false,
        end_when: None,
        keys_when: None,
        lines: 0,
        program: OsString::new(),
        arguments: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option lacks its value");
        match argument.to_str() {
            Some("--deadline-ms") => {
                let text = value()?;
                let ms = text.to_str().and_then(|text| text.parse().ok());
                request.deadline = Duration::from_millis(ms.ok_or("--deadline-ms: no number")?);
            }
            Some("--command-line") => request.command_line = Some(units_of(value()?)?),
            Some("--directory") => request.directory = Some(value()?),
            Some("--end-session") => request.end_session = true,
            Some("--console") => request.console = true,
            Some("--pipe") => request.pipe = true,
            Some("--lines") => {
                let text = value()?;
                let lines = text.to_str().and_then(|text| text.parse().ok());
                request.lines = lines.ok_or("--lines: no number")?;
            }
            Some("--end-when") => request.end_when = Some(value()?.into()),
            Some("--keys-when") => request.keys_when = Some(value()?.into()),
            Some(_) | None => {
                request.program = argument;
                request.arguments = arguments.collect();
                return Ok(request);
            }
        }
    }
    Err(String::from("the program is missing"))
}

/// Reads a file of UTF-16 units.
fn units_of(file: OsString) -> Result<OsString, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("--command-line: {error}"))?;
    let (units, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    Ok(OsString::from_wide(&units))
}

pub(crate) fn main() -> Result<(), String> {
    let request = parse()?;
    // Wine starts a process for the desktop of whoever asks for it first; it must not be counted among the program's.
    // SAFETY: no memory is involved.
    unsafe { GetDesktopWindow() };
    if request.console {
        share_a_console()?;
    }
    let job = job_around_us()?;
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).stdin(Stdio::null());
    command.creation_flags(if request.console { 0 } else { DETACHED });
    if request.pipe {
        command.stderr(Stdio::piped());
    }
    if let Some(line) = &request.command_line {
        command.raw_arg(line);
    }
    if let Some(directory) = &request.directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn().map_err(|error| format!("starting it: {error}"))?;
    let pid = child.id();
    let said = child.stderr.take().map(read_all);
    let answers = if request.end_session { end_session(request.deadline)? } else { 0 };
    let deadline = Instant::now() + request.deadline;
    interfere(&request, &mut child, deadline)?;
    let code = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status.code(),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            None => break None,
        }
    };
    let ended = Instant::now();
    // Its guard, and whoever the guard has started, with its guard.
    while others(job) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let stayed_ms = ended.elapsed().as_millis();
    if let Some(said) = said {
        let said = said.recv_timeout(PIPE_END_MAX).map_err(|_| "the pipe has not ended")?;
        eprint!("{}", String::from_utf8_lossy(&said));
    }
    let code = code.map_or_else(|| String::from("null"), |code| (code as u32).to_string());
    println!(
        "{{\"pid\":{pid},\"exit_code\":{code},\"answers\":{answers},\"stayed_ms\":{stayed_ms},\"left\":{}}}",
        others(job)
    );
    // The job ends with us, and with it whatever is left.
    Ok(())
}

/// Reads what the program and its later lives write to their standard error, to the end.
fn read_all(mut pipe: std::process::ChildStderr) -> Receiver<Vec<u8>> {
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if pipe.read_to_end(&mut all).is_ok() {
            let _ = sender.send(all);
        }
    });
    said
}

/// Makes a console for this process and the program, if it has none, without taking the standard streams for it.
fn share_a_console() -> Result<(), String> {
    const NUMBERS: [u32; 3] = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE];
    let mut process = 0;
    // SAFETY: there is room for one number.
    if unsafe { GetConsoleProcessList(&raw mut process, 1) } != 0 {
        return Ok(());
    }
    // SAFETY: no memory is involved.
    let streams = NUMBERS.map(|number| unsafe { GetStdHandle(number) });
    // Wine takes a program that a shell of another system has started for one with a console, and gives it none.
    // SAFETY: no memory is involved.
    unsafe { FreeConsole() };
    // SAFETY: no memory is involved.
    if unsafe { AllocConsole() } == 0 {
        return Err(format!("making a console: {}", std::io::Error::last_os_error()));
    }
    for (number, stream) in NUMBERS.into_iter().zip(streams) {
        // SAFETY: it is the handle that was there before.
        unsafe { SetStdHandle(number, stream) };
    }
    Ok(())
}

/// Ends the program, or presses Ctrl-C on its console, once the file that says so is there and long enough.
fn interfere(request: &Request, child: &mut Child, deadline: Instant) -> Result<(), String> {
    let Some(file) = request.end_when.as_ref().or(request.keys_when.as_ref()) else {
        return Ok(());
    };
    let lines = || {
        let content = std::fs::read(file).ok()?;
        Some(content.iter().filter(|byte| **byte == b'\n').count())
    };
    while lines().is_none_or(|count| count < request.lines) {
        if Instant::now() > deadline {
            return Err(format!("{} never came", file.display()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if request.end_when.is_some() {
        return child.kill().map_err(|error| format!("ending it: {error}"));
    }
    let pressed = |done: i32| {
        if done == 0 { Err(std::io::Error::last_os_error().to_string()) } else { Ok(()) }
    };
    // From here on the keys are not for us; the program is there already, and inherits nothing of this.
    // SAFETY: without a function the keys are ignored.
    pressed(unsafe { SetConsoleCtrlHandler(None, 1) })?;
    // SAFETY: no memory is involved; group zero is all of this console.
    pressed(unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) })
}

/// A job that this process and all that it starts are in.
fn job_around_us() -> Result<HANDLE, String> {
    let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    // SAFETY: neither attributes nor name are given.
    let job = unsafe { CreateJobObjectW(core::ptr::null(), core::ptr::null()) };
    if job.is_null() {
        return Err(failed("making a job"));
    }
    // SAFETY: all bytes of the structure may be zero.
    let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { core::mem::zeroed() };
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    let size = size_of_val(&limits) as u32;
    // SAFETY: pointer and size are those of a living structure.
    let set = unsafe {
        SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size,
        )
    };
    if set == 0 {
        return Err(failed("limiting the job"));
    }
    // SAFETY: the pseudo handle is always valid.
    let own = unsafe { GetCurrentProcess() };
    // SAFETY: both handles are valid.
    if unsafe { AssignProcessToJobObject(job, own) } == 0 {
        return Err(failed("entering the job"));
    }
    Ok(job)
}

/// Waits for the window of a guard, and asks and tells it the end of the session; returns how many of both it answered as one that lets it end.
fn end_session(wait_max: Duration) -> Result<u32, String> {
    const ANSWER_MS_MAX: u32 = 10_000;
    let class: Vec<u16> = "RearguardSession\0".encode_utf16().collect();
    let deadline = Instant::now() + wait_max;
    let window = loop {
        // SAFETY: the name ends with a zero.
        let window = unsafe { FindWindowW(class.as_ptr(), core::ptr::null()) };
        if !window.is_null() {
            break window;
        }
        if Instant::now() > deadline {
            return Err(String::from("no guard has a window"));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut answers = 0;
    for (message, expected) in [(WM_QUERYENDSESSION, 1), (WM_ENDSESSION, 0)] {
        let mut answer = usize::MAX;
        let first = usize::from(message == WM_ENDSESSION);
        // SAFETY: the answer goes into a living place.
        let sent = unsafe {
            SendMessageTimeoutW(
                window,
                message,
                first,
                0,
                SMTO_NORMAL,
                ANSWER_MS_MAX,
                &raw mut answer,
            )
        };
        answers += u32::from(sent != 0 && answer == expected);
    }
    Ok(answers)
}

/// How many processes are in the job beside us.
fn others(job: HANDLE) -> u32 {
    // SAFETY: all bytes of the structure may be zero.
    let mut told: JOBOBJECT_BASIC_ACCOUNTING_INFORMATION = unsafe { core::mem::zeroed() };
    let size = size_of_val(&told) as u32;
    // SAFETY: pointer and size are those of a living structure.
    unsafe {
        QueryInformationJobObject(
            job,
            JobObjectBasicAccountingInformation,
            (&raw mut told).cast(),
            size,
            core::ptr::null_mut(),
        )
    };
    told.ActiveProcesses.saturating_sub(1)
}
