//! What ports do with files by the standard library alone; those that count bytes have their own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Makes a new file with this content. It must not exist: nothing of anybody's is overwritten.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    write(&create_new(path)?, content)
}

/// Makes a new empty file, open for writing. It must not exist.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

/// Writes all of it.
pub(crate) fn write(mut file: &File, content: &[u8]) -> io::Result<()> {
    file.write_all(content)
}

/// Reads a file to its end, or `bytes_max` of it.
pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(bytes_max as u64).read_to_end(&mut content)?;
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
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Removes a directory and what is in it; of a link, the link.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// The names in a directory, at most so many, in no order; none of one that can't be read.
pub(crate) fn names(path: &Path, names_max: usize) -> Vec<OsString> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.take(names_max).flatten().map(|entry| entry.file_name()).collect()
}

/// The size in bytes of what has this name, of a link that of the link.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.len())
}
