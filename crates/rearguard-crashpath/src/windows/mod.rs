//! Windows.
//!
//! The crashed thread calls system functions that are one system call each: set an event, wait, resume a thread, end a process.
//! None of them allocates, and none takes a lock of the process's.

#![expect(unsafe_code, reason = "exception filters, handles and the thread's own registers")]

mod answer;
pub mod fault;
pub mod handler;
mod runtime;
pub mod standing;
pub mod threads;
pub mod time;
