//! A family without its feature: what `no_family` answers, and what the other modules of this port ask beside that.

use std::os::fd::RawFd;

pub(crate) use crate::sys::no_family::*;

impl Tie {
    /// Its number.
    pub(super) fn fd(&self) -> RawFd {
        match *self {}
    }
}

impl Door {
    /// The numbers of both ends.
    pub(super) fn numbers(&self) -> [RawFd; 2] {
        match *self {}
    }
}

/// No next life is born with one.
pub(crate) fn roles_end() -> Option<RawFd> {
    None
}
