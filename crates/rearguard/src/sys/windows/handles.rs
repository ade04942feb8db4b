//! Handles: events, sections, duplicates; each owned, each given back.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, GetLastError, HANDLE, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEM_COMMIT, MEMORY_BASIC_INFORMATION,
    MapViewOfFile, PAGE_READWRITE, UnmapViewOfFile, VirtualQuery,
};
use windows_sys::Win32::System::Threading::{CreateEventW, GetCurrentProcess};

use crate::heap::{List, copied};

/// The calling thread's last error.
pub(super) fn last_error() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { GetLastError() }
}

/// Takes over a handle that a call has just returned.
pub(super) fn own(handle: HANDLE) -> Result<OwnedHandle, u32> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(last_error());
    }
    // SAFETY: the handle is new and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle.cast()) })
}

/// The raw value.
pub(super) fn raw(handle: &OwnedHandle) -> HANDLE {
    handle.as_raw_handle().cast()
}

/// This process, for calls that take a process.
pub(super) fn this_process() -> HANDLE {
    // SAFETY: no memory is involved.
    unsafe { GetCurrentProcess() }
}

/// An event without a name, not inherited.
pub(super) fn event(stays_set: bool) -> Result<OwnedHandle, u32> {
    // SAFETY: neither attributes nor name are given.
    own(unsafe { CreateEventW(core::ptr::null(), i32::from(stays_set), 0, core::ptr::null()) })
}

/// Memory without a name that can be shared, zeroed, not inherited.
pub(super) fn section(bytes: usize) -> Result<OwnedHandle, u32> {
    let size = bytes as u64;
    let (high, low) = ((size >> 32) as u32, size as u32);
    let no_file = INVALID_HANDLE_VALUE;
    // SAFETY: neither attributes nor name are given; without a file it is memory.
    own(unsafe {
        CreateFileMappingW(no_file, core::ptr::null(), PAGE_READWRITE, high, low, core::ptr::null())
    })
}

/// How many bytes of a sealed section tell the content's length, since a view is a number of whole pages.
pub(super) const LENGTH_BYTES: usize = 8;

/// A section that holds `content`, as a handle that can only be read through.
pub(super) fn sealed(content: &[u8]) -> Result<OwnedHandle, u32> {
    let section = section(content.len() + LENGTH_BYTES)?;
    fill(&section, content)?;
    duplicate(this_process(), raw(&section), this_process(), Some(FILE_MAP_READ))
}

/// Writes content into a section of ours that is large enough for it and its length.
pub(super) fn fill(section: &OwnedHandle, content: &[u8]) -> Result<(), u32> {
    let mut framed = (content.len() as u64).to_le_bytes().to_vec();
    framed.extend_from_slice(content);
    let view = map(raw(section), framed.len(), true)?;
    // SAFETY: the view has as many bytes, and nobody else looks at it yet.
    unsafe { core::ptr::copy_nonoverlapping(framed.as_ptr(), view, framed.len()) };
    unmap(view);
    Ok(())
}

/// Maps a section; the error is the system's.
pub(super) fn map(section: HANDLE, bytes: usize, writable: bool) -> Result<*mut u8, u32> {
    let access = if writable { FILE_MAP_READ | FILE_MAP_WRITE } else { FILE_MAP_READ };
    // SAFETY: a handle that is no section's, or a section that is smaller, makes the call fail.
    let view = unsafe { MapViewOfFile(section, access, 0, 0, bytes) }.Value;
    if view.is_null() { Err(last_error()) } else { Ok(view.cast()) }
}

/// Gives a view back.
pub(super) fn unmap(view: *mut u8) {
    let address =
        windows_sys::Win32::System::Memory::MEMORY_MAPPED_VIEW_ADDRESS { Value: view.cast() };
    // SAFETY: the address is that of a view, which nobody uses any more.
    unsafe { UnmapViewOfFile(address) };
}

/// How many bytes are readable from the beginning of a view.
pub(super) fn view_bytes(view: *const u8) -> usize {
    // SAFETY: all bytes of the structure may be zero.
    let mut info: MEMORY_BASIC_INFORMATION = unsafe { core::mem::zeroed() };
    let size = size_of::<MEMORY_BASIC_INFORMATION>();
    // SAFETY: any address may be asked about, and the structure has the size that is given.
    let told = unsafe { VirtualQuery(view.cast(), &raw mut info, size) };
    if told == 0 || info.State != MEM_COMMIT { 0 } else { info.RegionSize }
}

/// Copies what a sealed section holds, at most `bytes_max`; `None` when it can't be mapped, or doesn't hold what it says.
pub(super) fn read_section(section: HANDLE, bytes_max: usize) -> Option<List<u8>> {
    // Length zero maps all of it.
    let view = map(section, 0, false).ok()?;
    let bytes = view_bytes(view);
    let content = (LENGTH_BYTES..=bytes_max).contains(&bytes).then(|| {
        // SAFETY: the view has as many readable bytes; its writer has no other handle than one that reads, or is done.
        unsafe { core::slice::from_raw_parts(view, bytes) }.to_vec()
    });
    unmap(view);
    let content = content?;
    let (length, content) = content.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    content.get(..length).map(|content| copied(content))
}

/// Duplicates a handle of one process into another, with the rights given or the same.
pub(super) fn duplicate(
    from: HANDLE,
    handle: HANDLE,
    to: HANDLE,
    access: Option<u32>,
) -> Result<OwnedHandle, u32> {
    own(duplicate_value(from, handle, to, access)?)
}

/// As [`duplicate`], for a target process that isn't ours: the value there.
pub(super) fn duplicate_value(
    from: HANDLE,
    handle: HANDLE,
    to: HANDLE,
    access: Option<u32>,
) -> Result<HANDLE, u32> {
    let mut made = core::ptr::null_mut();
    let options = if access.is_none() { DUPLICATE_SAME_ACCESS } else { 0 };
    // SAFETY: bad handles make the call fail; the result goes into a living place.
    let done = unsafe {
        DuplicateHandle(from, handle, to, &raw mut made, access.unwrap_or(0), 0, options)
    };
    if done == 0 { Err(last_error()) } else { Ok(made) }
}
