//! `/proc/<tid>` of the target: its files, and the list of its threads.
//!
//! The directory is that of the crashing thread, since `/proc/<pid>` is empty once the main thread has ended.
//! It is opened once, so that a process which later gets the same number isn't taken for the target.

use core::ffi::CStr;
use std::os::fd::OwnedFd;

use super::sys::{self, Errno};
use crate::heap::{self, List};
use crate::parse::{directory, process};
use crate::text::push_id;

/// How much one read asks for; the kernel gives at most one page of most of these files at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes of a thread's file up to which one read gives all that is asked for.
const ONE_READ_BYTES_MAX: usize = 4096;

/// Reads of one list of threads; each gives several hundred, and a target that makes threads as fast as they are read must not hold us.
const LIST_READS_MAX: usize = 256;

/// Numbers that may be other processes' before the threads are listed; to ask for them all takes less time than a short list.
const GAPS_MAX: usize = 32;

/// The directory of the target.
pub(crate) struct Proc {
    directory: OwnedFd,
    task: OwnedFd,
}

impl Proc {
    /// Opens the directory of a thread.
    pub(super) fn open(tid: i32) -> Result<Proc, Errno> {
        let path = numbered(b"/proc/", tid, b"");
        let directory = sys::open(None, as_c_str(&path), libc::O_DIRECTORY)?;
        let task = sys::open(Some(&directory), c"task", libc::O_DIRECTORY)?;
        Ok(Proc { directory, task })
    }

    /// Reads a file of the directory, and at most `max` bytes of it.
    pub(super) fn read(&self, name: &CStr, max: usize) -> Result<List<u8>, Errno> {
        read_file(&sys::open(Some(&self.directory), name, 0)?, max, false)
    }

    /// Reads a file of one of the target's threads.
    ///
    /// `name` begins with a slash.
    pub(super) fn read_thread(&self, tid: i32, name: &[u8], max: usize) -> Result<List<u8>, Errno> {
        let path = numbered(b"", tid, name);
        // The kernel makes each of these files as one piece.
        read_file(&sys::open(Some(&self.task), as_c_str(&path), 0)?, max, max <= ONE_READ_BYTES_MAX)
    }

    /// Opens the target's memory as a file.
    pub(super) fn open_memory(&self) -> Result<OwnedFd, Errno> {
        sys::open(Some(&self.directory), c"mem", 0)
    }

    /// The ids of the threads in ascending order, and whether that is all: of more than `max`, the `main` thread and those nearest to `near`.
    pub(super) fn threads(&self, max: usize, near: i32, main: i32) -> Result<(List<i32>, bool), Errno> {
        let (mut tids, complete) = match self.found(max, main) {
            Some(found) => (found, true),
            None => self.numbers(c"task")?,
        };
        if tids.len() <= max {
            return Ok((tids, complete));
        }
        // Ids begin again at their highest, so that the main thread's may be anywhere.
        let before = tids.len();
        tids.retain(|tid| *tid != main);
        let others = max.saturating_sub(before - tids.len());
        let (low, high) = nearest(&tids, others, near);
        let mut kept = heap::copied(tids.get(low..high).unwrap_or_default());
        if before > tids.len() {
            insert_sorted(&mut kept, main);
        }
        Ok((kept, false))
    }

    /// The ids of the threads where they follow the main thread's closely, as those of a program that makes its threads at its start do.
    ///
    /// The kernel makes an entry for each thread that it lists, which takes ten times as long as to ask for one by its number.
    ///
    /// What is no thread of the target's must never be traced, so an answer counts only where a number that nobody can have is denied: a filter may answer in the kernel's place.
    fn found(&self, max: usize, main: i32) -> Option<List<i32>> {
        let count = self.thread_count().filter(|count| *count <= max)?;
        if sys::ask_thread(main, i32::MAX) != Err(libc::ESRCH) {
            return None;
        }
        let mut tids = List::new();
        heap::reserve(&mut tids, count);
        let mut misses = GAPS_MAX + count / 4;
        let mut tid = main;
        while tids.len() < count && misses > 0 {
            if sys::ask_thread(main, tid).is_ok() {
                heap::add(&mut tids, tid);
            } else {
                misses -= 1;
            }
            tid = tid.checked_add(1)?;
        }
        (tids.len() == count).then_some(tids)
    }

