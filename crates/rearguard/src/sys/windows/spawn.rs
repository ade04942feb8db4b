//! Creating a process that inherits exactly what it is given, and stands still until it is let run.

use std::os::windows::io::OwnedHandle;

use windows_sys::Win32::Foundation::{HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::System::Threading::{
    CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessW, DeleteProcThreadAttributeList,
    EXTENDED_STARTUPINFO_PRESENT, InitializeProcThreadAttributeList, LPPROC_THREAD_ATTRIBUTE_LIST,
    PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROC_THREAD_ATTRIBUTE_JOB_LIST, PROCESS_INFORMATION,
    STARTF_FORCEOFFFEEDBACK, STARTF_USESTDHANDLES, STARTUPINFOEXW, STARTUPINFOW,
    UpdateProcThreadAttribute,
};

#[cfg(feature = "guard-first")]
use windows_sys::Win32::System::Threading::{GetStartupInfoW, STARTF_USESHOWWINDOW};

use super::handles::{last_error, own};

/// Paths of this length and more need the prefix that turns the old limit off (MSDN, "Maximum Path Length Limitation").
const OLD_PATH_MAX: usize = 248;

/// What to start, and with what.
pub(super) struct Start<'a> {
    /// The executable's path, without a zero.
    pub(super) program: &'a [u16],
    /// The whole command line, without a zero.
    pub(super) command_line: &'a [u16],
    /// `NAME=value` each.
    pub(super) environment: &'a [Vec<u16>],
    /// The working directory; empty for the caller's.
    pub(super) directory: &'a [u16],
    /// The values for the three standard handles, if the new process is to have them.
    pub(super) streams: Option<[HANDLE; 3]>,
    /// What is inherited, beside the streams.
    pub(super) handles: &'a [HANDLE],
    /// The job that it is born into; null for none but the creator's.
    pub(super) job: HANDLE,
    /// Further creation flags.
    pub(super) flags: u32,
}

/// A process that was created and stands still.
pub(super) struct Created {
    pub(super) process: OwnedHandle,
    pub(super) thread: OwnedHandle,
    pub(super) pid: u32,
}

/// Creates the process; the error is the system's.
pub(super) fn create_suspended(start: &Start<'_>) -> Result<Created, u32> {
    let mut inherited: Vec<HANDLE> = start.handles.to_vec();
    for stream in start.streams.iter().flatten() {
        if !stream.is_null() && !inherited.contains(stream) {
            inherited.push(*stream);
        }
    }
    let _inheriting = Inheriting::begin(&inherited);
    let list = AttributeList::new(&inherited, &start.job)?;
    let streams = start.streams.unwrap_or([core::ptr::null_mut(); 3]);
    let use_streams = if start.streams.is_some() { STARTF_USESTDHANDLES } else { 0 };
    let info = STARTUPINFOEXW {
        StartupInfo: STARTUPINFOW {
            cb: size_of::<STARTUPINFOEXW>() as u32,
            // No hour-glass: nobody has asked for this start.
            dwFlags: use_streams | STARTF_FORCEOFFFEEDBACK,
            hStdInput: streams[0],
            hStdOutput: streams[1],
            hStdError: streams[2],
            // SAFETY: all bytes of the structure may be zero.
            ..unsafe { core::mem::zeroed() }
        },
        lpAttributeList: list.pointer(),
    };
    create(start, &info, !inherited.is_empty())
}

/// The same for a process that is to have everything that this one was started with: whatever is inheritable here, its standard streams, and how its window is to be shown.
#[cfg(feature = "guard-first")]
pub(super) fn create_alike(start: &Start<'_>) -> Result<Created, u32> {
    // SAFETY: all bytes of the structure may be zero.
    let mut info: STARTUPINFOW = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer refers to a living structure.
    unsafe { GetStartupInfoW(&raw mut info) };
    // The rest of it is about this process's own window and console, or is told in the places of the streams.
    info.dwFlags = info.dwFlags & STARTF_USESHOWWINDOW | STARTF_FORCEOFFFEEDBACK;
    [info.hStdInput, info.hStdOutput, info.hStdError] = [core::ptr::null_mut(); 3];
    let mut inherited = start.handles.to_vec();
    if let Some(streams) = start.streams {
        info.dwFlags |= STARTF_USESTDHANDLES;
        [info.hStdInput, info.hStdOutput, info.hStdError] = streams;
        for stream in streams {
            if super::front_page::is_inheritable(stream) == Some(false) {
                inherited.push(stream);
            }
        }
    }
    let _inheriting = Inheriting::begin(&inherited);
    let list = AttributeList::new(&[], &start.job)?;
    info.cb = size_of::<STARTUPINFOEXW>() as u32;
    create(start, &STARTUPINFOEXW { StartupInfo: info, lpAttributeList: list.pointer() }, true)
}

/// Creates the process, with what it inherits settled.
fn create(start: &Start<'_>, info: &STARTUPINFOEXW, inherits: bool) -> Result<Created, u32> {
    let program = terminated(&with_prefix(start.program));
    // The system may write to the command line while it parses it.
    let mut command_line = terminated(start.command_line);
    let environment = environment_block(start.environment);
    let directory = terminated(start.directory);
    let directory = if start.directory.is_empty() { core::ptr::null() } else { directory.as_ptr() };
    // SAFETY: all bytes of the structure may be zero.
    let mut created: PROCESS_INFORMATION = unsafe { core::mem::zeroed() };
    // SAFETY: strings and block end with zeros, the attribute list lives, and the result goes into a living place.
    let done = unsafe {
        CreateProcessW(
            program.as_ptr(),
            command_line.as_mut_ptr(),
            core::ptr::null(),
            core::ptr::null(),
            i32::from(inherits),
            start.flags
                | CREATE_SUSPENDED
                | CREATE_UNICODE_ENVIRONMENT
                | EXTENDED_STARTUPINFO_PRESENT,
            environment.as_ptr().cast(),
            directory,
            core::ptr::from_ref(info).cast(),
            &raw mut created,
        )
    };
    if done == 0 {
        return Err(last_error());
    }
    Ok(Created {
        process: own(created.hProcess)?,
        thread: own(created.hThread)?,
        pid: created.dwProcessId,
    })
}

