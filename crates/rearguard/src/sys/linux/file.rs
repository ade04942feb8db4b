//! Files and directories for the user only, made durable when asked.
//!
//! By system calls: the standard library's functions are made for every system and every case, and take several times the room.
//! An error is the system's number.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::heap::{List, PutBytes, add, copied, zeros};

use super::memfd;
use super::process::last_errno;
use super::strings::CText;

/// How deep a directory may be nested that is removed. The store makes one level; what is deeper stays.
const DEPTH_MAX: u32 = 8;

/// How much of a directory's entries is asked for at a time, in bytes.
const ENTRIES_BYTES: usize = 4096;

/// How much of a file is asked for at a time, in bytes. The kernel makes the texts of `/proc` anew for each read, so one is to be enough for nearly all.
const READ_BYTES: usize = 4096;

/// Where an entry's length and its name stand (getdents64(2)).
const ENTRY_LENGTH_AT: usize = 16;
const ENTRY_NAME_AT: usize = 19;

fn c_path(path: &Path) -> CText {
    CText::new(path.as_os_str().as_bytes())
}

/// Turns the C library's -1 into the error behind it.
fn checked(result: libc::c_int) -> Result<(), i32> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Whether a call ended because of a signal, which is nothing.
fn is_interrupted(result: isize) -> bool {
    result < 0 && last_errno() == libc::EINTR
}

/// Opens below a directory, or anywhere if that is `AT_FDCWD`.
fn open_at(directory: RawFd, path: &CStr, flags: i32) -> Result<OwnedFd, i32> {
    let fd = loop {
        // Nobody is waited for, as somebody behind a pipe would be.
        let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the path is NUL-terminated; the rights count only where a file is made.
        let fd = unsafe { libc::openat(directory, path.as_ptr(), flags, 0o600) };
        if !is_interrupted(fd as isize) {
            break fd;
        }
    };
    checked(fd)?;
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { memfd::take(fd) })
}

pub(super) fn open(path: &Path, flags: i32) -> Result<OwnedFd, i32> {
    open_at(libc::AT_FDCWD, c_path(path).as_c_str(), flags)
}

/// Makes a directory and what is missing above it, each for the user only; one that is there is left as it is.
pub(crate) fn create_directories(path: &Path) -> Result<(), i32> {
    let Err(error) = create_directory(path) else { return Ok(()) };
    if is_directory(path) {
        return Ok(());
    }
    let bytes = path.as_os_str().as_bytes();
    let parent = bytes.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0);
    match parent.and_then(|at| bytes.get(..at)) {
        Some(parent) if error == libc::ENOENT => {
            create_directories(Path::new(OsStr::from_bytes(parent)))?;
            // Once: there are places where nothing can be made, and which say that something above is missing.
            match create_directory(path) {
                Err(_) if is_directory(path) => Ok(()),
                made => made,
            }
        }
        _ => Err(error),
    }
}

/// Makes one new directory for the user only.
pub(crate) fn create_directory(path: &Path) -> Result<(), i32> {
    // SAFETY: the path is NUL-terminated.
    checked(unsafe { libc::mkdir(c_path(path).as_c_str().as_ptr(), 0o700) })
}

/// Makes a new file for the user only with this content. It must not exist: nothing of anybody's is overwritten.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), i32> {
    write(&create_new(path)?, content)
}

/// Makes a new empty file for the user only, open for writing. It must not exist.
#[inline(always)]
pub(crate) fn create_new(path: &Path) -> Result<File, i32> {
    open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).map(File::from)
}

