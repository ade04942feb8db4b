//! The `rearguard` tool.
//!
//! Its demo crashes a worker that is this same executable, so the guard role comes before everything else, as in any application.

mod analysis;
mod archive;
mod cli;
mod collect;
mod demo;
mod doctor;
mod failure;
mod list;
mod prune;
mod reports;
mod show;
mod sys;
mod terminal;
mod upload;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use failure::Failure;
use reports::choose::{choose, choose_report};
use show::Extent;

/// Lines of `list`, where not all are asked for.
const LIST_MAX: usize = 50;

fn main() -> ExitCode {
    rearguard::run_guard_if_asked();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == demo::WORKER_ARGUMENT) {
        return demo::worker::run(arguments);
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rearguard: {failure}");
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { place, all, frames, json } => {
            list::run(&place.into(), (!all).then_some(LIST_MAX), frames, json)
        }
        Command::Show { report, place, symbols, everything, json } => {
            show::run(&report, &place.into(), &symbols.try_into()?, Extent { everything }, json)
        }
        Command::Open { report, place } => {
            let path = choose(&report, &place.into())?.dump()?;
            terminal::show(&format!("{}\n", path.display()))
        }
        Command::Export { report, file, place } => {
            let entry = choose_report(&report, &place.into())?;
            let bytes = archive::export(&entry, &file)?;
            let (id, size) = (&entry.id, bytesize::ByteSize(bytes));
            let file = terminal::harmless(&file.display().to_string());
            terminal::show(&format!("{file}: report {id}, {size}\n"))
        }
        Command::Import { file, place } => {
            let id = archive::import(&file, &place.into())?;
            terminal::show(&format!("{id}\n"))
        }
        Command::Upload { report, pending: _, place, target } => {
            upload::run(report.as_deref(), &place.into(), &target.into())
        }
        Command::Prune { older_than, keep, bytes, waiting, dry_run, place } => {
            let bounds = prune::Bounds {
                older_than,
                keep,
                bytes: bytes.map(|bytes| bytes.as_u64()),
                waiting,
            };
            prune::run(&bounds, &place.into(), dry_run)
        }
        Command::Doctor { place, fix } => doctor::run(&place.into(), fix),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rearguard", &mut script);
            terminal::show(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory))
            .map_err(|error| Failure::from(format!("{}: {error}", directory.display()))),
        Command::Demo => demo::run().map_err(Failure::from),
        Command::Collect { listen, dir, status } => {
            collect::run(listen, &dir, status).map_err(Failure::from)
        }
    }
}
