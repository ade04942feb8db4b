//! What the first process and those behind it share in guard-first: a page of words for each life, and two events.
//!
//! The page has no name. Who is told the front's process id and a handle's value there opens that process, takes a duplicate, and believes nothing before the page says which worker it is for.
//! The front trusts nothing that it reads here: numbers are compared, and a handle is tried before it is used.

use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rearguard_crashpath::{standing, time};
use windows_sys::Win32::Foundation::{
    ERROR_PROCESS_ABORTED, ERROR_TIMEOUT, GetHandleInformation, HANDLE, HANDLE_FLAG_INHERIT,
    WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::SYNCHRONIZE;
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessId, OpenProcess, PROCESS_DUP_HANDLE,
    PROCESS_QUERY_LIMITED_INFORMATION, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::attach::Stream;
use super::handles::{self, own, raw, this_process};
use crate::limits;

/// The first eight bytes of a page; the digit changes with the layout, since an update may replace the file between two lives.
const MAGIC: u64 = u64::from_le_bytes(*b"rgfront1");

/// How many guards can be told to the front before it looks. A worker makes two at its start, and each further one when another has ended.
const GUARD_PLACES: usize = 8;

/// Values of [`Page::word`].
pub(super) mod word {
    /// Nothing is known of what comes after this life.
    pub(crate) const OPEN: u32 = 0;
    /// Nothing comes.
    pub(crate) const OVER: u32 = 1;
    /// A guard asks for the next worker.
    pub(crate) const ASKED: u32 = 2;
    /// The front is creating it.
    pub(crate) const TAKEN: u32 = 3;
    /// It runs; its process id is the outcome.
    pub(crate) const STARTED: u32 = 4;
    /// It could not be started; the outcome is the system's error.
    pub(crate) const REFUSED: u32 = 5;
}

/// What one life's worker and guards share with the front. Every field is a number of which any value is valid.
#[repr(C)]
pub(super) struct Page {
    magic: AtomicU64,
    /// The worker's process id.
    pub(super) worker: AtomicU32,
    /// What comes after this life: see [`word`].
    pub(super) word: AtomicU32,
    /// What became of the start that was asked for.
    pub(super) outcome: AtomicU32,
    _unused: AtomicU32,
    /// Handles in the front: the event that wakes it, and the one that it sets.
    news: AtomicU64,
    reply: AtomicU64,
    /// The front's own standard streams, as handles there; zero for none.
    streams: [AtomicU64; 3],
    /// When the program was last asked to stop, by the monotonic clock; zero for never.
    pub(super) stop_asked_ns: AtomicU64,
    /// When the front saw the worker's end; zero before.
    pub(super) ended_ns: AtomicU64,
    /// When a guard last gave a sign of life.
    pub(super) heard_ns: AtomicU64,
    /// Handles in the front: guards that it hasn't looked at yet.
    guards: [AtomicU64; GUARD_PLACES],
    /// Handles in the front: what the next worker is to be told, and its standard streams.
    succession: AtomicU64,
    next_streams: [AtomicU64; 3],
}

/// A page, mapped while this lives.
pub(super) struct View(*mut u8);

impl View {
    /// Maps the page of a section.
    pub(super) fn map(section: HANDLE) -> Result<View, u32> {
        let view = View(handles::map(section, size_of::<Page>(), true)?);
        if handles::view_bytes(view.0) < size_of::<Page>() {
            return Err(ERROR_PROCESS_ABORTED);
        }
        Ok(view)
    }
}

impl std::ops::Deref for View {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: the view is large enough, aligned to a page, and mapped while this lives; every content is valid.
        unsafe { &*self.0.cast_const().cast::<Page>() }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        handles::unmap(self.0);
    }
}

/// A handle's value as a page holds it.
fn value(handle: HANDLE) -> u64 {
    handle as isize as u64
}

/// The handle whose value a page held; empty for none.
fn taken(place: &AtomicU64) -> Option<HANDLE> {
    let value = place.swap(0, Ordering::AcqRel);
    (value != 0).then_some(value as isize as HANDLE)
}

