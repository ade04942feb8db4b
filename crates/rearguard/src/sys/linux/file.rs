//! Files and directories for the user only, made durable when asked.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory and what is missing above it, each for the user only; one that is there is left as it is.
pub(crate) fn create_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes one new directory for the user only.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a new file for the user only with this content. It must not exist: nothing of anybody's is overwritten.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    create_new(path)?.write_all(content)
}

/// Makes a new empty file for the user only, open for writing. It must not exist.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a file's or directory's content durable.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What a lock is held by.
pub(crate) type Lock = File;

/// Whether what was locked still has a name.
pub(crate) fn is_linked(lock: &Lock, _path: &Path) -> bool {
    lock.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

/// Holds an advisory lock that dies with its holder, if nobody else holds it.
pub(crate) fn try_lock(path: &Path) -> Option<Lock> {
    let file = File::open(path).ok()?;
    // SAFETY: no memory is involved.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    locked.then_some(file)
}
