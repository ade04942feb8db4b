//! The parts of the `rearguard` tool that other programs use too: the [`collector`].

pub mod collector;
