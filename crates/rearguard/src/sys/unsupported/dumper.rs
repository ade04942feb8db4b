//! Minidumps: none are taken.

use crate::heap::Text;
use crate::sys::words::{Dump, Subject};

/// What goes into a minidump by choice; on this system that is the size's to say, and nothing is scrubbed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// A bit for each that was chosen.
    pub(crate) bits: u32,
}

impl Extras {
    pub(crate) fn open_files(self) -> Extras {
        Extras { bits: self.bits | 1 }
    }

    pub(crate) fn indirect_memory(self, _bytes_max: usize) -> Extras {
        Extras { bits: self.bits | 2 }
    }

    pub(crate) fn scrubbed_stacks(self) -> Extras {
        Extras { bits: self.bits | 4 }
    }
}

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
