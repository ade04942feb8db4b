//! Minidumps: none are taken.

use crate::sys::words::{Dump, Subject};

/// Refuses.
pub(crate) fn take(_subject: &Subject<'_>, _probe: &dyn Fn(&'static str)) -> Result<Dump, String> {
    Err(String::from(super::REASON))
}

/// There is nothing to be quick about.
pub(crate) fn rehearse() {}
