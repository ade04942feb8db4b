//! Starting the next worker: a *starter* is made that waits for the full exit by itself, claims the one start, and execs.
//!
//! From then on the restart no longer hangs on the guard that made it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rearguard_crashpath::black_box::BlackBox;
use rearguard_crashpath::spawn::{
    self, FIRST_FD, Gate, HANDOVER_MAX, Handed, Kinship, Outcome, Plan,
};
use rearguard_crashpath::stack::Stack;
use rearguard_crashpath::{limits, syscall, time};
use std::sync::atomic::Ordering;

use super::attach::{EXECUTABLE_FD, PIDFD};
use super::front::Front;
use super::strings::{CText, digits_of, string_array, with_room};
use super::{family, front, memfd, process};
use crate::error::Error;
use crate::heap::{List, PutBytes, Text, copied, kept};
use crate::launch::{LIFE_VARIABLE, LaunchRecord, Succession};
use crate::sys::words::{Started, When};
use crate::text::push_number;

/// Where each thing lies among the starter's descriptors, from number 3 on; only the succession record survives the exec.
const SUCCESSION_PLACE: usize = 0;
const EXECUTABLE_PLACE: usize = 1;
const PIDFD_PLACE: usize = 2;
/// The socket of a worker that has its guard in front of it, or of a role that has its family's.
const SOCKET_PLACE: usize = 3;

const NOWHERE: *mut u8 = core::ptr::null_mut();

/// A process that will become the next worker.
pub(crate) struct Starter {
    plan: *mut Plan,
    pid: i32,
    /// Held until the starter has them; the worker's pipes must not stay open in the guard.
    streams: [Option<OwnedFd>; 3],
    _succession: OwnedFd,
    /// Our end of the next worker's socket, where this process stands in front of it.
    socket: Option<Front>,
}

/// What every starter of this guard is made from, put together while nobody waits.
/// It is never given back: a starter that outlives the guard still reads it.
pub(crate) struct Recipe {
    path: *const u8,
    directory: *const u8,
    arguments: *const *const u8,
    environment: *const *const u8,
    /// Where a starter writes its own process id into the environment.
    pid_digits: *mut u8,
    stacks: [Stack; 2],
}

impl Recipe {
    /// Copies what the launch record says into memory of its own.
    pub(crate) fn new(record: &LaunchRecord) -> Result<Recipe, Error> {
        Recipe::of(record, &record.surroundings.arguments)
    }

    /// The same for a process of one of the application's roles.
    #[cfg(feature = "roles")]
    pub(crate) fn for_role(record: &LaunchRecord, role: &str) -> Result<Recipe, Error> {
        let own_name = record.surroundings.arguments.first().map_or(&[][..], List::as_slice);
        Recipe::of(record, &[copied(own_name), crate::role::role_argument(role, None)])
    }

    fn of(record: &LaunchRecord, arguments: &[List<u8>]) -> Result<Recipe, Error> {
        let failed = |errno| Error::system("preparing the next worker", "", errno);
        let around = &record.surroundings;
        let prefix = if front::is_front() || family::roles_end().is_some() {
            life_prefix(FIRST_FD + SOCKET_PLACE as RawFd)
        } else {
            copied(LIFE_VARIABLE)
        };
        let life = with_room(&prefix);
        let place_of_life = around.environment.len();
        let environment = string_array(&around.environment, Some(&life)).map_err(failed)?.0;
        // SAFETY: the array has this entry at this place, just put there.
        let pid_digits = unsafe { digits_of(environment, place_of_life, prefix.len()) };
        let stack = || Stack::map(limits::SPAWN_STACK_BYTES).map_err(|error| failed(error.0));
        Ok(Recipe {
            path: leaked(&around.program),
            directory: leaked(&around.directory),
            arguments: string_array(arguments, None).map_err(failed)?.0,
            environment,
            pid_digits,
            stacks: [stack()?, stack()?],
        })
    }
}

