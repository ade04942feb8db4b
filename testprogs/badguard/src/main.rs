//! The zoo's worker behind a guard that misbehaves before rearguard gets to see it.
//!
//! `badguard MODE [CRASHZOO OPTIONS] WAY`: the rest of the line is crashzoo's.
//! A guard gets nothing from us but its own argument, so the mode travels in the environment: a worker whose environment doesn't carry its mode replaces itself with one whose does, before rearguard looks.
//!
//! Modes: `crash-at-start`, `hang`, `exit-early`, `refuse`, `slow:MS`, `ok`.
//! With `BADGUARD_FIRST_N=k` and `BADGUARD_COUNT=FILE` only the first k guards misbehave; the file has one byte for each guard that was started.

mod mode;

use std::ffi::OsString;
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, exit};
use std::time::Duration;

use mode::Mode;

/// What every guard argument begins with, part of rearguard's documented interface.
const GUARD_ARGUMENT: &[u8] = b"--rearguard-guard=";

/// What carries the mode from worker to guard.
const MODE_VARIABLE: &str = "BADGUARD_MODE";
/// How many guards misbehave; without it, all of them.
const FIRST_VARIABLE: &str = "BADGUARD_FIRST_N";
/// The file that counts guards.
const COUNT_VARIABLE: &str = "BADGUARD_COUNT";

/// The command line is wrong, as in crashzoo.
const EXIT_USAGE: u8 = 2;
/// A guard that leaves for no reason.
const EXIT_EARLY: i32 = 7;
/// A guard that was to hang and that nobody has ended; a test that sees it has found a leak.
const EXIT_HUNG: i32 = 8;
/// This program's own trouble, told apart from what it plays.
const EXIT_BROKEN: i32 = 9;

/// A guard that hangs leaves in the end, so that a failing test leaves nothing behind.
const HANG_MAX: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first.as_bytes().starts_with(GUARD_ARGUMENT) {
        misbehave();
    }
    rearguard::run_guard_if_asked();
    let Some(mode) = first.to_str().and_then(Mode::parse) else {
        eprintln!(
            "badguard: '{}': no such mode; it is one of {}",
            first.to_string_lossy(),
            mode::NAMES
        );
        return ExitCode::from(EXIT_USAGE);
    };
    if std::env::var_os(MODE_VARIABLE).as_deref() != Some(&first) {
        return carry(mode, &first);
    }
    crashzoo::main_with(arguments)
}

/// Becomes the same program with the mode in its environment: same pid, same arguments.
fn carry(mode: Mode, word: &OsString) -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let problem = match std::env::current_exe() {
        Ok(program) => {
            Command::new(program).arg0(name).args(arguments).env(MODE_VARIABLE, word).exec()
        }
        Err(error) => error,
    };
    eprintln!("badguard: can't start itself for mode {mode:?}: {problem}");
    ExitCode::from(EXIT_USAGE)
}

/// The guard role, before rearguard.
/// Returns when the guard is to behave from here on.
fn misbehave() {
    let mode = std::env::var(MODE_VARIABLE).ok().and_then(|word| Mode::parse(&word));
    let Some(mode) = mode else {
        eprintln!("badguard: the guard finds no mode in {MODE_VARIABLE}");
        exit(EXIT_BROKEN);
    };
    if !is_my_turn() {
        return;
    }
    match mode {
        Mode::Ok => {}
        Mode::Slow(delay) => std::thread::sleep(delay),
        Mode::CrashAtStart => crashzoo::null_write(),
        Mode::Hang => {
            std::thread::sleep(HANG_MAX);
            exit(EXIT_HUNG);
        }
        Mode::ExitEarly => exit(EXIT_EARLY),
        Mode::Refuse => refuse(),
    }
}

/// Counts this guard and says whether it is one of the first ones.
fn is_my_turn() -> bool {
    let number = std::env::var_os(COUNT_VARIABLE).map(|path| {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let counted = opened.and_then(|mut file| {
            file.write_all(b".")?;
            // After an appending write the position is the end of our own byte, even among guards that count at once.
            file.stream_position()
        });
        counted.unwrap_or_else(|error| {
            eprintln!("badguard: {COUNT_VARIABLE}: {error}");
            exit(EXIT_BROKEN)
        })
    });
    let first = std::env::var(FIRST_VARIABLE).ok().and_then(|text| text.parse::<u64>().ok());
    match (number, first) {
        (Some(number), Some(first)) => number <= first,
        (None, _) | (_, None) => true,
    }
}

/// Lets rearguard itself refuse an argument that is none, so that the exit status is the true one for ever.
fn refuse() {
    let problem = match std::env::current_exe() {
        Ok(program) => {
            Command::new(program).arg("--rearguard-guard=").env(MODE_VARIABLE, "ok").exec()
        }
        Err(error) => error,
    };
    eprintln!("badguard: can't start itself to be refused: {problem}");
    exit(EXIT_BROKEN);
}
