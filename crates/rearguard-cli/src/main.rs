//! The `rearguard` tool.
//!
//! Its demo crashes a worker that is this same executable, so the guard role comes before everything else, as in any application.

mod collect;
mod demo;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Crash capture and recovery from one executable: the tool.
#[derive(Debug, Parser)]
#[command(name = "rearguard", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole story with real processes: a crash, its minidump, the restart, the delivered report.
    Demo,
    /// Receives reports over HTTP and keeps them as files.
    /// For the developer's desk: there is no access control.
    Collect {
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
        listen: std::net::SocketAddr,
        /// Where reports are kept; made if it isn't there.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The status of every answer.
        #[arg(long, default_value_t = 200, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
        status: u16,
    },
}

fn main() -> ExitCode {
    rearguard::run_guard_if_asked();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == demo::WORKER_ARGUMENT) {
        return demo::worker::run(arguments);
    }
    let result = match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Collect { listen, dir, status } => collect::run(listen, &dir, status),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("rearguard: {problem}");
            ExitCode::FAILURE
        }
    }
}
