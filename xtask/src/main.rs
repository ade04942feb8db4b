//! The project's own chores, started with `cargo xtask`.
//!
//! They are a program rather than scripts so that they need nothing but the toolchain that builds the project.

mod bench;
mod leftovers;
mod readers;
mod shell;
mod size;
mod suite;
mod symbols;
mod test;
mod tools;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

const USAGE: &str = "\
usage: cargo xtask CHORE

chores:
  test [--all]                     every check that this machine can run; says at its end what it didn't run
                                   --all installs what is missing, and fails rather than skips
  windows                          the zoo for Windows, under a Wine of its own
  readers                          the dumps of the writer's tests, read by other people's readers, which must agree
  symbols                          compares the crash path's object code with its allow-list
  bench [--runs N] [--json FILE]   rearguard, minidumper-child and no handler at all, side by side
  bench writers [--runs N] [--json FILE] [--table FILE]
                                   rearguard-minidump, minidump-writer and Crashpad's handler on the same crash
                                   --table writes the table that is printed, which is Markdown
  bench tool [--runs N]            how long a person waits for the tool
  size [--all] [--json FILE]       by how many bytes rearguard makes a program grow, part by part; fails above the limit
                                   --all fails when a system can't be measured here";

/// A chore and its options.
enum Chore {
    Help,
    Test { all: bool },
    Readers,
    Symbols,
    Windows,
    Bench { runs: usize, json: Option<PathBuf> },
    BenchWriters { runs: usize, json: Option<PathBuf>, table: Option<PathBuf> },
    BenchTool { runs: usize },
    Size { all: bool, json: Option<PathBuf> },
}

fn main() -> ExitCode {
    let chore = match parse() {
        Ok(chore) => chore,
        Err(error) => {
            eprintln!("xtask: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match chore {
        Chore::Help => {
            println!("{USAGE}");
            Ok(())
        }
        Chore::Test { all } => test::run(all),
        Chore::Readers => readers::run(),
        Chore::Symbols => symbols::run(),
        Chore::Windows => windows::run(),
        Chore::Bench { runs, json } => bench::run(runs, json.as_deref()),
        Chore::BenchWriters { runs, json, table } => {
            bench::writers::run(runs, json.as_deref(), table.as_deref())
        }
        Chore::BenchTool { runs } => bench::tool::run(runs),
        Chore::Size { all, json } => size::run(all, json.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Chore, lexopt::Error> {
    let mut parser = Parser::from_env();
    let mut chore = None;
    while let Some(argument) = parser.next()? {
        match (&mut chore, argument) {
            (_, Arg::Long("help") | Arg::Short('h')) => return Ok(Chore::Help),
            (None, Arg::Value(name)) => {
                chore = Some(match name.to_str() {
                    Some("test") => Chore::Test { all: false },
                    Some("readers") => Chore::Readers,
                    Some("symbols") => Chore::Symbols,
                    Some("windows") => Chore::Windows,
                    Some("bench") => Chore::Bench { runs: bench::RUNS_DEFAULT, json: None },
                    Some("size") => Chore::Size { all: false, json: None },
                    _ => return Err(Arg::Value(name).unexpected()),
                });
            }
            (Some(Chore::Test { all } | Chore::Size { all, .. }), Arg::Long("all")) => *all = true,
            (Some(Chore::Bench { runs, json }), Arg::Value(name)) if name == "writers" => {
                let (runs, json) = (*runs, json.take());
                chore = Some(Chore::BenchWriters { runs, json, table: None });
            }
            (Some(Chore::Bench { runs, json: None }), Arg::Value(name)) if name == "tool" => {
                chore = Some(Chore::BenchTool { runs: *runs });
            }
            (Some(Chore::BenchWriters { table, .. }), Arg::Long("table")) => {
                *table = Some(parser.value()?.into());
            }
            (
                Some(
                    Chore::Bench { runs, .. }
                    | Chore::BenchWriters { runs, .. }
                    | Chore::BenchTool { runs },
                ),
                Arg::Long("runs"),
            ) => {
                *runs = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(0) => Err("at least one run"),
                    Ok(runs) => Ok(runs),
                    Err(_) => Err("not a number"),
                })?;
            }
            (
                Some(
                    Chore::Bench { json, .. }
                    | Chore::BenchWriters { json, .. }
                    | Chore::Size { json, .. },
                ),
                Arg::Long("json"),
            ) => {
                *json = Some(parser.value()?.into());
            }
            (_, other) => return Err(other.unexpected()),
        }
    }
    Ok(chore.unwrap_or(Chore::Help))
}