/// Writes all of it.
pub(crate) fn write(file: &File, content: &[u8]) -> Result<(), i32> {
    let mut rest = content;
    while !rest.is_empty() {
        // SAFETY: pointer and length are those of a living slice.
        let count = unsafe { libc::write(file.as_raw_fd(), rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(count) {
            Ok(0) => return Err(libc::EIO),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(_) if is_interrupted(count) => {}
            Err(_) => return Err(last_errno()),
        }
    }
    Ok(())
}

/// Appends to a file, which is made if it isn't there, by one system call: what two processes append stands whole, one behind the other.
pub(crate) fn append(path: &Path, content: &[u8]) -> Result<(), i32> {
    let file = open(path, libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT)?;
    write(&File::from(file), content)
}

/// Reads the end of a regular file, at most so much. It waits for nobody, as the reader of a pipe would.
pub(crate) fn read_end(path: &Path, bytes_max: usize) -> Result<List<u8>, i32> {
    let file = open(path, libc::O_RDONLY | libc::O_NOCTTY)?;
    let status = memfd::status(file.as_raw_fd()).ok_or(libc::EIO)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(libc::EINVAL);
    }
    let size = usize::try_from(status.st_size).unwrap_or(0);
    let mut content = zeros(size.min(bytes_max));
    let from = (size - content.len()) as libc::off_t;
    // SAFETY: pointer and length are those of living memory.
    let count =
        unsafe { libc::pread(file.as_raw_fd(), content.as_mut_ptr().cast(), content.len(), from) };
    content.truncate(usize::try_from(count).map_err(|_| last_errno())?);
    Ok(content)
}

/// Reads a file to its end, or `bytes_max` of it.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<List<u8>, i32> {
    crate::heap::with_frame_pointer();
    // A link in a store could lead to anything, and what is read there may be sent.
    let file = open(path, libc::O_RDONLY | libc::O_NOFOLLOW)?;
    let mut content = List::new();
    loop {
        let filled = content.len();
        let room = zeros(bytes_max.min(filled + READ_BYTES.max(filled)) - filled);
        content.put(&room);
        room.give_back();
        let Some(place) = content.get_mut(filled..).filter(|place| !place.is_empty()) else {
            return Ok(content);
        };
        // SAFETY: pointer and length are those of a living slice.
        let count = unsafe { libc::read(file.as_raw_fd(), place.as_mut_ptr().cast(), place.len()) };
        content.truncate(filled + usize::try_from(count).unwrap_or(0));
        match count {
            0 => return Ok(content),
            count if count < 0 && !is_interrupted(count) => return Err(last_errno()),
            _ => {}
        }
    }
}

/// What a link refers to, cut at the longest that the kernel makes a path.
pub(crate) fn read_link(path: &Path) -> Result<List<u8>, i32> {
    let mut target = zeros(libc::PATH_MAX as usize);
    let path = c_path(path);
    // SAFETY: the path is NUL-terminated; pointer and length are those of living memory.
    let length = unsafe {
        libc::readlink(path.as_c_str().as_ptr(), target.as_mut_ptr().cast(), target.len())
    };
    target.truncate(usize::try_from(length).map_err(|_| last_errno())?);
    Ok(target)
}

/// Makes a file's or directory's content durable. Some network file systems can't do that for directories (`EINVAL`, fsync(2)): nothing more can be had there.
pub(crate) fn sync(path: &Path) -> Result<(), i32> {
    let file = open(path, libc::O_RDONLY)?;
    loop {
        // SAFETY: no memory is involved.
        let failed = unsafe { libc::fsync(file.as_raw_fd()) } < 0;
        match if failed { last_errno() } else { 0 } {
            0 | libc::EINVAL => return Ok(()),
            libc::EINTR => {}
            error => return Err(error),
        }
    }
}

/// Whether there is something of this name.
pub(crate) fn exists(path: &Path) -> bool {
    // SAFETY: the path is NUL-terminated.
    unsafe { libc::access(c_path(path).as_c_str().as_ptr(), libc::F_OK) == 0 }
}

/// Whether there is a directory of this name.
pub(crate) fn is_directory(path: &Path) -> bool {
    open(path, libc::O_PATH | libc::O_DIRECTORY).is_ok()
}

/// Gives a file or a directory another name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), i32> {
    let (from, to) = (c_path(from), c_path(to));
    // SAFETY: both paths are NUL-terminated.
    checked(unsafe { libc::rename(from.as_c_str().as_ptr(), to.as_c_str().as_ptr()) })
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> Result<(), i32> {
    unlink_at(libc::AT_FDCWD, c_path(path).as_c_str(), 0)
}

