//! What ports do with files by the standard library alone; those that count bytes have their own.
//! An error is the system's number, 0 where there is none.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::heap::List;

/// The number of an error.
pub(crate) fn code(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// A path that stays, as paths do here.
pub(crate) fn kept_path(path: PathBuf) -> &'static Path {
    Path::new(Box::leak(path.into_os_string().into_boxed_os_str()))
}

/// Makes a new file with this content. It must not exist: nothing of anybody's is overwritten.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), i32> {
    write(&create_new(path)?, content)
}

/// Makes a new empty file, open for writing. It must not exist.
pub(crate) fn create_new(path: &Path) -> Result<File, i32> {
    fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(code)
}

/// Writes all of it.
pub(crate) fn write(mut file: &File, content: &[u8]) -> Result<(), i32> {
    file.write_all(content).map_err(code)
}

/// Appends to a file, which is made if it isn't there.
pub(crate) fn append(path: &Path, content: &[u8]) -> Result<(), i32> {
    let file = fs::OpenOptions::new().append(true).create(true).open(path).map_err(code)?;
    write(&file, content)
}

/// Reads the end of a regular file, at most so much.
pub(crate) fn read_end(path: &Path, bytes_max: usize) -> Result<List<u8>, i32> {
    let metadata = fs::metadata(path).map_err(code)?;
    if !metadata.is_file() {
        return Err(0);
    }
    let mut file = File::open(path).map_err(code)?;
    let from = metadata.len().saturating_sub(bytes_max as u64);
    file.seek(io::SeekFrom::Start(from)).map_err(code)?;
    let mut content = List::new();
    file.take(bytes_max as u64).read_to_end(content.as_mut_vec()).map_err(code)?;
    Ok(content)
}

/// Reads a file to its end, or `bytes_max` of it.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<List<u8>, i32> {
    let mut content = List::new();
    let file = File::open(path).map_err(code)?;
    file.take(bytes_max as u64).read_to_end(content.as_mut_vec()).map_err(code)?;
    Ok(content)
}

/// Whether there is something of this name.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}

/// Whether there is a directory of this name.
pub(crate) fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

/// Gives a file or a directory another name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), i32> {
    fs::rename(from, to).map_err(code)
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> Result<(), i32> {
    fs::remove_file(path).map_err(code)
}

/// Removes a directory and what is in it; of a link, the link.
pub(crate) fn remove_directory(path: &Path) -> Result<(), i32> {
    fs::remove_dir_all(path).map_err(code)
}

/// The names in a directory, at most so many, in no order; none of one that can't be read.
pub(crate) fn names(path: &Path, names_max: usize) -> List<&'static OsStr> {
    let Ok(entries) = fs::read_dir(path) else { return List::new() };
    let leaked = |entry: fs::DirEntry| &*Box::leak(entry.file_name().into_boxed_os_str());
    entries.take(names_max).flatten().map(leaked).collect()
}

/// How many entries a directory has; none of one that can't be read.
pub(crate) fn count(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Whether a directory has any entry.
pub(crate) fn holds_any(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// The error of what isn't there: ENOENT, and ERROR_FILE_NOT_FOUND, are the same number.
pub(crate) const NOT_THERE: i32 = 2;

/// The size in bytes of what has this name, of a link that of the link.
pub(crate) fn size(path: &Path) -> Result<u64, i32> {
    fs::symlink_metadata(path).map(|metadata| metadata.len()).map_err(code)
}
