//! What the crate is on a system that it can't dump: the same names, and one error.
//!
//! It must never do anything else, so that a program for several systems compiles without a `cfg` of its own.
//! `lib.rs` chooses it.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::io::{self, Write};

use crate::{Error, Request, SoftError, Times};

/// The registers of one thread; on this system there is no such value.
#[derive(Clone, Copy, Debug)]
pub struct Registers(Infallible);

impl Registers {
    /// Returns `None`: the layout of this system's context isn't known.
    pub fn from_signal_context(_general: &[u64], _fp: &[u8]) -> Option<Registers> {
        None
    }

    /// The address of the instruction that was next.
    pub fn instruction_pointer(&self) -> u64 {
        match self.0 {}
    }

    /// The address of the top of the stack.
    pub fn stack_pointer(&self) -> u64 {
        match self.0 {}
    }
}

/// What was taken from a process; on this system there is no such value.
#[derive(Debug)]
pub struct Capture<'r>(Infallible, PhantomData<&'r ()>);

/// Returns an error for which [`Error::is_unsupported`] is true.
///
/// # Errors
///
/// Always.
pub fn capture<'r>(request: &'r Request<'r>) -> Result<Capture<'r>, Error> {
    Err(Error::unsupported(request.pid))
}

impl Capture<'_> {
    /// The number of threads in the dump.
    pub fn thread_count(&self) -> usize {
        match self.0 {}
    }

    /// What could not be read.
    pub fn soft_errors(&self) -> &[SoftError] {
        match self.0 {}
    }

    /// The bytes of the minidump, and when threads were stopped and released.
    pub fn finish(self) -> (Vec<u8>, Times) {
        match self.0 {}
    }

    /// The bytes of the minidump.
    pub fn encode(self) -> Vec<u8> {
        match self.0 {}
    }

    /// Writes the bytes of the minidump.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(self, _out: &mut impl Write) -> io::Result<Times> {
        match self.0 {}
    }
}

/// The choices, which are no code here.
pub(crate) mod extras {
    pub(crate) type Beside = ();
    pub(crate) type InMemory = ();
    pub(crate) type Indirect = ();
    pub(crate) type Scrub = ();
    pub(crate) const OPEN_FILES: () = ();
    pub(crate) const LINKER: () = ();
    pub(crate) const COMMAND_LINE: () = ();
    pub(crate) const ENVIRONMENT: () = ();
    pub(crate) const INDIRECT: () = ();
    pub(crate) const SCRUB: () = ();
}
