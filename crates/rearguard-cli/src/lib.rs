//! The parts of the `rearguard` tool that other programs use too: the [`collector`].
//!
//! The tool's own modules are in its executable; the fuzzers' build has some of them here as well.

#![cfg_attr(fuzzing, allow(dead_code, reason = "the tool uses what the fuzzers don't"))]

pub mod collector;

#[cfg(fuzzing)]
mod analysis;
#[cfg(fuzzing)]
mod archive;
#[cfg(fuzzing)]
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(fuzzing)]
mod list;
#[cfg(fuzzing)]
mod reports;
#[cfg(fuzzing)]
mod show;
#[cfg(fuzzing)]
mod terminal;
