//! Everything that asks the operating system.
//!
//! A port provides these modules with these functions, side by side in `linux/` and `windows/`:
//!
//! - `process`: what this process is and where it began (`Surroundings`), identity, randomness, clocks; work beside a guard that stands by. Some of it can come from `std_process`.
//! - `channel`: the worker's side: make black box and launch record, start the keeper, arm, take the succession record.
//! - `attach`: the guard's side: check and map what was inherited, take the place, take the worker's streams (`Stream`), sleep until something happens.
//! - `front`: guard-first, where the first process stands in front of the worker; else `no_front`.
//! - `family`: one guard for all roles of an application; else `no_family`.
//! - `dumper`: a minidump of the worker that waits at its crash, and what goes into it by choice (`Extras`); else `no_extras`.
//! - `exit_status`: the full exit and what it was.
//! - `successor`: start the next worker after the full exit, once.
//! - `file`: private directories and files, made durable; most of it can come from `std_file`.
//! - `http`: one POST by the system's own HTTP library or program; compression by a library that is there anyway, if there is one.
//! - `words`: the values in which all of them speak; not a port's, but everybody's.
//! - `terminal`: one line to the user, where there is a terminal.
//!
//! `unsupported/` is the least that a port can be: every name, and an honest refusal behind it.
//!
//! `cfg(target_os)` appears here and nowhere else in this crate.

#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "no other port needs all of what Linux says")
)]
pub(crate) mod words;

#[cfg(not(all(any(target_os = "linux", windows), feature = "guard-first")))]
pub(crate) mod no_front;
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) use no_front as front;

#[cfg(not(all(target_os = "linux", feature = "roles")))]
pub(crate) mod no_family;
#[cfg(not(target_os = "linux"))]
pub(crate) use no_family as family;

/// What an application starts one of its roles with. Nothing of ours is started so: the code is the application's, and so are the streams and descriptors that its child inherits.
#[cfg(feature = "roles")]
pub(crate) use std::process::Command as RoleCommand;

#[cfg(not(target_os = "linux"))]
mod no_extras;
#[cfg(not(target_os = "linux"))]
mod std_file;
#[cfg(not(target_os = "linux"))]
mod std_process;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::*;

#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) use unsupported::*;
