//! The writer for the two crates: stands there, waits for one crash, writes one dump, answers.

use std::fs::File;
use std::io::Write;
use std::mem::offset_of;
use std::path::Path;

use crash_context::CrashContext;
use minidump_writer::CrashContextExt;
use minidump_writer::minidump_writer::MinidumpWriterConfig;
use rearguard_minidump::{Registers, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::args::{Args, Contestant};
use crate::calls;
use crate::page::{DUMPED, FAILED, Page};

/// The dump's name in its directory.
pub(crate) const FILE: &str = "dump.dmp";

/// What is sent to the stage when the writer waits for a crash.
pub(crate) const READY: u8 = 7;

/// What our dumps of the program have: for one thread, and for each further one.
const BYTES: usize = 15 * 1024;
const BYTES_PER_THREAD: usize = 4480;

/// No sample takes longer, so whoever the writer waits for is lost.
const WAIT: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let page = Page::map(&args.take_page()?)?;
    let socket = args.take_socket()?;
    let path = args.directory.join(FILE);
    if args.writer == Contestant::Rearguard {
        rehearse();
    }
    if args.writer == Contestant::Calls {
        calls::rehearse()?;
    }
    tell(&socket, READY)?;
    if !heard(&socket)? {
        return Err("nobody crashed".to_owned());
    }
    // SAFETY: the handler fills the crash in and then sends the byte that has just come.
    let crash = unsafe { page.crash() };
    let result = match args.writer {
        Contestant::Rearguard => by_rearguard(crash, &path),
        Contestant::MinidumpWriter => by_minidump_writer(crash, &path),
        Contestant::Crashpad => Err("Crashpad has a handler of its own".to_owned()),
        Contestant::Floor => by_nobody(args.threads, &path),
        Contestant::Calls => calls::write(crash, args.threads, bytes(args.threads), &path),
    };
    tell(&socket, if result.is_ok() { DUMPED as u8 } else { FAILED as u8 })?;
    result?;
    // The stage reads how much memory this process has used, and then hangs up.
    heard(&socket).map(|_| ())
}

fn tell(socket: &std::os::fd::OwnedFd, word: u8) -> Result<(), String> {
    send(socket, &[word], SendFlags::NOSIGNAL).map_err(|error| format!("send: {error}"))?;
    Ok(())
}

/// Waits for a byte; false when the other side has hung up.
fn heard(socket: &std::os::fd::OwnedFd) -> Result<bool, String> {
    let mut entries = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut entries, Some(&WAIT)) {
        Ok(0) => return Err(format!("nobody wrote for {} s", WAIT.tv_sec)),
        Ok(_) => {}
        Err(error) => return Err(format!("poll: {error}")),
    }
    let mut byte = [0_u8];
    let (_, length) =
        recv(socket, &mut byte, RecvFlags::empty()).map_err(|error| format!("recv: {error}"))?;
    Ok(length == 1)
}

fn by_rearguard(crash: &CrashContext, path: &Path) -> Result<(), String> {
    let (general, fp) = registers(crash);
    let context = rearguard_minidump::CrashContext {
        tid: crash.tid,
        signal: crash.siginfo.ssi_signo as i32,
        code: crash.siginfo.ssi_code,
        address: crash.siginfo.ssi_addr,
        registers: Registers::from_signal_context(&general, &fp).ok_or("too few registers")?,
        stack_copy: None,
    };
    let request = Request { crash: Some(context), ..Request::new(crash.pid) };
    let capture = rearguard_minidump::capture(&request).map_err(|error| error.to_string())?;
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    capture.write_to(&mut file).map_err(|error| error.to_string())?;
    Ok(())
}

/// A dump of this very process, as rearguard's guard takes one at its start: the first costs more than the second, and nobody waits yet.
///
/// minidump-writer stops what it dumps, so it can't do the same.
fn rehearse() {
    let own = std::process::id() as i32;
    if let Ok(capture) =
        rearguard_minidump::capture(&Request { exempt: &[own], ..Request::new(own) })
    {
        drop(capture.encode());
    }
}

/// About the size of our dump of the program.
fn bytes(threads: usize) -> usize {
    BYTES + threads * BYTES_PER_THREAD
}

/// A file without a dump.
fn by_nobody(threads: usize, path: &Path) -> Result<(), String> {
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let zeros = vec![0; bytes(threads)];
    file.write_all(&zeros).map_err(|error| error.to_string())
}

/// As minidumper's server does it.
fn by_minidump_writer(crash: &CrashContext, path: &Path) -> Result<(), String> {
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let mut writer = MinidumpWriterConfig::new(crash.pid, crash.tid);
    writer.set_crash_context(CrashContextExt { inner: crash.clone() });
    writer.write(&mut file).map_err(|error| error.to_string())?;
    Ok(())
}

/// The bytes of the saved floating-point state.
fn fp_bytes(crash: &CrashContext) -> &[u8] {
    let start = offset_of!(CrashContext, float_state);
    &crash.as_bytes()[start..start + size_of_val(&crash.float_state)]
}

#[cfg(target_arch = "x86_64")]
fn registers(crash: &CrashContext) -> (Vec<u64>, Vec<u8>) {
    let general = crash.context.uc_mcontext.gregs.iter().map(|word| *word as u64).collect();
    (general, fp_bytes(crash).to_vec())
}

#[cfg(target_arch = "aarch64")]
fn registers(crash: &CrashContext) -> (Vec<u64>, Vec<u8>) {
    let machine = &crash.context.uc_mcontext;
    let mut general = machine.regs.to_vec();
    general.extend([machine.sp, machine.pc, machine.pstate]);
    // The kernel's order is header, fpsr and fpcr, vectors; the crate's is vectors, fpsr and fpcr.
    let saved = fp_bytes(crash);
    (general, [&saved[16..], &saved[8..16]].concat())
}
