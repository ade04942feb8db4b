//! Reads the memory of the target, by whichever way the system allows.
//!
//! process_vm_readv is the fastest; where a filter refuses it, `/proc/<pid>/mem` may work; and where that can't be opened, ptrace reads a word at a time from a stopped thread.
//! The strings of arguments and environment are never read: whatever asks for them gets what lies below.

use core::ops::Range;
use std::os::fd::OwnedFd;

use super::procfs::Proc;
use super::ptrace;
use super::sys::{self, Errno, REMOTES_MAX};
use crate::bytes::{aligned, copy};
use crate::heap::{self, List, Span};
use crate::snapshot::Memory;
use crate::soft_error::{Object, SoftErrors};

/// A piece to read, where it goes in the buffer, and how much of it came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    pub(super) address: u64,
    pub(super) len: usize,
    /// Set by [`TargetMemory::read_pieces`]: the offset in the buffer, and the bytes from the start of the piece.
    pub(super) at: usize,
    pub(super) got: usize,
}

impl Piece {
    pub(super) fn new(address: u64, len: usize) -> Piece {
        Piece { address, len, at: 0, got: 0 }
    }

    /// Where the bytes that came are in the buffer.
    pub(super) fn place(&self) -> Span {
        Span { start: self.at, end: self.at + self.got }
    }
}

/// How the memory is read.
#[derive(Debug)]
enum Way {
    Readv,
    File(OwnedFd),
    /// Only while the thread is stopped by the calling thread.
    Peek,
    /// Every way was refused, with this error.
    None(Errno),
}

/// The memory of the target.
pub(crate) struct TargetMemory<'p> {
    tid: i32,
    proc: Option<&'p Proc>,
    way: Way,
    /// A thread that is stopped now.
    stopped: Option<i32>,
    /// What must not be read.
    secrets: &'p [Range<u64>; 3],
}

impl<'p> TargetMemory<'p> {
    #[inline(never)]
    pub(super) fn new(tid: i32, proc: Option<&'p Proc>, secrets: &'p [Range<u64>; 3]) -> TargetMemory<'p> {
        TargetMemory { tid, proc, way: Way::Readv, stopped: None, secrets }
    }

    /// Names a stopped thread, or says that there is none any more.
    pub(super) fn set_stopped(&mut self, tid: Option<i32>) {
        self.stopped = tid;
    }

    /// Notes why nothing can be read, once every way was refused.
    pub(super) fn tell_refusal(&self, errors: &mut SoftErrors) {
        if let Way::None(errno) = self.way {
            errors.add("read memory", Object::PROCESS, errno);
        }
    }

    /// Reads all pieces and puts what came of each behind the other at the end of the arena, each at a multiple of 8 bytes.
    ///
    /// The caller keeps the sum of the lengths within a limit, and each length a multiple of 8 where it wants as few calls as possible.
    pub(super) fn read_pieces(&mut self, pieces: &mut [Piece], arena: &mut Arena) {
        crate::heap::with_frame_pointer();
        let mut total = 0_usize;
        for piece in pieces.iter_mut() {
            piece.len = self.secrets.iter().fold(piece.len, |len, secret| allowed(piece.address, len, secret));
            piece.got = 0;
            total = total.saturating_add(aligned(piece.len, 8));
        }
        let mut end = arena.used;
        arena.make_room(total);
        let mut next = 0;
        // Each turn finishes a piece or gives up a way.
        for _ in 0..pieces.len() + 4 {
            let Some(rest) = pieces.get_mut(next..).filter(|rest| !rest.is_empty()) else { break };
            let place = arena.bytes.get_mut(end..).unwrap_or_default();
            let result = match &self.way {
                Way::Readv => batch(self.tid, rest, place),
                Way::File(_) | Way::Peek => self.first(rest, place),
                Way::None(_) => break,
            };
            match result {
                Ok(done) => {
                    for piece in rest.iter_mut().take(done) {
                        piece.at = end;
                        end += piece.got;
                    }
                    end = aligned(end, 8);
                    next += done;
                }
                Err(errno) => self.way = self.next_way(errno),
            }
        }
        arena.used = end;
    }

    /// Reads one piece; shorter than asked for where the memory ends.
    pub(super) fn read(&mut self, address: u64, len: usize) -> List<u8> {
        let mut piece = [Piece::new(address, len)];
        let mut arena = Arena::default();
        self.read_pieces(&mut piece, &mut arena);
        let mut bytes = arena.bytes;
        bytes.truncate(piece.first().map_or(0, |piece| piece.got));
        bytes
    }

    /// What to try after a way was refused.
    fn next_way(&self, errno: Errno) -> Way {
        let file = match self.way {
            Way::Readv => self.proc.and_then(|proc| proc.open_memory().ok()),
            Way::File(_) | Way::Peek | Way::None(_) => None,
        };
        match (file, &self.way) {
            (Some(file), _) => Way::File(file),
            (None, Way::Readv | Way::File(_)) if self.stopped.is_some() => Way::Peek,
            (None, _) => Way::None(errno),
        }
    }

    /// Reads the first piece, as far as it goes; it is finished then, unless the way is refused.
    fn first(&self, pieces: &mut [Piece], place: &mut [u8]) -> Result<usize, Errno> {
        let Some(piece) = pieces.first_mut() else { return Ok(0) };
        // A read may end at a page, so it is repeated until it gives nothing; each gives a byte at least.
        while piece.got < piece.len {
            let rest = place.get_mut(piece.got..piece.len).unwrap_or_default();
            let address = piece.address.saturating_add(piece.got as u64);
            let got = match (&self.way, self.stopped) {
                (Way::File(file), _) => sys::read_at(file, address, rest),
                (_, Some(tid)) => ptrace::peek(tid, address).map(|word| {
                    copy(rest, &word.to_le_bytes());
                    rest.len().min(size_of::<u64>())
                }),
                (_, None) => Ok(0),
            };
            match got {
                Ok(got) if got > 0 => piece.got += got,
                Err(errno) if matches!(self.way, Way::File(_)) && !no_memory_there(errno) => return Err(errno),
                Ok(_) | Err(_) => break,
            }
        }
        Ok(1)
    }
}

