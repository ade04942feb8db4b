//! The Linux half of the crash path: raw system calls and what is built on them.

#![expect(
    unsafe_code,
    reason = "system calls, signal frames and stacks are not expressible in safe code"
)]

#[cfg(feature = "roles")]
pub mod family;
#[cfg(not(feature = "roles"))]
#[path = "no_family.rs"]
pub mod family;
pub mod futex;
pub mod handler;
pub mod keeper;
pub mod rights;
pub mod robust;
pub mod spawn;
pub mod stack;
pub mod standing;
pub mod syscall;
pub mod time;

mod answer;
mod chain;
mod descriptors;
mod fault;
mod slot;
