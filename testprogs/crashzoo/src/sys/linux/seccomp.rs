//! `sys`: a filter that traps one system call, as sandboxes do.
//!
//! The filter is the calling thread's own, so the other threads, the keeper among them, go on as before; what the dying thread starts is filtered too.

#![expect(unsafe_code, reason = "a filter is installed by prctl and sprung by a raw system call")]

use std::io::Error;

/// Process accounting: nobody calls it in the normal course of things, on any architecture.
const TRAPPED: libc::c_long = libc::SYS_acct;

/// Installs the filter and calls what it traps: SIGSYS.
pub(crate) fn trapped_call() -> Result<(), String> {
    install().map_err(|error| format!("sys: the filter was refused: {error}"))?;
    // SAFETY: the call takes a path or null; the filter keeps it from running at all.
    unsafe { libc::syscall(TRAPPED, std::ptr::null::<libc::c_char>()) };
    Ok(())
}

/// Installs the filter for the calling thread and all that come from it.
pub(crate) fn install() -> Result<(), Error> {
    let number = u32::try_from(TRAPPED).map_err(Error::other)?;
    let mut program = [
        // The system call's number is the first word of what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        // The trapped number goes on to the next line, every other one skips it.
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRAP, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: this prctl takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` and the program that it points at live through the call, and its length is right.
    check(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    })
}

fn statement(code: u32, k: u32, jump_true: u8, jump_false: u8) -> libc::sock_filter {
    // All codes fit: they are eight bits in the kernel's header.
    let code = u16::try_from(code).unwrap_or_default();
    libc::sock_filter { code, jt: jump_true, jf: jump_false, k }
}

fn check(result: libc::c_int) -> Result<(), Error> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