/// Bytes of the target behind each other, and room that was got for more.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: List<u8>,
    used: usize,
}

impl Arena {
    /// One that begins with `bytes` zeros, for somebody else to fill.
    pub(super) fn behind(bytes: usize) -> Arena {
        let mut arena = Arena::default();
        arena.make_room(bytes);
        arena.used = bytes;
        arena
    }

    /// Makes room for that many more bytes, and says where all is: address and bytes.
    pub(super) fn reserve(&mut self, bytes: usize) -> (usize, usize) {
        heap::reserve(&mut self.bytes, bytes);
        heap::place(&self.bytes)
    }

    fn make_room(&mut self, more: usize) {
        let needed = self.used + more;
        if self.bytes.len() < needed {
            heap::resize(&mut self.bytes, needed, 0);
        }
    }

    /// Puts bytes behind the others, and says where.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Span {
        let place = Span { start: self.used, end: self.used + bytes.len() };
        self.make_room(aligned(bytes.len(), 8));
        copy(place.of_mut(&mut self.bytes), bytes);
        self.used = aligned(place.end, 8);
        place
    }

    pub(super) fn get(&self, place: Span) -> &[u8] {
        place.of(&self.bytes)
    }

    /// Ends a piece of memory after `len` of its bytes, and forgets the others, which would be in the file without a name.
    pub(super) fn cut(&mut self, memory: &mut Memory, len: usize) {
        let end = memory.place.start + len;
        self.get_mut(Span { start: end, ..memory.place }).fill(0);
        memory.place.end = end;
    }

    pub(super) fn get_mut(&mut self, place: Span) -> &mut [u8] {
        place.of_mut(&mut self.bytes)
    }

    /// The bytes alone.
    pub(super) fn bytes(&mut self) -> &mut List<u8> {
        self.bytes.truncate(self.used);
        &mut self.bytes
    }
}

/// How much of a piece lies outside of what must not be read, from its start.
fn allowed(address: u64, len: usize, secret: &Range<u64>) -> usize {
    let end = address.saturating_add(len as u64);
    if secret.is_empty() || end <= secret.start || secret.end <= address {
        return (end - address) as usize;
    }
    secret.start.saturating_sub(address) as usize
}

/// One call for as many pieces as it takes, into `place` behind each other; returns how many are finished, or why the way is refused.
fn batch(tid: i32, pieces: &mut [Piece], place: &mut [u8]) -> Result<usize, Errno> {
    let count = pieces.len().min(REMOTES_MAX);
    let Some(pieces) = pieces.get_mut(..count) else { return Ok(0) };
    let remotes = pieces.iter().map(|piece| (piece.address, piece.len));
    let mut got = match sys::read_memory(tid, remotes, place) {
        Ok(got) => got,
        // The first piece has no readable byte; that is no reason to try another way.
        Err(errno) if no_memory_there(errno) => 0,
        Err(errno) => return Err(errno),
    };
    for (index, piece) in pieces.iter_mut().enumerate() {
        piece.got = piece.len.min(got);
        got -= piece.got;
        if piece.got < piece.len {
            // The call ended here, whatever comes behind.
            return Ok(index + 1);
        }
    }
    Ok(count)
}

/// An error that tells of the place and not of the way.
fn no_memory_there(errno: Errno) -> bool {
    matches!(errno, libc::EFAULT | libc::EIO | libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_never_within_a_piece() {
        let secret = 1000..2000;
        assert_eq!(allowed(0, 1000, &secret), 1000);
        assert_eq!(allowed(900, 200, &secret), 100);
        assert_eq!(allowed(1000, 5, &secret), 0);
        assert_eq!(allowed(1999, 5, &secret), 0);
        assert_eq!(allowed(2000, 5, &secret), 5);
        assert_eq!(allowed(500, 5000, &secret), 500);
        assert_eq!(allowed(u64::MAX - 3, 10, &secret), 3);
        assert_eq!(allowed(500, 5000, &(0..0)), 5000);
    }

    #[test]
    fn own_memory_is_read_and_holes_are_skipped() {
        let text = *b"some bytes of this process";
        let (_, tid) = sys::own_ids();
        let proc = Proc::open(tid).unwrap();
        let mut memory = TargetMemory::new(tid, Some(&proc), &[0..0, 0..0, 0..0]);
        let mut pieces =
            [Piece::new(16, 8), Piece::new(text.as_ptr() as u64, text.len()), Piece::new(u64::MAX - 7, 7), Piece::new(text.as_ptr() as u64, 4)];
        let expected = [&b""[..], &text[..], b"", b"some"];
        let mut arena = Arena::behind(8);
        memory.read_pieces(&mut pieces, &mut arena);
        let got = pieces.each_ref().map(|piece| arena.get(piece.place()));
        assert_eq!(got, expected);
        memory.way = Way::File(proc.open_memory().unwrap());
        memory.read_pieces(&mut pieces, &mut arena);
        let got = pieces.each_ref().map(|piece| arena.get(piece.place()));
        assert_eq!(got, expected);
        // What didn't come takes no room: behind the eight zeros there are 32 and 8 bytes for each time.
        assert_eq!(arena.bytes().len(), 8 + 2 * (32 + 8));
    }
}
