//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};

use crate::analysis::SymbolPlaces;
use crate::failure::{Failure, Kind};
use crate::list::Frames;
use crate::reports::Where;
use crate::upload::Target;

/// What stands below the help: the statuses that scripts can rely on.
const EXIT_STATUSES: &str = "Exit status: 0 done; 1 it could not be done; 2 the command line is at fault; \
3 there is no such report, or more than one; 4 a file isn't there, or can't be read for what it should be.";

/// Crash capture and recovery from one executable: the tool.
#[derive(Debug, Parser)]
#[command(name = "rearguard", version, after_help = EXIT_STATUSES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the reports on this machine, the newest first.
    #[command(
        after_help = "Examples:\n  rearguard list\n  rearguard list --app my-app --all\n  rearguard list --json | jq '.reports[].id'"
    )]
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Shows all of them, and not the newest 50 alone.
        #[arg(long)]
        all: bool,
        /// Whether to look into minidumps for the place of the crash in the program's own code.
        #[arg(long, value_enum, default_value_t = Frames::Auto, value_name = "WHEN")]
        frames: Frames,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows a report or any minidump: the reason, the crashed thread by function and line, the other threads, the timeline.
    #[command(
        after_help = "Examples:\n  rearguard show latest\n  rearguard show 3f2a\n  rearguard show ./crash.dmp --symbols ./symbols"
    )]
    Show {
        /// An id or a unique beginning of one, a file, or `latest`.
        #[arg(value_name = "ID|FILE|latest")]
        report: String,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        symbols: SymbolArgs,
        /// Shows every frame of every thread, the whole log, and the modules.
        #[arg(long)]
        everything: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the path of a report's minidump.
    #[command(after_help = "Example:\n  lldb --core \"$(rearguard open latest)\"")]
    Open {
        /// An id or a unique beginning of one, or `latest`.
        #[arg(value_name = "ID|latest")]
        report: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Writes a report into one file, to attach to a ticket.
    #[command(after_help = "Example:\n  rearguard export latest crash.tar.gz")]
    Export {
        /// An id or a unique beginning of one, or `latest`.
        #[arg(value_name = "ID|latest")]
        report: String,
        /// The file, which must not be there yet: a tar archive, compressed by gzip.
        file: PathBuf,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Takes an exported report into a store, where it is never sent; without a store's name into one of its own.
    #[command(after_help = "Example:\n  rearguard import crash.tar.gz && rearguard show latest")]
    Import {
        /// The exported report.
        file: PathBuf,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Sends a report, or all that wait, to a collector now; the answers are noted in the reports.
    ///
    /// That you call it is the consent; where the user of an application has withdrawn theirs, or forbidden it for a run, nothing is sent.
    #[command(
        after_help = "Examples:\n  rearguard upload 3f2a --collector https://reports.example.com/submit\n  rearguard upload --pending --app my-app --collector http://127.0.0.1:8080/"
    )]
    Upload {
        /// An id or a unique beginning of one, or `latest`: also one that was refused, tried often enough, or imported.
        #[arg(
            value_name = "ID|latest",
            required_unless_present = "pending",
            conflicts_with = "pending"
        )]
        report: Option<String>,
        /// All that wait in one store, oldest first, whenever their next try would be due; `--app` or `--store` where several have some.
        #[arg(long)]
        pending: bool,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Removes reports of one store that are beyond a bound: too old, too many, too large together.
    ///
    /// The oldest go first. Reports that wait to be sent stay, unless `--waiting` is given.
    #[command(
        after_help = "Examples:\n  rearguard prune --older-than 30d --dry-run\n  rearguard prune --keep 20 --app my-app\n  rearguard prune --keep 0 --waiting --store ./crashes"
    )]
    #[command(group = clap::ArgGroup::new("bound").required(true).multiple(true))]
    Prune {
        /// Removes what is older, such as 30d, 12h or 1h 30m.
        #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration, group = "bound")]
        older_than: Option<Duration>,
        /// Keeps so many, the newest.
        #[arg(long, value_name = "N", group = "bound")]
        keep: Option<usize>,
        /// Keeps so many bytes, of the newest, such as 64MiB; the newest itself always.
        #[arg(long, value_name = "SIZE", group = "bound")]
        bytes: Option<ByteSize>,
        /// Also what waits to be sent.
        #[arg(long)]
        waiting: bool,
        /// Only says what would be removed.
        #[arg(long, short = 'n')]
        dry_run: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Checks what on this machine can keep crashes from being captured, kept or sent, and says what to do about each.
    #[command(after_help = "Examples:\n  rearguard doctor\n  rearguard doctor --app my-app --fix")]
    Doctor {
        #[command(flatten)]
        place: PlaceArgs,
        /// Puts right what is your own: missing directories, and stores that are open to others.
        #[arg(long)]
        fix: bool,
    },
    /// Prints a completion script for a shell.
    #[command(
        after_help = "Example:\n  rearguard completions bash > ~/.local/share/bash-completion/completions/rearguard"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes the man pages into a directory, which is made if it isn't there.
    #[command(after_help = "Example:\n  rearguard man ~/.local/share/man/man1")]
    Man {
        /// The directory.
        directory: PathBuf,
    },
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

/// Which stores are meant; without either those of all applications that chose none of their own.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlaceArgs {
    /// The store in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "app")]
    store: Option<PathBuf>,
    /// The store that the application of this name has by default.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
}

impl From<PlaceArgs> for Where {
    fn from(PlaceArgs { store, app }: PlaceArgs) -> Where {
        Where { store, app }
    }
}

/// Where reports are sent.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// The collector's URL, as the application's builder has it.
    #[arg(long, value_name = "URL")]
    collector: String,
    /// A file of certificates (PEM) that the collector's must be signed by.
    #[arg(long, value_name = "FILE")]
    certificates: Option<PathBuf>,
    /// Puts product, version and guid into the URL's query, where Crashpad's servers look for them.
    #[arg(long)]
    query: bool,
    /// How long one report may take, such as 90s or 5m; a day at most.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    wait: Duration,
}

impl From<TargetArgs> for Target {
    fn from(TargetArgs { collector, certificates, query, wait }: TargetArgs) -> Target {
        Target { collector, certificates, has_query: query, wait_max: wait }
    }
}

/// Where symbols are, beside the files that the minidump names.
#[derive(Args, Clone, Debug)]
pub(crate) struct SymbolArgs {
    /// A directory with executables, debug files or Breakpad's `.sym` files; may be given several times.
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// A server that is asked for what isn't here: debuginfod's, or one in the layout of Microsoft's or of Breakpad's; may be given several times.
    ///
    /// It learns which files you look for. What comes is kept in the user's cache, and is used only where it is the same build.
    #[cfg(feature = "servers")]
    #[arg(long, value_name = "URL")]
    server: Vec<String>,
    /// Asks the servers that DEBUGINFOD_URLS names as well; without this or `--server` nobody is asked.
    #[cfg(feature = "servers")]
    #[arg(long)]
    download: bool,
}

impl TryFrom<SymbolArgs> for SymbolPlaces {
    type Error = Failure;

    fn try_from(args: SymbolArgs) -> Result<SymbolPlaces, Failure> {
        let directories = args.symbols;
        if let Some(missing) = directories.iter().find(|directory| !directory.is_dir()) {
            let text = format!("--symbols {}: no such directory", missing.display());
            return Err(Failure::new(Kind::Usage, text));
        }
        let places = SymbolPlaces::of(directories);
        #[cfg(feature = "servers")]
        let places = places.with_servers(args.server, args.download)?;
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Goal: the definition is one that clap accepts as a whole.
    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