    /// The names in a directory that are numbers, in ascending order, and whether they are all.
    pub(super) fn numbers(&self, name: &CStr) -> Result<(List<i32>, bool), Errno> {
        crate::heap::with_frame_pointer();
        // A descriptor of its own, so that each list begins at the start.
        let directory = sys::open(Some(&self.directory), name, libc::O_DIRECTORY)?;
        let mut buffer = List::new();
        heap::resize(&mut buffer, CHUNK_BYTES, 0);
        let mut numbers = List::new();
        for _ in 0..LIST_READS_MAX {
            let got = sys::entries(&directory, &mut buffer)?;
            if got == 0 {
                return Ok((numbers, true));
            }
            directory::numbers(buffer.get(..got).unwrap_or_default(), |number| insert_sorted(&mut numbers, number));
        }
        Ok((numbers, false))
    }

    /// Where a link in a directory of the target's leads.
    pub(super) fn link(&self, directory: &[u8], number: i32, max: usize) -> Result<List<u8>, Errno> {
        sys::read_link(&self.directory, as_c_str(&numbered(directory, number, b"")), max)
    }

    /// How many threads there are, which the kernel gives as links of the directory; far cheaper than their list.
    pub(super) fn thread_count(&self) -> Option<usize> {
        let links = sys::link_count(&self.task).ok()?;
        usize::try_from(links.checked_sub(2)?).ok().filter(|count| *count > 0)
    }

    /// The letter of a thread's state; `None` when it isn't there.
    pub(super) fn thread_state(&self, tid: i32) -> Option<u8> {
        let line = self.read_thread(tid, b"/stat", CHUNK_BYTES).ok()?;
        process::stat(&line).map(|stat| stat.state)
    }

    /// The tracer of a thread, 0 for none.
    pub(super) fn thread_tracer(&self, tid: i32) -> Option<u64> {
        let text = self.read_thread(tid, b"/status", CHUNK_BYTES).ok()?;
        process::status_number(&text, b"TracerPid:")
    }
}

/// Between which places the `max` ids are that are nearest to `near`.
///
/// Ids ascend with the time of their making as a rule, so neighbours serve the same end.
fn nearest(tids: &[i32], max: usize, near: i32) -> (usize, usize) {
    let (mut low, mut high) = (0, tids.len());
    while high - low > max {
        let distance = |index: usize| tids.get(index).map_or(0, |tid| tid.abs_diff(near));
        if distance(low) > distance(high - 1) {
            low += 1;
        } else {
            high -= 1;
        }
    }
    (low, high)
}

/// Puts an id where it belongs, once; the kernel lists nearly in order, so this is nearly an append.
///
/// The sort of the standard library costs the guard 6 KB.
pub(super) fn insert_sorted(ids: &mut List<i32>, id: i32) {
    if let Err(at) = ids.binary_search(&id) {
        heap::insert(ids, at, id);
    }
}

/// Reads a file of the system, and at most `max` bytes of it.
pub(super) fn read_path(path: &CStr, max: usize) -> Result<List<u8>, Errno> {
    read_file(&sys::open(None, path, 0)?, max, false)
}

/// Reads until the end or until there are `max` bytes; `is_whole` of what one read gives all of.
fn read_file(file: &OwnedFd, max: usize, is_whole: bool) -> Result<List<u8>, Errno> {
    crate::heap::with_frame_pointer();
    let mut bytes = List::new();
    loop {
        let filled = bytes.len();
        let chunk = CHUNK_BYTES.min(max.saturating_sub(filled));
        heap::resize(&mut bytes, filled + chunk, 0);
        let got = match sys::read(file, bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(got) => got,
            // What was read before is worth having; a file of a thread that ends fails in the middle.
            Err(errno) if filled == 0 => return Err(errno),
            Err(_) => 0,
        };
        bytes.truncate(filled + got);
        if got == 0 || is_whole {
            return Ok(bytes);
        }
    }
}

/// What is before a number, the number, and what is behind it; with a NUL.
fn numbered(before: &[u8], number: i32, behind: &[u8]) -> List<u8> {
    let mut path = heap::copied(before);
    push_id(&mut path, number);
    heap::append(&mut path, behind);
    heap::append(&mut path, &[0]);
    path
}

/// The path for a system call; the empty path, which no file has, if there is a NUL inside.
fn as_c_str(path: &[u8]) -> &CStr {
    CStr::from_bytes_with_nul(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_ids_are_neighbours() {
        let tids = [3, 10, 11, 12, 13, 90, 91];
        assert_eq!(nearest(&tids, 7, 12), (0, 7));
        assert_eq!(nearest(&tids, 3, 12), (2, 5));
        assert_eq!(nearest(&tids, 1, 12), (3, 4));
        assert_eq!(nearest(&tids, 2, 200), (5, 7));
        assert_eq!(nearest(&tids, 0, 12).0, nearest(&tids, 0, 12).1);
    }
}