/// Makes the starter. It returns at once; the start itself happens after the worker's full exit.
/// The streams are taken over only if it works. One starter of a recipe at a time.
pub(crate) fn prepare(
    recipe: &Recipe,
    record: &LaunchRecord,
    succession: &Succession,
    streams: &mut [Option<OwnedFd>; 3],
    when: When,
    black_box: &'static BlackBox,
) -> Result<Starter, Error> {
    let failed = |errno| Error::system("preparing the next worker", "", errno);
    let succession =
        memfd::sealed(c"rearguard-succession", &succession.encode()).map_err(failed)?;
    let sockets = if front::is_front() { Some(front::pair().map_err(failed)?) } else { None };
    let theirs = sockets.as_ref().map_or(-1, |(_, theirs)| theirs.as_raw_fd());
    let socket = if sockets.is_some() { theirs } else { family::roles_end().unwrap_or(-1) };
    let crash = if when.at_crash { &raw const black_box.control.crash } else { core::ptr::null() };
    let plan = Plan {
        path: recipe.path,
        executable_place: EXECUTABLE_PLACE,
        arguments: recipe.arguments,
        environment: recipe.environment,
        streams: [0, 1, 2].map(|number: usize| {
            streams.get(number).and_then(Option::as_ref).map_or(-1, AsRawFd::as_raw_fd)
        }),
        handed: handed(succession.as_raw_fd(), socket),
        pid_digits: [recipe.pid_digits, NOWHERE, NOWHERE, NOWHERE],
        kinship: if theirs >= 0 {
            Kinship::Child { parent: syscall::getpid() }
        } else {
            Kinship::Orphan
        },
        keeps_descriptors: false,
        signal_mask: record.surroundings.signal_mask,
        ignored_signals: record.surroundings.ignored_signals,
        directory: recipe.directory,
        umask: record.surroundings.umask,
        rlimits: process::planned_rlimits(&record.surroundings),
        alarm_ms: 0,
        gate: Some(Gate {
            pidfd_place: PIDFD_PLACE,
            delay_ns: when.delay_ms.saturating_mul(1_000_000),
            start: &raw const black_box.control.start,
            crash,
        }),
        outcome: Outcome::new(),
        stacks: recipe.stacks,
    };
    // Never given back, for the same reason as the recipe.
    let plan: *mut Plan = kept(plan);
    // SAFETY: plan and recipe live as long as this process and its memory.
    let pid = unsafe { spawn::spawn(plan) }.map_err(|error| failed(error.0))?;
    let socket = sockets.map(|(ours, _theirs)| ours);
    Ok(Starter { plan, pid, streams: core::mem::take(streams), _succession: succession, socket })
}

/// The variable that tells a worker which descriptor its socket has; its own process id follows.
pub(super) fn life_prefix(socket: RawFd) -> List<u8> {
    let mut text = Text::new();
    push_number(&mut text, socket.unsigned_abs().into());
    let mut prefix = copied(LIFE_VARIABLE);
    prefix.put(text.as_bytes());
    prefix.put(b":");
    prefix
}

/// A NUL-terminated copy for as long as the memory lives; null for an empty one.
fn leaked(bytes: &[u8]) -> *const u8 {
    if bytes.is_empty() {
        return core::ptr::null();
    }
    CText::new(bytes).leak().as_ptr().cast()
}

fn handed(succession: RawFd, socket: RawFd) -> [Handed; HANDOVER_MAX] {
    let mut handed = [Handed::NONE; HANDOVER_MAX];
    let given = [
        (SUCCESSION_PLACE, succession, false),
        (EXECUTABLE_PLACE, EXECUTABLE_FD, true),
        (PIDFD_PLACE, PIDFD, true),
        (SOCKET_PLACE, socket, false),
    ];
    for (place, fd, until_exec) in given {
        if let Some(handed) = handed.get_mut(place) {
            *handed = Handed { fd, until_exec };
        }
    }
    // SAFETY: no memory is involved.
    if unsafe { libc::fcntl(EXECUTABLE_FD, libc::F_GETFD) } < 0 {
        // Where there is no `/proc` there may be no inode to hold; the path has to do.
        handed[EXECUTABLE_PLACE] = Handed::NONE;
    }
    handed
}

impl Starter {
    fn outcome(&self) -> &Outcome {
        // SAFETY: the plan is never given back.
        unsafe { &(*self.plan).outcome }
    }

    /// Waits until the start has happened or failed, at most until `deadline_ns`.
    pub(crate) fn wait(&self, deadline_ns: u64) -> Started {
        let outcome = self.outcome();
        if !outcome.wait(deadline_ns) {
            return Started::NotYet;
        }
        if outcome.lost.load(Ordering::Acquire) != 0 {
            return Started::Lost;
        }
        if outcome.late.load(Ordering::Acquire) != 0 {
            return Started::Late;
        }
        match outcome.errno.load(Ordering::Acquire) {
            0 if outcome.execing.load(Ordering::Acquire) == 0 => Started::Failed(libc::EINTR),
            0 => Started::Yes,
            errno => Started::Failed(errno),
        }
    }

    /// The next worker's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// By which value it claims the start.
    pub(crate) fn claim(&self) -> u32 {
        self.pid()
    }

    /// Whether the recorded directory was gone, and `/` was entered instead.
    pub(crate) fn directory_gone(&self) -> bool {
        self.outcome().directory_gone.load(Ordering::Relaxed) != 0
    }

    /// Ends the starter after the start was closed, unless it has become a worker.
    pub(crate) fn end(&self, black_box: &BlackBox) {
        // One that has its claim is past the gate, and execs any moment.
        let claimed = black_box.control.start.load(Ordering::Acquire) == self.pid();
        if !claimed && self.outcome().is_running() {
            // It still runs on our memory, so the number means it and nobody else.
            let _ = syscall::kill(self.pid, libc::SIGKILL);
            self.outcome().wait(time::monotonic_ns() + 1_000_000_000);
        }
    }

    /// Our end of the next worker's socket.
    pub(crate) fn take_socket(&mut self) -> Option<Front> {
        self.socket.take()
    }

    /// Gives back the worker's streams.
    pub(crate) fn into_streams(self) -> [Option<OwnedFd>; 3] {
        self.streams
    }
}
