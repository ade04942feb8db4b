//! Starts the program within a job, waits for it, then for everything that it has started.

#![expect(unsafe_code, reason = "jobs have no safe face")]

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::HANDLE;
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

/// The program gets no console of ours: it would be taken for the foreground job of a shell.
const DETACHED: u32 = 0x8;

/// What the command line says.
struct Request {
    deadline: Duration,
    command_line: Option<OsString>,
    directory: Option<OsString>,
    end_session: bool,
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
    let job = job_around_us()?;
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).creation_flags(DETACHED).stdin(Stdio::null());
    if let Some(line) = &request.command_line {
        command.raw_arg(line);
    }
    if let Some(directory) = &request.directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn().map_err(|error| format!("starting it: {error}"))?;
    let pid = child.id();
    let answers = if request.end_session { end_session(request.deadline)? } else { 0 };
    let deadline = Instant::now() + request.deadline;
    let code = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status.code(),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            None => break None,
        }
    };
    // Its guard, and whoever the guard has started, with its guard.
    while others(job) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let code = code.map_or_else(|| String::from("null"), |code| (code as u32).to_string());
    println!(
        "{{\"pid\":{pid},\"exit_code\":{code},\"answers\":{answers},\"left\":{}}}",
        others(job)
    );
    // The job ends with us, and with it whatever is left.
    Ok(())
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
