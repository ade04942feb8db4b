//! Starting the next worker: not possible.

use rearguard_crashpath::black_box::BlackBox;

use super::attach::Stream;
use super::unsupported;
use crate::error::Error;
use crate::launch::{LaunchRecord, Succession};
use crate::sys::no_front::Front;
use crate::sys::words::{Started, When};

/// A process that will become the next worker; on this system there is no such value.
pub(crate) enum Starter {}

/// What every starter of a guard is made from; on this system there is no such value.
pub(crate) enum Recipe {}

impl Recipe {
    /// Not on this system yet.
    #[cfg(feature = "roles")]
    pub(crate) fn for_role(_record: &LaunchRecord, role: &str) -> Result<Recipe, Error> {
        Err(Error::refused("starting a role", role, "it is not built for this system"))
    }

    /// Refuses.
    pub(crate) fn new(_record: &LaunchRecord) -> Result<Recipe, Error> {
        Err(unsupported("preparing the next worker"))
    }
}

/// Makes the starter.
pub(crate) fn prepare(
    recipe: &Recipe,
    _record: &LaunchRecord,
    _succession: &Succession,
    _streams: &mut [Option<Stream>; 3],
    _when: When,
    _black_box: &'static BlackBox,
) -> Result<Starter, Error> {
    match *recipe {}
}

impl Starter {
    /// Waits until the start has happened or failed.
    pub(crate) fn wait(&self, _deadline_ns: u64) -> Started {
        match *self {}
    }

    /// The next worker's process id.
    pub(crate) fn pid(&self) -> u32 {
        match *self {}
    }

    /// By which value it claims the start.
    pub(crate) fn claim(&self) -> u32 {
        match *self {}
    }

    /// Whether the recorded directory was gone.
    pub(crate) fn directory_gone(&self) -> bool {
        match *self {}
    }

    /// Ends the starter, unless it has become a worker.
    pub(crate) fn end(&self, _black_box: &BlackBox) {
        match *self {}
    }

    /// No worker has anything in front of it here.
    pub(crate) fn take_socket(&mut self) -> Option<Front> {
        match *self {}
    }

    /// Gives back the worker's streams.
    pub(crate) fn into_streams(self) -> [Option<Stream>; 3] {
        match self {}
    }
}