fn terminated(units: &[u16]) -> Vec<u16> {
    let mut units: Vec<u16> = units.iter().copied().take_while(|unit| *unit != 0).collect();
    units.push(0);
    units
}

/// The path with the prefix that it needs when it is long.
fn with_prefix(path: &[u16]) -> Vec<u16> {
    let text: Vec<u16> = r"\\?\".encode_utf16().collect();
    let share: Vec<u16> = r"\\".encode_utf16().collect();
    if path.len() < OLD_PATH_MAX || path.starts_with(&text) {
        return path.to_vec();
    }
    if let Some(rest) = path.strip_prefix(share.as_slice()) {
        let mut prefixed: Vec<u16> = r"\\?\UNC\".encode_utf16().collect();
        prefixed.extend_from_slice(rest);
        return prefixed;
    }
    let mut prefixed = text;
    prefixed.extend_from_slice(path);
    prefixed
}

/// The environment in the form that the system takes: each entry ended by a zero, all of it by another.
fn environment_block(entries: &[Vec<u16>]) -> Vec<u16> {
    let mut block = Vec::new();
    for entry in entries {
        block.extend(entry.iter().copied().filter(|unit| *unit != 0));
        block.push(0);
    }
    if entries.is_empty() {
        block.push(0);
    }
    block.push(0);
    block
}

/// Handles that are inheritable while this lives.
struct Inheriting<'a>(&'a [HANDLE]);

impl Inheriting<'_> {
    fn begin(handles: &[HANDLE]) -> Inheriting<'_> {
        set_inheritable(handles, true);
        Inheriting(handles)
    }
}

impl Drop for Inheriting<'_> {
    fn drop(&mut self) {
        set_inheritable(self.0, false);
    }
}

fn set_inheritable(handles: &[HANDLE], inheritable: bool) {
    let flag = if inheritable { HANDLE_FLAG_INHERIT } else { 0 };
    for handle in handles {
        // SAFETY: a handle that isn't one makes the call fail, and then the creation.
        unsafe { SetHandleInformation(*handle, HANDLE_FLAG_INHERIT, flag) };
    }
}

/// The list of what a new process inherits.
struct AttributeList {
    memory: Vec<usize>,
}

impl AttributeList {
    /// Both must live as long as the list is used.
    fn new(handles: &[HANDLE], job: &HANDLE) -> Result<AttributeList, u32> {
        let mut bytes = 0;
        // SAFETY: asking for the size writes to nothing else.
        unsafe { InitializeProcThreadAttributeList(core::ptr::null_mut(), 2, 0, &raw mut bytes) };
        let memory = vec![0; bytes.div_ceil(size_of::<usize>()).max(1)];
        let mut list = AttributeList { memory };
        // SAFETY: the memory has as many bytes as were asked for.
        if unsafe { InitializeProcThreadAttributeList(list.pointer_mut(), 2, 0, &raw mut bytes) }
            == 0
        {
            return Err(last_error());
        }
        if !handles.is_empty() {
            list.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles)?;
        }
        if !job.is_null() {
            list.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, core::slice::from_ref(job))?;
        }
        Ok(list)
    }

    /// Sets one attribute; `handles` must stay where they are until the list is used.
    fn set(&mut self, attribute: u32, handles: &[HANDLE]) -> Result<(), u32> {
        // SAFETY: the list is initialised, and the caller answers for the handles.
        let done = unsafe {
            UpdateProcThreadAttribute(
                self.pointer_mut(),
                0,
                attribute as usize,
                handles.as_ptr().cast(),
                size_of_val(handles),
                core::ptr::null_mut(),
                core::ptr::null(),
            )
        };
        if done == 0 { Err(last_error()) } else { Ok(()) }
    }

    fn pointer_mut(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.memory.as_mut_ptr().cast()
    }

    fn pointer(&self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.memory.as_ptr().cast_mut().cast()
    }
}

impl Drop for AttributeList {
    fn drop(&mut self) {
        let list = self.pointer_mut();
        // SAFETY: the list was initialised, and is used no more.
        unsafe { DeleteProcThreadAttributeList(list) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a path longer than old programs can say is told in the form that has no limit, and no other path is changed.
    #[test]
    fn long_paths_have_the_prefix() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let long = "x".repeat(300);
        for (path, told) in [
            (format!(r"C:\{long}"), format!(r"\\?\C:\{long}")),
            (format!(r"\\server\{long}"), format!(r"\\?\UNC\server\{long}")),
            (format!(r"\\?\C:\{long}"), format!(r"\\?\C:\{long}")),
            (String::from(r"C:\short"), String::from(r"C:\short")),
        ] {
            assert_eq!(with_prefix(&units(&path)), units(&told));
        }
    }

    // Goal: an environment is a block as the system wants it, an empty one too.
    #[test]
    fn blocks_end_twice() {
        let block = [0x61, 0x3d, 0, 0x62, 0, 0];
        assert_eq!(environment_block(&[]), [0, 0]);
        assert_eq!(environment_block(&[vec![0x61, 0x3d], vec![0x62]]), block);
    }
}
