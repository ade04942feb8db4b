//! The command line, which is the same for all roles.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

/// Which of the processes this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Stage,
    Resident,
    Program,
}

/// Who writes the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Rearguard,
    MinidumpWriter,
    Crashpad,
    /// Nobody: a file of zeros of about the size of a dump, which is what no writer can do without.
    Floor,
    /// Who makes the system calls of a whole dump and looks at nothing that comes.
    Calls,
}

impl Contestant {
    const ALL: [Contestant; 5] = [
        Contestant::Rearguard,
        Contestant::MinidumpWriter,
        Contestant::Crashpad,
        Contestant::Floor,
        Contestant::Calls,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Rearguard => "rearguard-minidump",
            Contestant::MinidumpWriter => "minidump-writer",
            Contestant::Crashpad => "crashpad",
            Contestant::Floor => "floor",
            Contestant::Calls => "calls",
        }
    }
}

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) role: Role,
    pub(crate) writer: Contestant,
    /// `--handler FILE`: Crashpad's handler.
    pub(crate) handler: Option<PathBuf>,
    /// `--directory DIR`: where the dump goes.
    pub(crate) directory: PathBuf,
    /// `--threads N`: idle threads beside the one that crashes.
    pub(crate) threads: usize,
    /// `--heap-mib N`: heap whose every page was written to.
    pub(crate) heap_mib: usize,
    /// `--watch`: with one more thread, which tells how long it stood still.
    pub(crate) watch: bool,
    /// `--socket FD`: this process's end of the socket between program and writer.
    socket: RawFd,
    /// `--page FD`: the memory that all three share.
    page: RawFd,
    /// `--writer-pid PID`: who may trace the program.
    pub(crate) writer_pid: i32,
}

impl Args {
    /// Reads the arguments behind the program's name.
    pub(crate) fn parse() -> Result<Args, String> {
        Args::read(&mut Parser::from_env()).map_err(|error| error.to_string())
    }

    fn read(parser: &mut Parser) -> Result<Args, lexopt::Error> {
        let mut args = Args {
            role: Role::Stage,
            writer: Contestant::Rearguard,
            handler: None,
            directory: PathBuf::from("."),
            threads: 0,
            heap_mib: 0,
            watch: false,
            socket: -1,
            page: -1,
            writer_pid: 0,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(role) if role == "stage" => args.role = Role::Stage,
                Arg::Value(role) if role == "resident" => args.role = Role::Resident,
                Arg::Value(role) if role == "program" => args.role = Role::Program,
                Arg::Long("writer") => {
                    let name = parser.value()?.string()?;
                    let found = Contestant::ALL.into_iter().find(|writer| writer.name() == name);
                    args.writer = found.ok_or_else(|| format!("no such writer: {name}"))?;
                }
                Arg::Long("handler") => args.handler = Some(parser.value()?.into()),
                Arg::Long("directory") => args.directory = parser.value()?.into(),
                Arg::Long("threads") => args.threads = parser.value()?.parse()?,
                Arg::Long("heap-mib") => args.heap_mib = parser.value()?.parse()?,
                Arg::Long("watch") => args.watch = true,
                Arg::Long("socket") => args.socket = parser.value()?.parse()?,
                Arg::Long("page") => args.page = parser.value()?.parse()?,
                Arg::Long("writer-pid") => args.writer_pid = parser.value()?.parse()?,
                other => return Err(other.unexpected()),
            }
        }
        Ok(args)
    }

    /// The end of the socket that the stage has left open for this process.
    pub(crate) fn take_socket(&self) -> Result<OwnedFd, String> {
        owned(self.socket, "--socket")
    }

    /// The shared memory that the stage has left open for this process.
    pub(crate) fn take_page(&self) -> Result<OwnedFd, String> {
        owned(self.page, "--page")
    }
}

fn owned(fd: RawFd, name: &str) -> Result<OwnedFd, String> {
    // Below are the standard streams, which belong to the standard library.
    if fd < 3 {
        return Err(format!("{name} is missing"));
    }
    // SAFETY: the stage leaves this descriptor to this process alone, and each is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
