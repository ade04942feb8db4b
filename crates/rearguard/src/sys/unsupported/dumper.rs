//! Minidumps: none are taken.

use crate::heap::Text;
pub(crate) use crate::sys::no_extras::Extras;
use crate::sys::words::{Dump, Subject};

/// Refuses.
pub(crate) fn take(
    _subject: &Subject<'_>,
    _probe: &(dyn Fn(&'static str) + Sync),
) -> Result<Dump, Text> {
    Err(Text::from(super::REASON))
}

/// There is nothing to be quick about.
pub(crate) fn rehearse() {}

/// What a dump writer alone asks; named here, so that the compiler goes on to find what nobody uses in any port.
const _: () = {
    let _ = crate::config::DumpSize::bytes_max;
};