impl Page {
    /// Fills a new page, before anybody else is told of it.
    pub(super) fn begin(&self, news: &OwnedHandle, reply: &OwnedHandle, streams: [HANDLE; 3]) {
        self.news.store(value(raw(news)), Ordering::Relaxed);
        self.reply.store(value(raw(reply)), Ordering::Relaxed);
        for (place, stream) in self.streams.iter().zip(streams) {
            place.store(value(stream), Ordering::Relaxed);
        }
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// The guards that were put in since this was last asked, in the front.
    pub(super) fn take_guards(&self) -> impl Iterator<Item = OwnedHandle> {
        let values = self.guards.iter().filter_map(taken);
        // SAFETY: a handle that is no process's makes the call fail.
        let processes = values.filter(|handle| unsafe { GetProcessId(*handle) } != 0);
        // SAFETY: a handle that can't be waited for makes the call fail.
        let awaited =
            processes.filter(|handle| unsafe { WaitForSingleObject(*handle, 0) } != WAIT_FAILED);
        awaited.filter_map(|handle| own(handle).ok())
    }

    /// What the next worker is to be told and to have, in the front; handles that aren't any are left out.
    pub(super) fn take_request(&self) -> Option<(OwnedHandle, [Option<Stream>; 3])> {
        let streams =
            self.next_streams.each_ref().map(|place| own(taken(place).filter(is_handle)?).ok());
        let record = taken(&self.succession).filter(is_handle)?;
        Some((own(record).ok()?, streams))
    }
}

/// Whether a value is that of a handle in this process.
fn is_handle(handle: &HANDLE) -> bool {
    is_inheritable(*handle).is_some()
}

/// Whether a handle goes to new processes; `None` when it is none.
pub(super) fn is_inheritable(handle: HANDLE) -> Option<bool> {
    let mut flags = 0;
    // SAFETY: a handle that isn't one makes the call fail; the answer goes into a living place.
    let told = unsafe { GetHandleInformation(handle, &raw mut flags) };
    (told != 0).then_some(flags & HANDLE_FLAG_INHERIT != 0)
}

/// Where a page is to be found: the front's process id, and a handle's value there, which has no more than 32 bits.
pub(super) fn place(front: u32, section: HANDLE) -> u64 {
    u64::from(front) << 32 | u64::from(section as usize as u32)
}

/// A life's page, and the process in front of it.
pub(super) struct Reached {
    process: OwnedHandle,
    pub(super) page: View,
    news: OwnedHandle,
    reply: OwnedHandle,
}

impl Reached {
    /// Finds the page for this worker; `None` when the front is gone, or isn't one.
    pub(super) fn open(place: u64, worker: u32) -> Option<Reached> {
        let (front, section) = ((place >> 32) as u32, place as u32);
        let rights = PROCESS_DUP_HANDLE | PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE;
        // SAFETY: no memory is involved.
        let process = own(unsafe { OpenProcess(rights, 0, front) }).ok()?;
        let take = |handle: HANDLE| handles::duplicate(raw(&process), handle, this_process(), None);
        let section = take(section as usize as HANDLE).ok()?;
        let page = View::map(raw(&section)).ok()?;
        let is_ours = page.magic.load(Ordering::Acquire) == MAGIC
            && page.worker.load(Ordering::Acquire) == worker;
        if !is_ours {
            return None;
        }
        let event = |place: &AtomicU64| take(place.load(Ordering::Relaxed) as isize as HANDLE).ok();
        let (news, reply) = (event(&page.news)?, event(&page.reply)?);
        Some(Reached { process, page, news, reply })
    }

    /// Wakes the front.
    fn ring(&self) {
        // SAFETY: a handle that is no event's makes the call fail.
        unsafe { SetEvent(raw(&self.news)) };
    }

    /// Puts a handle of this process's into the front; the value there.
    fn put(&self, handle: HANDLE, access: Option<u32>) -> Result<u64, u32> {
        handles::duplicate_value(this_process(), handle, raw(&self.process), access).map(value)
    }

