//! The code of rearguard that runs in a crashed process.
//!
//! Between a fault and the end of the process nothing can be relied upon: the heap may be torn, any lock may be held by the thread that crashed, the stack may be gone, every descriptor may be closed.
//! So this crate has no `std` and no `alloc`, calls no function of the C library, takes no lock, uses no descriptor between fault and answer, and cannot panic.
//! `cargo xtask symbols` compares the undefined symbols of its object code with an allow-list that holds `memcpy` and its like and nothing else.
//!
//! It has three parts: the layout of the [`black_box`] that worker and guard share, the crash [`handler`], and the [`keeper`] with its [`spawn`], which start a guard without the C library.
//! The `rearguard` crate is the only intended caller.
//!
//! # Signal safety
//!
//! Everything here may be called from a signal handler unless its documentation says otherwise.

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate std;

pub mod black_box;
mod callback;
pub mod guards;
pub mod limits;

pub use callback::{Callback, CrashInfo};

#[cfg(target_os = "linux")]
mod linux;

#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux::{
    family, futex, handler, keeper, rights, robust, spawn, stack, standing, syscall, time,
};

#[cfg(windows)]
pub use windows::{fault, handler, standing, threads, time};