/// Removes a directory and what is in it; of a link, the link.
pub(crate) fn remove_directory(path: &Path) -> Result<(), i32> {
    let is_link = status(path).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFLNK);
    let path = c_path(path);
    let path = path.as_c_str();
    if is_link { unlink_at(libc::AT_FDCWD, path, 0) } else { remove_at(libc::AT_FDCWD, path, 0) }
}

/// Follows no link: what is removed lies where it seems to lie, whoever else works on it.
fn remove_at(directory: RawFd, name: &CStr, depth: u32) -> Result<(), i32> {
    let inside = open_at(directory, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
    let fd = inside.as_raw_fd();
    each_entry(fd, usize::MAX, &mut |entry| {
        // What can't be removed keeps the directory from being removed, and that is told.
        if unlink_at(fd, entry, 0).is_err() && depth < DEPTH_MAX {
            let _ = remove_at(fd, entry, depth + 1);
        }
    });
    unlink_at(directory, name, libc::AT_REMOVEDIR)
}

fn unlink_at(directory: RawFd, name: &CStr, flags: i32) -> Result<(), i32> {
    // SAFETY: the name is NUL-terminated.
    checked(unsafe { libc::unlinkat(directory, name.as_ptr(), flags) })
}

/// The names in a directory, at most so many, in no order; none of one that can't be read.
pub(crate) fn names(path: &Path, names_max: usize) -> List<&'static OsStr> {
    let mut names = List::new();
    if let Ok(directory) = open(path, libc::O_RDONLY | libc::O_DIRECTORY) {
        each_entry(directory.as_raw_fd(), names_max, &mut |name| {
            add(&mut names, OsStr::from_bytes(copied(name.to_bytes()).leak()));
        });
    }
    names
}

/// How many entries a directory has; none of one that can't be read.
pub(crate) fn count(path: &Path) -> usize {
    let mut count = 0;
    if let Ok(directory) = open(path, libc::O_RDONLY | libc::O_DIRECTORY) {
        each_entry(directory.as_raw_fd(), usize::MAX, &mut |_| count += 1);
    }
    count
}

/// Whether a directory has any entry.
pub(crate) fn holds_any(path: &Path) -> bool {
    !names(path, 1).is_empty()
}

/// The error of what isn't there.
pub(crate) const NOT_THERE: i32 = libc::ENOENT;

/// Calls `each` for every entry of a directory, at most so many.
fn each_entry(directory: RawFd, entries_max: usize, each: &mut dyn FnMut(&CStr)) {
    let mut buffer = [0u8; ENTRIES_BYTES];
    let mut left = entries_max;
    loop {
        // SAFETY: pointer and length are those of a living array.
        let got = unsafe {
            libc::syscall(libc::SYS_getdents64, directory, buffer.as_mut_ptr(), buffer.len())
        };
        let mut rest = buffer.get(..usize::try_from(got).unwrap_or(0)).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        while let Some(length) = rest.get(ENTRY_LENGTH_AT..).and_then(<[u8]>::first_chunk) {
            let length = usize::from(u16::from_ne_bytes(*length));
            let Some((entry, after)) = rest.split_at_checked(length) else { return };
            rest = after;
            let name = entry.get(ENTRY_NAME_AT..).unwrap_or_default();
            let Ok(name) = CStr::from_bytes_until_nul(name) else { return };
            if name == c"." || name == c".." {
                continue;
            }
            if left == 0 {
                return;
            }
            left -= 1;
            each(name);
        }
    }
}

/// The size in bytes of what has this name, of a link that of the link.
pub(crate) fn size(path: &Path) -> Result<u64, i32> {
    Ok(u64::try_from(status(path)?.st_size).unwrap_or(0))
}

