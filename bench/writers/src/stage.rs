//! One sample: writer and program are started, seen to their ends, and the dump is looked at.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::args::{Args, Contestant};
use crate::page::Page;
use crate::{crashpad, dump, resident};

/// How long the writer may take until it waits for a crash.
const READY_MAX: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How long the program may live; its handler waits for 10 s.
const PROGRAM_MAX: Timespec = Timespec { tv_sec: 15, tv_nsec: 0 };

/// How long the writer may take to end when the stage has hung up.
const WRITER_MAX: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Processes of ours, which don't outlive us whatever goes wrong.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // A child that has been waited for already isn't signalled by this, and is waited for once more in vain.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    fs::create_dir_all(&args.directory).map_err(|error| error.to_string())?;
    let memory = Page::create()?;
    let page = Page::map(&memory)?;
    let (ours, theirs) = sockets()?;
    let mut writer = start_writer(args, &theirs, &memory)?;
    drop(theirs);
    match args.writer {
        Contestant::Crashpad => crashpad::wait_until_ready(&ours, &READY_MAX)?,
        Contestant::Rearguard
        | Contestant::MinidumpWriter
        | Contestant::Floor
        | Contestant::Calls => {
            wait_until_ready(&ours)?;
        }
    }
    let mut program = start_program(args, &ours, &memory, &writer)?;
    let program_pid = program.0.id();
    let end = end_of(&mut program, "the program", &PROGRAM_MAX)?;
    // A writer that is gone already has a better reason to tell than that its memory couldn't be read.
    let peak_kib = peak_kib(&writer);
    drop(ours);
    let writers_end = end_of(&mut writer, "the writer", &WRITER_MAX)?;
    if end.signal() != Some(libc::SIGSEGV) {
        return Err(format!("the program ended with {end}"));
    }
    if page.outcome() != "dumped" {
        return Err(page.outcome().to_owned());
    }
    if !writers_end.success() {
        return Err(format!("the writer ended with {writers_end}"));
    }
    let path = match args.writer {
        Contestant::Crashpad => crashpad::find(&args.directory)?,
        Contestant::Rearguard
        | Contestant::MinidumpWriter
        | Contestant::Floor
        | Contestant::Calls => args.directory.join(resident::FILE),
    };
    let dump = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let threads = args.threads + 1 + usize::from(args.watch);
    // The main thread crashes, whose number is the process's.
    if !matches!(args.writer, Contestant::Floor | Contestant::Calls) {
        dump::check(&dump, threads, program_pid)
            .map_err(|problem| format!("the dump: {problem}"))?;
    }
    let fault_ns = page.fault_ns.load(Ordering::Acquire);
    let dump_ns = page.answered_ns.load(Ordering::Acquire).saturating_sub(fault_ns);
    let gap_ns = page.gap_ns.load(Ordering::Acquire);
    let looked_ns = page.looked_ns.load(Ordering::Acquire);
    if args.watch && looked_ns < fault_ns + dump_ns {
        return Err("the watching thread didn't run again after the dump".to_owned());
    }
    let (bytes, peak_kib) = (dump.len(), peak_kib?);
    println!(
        "{{\"dump_ns\":{dump_ns},\"gap_ns\":{gap_ns},\"bytes\":{bytes},\"peak_kib\":{peak_kib}}}"
    );
    Ok(())
}

/// The program's end and the writer's; of the kind that Crashpad's client makes.
fn sockets() -> Result<(OwnedFd, OwnedFd), String> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|error| format!("socketpair: {error}"))?;
    for end in [&ours, &theirs] {
        set_socket_passcred(end, true).map_err(|error| format!("SO_PASSCRED: {error}"))?;
    }
    Ok((ours, theirs))
}

/// Starts a child that inherits one descriptor which others don't: a second holder would hide that the first has hung up.
fn start(command: &mut Command, socket: &OwnedFd) -> Result<Guarded, String> {
    let inherit = |flags| fcntl_setfd(socket, flags).map_err(|error| format!("fcntl: {error}"));
    inherit(FdFlags::empty())?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    inherit(FdFlags::CLOEXEC)?;
    let name = command.get_program().display();
    child.map(Guarded).map_err(|error| format!("{name}: {error}"))
}

fn start_writer(args: &Args, socket: &OwnedFd, memory: &OwnedFd) -> Result<Guarded, String> {
    let fd = socket.as_raw_fd();
    if args.writer == Contestant::Crashpad {
        let handler = args.handler.as_ref().ok_or("--handler is missing")?;
        let arguments = crashpad::arguments(&args.directory, fd);
        return start(Command::new(handler).args(arguments), socket);
    }
    let mut command = myself("resident", args)?;
    command.args(["--threads".to_owned(), args.threads.to_string()]);
    command.arg("--directory").arg(&args.directory);
    command.args(["--socket".to_owned(), fd.to_string()]);
    command.args(["--page".to_owned(), memory.as_raw_fd().to_string()]);
    start(&mut command, socket)
}

fn start_program(
    args: &Args,
    socket: &OwnedFd,
    memory: &OwnedFd,
    writer: &Guarded,
) -> Result<Guarded, String> {
    let mut command = myself("program", args)?;
    command.args(["--socket".to_owned(), socket.as_raw_fd().to_string()]);
    command.args(["--page".to_owned(), memory.as_raw_fd().to_string()]);
    command.args(["--writer-pid".to_owned(), writer.0.id().to_string()]);
    command.args(["--threads".to_owned(), args.threads.to_string()]);
    command.args(["--heap-mib".to_owned(), args.heap_mib.to_string()]);
    if args.watch {
        command.arg("--watch");
    }
    start(&mut command, socket)
}

fn myself(role: &str, args: &Args) -> Result<Command, String> {
    let path = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(path);
    command.args([role, "--writer", args.writer.name()]);
    Ok(command)
}

fn wait_until_ready(socket: &OwnedFd) -> Result<(), String> {
    let mut entries = [PollFd::new(socket, PollFlags::IN)];
    let ready = poll(&mut entries, Some(&READY_MAX)).map_err(|error| error.to_string())?;
    let mut word = [0_u8];
    if ready == 1
        && recv(socket, &mut word, RecvFlags::empty()).is_ok()
        && word[0] == resident::READY
    {
        return Ok(());
    }
    Err("the writer didn't become ready in time".to_owned())
}

/// Waits for a child's end; whoever is late is an error, and ended when the caller lets it go.
fn end_of(
    child: &mut Guarded,
    who: &str,
    wait_max: &Timespec,
) -> Result<std::process::ExitStatus, String> {
    let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(pid.ok_or("a pid out of range")?, PidfdFlags::empty())
        .map_err(|error| format!("pidfd_open: {error}"))?;
    let mut entries = [PollFd::new(&pidfd, PollFlags::IN)];
    match poll(&mut entries, Some(wait_max)) {
        Ok(0) => Err(format!("{who} was still there after {} s", wait_max.tv_sec)),
        Ok(_) => child.0.wait().map_err(|error| error.to_string()),
        Err(error) => Err(format!("poll: {error}")),
    }
}

/// The most memory that a process has had at one time, while it is still there.
///
/// Not what wait4 tells: that counts what the process was before it executed its program.
fn peak_kib(process: &Guarded) -> Result<u64, String> {
    let path = format!("/proc/{}/status", process.0.id());
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| "the writer was gone before its memory could be read".to_owned())
}
