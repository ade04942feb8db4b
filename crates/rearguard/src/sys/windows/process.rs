//! What this process is, and where it began.

use std::ffi::OsString;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rearguard_crashpath::black_box::foreground;
pub(crate) use rearguard_crashpath::time::{boot_ns, monotonic_ns, real_ns};
use rearguard_crashpath::{standing, time};
use windows_sys::Win32::Security::Authentication::Identity::RtlGenRandom;
use windows_sys::Win32::System::Console::{
    GetConsoleProcessList, GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::System::Diagnostics::Debug::{
    CheckRemoteDebuggerPresent, IsDebuggerPresent,
};
use windows_sys::Win32::System::Environment::{
    FreeEnvironmentStringsW, GetCommandLineW, GetEnvironmentStringsW,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;

pub(crate) use super::beside::beside;
use super::handles::this_process;
use super::libraries::Library;
use super::wide;
use crate::config::StartBlock;
use crate::heap::{List, Text, add};
use crate::sys::std_file::kept_path;
pub(crate) use crate::sys::std_process::{absolute, arguments, variable};
use crate::sys::words::Surroundings;

/// What the system says of this process at its start.
pub(crate) struct Status {
    /// Whether a debugger is on this process.
    pub(crate) is_traced: bool,
}

impl Status {
    /// Asks.
    pub(crate) fn read() -> Status {
        // SAFETY: no memory is involved.
        let own = unsafe { IsDebuggerPresent() } != 0;
        let mut remote = 0;
        // SAFETY: the answer goes into a living place.
        unsafe { CheckRemoteDebuggerPresent(this_process(), &raw mut remote) };
        Status { is_traced: own || remote != 0 }
    }
}

/// Gathers what the next worker is to be started with.
pub(crate) fn surroundings(_status: &Status) -> Surroundings {
    Surroundings {
        program: path_bytes(&program()),
        // The command line to the letter: how it is split is the program's own affair.
        arguments: core::iter::once(wide::to_bytes(&command_line())).collect(),
        environment: environment(),
        directory: std::env::current_dir().map_or_else(|_| List::new(), |path| path_bytes(&path)),
        streams: stream_values(),
        #[cfg(feature = "guard-first")]
        front: super::front::place(),
        ..Surroundings::default()
    }
}

/// The executable's path.
pub(super) fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

/// A command that starts this very program again.
#[cfg(feature = "roles")]
pub(crate) fn own_command() -> crate::sys::RoleCommand {
    crate::sys::RoleCommand::new(program())
}

fn command_line() -> Vec<u16> {
    // SAFETY: no memory is involved.
    let line = unsafe { GetCommandLineW() };
    // SAFETY: the system keeps the line for the life of the process, with a zero at the end.
    unsafe { units_until_zero(line) }.to_vec()
}

/// The units in front of the first zero.
///
/// # Safety
///
/// There is a zero behind `start`, with nothing unmapped in front of it, for as long as the slice is used.
unsafe fn units_until_zero<'a>(start: *const u16) -> &'a [u16] {
    let mut length = 0;
    // SAFETY: the zero hasn't come yet, so this unit is there.
    while unsafe { start.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: as many units were just read.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// The environment as it is, with the entries that the command interpreter hides in it.
fn environment() -> List<List<u8>> {
    // SAFETY: no memory is involved.
    let block = unsafe { GetEnvironmentStringsW() };
    let mut entries = List::new();
    if block.is_null() {
        return entries;
    }
    let mut at: *const u16 = block;
    loop {
        // SAFETY: each entry ends with a zero, and an empty one ends the block.
        let entry = unsafe { units_until_zero(at) };
        if entry.is_empty() {
            break;
        }
        add(&mut entries, wide::to_bytes(entry));
        // SAFETY: behind the entry's zero there is another entry, or the block's last zero.
        at = unsafe { at.add(entry.len() + 1) };
    }
    // SAFETY: the block is what the system gave, and is used no more.
    unsafe { FreeEnvironmentStringsW(block) };
    entries
}

/// The values of the three standard handles.
fn stream_values() -> List<u64> {
    [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE]
        .into_iter()
        .map(|number| {
            // SAFETY: no memory is involved.
            let handle = unsafe { GetStdHandle(number) };
            handle as isize as u64
        })
        .collect()
}

/// False: Windows gives a program no more rights than its caller without asking a person.
pub(crate) fn is_privileged() -> bool {
    false
}

/// What this process is to its console: a value of [`foreground`].
pub(crate) fn foreground() -> u32 {
    let mut others = [0; 2];
    // SAFETY: the array has as many places as are told.
    match unsafe { GetConsoleProcessList(others.as_mut_ptr(), 2) } {
        0 => foreground::NO,
        1 => foreground::ALONE,
        // A shell, most often, which goes on at this process's end.
        _ => foreground::JOB,
    }
}

/// Who else restarts this process, if anybody does: services live in the session without a user.
pub(crate) fn outer_supervisor() -> Option<StartBlock> {
    let mut session = u32::MAX;
    // SAFETY: the answer goes into a living place.
    let told = unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    (told != 0 && session == 0).then_some(StartBlock::Service)
}

/// Whether the session is about to end; then nothing is started any more.
pub(super) fn is_shutting_down() -> bool {
    /// `SM_SHUTTINGDOWN`.
    const SHUTTING_DOWN: i32 = 0x2000;
    type GetSystemMetrics = unsafe extern "system" fn(i32) -> i32;
    let Some(library) = Library::load("user32.dll") else { return false };
    // SAFETY: this is the function's type.
    let metrics: Option<GetSystemMetrics> = unsafe { library.function(c"GetSystemMetrics") };
    // SAFETY: no memory is involved.
    metrics.is_some_and(|metrics| unsafe { metrics(SHUTTING_DOWN) } != 0)
}

/// Fills `bytes` with randomness of the system's.
pub(crate) fn random(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // SAFETY: pointer and length are those of a living slice.
    unsafe { RtlGenRandom(bytes.as_mut_ptr().cast(), length) };
}

/// The calling thread, as the system numbers it.
pub(crate) fn thread_id() -> u32 {
    rearguard_crashpath::fault::thread_id()
}

/// Ends the process without exit handlers of the application's: at once, or, in a guard, when what is done beside it is done.
pub(crate) fn exit(status: i32) -> ! {
    super::beside::await_end();
    standing::end_this_process(status as u32)
}

/// The system and its version, for the report.
pub(crate) fn system_name() -> Text {
    #[repr(C)]
    struct Version {
        size: u32,
        major: u32,
        minor: u32,
        build: u32,
        platform: u32,
        service_pack: [u16; 128],
    }
    type GetVersion = unsafe extern "system" fn(*mut Version) -> i32;
    let mut name = String::from("Windows");
    let Some(library) = Library::load("ntdll.dll") else { return name.into() };
    // SAFETY: this is the function's type.
    let ask: Option<GetVersion> = unsafe { library.function(c"RtlGetVersion") };
    let Some(ask) = ask else { return name.into() };
    let mut version = Version {
        size: size_of::<Version>() as u32,
        major: 0,
        minor: 0,
        build: 0,
        platform: 0,
        service_pack: [0; 128],
    };
    // SAFETY: the structure says its size.
    if unsafe { ask(&raw mut version) } == 0 {
        for (mark, number) in [(' ', version.major), ('.', version.minor), ('.', version.build)] {
            name.push(mark);
            name.push_str(&number.to_string());
        }
    }
    name.into()
}

/// Turns bytes that came from a path into one again.
pub(crate) fn path(bytes: &[u8]) -> &'static Path {
    kept_path(PathBuf::from(OsString::from_wide(&wide::from_bytes(bytes))))
}

/// The bytes of a path.
pub(crate) fn path_bytes(path: &Path) -> List<u8> {
    let units: Vec<u16> = path.as_os_str().encode_wide().collect();
    wide::to_bytes(&units)
}

/// The user's home directory.
pub(crate) fn home() -> Option<List<u8>> {
    variable(b"USERPROFILE")
}

/// Where this application's reports go unless it says otherwise: `%LOCALAPPDATA%\<app>\crashes`.
pub(crate) fn default_store(name: &str) -> Option<&'static Path> {
    let absolute = |variable: &str| {
        std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let local = absolute("LOCALAPPDATA")
        .or_else(|| Some(absolute("USERPROFILE")?.join("AppData").join("Local")))?;
    Some(kept_path(local.join(name).join("crashes")))
}

/// Ends this process as nothing can prevent; for fail spots.
pub(crate) fn kill_self() {
    standing::end_this_process(1)
}

/// Stops all threads of this process; for fail spots.
pub(crate) fn stop_self() {
    type Suspend = unsafe extern "system" fn(*mut core::ffi::c_void) -> i32;
    if let Some(library) = Library::load("ntdll.dll") {
        // SAFETY: this is the function's type.
        let suspend: Option<Suspend> = unsafe { library.function(c"NtSuspendProcess") };
        if let Some(suspend) = suspend {
            // SAFETY: the pseudo handle is always valid.
            unsafe { suspend(this_process()) };
        }
    }
}

/// Sleeps; for fail spots.
pub(crate) fn sleep_ms(duration_ms: u64) {
    time::sleep_ms(u32::try_from(duration_ms).unwrap_or(u32::MAX - 1));
}

/// The heap gives back by itself what is worth it.
pub(crate) fn give_back_memory() {}

/// Nothing has to be readied for sending.
pub(crate) fn begin_delivery() {}

/// Who works beside this guard is a part of it, and ends with it.
pub(crate) fn end_beside() {}
