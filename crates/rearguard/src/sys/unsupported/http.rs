//! One POST: there is nothing to send it with.

use crate::sys::words::{Answer, Post};

/// Sends nothing, and says so.
pub(crate) fn post(_post: &Post<'_>) -> Answer {
    Answer::NoBackEnd
}