fn status(path: &Path) -> Result<libc::stat, i32> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the path is NUL-terminated, and the pointer refers to room for the structure.
    checked(unsafe { libc::lstat(c_path(path).as_c_str().as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: lstat succeeded and filled it; it was zeroed before.
    Ok(unsafe { status.assume_init() })
}

/// Device and number of the file that a path leads to.
#[cfg(any(feature = "guard-first", feature = "roles"))]
pub(crate) fn inode(path: &Path) -> Result<(u64, u64), i32> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the path is NUL-terminated, and the pointer refers to room for the structure.
    checked(unsafe { libc::stat(c_path(path).as_c_str().as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: stat succeeded and filled it; it was zeroed before.
    let status = unsafe { status.assume_init() };
    Ok((status.st_dev, status.st_ino))
}

/// What a lock is held by.
pub(crate) type Lock = OwnedFd;

/// Whether what was locked still has a name.
pub(crate) fn is_linked(lock: &Lock, _path: &Path) -> bool {
    memfd::status(lock.as_raw_fd()).is_some_and(|status| status.st_nlink > 0)
}

/// Holds an advisory lock that dies with its holder, if nobody else holds it.
pub(crate) fn try_lock(path: &Path) -> Option<Lock> {
    let file = open(path, libc::O_RDONLY).ok()?;
    // SAFETY: no memory is involved.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    locked.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of a test's own that goes with it.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let mut own = crate::heap::owned(name);
            crate::text::push_number(&mut own, u64::from(std::process::id()));
            let place = Place(std::env::temp_dir().join(own.as_str()));
            std::fs::create_dir(&place.0).expect("its name is new");
            place
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    // Goal: what is made is for the user only, is read back to the byte and to the limit, and is never made over something.
    #[test]
    fn files_are_made_and_read() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("rearguard-file-made-");
        let deep = place.0.join("a/b/c");
        create_directories(&deep).expect("it can be made");
        create_directories(&deep).expect("it is there");
        assert!(create_directory(&deep).is_err());
        let file = deep.join("file");
        let content: Vec<u8> = (0..20_000u32).map(|number| number as u8).collect();
        write_new(&file, &content).expect("it is new");
        assert!(write_new(&file, b"other").is_err());
        assert_eq!(read(&file, 1 << 20).expect("it is there"), content);
        assert_eq!(read(&file, 4097).expect("it is there"), content[..4097]);
        assert!(read(&file, 0).expect("it is there").is_empty());
        assert_eq!(size(&file).expect("it is there"), 20_000);
        assert!(exists(&file) && !is_directory(&file) && is_directory(&deep));
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!((mode(&file) & 0o777, mode(&deep) & 0o777), (0o600, 0o700));
        rename(&file, &deep.join("other")).expect("it can be");
        assert_eq!(create_directories(&deep.join("other/x")), Err(libc::ENOTDIR));
        assert_eq!(create_directories(Path::new("/proc/x/y")), Err(libc::ENOENT));
        remove(&deep.join("other")).expect("it is there");
        assert!(!exists(&deep.join("other")));
    }

    // Goal: a directory goes with all that is in it, more than one read lists; what its links refer to stays.
    #[test]
    fn directories_are_listed_and_removed() {
        let place = Place::new("rearguard-file-removed-");
        let (full, outside) = (place.0.join("full"), place.0.join("outside"));
        create_directories(&full.join("in/side")).expect("it can be made");
        write_new(&outside, b"stays").expect("it is new");
        std::os::unix::fs::symlink(&place.0, full.join("link")).expect("it is new");
        for number in 0..300 {
            write_new(&full.join(format!("a file with a long name {number}")), b"").expect("new");
        }
        assert_eq!(names(&full, usize::MAX).len(), 302);
        assert_eq!(names(&full, 7).len(), 7);
        assert!(names(&outside, 7).is_empty());
        assert!(remove_directory(&outside).is_err());
        remove_directory(&full).expect("all of it can be removed");
        assert!(exists(&outside) && !exists(&full));
        std::os::unix::fs::symlink(&place.0, &full).expect("it is new");
        assert_eq!(read_link(&full).expect("it is a link"), *place.0.as_os_str().as_bytes());
        assert!(read_link(&outside).is_err());
        remove_directory(&full).expect("a link can be removed");
        assert!(exists(&outside));
    }
}
