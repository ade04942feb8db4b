//! The role of this process: worker or guard, and which of the application's own, chosen by the first argument alone.
//!
//! Never by an environment variable: a restarted worker would inherit it and become a guard.
//! An argument that looks like ours but isn't usable ends the process; the application's `main` must not go on in what was meant to be a guard.

use crate::heap::{List, PutBytes, PutText, Text, copied};
use crate::text::{after, joined, number, push_number};

/// What a guard argument begins with.
pub const GUARD_ARGUMENT_PREFIX: &str = "--rearguard-guard";

/// What the argument begins with by which a process is one of the application's further roles. The rest of it is for [`Handle::role_command`](crate::Handle::role_command) to write.
#[cfg_attr(not(feature = "roles"), allow(unreachable_pub, reason = "public with its feature"))]
pub const ROLE_ARGUMENT_PREFIX: &str = "--rearguard-role";

/// Changes whenever guard and worker of different versions could misunderstand each other.
pub(crate) const PROTOCOL: u32 = 1;

/// Exit status of a process whose guard argument could not be used.
pub const EXIT_GUARD_ARGUMENT: i32 = 98;

/// Exit status of a guard that found its place taken or its worker gone before it began.
pub const EXIT_GUARD_NOT_NEEDED: i32 = 97;

/// What the arguments say that this process is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The application.
    Worker,
    /// The guard of the worker whose records carry this nonce.
    Guard {
        /// Random; also in black box and launch record.
        nonce: u64,
    },
    /// The guard in front of a worker that it has started.
    Front {
        /// The worker's process id.
        worker: u32,
    },
    /// A guard argument that can't be used, and why.
    Refused(&'static str),
}

/// Reads the role from the arguments, the program's own name first.
pub(crate) fn role_of(arguments: &[List<u8>]) -> Role {
    let prefix = GUARD_ARGUMENT_PREFIX.as_bytes();
    let mut ours =
        arguments.iter().enumerate().filter(|(_, argument)| argument.starts_with(prefix));
    let Some((position, argument)) = ours.next() else { return Role::Worker };
    if position == 0 {
        // A file that is really named so; its own name is no argument.
        return match ours.next() {
            Some(_) => Role::Refused("it is not usable in a program of this name"),
            None => Role::Worker,
        };
    }
    if position != 1 {
        return Role::Refused("it is not the first argument");
    }
    if ours.next().is_some() {
        return Role::Refused("it is repeated");
    }
    match parse(argument.get(prefix.len()..).unwrap_or_default()) {
        // Behind it are the worker's, for who lists the processes.
        Ok(front @ Role::Front { .. }) => front,
        Ok(_) if arguments.len() > 2 => Role::Refused("other arguments follow it"),
        Ok(role) => role,
        Err(reason) => Role::Refused(reason),
    }
}

/// Reads `=<protocol>:<nonce>` or `=<protocol>:front:<pid>`.
fn parse(rest: &[u8]) -> Result<Role, &'static str> {
    let rest = after(rest, b"=").ok_or("its value is missing")?;
    if rest.is_empty() {
        return Err("its value is empty");
    }
    let colon = rest.iter().position(|byte| *byte == b':').ok_or("its value is cut short")?;
    let protocol = rest.get(..colon).unwrap_or_default();
    let protocol = number(protocol, 10).ok_or("its version is no number")?;
    if protocol != u64::from(PROTOCOL) {
        return Err("it is of another version");
    }
    let nonce = rest.get(colon + 1..).unwrap_or_default();
    if cfg!(feature = "guard-first")
        && let Some(worker) = after(nonce, FRONT)
    {
        let worker = number(worker, 10).and_then(|worker| u32::try_from(worker).ok());
        return worker.map(|worker| Role::Front { worker }).ok_or("its process id is no number");
    }
    if nonce.len() != 16 {
        return Err("its nonce is cut short or too long");
    }
    let nonce = number(nonce, 16).ok_or("its nonce is no hexadecimal number")?;
    Ok(Role::Guard { nonce })
}

/// One of the application's further roles, as its argument tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Text,
    /// Number and inode of the socket to the family's guard; zeros for none.
    pub(crate) socket: u64,
    pub(crate) inode: u64,
}

/// Reads which of the application's roles this process has; none in its main process.
#[cfg(any(feature = "roles", test))]
pub(crate) fn member_of(arguments: &[List<u8>]) -> Result<Option<Member>, &'static str> {
    let prefix = ROLE_ARGUMENT_PREFIX.as_bytes();
    let Some(rest) = arguments.get(1).and_then(|argument| after(argument, prefix)) else {
        // Anywhere else it is an argument like any other, and no role of ours.
        return Ok(None);
    };
    let mut parts = rest.splitn(3, |byte| *byte == b':');
    if parts.next() != Some(b"=1") {
        return Err("it is not as this version writes it");
    }
    let mut numbers = parts.next().unwrap_or_default().split(|byte| *byte == b'.');
    let mut number =
        || number(numbers.next().unwrap_or_default(), 10).ok_or("its socket is no number");
    let (socket, inode) = (number()?, number()?);
    let name = core::str::from_utf8(parts.next().unwrap_or_default());
    let name = name.ok().filter(|name| !name.is_empty()).ok_or("it names no role")?;
    Ok(Some(Member { name: crate::heap::owned(name), socket, inode }))
}

