//! The descriptors of a process between clone and exec: each at its number, and no other.

use super::syscall::{self, Result, call, plain};

/// The first descriptor number that is handed over; 0 to 2 are the standard streams.
pub const FIRST_FD: i32 = 3;

/// How many descriptors can be handed over.
pub const HANDOVER_MAX: usize = 7;

/// One descriptor to hand over; it gets the number `FIRST_FD` plus its place in the plan.
#[derive(Clone, Copy)]
pub struct Handed {
    /// The caller's descriptor, or -1 for none.
    pub fd: i32,
    /// Whether the exec closes it: it is for the child's own use before that.
    pub until_exec: bool,
}

impl Handed {
    /// No descriptor at this place.
    pub const NONE: Handed = Handed { fd: -1, until_exec: false };
}

/// The numbers that a child begins with: the standard streams and what is handed over.
const PLACES: usize = FIRST_FD as usize + HANDOVER_MAX;

/// Puts the plan's descriptors at their numbers and closes every other.
pub(super) fn place(streams: &[i32; 3], handed: &[Handed; HANDOVER_MAX]) -> Result<()> {
    let mut from = [-1i32; PLACES];
    let wanted = streams.iter().copied().chain(handed.iter().map(|handed| handed.fd));
    for (place, fd) in from.iter_mut().zip(wanted) {
        *place = fd;
    }
    move_all(&mut from)?;
    for (number, fd) in from.iter().enumerate() {
        if *fd >= 0 {
            let entry = number.checked_sub(FIRST_FD as usize).and_then(|at| handed.get(at));
            let until_exec = entry.is_some_and(|entry| entry.until_exec);
            let flag = if until_exec { libc::FD_CLOEXEC } else { 0 };
            plain!(libc::SYS_fcntl, number, libc::F_SETFD, flag)?;
        } else if number < FIRST_FD as usize {
            open_null(number as i32);
        } else {
            syscall::close(number as i32);
        }
    }
    close_from(PLACES);
    Ok(())
}

/// Moves each descriptor to the number of its place, without overwriting one that is still to be moved.
/// No number beyond the places is needed but one for a cycle, so a low limit of descriptors is no hindrance.
fn move_all(from: &mut [i32; PLACES]) -> Result<()> {
    // Each round moves one or breaks one cycle, so twice as many rounds as places are enough.
    for _ in 0..2 * PLACES {
        let is_needed = |number: usize| {
            from.iter().enumerate().any(|(at, fd)| at != number && *fd == number as i32)
        };
        let misplaced = |(at, fd): &(usize, &i32)| **fd >= 0 && **fd != *at as i32;
        let Some((place, fd)) = from
            .iter()
            .enumerate()
            .filter(misplaced)
            .find(|(place, _)| !is_needed(*place))
            .or_else(|| from.iter().enumerate().find(misplaced))
            .map(|(place, fd)| (place, *fd))
        else {
            return Ok(());
        };
        let new = if is_needed(place) {
            plain!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, PLACES)? as i32
        } else {
            plain!(libc::SYS_dup3, fd, place, libc::O_CLOEXEC)?;
            place as i32
        };
        if let Some(entry) = from.get_mut(place) {
            *entry = new;
        }
    }
    Ok(())
}

/// Opens `/dev/null` at a number below 3; without it the number stays closed.
fn open_null(number: i32) {
    syscall::close(number);
    let path = c"/dev/null";
    // SAFETY: the string is static and NUL-terminated.
    let opened = unsafe {
        call(
            libc::SYS_openat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, libc::O_RDWR as usize, 0, 0, 0],
        )
    };
    if let Ok(fd) = opened
        && fd as i32 != number
    {
        let _ = plain!(libc::SYS_dup3, fd, number, 0);
        syscall::close(fd as i32);
    }
}

/// Closes every descriptor from `first` on.
fn close_from(first: usize) {
    if plain!(libc::SYS_close_range, first, u32::MAX, 0).is_ok() {
        return;
    }
    // Kernels before 5.9, and filters that don't know the call. The bound keeps an unlimited limit from becoming hours.
    for fd in first..65_536 {
        syscall::close(fd as i32);
    }
}
