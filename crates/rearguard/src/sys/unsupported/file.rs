//! Files and directories by the standard library, with the rights that the system gives of itself.
//!
//! No report is ever written here, so there is nothing in them to hide; a port must make them for the user only.

use std::fs::{self, File};
use std::path::Path;

use crate::sys::std_file::code;
pub(crate) use crate::sys::std_file::{
    NOT_THERE, append, count, create_new, exists, holds_any, is_directory, names, read, read_end,
    remove, remove_directory, rename, size, write, write_new,
};

/// Makes a directory and what is missing above it; one that is there is left as it is.
pub(crate) fn create_directories(path: &Path) -> Result<(), i32> {
    fs::create_dir_all(path).map_err(code)
}

/// Makes one new directory.
pub(crate) fn create_directory(path: &Path) -> Result<(), i32> {
    fs::create_dir(path).map_err(code)
}

/// Makes a file's or directory's content durable, or says that it can't: some systems don't open directories.
pub(crate) fn sync(path: &Path) -> Result<(), i32> {
    File::open(path).and_then(|file| file.sync_all()).map_err(code)
}

/// What a lock would be held by.
pub(crate) type Lock = File;

/// Nothing: the standard library of the oldest supported compiler has no locks.
/// So nothing in a store is ever taken for rubbish, which is the safe mistake.
pub(crate) fn try_lock(_path: &Path) -> Option<Lock> {
    None
}

/// Always: nobody removes anything here.
pub(crate) fn is_linked(_lock: &Lock, _path: &Path) -> bool {
    true
}