/// Writes the argument of a role; its socket is told by number and inode.
pub(crate) fn role_argument(name: &str, socket: Option<(u64, u64)>) -> List<u8> {
    let (socket, inode) = socket.unwrap_or_default();
    let mut text = joined(&[ROLE_ARGUMENT_PREFIX, "=1:"]);
    push_number(&mut text, socket);
    text.put_char('.');
    push_number(&mut text, inode);
    text.put_char(':');
    text.put(name);
    text.into_bytes()
}

/// What stands in the place of the nonce in the argument of a front.
const FRONT: &[u8] = b"front:";

/// Writes the guard argument of the process in front of a worker.
pub(crate) fn front_argument(worker: u32) -> List<u8> {
    let mut pid = Text::new();
    push_number(&mut pid, worker.into());
    let mut argument = copied(GUARD_ARGUMENT_PREFIX.as_bytes());
    argument.put(b"=1:");
    argument.put(FRONT);
    argument.put(pid.as_bytes());
    argument
}

/// Writes the guard argument.
pub(crate) fn guard_argument(nonce: u64) -> List<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut argument = copied(GUARD_ARGUMENT_PREFIX.as_bytes());
    argument.put(b"=1:");
    for shift in (0..16).rev() {
        argument.put(&[DIGITS[(nonce >> (shift * 4)) as usize & 15]]);
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(arguments: &[&str]) -> Role {
        let mut all = vec![copied(b"app")];
        all.extend(arguments.iter().map(|argument| copied(argument.as_bytes())));
        role_of(&all)
    }

    // Goal: what is written is read back, whatever the nonce.
    #[test]
    fn written_arguments_are_read_back() {
        for nonce in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let argument = guard_argument(nonce);
            assert_eq!(role_of(&[copied(b"app"), argument]), Role::Guard { nonce });
        }
    }

    // Goal: a role's argument is read back, and one that can't be used is refused; it counts as the first argument only.
    #[test]
    fn role_arguments_are_read_back() {
        for (name, socket) in [("renderer", None), ("a:b=c.d", Some((7, u64::MAX)))] {
            let (socket_number, inode) = socket.unwrap_or_default();
            let member = Member { name: name.into(), socket: socket_number, inode };
            let all = [copied(b"app"), role_argument(name, socket), copied(b"file")];
            assert_eq!(member_of(&all), Ok(Some(member)));
            assert_eq!(role_of(&all), Role::Worker);
        }
        for argument in
            ["", "=", "=1", "=1:", "=1:0.0", "=1:0.0:", "=1:x.0:a", "=1:0:a", "=2:0.0:a"]
        {
            let argument = copied([ROLE_ARGUMENT_PREFIX, argument].concat().as_bytes());
            let all = [copied(b"app"), argument];
            assert!(member_of(&all).is_err(), "{all:?}");
        }
        let behind = [copied(b"app"), copied(b"file"), role_argument("a", None)];
        assert_eq!(member_of(&behind), Ok(None));
        assert_eq!(member_of(&[]), Ok(None));
    }

    // Goal: an argument that only looks like ours never lets the application go on.
    #[test]
    fn unusable_arguments_are_refused() {
        let good = "--rearguard-guard=1:0123456789abcdef";
        for arguments in [
            &["--rearguard-guard"][..],
            &["--rearguard-guard="],
            &["--rearguard-guard=1"],
            &["--rearguard-guard=1:"],
            &["--rearguard-guard=1:0123"],
            &["--rearguard-guard=1:0123456789abcdef0"],
            &["--rearguard-guard=1:0123456789abcdeg"],
            &["--rearguard-guard=1:+123456789abcdef"],
            &["--rearguard-guard=2:0123456789abcdef"],
            &["--rearguard-guard=x:0123456789abcdef"],
            &["--rearguard-guardian"],
            &["--rearguard-guard=1:front:"],
            &["--rearguard-guard=1:front:x"],
            &["--rearguard-guard=1:front:4294967296"],
            &["--rearguard-guard=1:front"],
            &[good, good],
            &["file", good],
            &[good, "file"],
        ] {
            assert!(matches!(role(arguments), Role::Refused(_)), "{arguments:?}");
        }
        let front = Text::from_utf8(front_argument(17)).unwrap();
        if cfg!(feature = "guard-first") {
            assert_eq!(role(&[&front, "file", "--other"]), Role::Front { worker: 17 });
        }
        assert!(matches!(role(&["file", &front]), Role::Refused(_)));
        assert_eq!(role(&[]), Role::Worker);
        assert_eq!(role(&["file", "--other"]), Role::Worker);
    }
}
