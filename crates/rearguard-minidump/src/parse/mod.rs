//! The texts and structures that a target and its kernel show, read without trust.
//!
//! Everything here works on bytes alone: no system call, no panic, no allocation that the input chooses the size of.
//! `linux` is the only caller.

pub(crate) mod auxv;
#[cfg(test)]
pub(crate) mod damage;
pub(crate) mod directory;
pub(crate) mod elf;
pub(crate) mod maps;
pub(crate) mod process;
