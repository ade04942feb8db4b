//! What goes into a minidump by choice, where the writer isn't ours: nothing, but it is known what was asked for.

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