    /// Lets the front know a guard, so that its end is seen there.
    pub(super) fn add_guard(&self, guard: HANDLE) {
        let Ok(put) = self.put(guard, Some(PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE)) else {
            return;
        };
        let free = |place: &&AtomicU64| {
            place.compare_exchange(0, put, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if self.page.guards.iter().any(|place| free(&place)) {
            self.ring();
        }
    }

    /// Gives the front a sign of life.
    pub(super) fn be_heard(&self) {
        self.page.heard_ns.store(time::monotonic_ns(), Ordering::Release);
    }

    /// Says that nothing comes after this life.
    pub(super) fn close(&self) {
        let word = &self.page.word;
        let _ = word.compare_exchange(word::OPEN, word::OVER, Ordering::AcqRel, Ordering::Acquire);
        self.ring();
    }

    /// Takes that back while the worker lives: its guard was called off and comes again.
    pub(super) fn reopen(&self) {
        if self.page.ended_ns.load(Ordering::Acquire) == 0 {
            let word = &self.page.word;
            let _ =
                word.compare_exchange(word::OVER, word::OPEN, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Whether the front is gone, asked when the worker is. One that lives sees the worker's end too, and says so.
    pub(super) fn is_lost(&self) -> bool {
        const SEEN_MS_MAX: u64 = 1_000;
        if self.page.ended_ns.load(Ordering::Acquire) != 0 {
            return false;
        }
        let deadline_ns = time::monotonic_ns().saturating_add(SEEN_MS_MAX * 1_000_000);
        standing::wait_two(raw(&self.reply), raw(&self.process), deadline_ns) == Some(1)
    }

    /// The code with which the front has ended.
    pub(super) fn exit_code(&self) -> u32 {
        let mut code = 0;
        // SAFETY: the handle is the front's, and the answer goes into a living place.
        unsafe { GetExitCodeProcess(raw(&self.process), &raw mut code) };
        code
    }

    /// The front's own standard streams, taken from it.
    pub(super) fn streams(&self) -> [Option<Stream>; 3] {
        self.page.streams.each_ref().map(|place| {
            let handle = place.load(Ordering::Relaxed) as isize as HANDLE;
            if handle.is_null() {
                return None;
            }
            handles::duplicate(raw(&self.process), handle, this_process(), None).ok()
        })
    }

    /// Asks for the next worker, and waits until it runs; its process id, or the system's error.
    /// What was asked before and not answered in time is not asked again, but awaited.
    pub(super) fn ask(&self, succession: &[u8], streams: &[Option<Stream>; 3]) -> Result<u32, u32> {
        let page = &self.page;
        self.be_heard();
        if page.word.load(Ordering::Acquire) == word::OPEN {
            let record = handles::sealed(succession)?;
            page.succession.store(self.put(raw(&record), None)?, Ordering::Relaxed);
            for (place, stream) in page.next_streams.iter().zip(streams) {
                let put = stream.as_ref().and_then(|stream| self.put(raw(stream), None).ok());
                place.store(put.unwrap_or(0), Ordering::Relaxed);
            }
            let _ = page.word.compare_exchange(
                word::OPEN,
                word::ASKED,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            self.ring();
        }
        let deadline_ns = time::monotonic_ns().saturating_add(limits::START_MS_MAX * 1_000_000);
        loop {
            match page.word.load(Ordering::Acquire) {
                word::STARTED => return Ok(page.outcome.load(Ordering::Acquire)),
                word::REFUSED => {
                    let error = page.outcome.load(Ordering::Acquire);
                    page.word.store(word::OPEN, Ordering::Release);
                    return Err(error);
                }
                word::OVER => return Err(ERROR_PROCESS_ABORTED),
                _ => {}
            }
            match standing::wait_two(raw(&self.reply), raw(&self.process), deadline_ns) {
                Some(0) => {}
                Some(_) => return Err(ERROR_PROCESS_ABORTED),
                None => {
                    let _ = page.word.compare_exchange(
                        word::ASKED,
                        word::OPEN,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    return Err(ERROR_TIMEOUT);
                }
            }
        }
    }
}

/// Waits until one of the objects is signalled: its number, or `None` after `wait_ms` or when they can't be waited for.
pub(super) fn wait_any(objects: &[HANDLE], wait_ms: u32) -> Option<usize> {
    let count = u32::try_from(objects.len()).ok()?;
    // SAFETY: the slice has as many handles; bad ones make the call fail.
    let woken = unsafe { WaitForMultipleObjects(count, objects.as_ptr(), 0, wait_ms) };
    let index = woken.wrapping_sub(WAIT_OBJECT_0) as usize;
    (index < objects.len()).then_some(index)
}
