//! One guard for all roles, for the ports and builds that don't have it: every role has a guard of its own.

use super::words::Release;

/// Whether this system has a guard for many workers.
pub(crate) const IS_BUILT: bool = false;

/// A role's end of the socket to its family's guard; here there is no such value.
pub(crate) enum Tie {}

impl Tie {
    /// No descriptor is one.
    pub(crate) fn of_number(_number: u64, _inode: Option<u64>) -> Option<Tie> {
        None
    }
}

/// The sockets of a family; here there is no such value.
pub(crate) enum Door {}

impl Door {
    /// Refuses; nobody asks where it isn't built.
    pub(crate) fn open() -> Result<Door, i32> {
        Err(0)
    }

    /// Nobody has one.
    pub(crate) fn leave_to_keeper(&mut self) {
        match *self {}
    }

    /// As above.
    #[cfg(feature = "roles")]
    pub(crate) fn told(&self) -> Option<(u64, u64)> {
        match *self {}
    }

    /// As above.
    #[cfg(feature = "roles")]
    pub(crate) fn lend(&self, _command: &mut super::RoleCommand) {
        match *self {}
    }
}

/// A guard is its process's main thread.
pub(crate) fn process_of(tid: u32) -> u32 {
    tid
}

/// No guard has taken over from a doorkeeper.
pub(crate) fn predecessor() -> Option<u32> {
    None
}

/// No guard is a role's of a family.
pub(crate) fn is_orphaned() -> bool {
    false
}

/// There is no doorkeeper.
pub(crate) fn open(_run: fn(u64) -> !) {}

/// There is no family to stay for.
pub(crate) fn send_for_main(_black_box: &rearguard_crashpath::black_box::BlackBox) -> bool {
    true
}

/// There are no members.
pub(crate) fn await_members() {}

/// As above: a guard that is held off leaves.
pub(crate) fn await_release(_control: &rearguard_crashpath::black_box::Control) -> Release {
    Release::Leave
}

/// What a family alone needs; named here, so that the compiler goes on to find what nobody uses in any port.
const _: () = {
    let _ = (crate::limits::MEMBERS_MAX, crate::limits::DOORKEEPER_STACK_BYTES);
    let _ =
        (crate::limits::FORK_TRIES_MAX, crate::limits::FORK_WAIT_MS, crate::limits::TURN_MS_MAX);
    let _ = crate::role::role_argument;
    let _ = (Door::open, Door::leave_to_keeper, is_orphaned);
};
