//! Reads the memory of the target, by whichever way the system allows.
//!
//! process_vm_readv is the fastest; where a filter refuses it, `/proc/<pid>/mem` may work; and where that can't be opened, ptrace reads a word at a time from a stopped thread.
//! The strings of arguments and environment are never read: whatever asks for them gets what lies below.

use core::ops::Range;
use std::os::fd::OwnedFd;

use super::procfs::Proc;
use super::ptrace;
use super::sys::{self, Errno, REMOTES_MAX};
use crate::bytes::copy;
use crate::heap;

/// A piece to read, where it goes in the buffer, and how much of it came.
#[derive(Clone, Debug, Default)]
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
    pub(super) fn place(&self) -> Range<usize> {
        self.at..self.at + self.got
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
pub(super) struct TargetMemory<'p> {
    tid: i32,
    proc: Option<&'p Proc>,
    way: Way,
    /// A thread that is stopped now.
    stopped: Option<i32>,
    /// What must not be read.
    secrets: [Range<u64>; 3],
    /// Memory of ours for the next buffer.
    prepared: Vec<u8>,
}

impl<'p> TargetMemory<'p> {
    pub(super) fn new(tid: i32, proc: Option<&'p Proc>, secrets: [Range<u64>; 3]) -> TargetMemory<'p> {
        TargetMemory { tid, proc, way: Way::Readv, stopped: None, secrets, prepared: Vec::new() }
    }

    /// Gets memory for the next buffer, so that no page has to be found for it while threads are held.
    pub(super) fn prepare(&mut self, bytes: usize) {
        // Not zero: memory of zeros is only promised until it is written.
        self.prepared = Vec::new();
        heap::resize(&mut self.prepared, bytes, 1);
    }

    /// Names a stopped thread, or says that there is none any more.
    pub(super) fn set_stopped(&mut self, tid: Option<i32>) {
        self.stopped = tid;
    }

    /// Why nothing can be read, once every way was refused.
    pub(super) fn refused(&self) -> Option<Errno> {
        match self.way {
            Way::None(errno) => Some(errno),
            Way::Peek if self.stopped.is_none() => Some(libc::EPERM),
            Way::Readv | Way::File(_) | Way::Peek => None,
        }
    }

    /// Reads all pieces behind each other into a new buffer, which has as many bytes as they ask for.
    ///
    /// The caller keeps the sum of the lengths within a limit.
    pub(super) fn read_pieces(&mut self, pieces: &mut [Piece]) -> Vec<u8> {
crate::heap::with_frame_pointer();
        let mut total = 0_usize;
        for piece in pieces.iter_mut() {
            piece.len = self.secrets.iter().fold(piece.len, |len, secret| allowed(piece.address, len, secret));
            piece.at = total;
            piece.got = 0;
            total = total.saturating_add(piece.len);
        }
        let mut buffer = core::mem::take(&mut self.prepared);
        heap::resize(&mut buffer, total, 0);
        let mut next = 0;
        // Each turn finishes a piece or gives up a way.
        for _ in 0..pieces.len() + 4 {
            let Some(rest) = pieces.get_mut(next..).filter(|rest| !rest.is_empty()) else { break };
            let result = match &self.way {
                Way::Readv => batch(self.tid, rest, &mut buffer),
                Way::File(file) => each(rest, &mut buffer, |address, place| sys::read_at(file, address, place)),
                Way::Peek => self.peek_all(rest, &mut buffer),
                Way::None(_) => break,
            };
            match result {
                Ok(done) => next += done,
                Err(errno) => self.way = self.next_way(errno),
            }
        }
        buffer
    }

    /// Reads one piece; shorter than asked for where the memory ends.
    pub(super) fn read(&mut self, address: u64, len: usize) -> Vec<u8> {
        let mut piece = [Piece::new(address, len)];
        let mut buffer = self.read_pieces(&mut piece);
        buffer.truncate(piece.first().map_or(0, |piece| piece.got));
        buffer
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

    fn peek_all(&self, pieces: &mut [Piece], buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(tid) = self.stopped else { return Ok(pieces.len()) };
        each(pieces, buffer, |address, place| {
            let mut got = 0;
            for word in place.chunks_mut(8) {
                let Ok(value) = ptrace::peek(tid, address.saturating_add(got as u64)) else { break };
                let bytes = value.to_le_bytes();
                copy(word, &bytes);
                got += word.len();
            }
            Ok(got)
        })
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

/// One call for as many pieces as it takes; returns how many are finished, or why the way is refused.
fn batch(tid: i32, pieces: &mut [Piece], buffer: &mut [u8]) -> Result<usize, Errno> {
    let count = pieces.len().min(REMOTES_MAX);
    let Some(pieces) = pieces.get_mut(..count) else { return Ok(0) };
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(0) };
    let place = buffer.get_mut(first.at..last.at + last.len).unwrap_or_default();
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

/// Reads piece by piece, as far as `read` goes in each; all are finished then, unless the way is refused.
fn each(
    pieces: &mut [Piece],
    buffer: &mut [u8],
    read: impl Fn(u64, &mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    for piece in pieces.iter_mut() {
        let place = buffer.get_mut(piece.at..piece.at + piece.len).unwrap_or_default();
        // A read may end at a page, so it is repeated until it gives nothing; each gives a byte at least.
        while piece.got < piece.len {
            let rest = place.get_mut(piece.got..).unwrap_or_default();
            match read(piece.address.saturating_add(piece.got as u64), rest) {
                Ok(got) if got > 0 => piece.got += got.min(rest.len()),
                Err(errno) if !no_memory_there(errno) => return Err(errno),
                Ok(_) | Err(_) => break,
            }
        }
    }
    Ok(pieces.len())
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
        let mut memory = TargetMemory::new(tid, Some(&proc), [0..0, 0..0, 0..0]);
        let mut pieces =
            [Piece::new(16, 8), Piece::new(text.as_ptr() as u64, text.len()), Piece::new(u64::MAX - 7, 7), Piece::new(text.as_ptr() as u64, 4)];
        let buffer = memory.read_pieces(&mut pieces);
        let got: Vec<&[u8]> = pieces.iter().map(|piece| &buffer[piece.place()]).collect();
        assert_eq!(got, [&b""[..], &text[..], b"", b"some"]);
        memory.way = Way::File(proc.open_memory().unwrap());
        let buffer = memory.read_pieces(&mut pieces);
        let got: Vec<&[u8]> = pieces.iter().map(|piece| &buffer[piece.place()]).collect();
        assert_eq!(got, [&b""[..], &text[..], b"", b"some"]);
    }
}
