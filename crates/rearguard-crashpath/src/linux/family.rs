//! The guard of many workers, from one worker's side: how its keeper joins, and calls.
//!
//! Such a guard holds every worker's descriptors, and its death shows in every worker's word like that of a guard of its own.
//! What it doesn't do is to look at the words of all of them: the keeper calls it when a crash waits, and it sends a process that is this worker's guard from then on.
//! Where it can't be had, the keeper starts a guard as ever.

use core::sync::atomic::{Ordering, fence};

use super::keeper::{end_late_starter, wait_for_owner};
use super::syscall::{self, Errno};
use super::{futex, rights, standing, time};
use crate::black_box::{Control, FUTEX_WAITERS, answer, crash, guard, owner};
use crate::guards;
use crate::limits;

/// What a worker brings when it joins.
pub struct Family {
    /// The socket by which it is asked.
    pub socket: i32,
    /// Random; also in the black box and in the launch record.
    pub nonce: u64,
    /// Black box, launch record, the worker's pidfd.
    pub given: [i32; 3],
    /// The executable's inode, or -1.
    pub executable: i32,
}

/// What the guard says by a worker's line: which thread is on duty.
pub const ON_DUTY_BYTES: usize = 4;

/// The message that says that a crash waits.
pub const CALL: [u8; 1] = [1];

/// The line between one keeper and the guard; the guard's end of it closes with the guard.
pub(super) struct Line {
    /// -1 for none.
    socket: i32,
}

impl Line {
    pub(super) fn new() -> Line {
        Line { socket: -1 }
    }

    /// Asks for a guard: to join while all is well, to come when a crash waits. False when none comes.
    pub(super) fn ask(&mut self, family: &Family, control: &Control, crashed: bool) -> bool {
        let wait_ns = u64::from(limits::GUARD_READY_MS_MAX) * 1_000_000;
        let deadline_ns = time::monotonic_ns().saturating_add(wait_ns);
        guards::note_relay(0);
        let comes = if crashed {
            self.call(control, deadline_ns)
        } else {
            self.join(family, control, deadline_ns)
        };
        if !comes {
            self.hang_up();
        }
        standing::tell_news();
        comes
    }

    fn hang_up(&mut self) {
        if self.socket >= 0 {
            syscall::close(self.socket);
        }
        self.socket = -1;
    }

    /// Hands over everything that a guard needs, and waits until it is on duty.
    fn join(&mut self, family: &Family, control: &Control, deadline_ns: u64) -> bool {
        self.hang_up();
        let Ok([ours, theirs]) = rights::pair() else { return false };
        self.socket = ours;
        let [black_box, record, pidfd] = family.given;
        let all = [black_box, record, pidfd, theirs, family.executable];
        let count = if family.executable < 0 { all.len() - 1 } else { all.len() };
        let given = all.get(..count).unwrap_or_default();
        let sent = rights::send(family.socket, &family.nonce.to_le_bytes(), given);
        syscall::close(theirs);
        if sent.is_err() {
            return false;
        }
        guards::note_start();
        let Some(tid) = self.hear(deadline_ns) else {
            guards::note_failure(0);
            return false;
        };
        if owner(control.guard.load(Ordering::Acquire)) != Some(tid) {
            return false;
        }
        guards::note_relay(tid);
        syscall::allow_tracer(tid);
        // A thread that crashed meanwhile may take it for a guard of its own; either it sees the note, or its crash is seen here.
        fence(Ordering::SeqCst);
        if control.crash.load(Ordering::Acquire) != crash::IDLE {
            let word = tid | FUTEX_WAITERS;
            let (failed, done) = (Ordering::Relaxed, Ordering::AcqRel);
            let _ = control.guard.compare_exchange(word, guard::CALLED, done, failed);
            futex::wake_all(&control.guard);
        }
        true
    }

    /// Says that a crash waits, and waits until a guard has come for it.
    fn call(&mut self, control: &Control, deadline_ns: u64) -> bool {
        if self.socket < 0 || rights::send(self.socket, &CALL, &[]).is_err() {
            return false;
        }
        guards::note_start();
        let Some(tid) = self.hear(deadline_ns) else {
            guards::note_failure(0);
            return false;
        };
        guards::note_guard(tid);
        syscall::allow_tracer(tid);
        if wait_for_owner(&control.guard, tid, deadline_ns)
            || control.answer.load(Ordering::Acquire) != answer::NONE
        {
            return true;
        }
        end_late_starter(tid as i32);
        guards::note_guard(0);
        false
    }

    /// Waits for the word of who is on duty.
    fn hear(&self, deadline_ns: u64) -> Option<u32> {
        while let left_ns = deadline_ns.saturating_sub(time::monotonic_ns())
            && left_ns > 0
        {
            let mut entry = [libc::pollfd { fd: self.socket, events: libc::POLLIN, revents: 0 }];
            match syscall::poll(&mut entry, (left_ns / 1_000_000) as u32 + 1) {
                Ok(0) | Err(Errno(libc::EINTR)) => continue,
                Ok(_) => {}
                Err(_) => return None,
            }
            let mut bytes = [0; ON_DUTY_BYTES];
            let mut fds = [-1; rights::FDS_MAX];
            let received = rights::receive(self.socket, &mut bytes, &mut fds).ok()?;
            for fd in fds.iter().take(received.fds) {
                syscall::close(*fd);
            }
            if received.bytes != ON_DUTY_BYTES {
                return None;
            }
            return Some(u32::from_le_bytes(bytes));
        }
        None
    }
}
