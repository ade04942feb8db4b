//! Runs a Windows program for a test that doesn't run on Windows itself, and tells what the test can't see from there: the whole exit code, and what is left running.
//!
//! `winhost [--deadline-ms N] [--command-line FILE] [--directory DIR] [--end-session] [--console] [--pipe] [--end-when FILE | --keys-when FILE] [--lines N] PROGRAM [ARGUMENT...]` prints one JSON object.
//! With `--end-session` it tells the guard's window that the session ends, as the system would, and what it answered is in the object.
//! With `--console` the program shares a console with the host, with `--pipe` the host reads its standard error to the end and repeats it.
//! Once the FILE of `--end-when` is there, and has at least N lines, the host ends the program; once that of `--keys-when` is, it presses Ctrl-C on the console.
//! What stands in the FILE of `--command-line`, as UTF-16, is put behind the program's name to the letter.

#[cfg(windows)]
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(windows)]
    let result = windows::main();
    #[cfg(not(windows))]
    let result: Result<(), String> = Err(String::from("it is for Windows"));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("winhost: {problem}");
            ExitCode::from(2)
        }
    }
}
