//! What ports know of their process by the standard library alone; those that count bytes have their own.

use std::path::Path;

use super::std_file::kept_path;
use crate::heap::List;

/// The program's arguments, its own name first, in the standard library's encoding: the system's, or WTF-8. The guard argument is ASCII, which every encoding leaves as it is.
pub(crate) fn arguments() -> List<List<u8>> {
    std::env::args_os().map(|argument| argument.into_encoded_bytes().into()).collect()
}

/// The value of an environment variable with a name of ASCII.
pub(crate) fn variable(name: &[u8]) -> Option<List<u8>> {
    let value = std::env::var_os(core::str::from_utf8(name).ok()?)?;
    Some(value.into_encoded_bytes().into())
}

/// A path from the root on, without asking whether it is there.
pub(crate) fn absolute(path: &Path) -> Option<&'static Path> {
    std::path::absolute(path).ok().map(kept_path)
}
