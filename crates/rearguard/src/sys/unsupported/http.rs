//! One POST: there is nothing to send it with.

use crate::heap::List;
use crate::sys::words::{Answer, Post};

/// Why nothing is sent where there is nothing to send it with.
pub(crate) const NO_BACK_END: &str = "nothing can be sent on this system";

/// Sends nothing, and says so.
pub(crate) fn post(_post: &Post<'_>) -> Answer {
    Answer::NoBackEnd
}

/// Compresses nothing: a report goes as it is.
pub(crate) fn compress(_body: &[u8]) -> Option<List<u8>> {
    None
}
