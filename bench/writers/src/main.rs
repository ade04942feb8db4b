//! One sample of `cargo xtask bench writers`: a program crashes before a writer of minidumps that already stands there.
//!
//! Three processes take part, and all of them but Crashpad's handler are this executable:
//!
//! - the *stage* starts the others, waits for their ends, looks at the dump, and prints the figures as one line of JSON;
//! - the *resident* is the writer, and waits for a crash as a guard does;
//! - the *program* has the threads and the heap, crashes, and asks for its dump from its crash handler.
//!
//! The stage rather than the program starts the writer, because it has to read the writer's peak memory after the program's end and before the writer's own.
//! The three contestants differ in nothing but the writer and the way in which it is asked.

mod args;
mod calls;
mod crashpad;
mod dump;
mod page;
mod program;
mod resident;
mod stage;

use std::process::ExitCode;

use args::{Args, Role};

fn main() -> ExitCode {
    let result = Args::parse().and_then(|args| match args.role {
        Role::Stage => stage::run(&args),
        Role::Resident => resident::run(&args),
        Role::Program => program::run(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("writers: {problem}");
            ExitCode::FAILURE
        }
    }
}
