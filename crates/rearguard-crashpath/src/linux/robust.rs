//! A futex word that tells its owner's death (`set_robust_list(2)`).
//!
//! The kernel walks the list of a thread that ends, in whatever way, sets OWNER_DIED in each word that still holds the thread's id, and wakes one sleeper.
//! The list's node stays in private memory: its distance to the word is part of the list's head, so no pointer ever lies in shared memory.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::syscall::{Result, call};

#[repr(C)]
struct Head {
    first: *const Node,
    futex_offset: isize,
    pending: *const Node,
}

#[repr(C)]
struct Node {
    next: *const Head,
}

/// The list of one thread. A process has one: the keeper's in a worker, the main thread's in a guard.
struct List {
    head: UnsafeCell<Head>,
    node: UnsafeCell<Node>,
    taken: AtomicBool,
}

// SAFETY: `taken` lets one thread alone write the list, before the kernel learns of it; afterwards nobody writes.
unsafe impl Sync for List {}

static LIST: List = List {
    head: UnsafeCell::new(Head {
        first: core::ptr::null(),
        futex_offset: 0,
        pending: core::ptr::null(),
    }),
    node: UnsafeCell::new(Node { next: core::ptr::null() }),
    taken: AtomicBool::new(false),
};

/// Lets the kernel tell the calling thread's end in `word`, whenever the word holds the thread's id then.
///
/// It replaces the list that the C library registered for this thread, so the thread must not use robust mutexes of its own.
/// Can be done once in a process.
///
/// # Errors
///
/// EBUSY when it was done before; what the kernel says otherwise.
pub fn tell_my_end(word: &'static AtomicU32) -> Result<()> {
    if LIST.taken.swap(true, Ordering::AcqRel) {
        return Err(super::syscall::Errno(libc::EBUSY));
    }
    let (head, node) = (LIST.head.get(), LIST.node.get());
    // SAFETY: `taken` was false, so no other thread writes the node and the kernel doesn't know it yet.
    unsafe { node.write(Node { next: head }) };
    let list = Head {
        first: node,
        futex_offset: (word.as_ptr() as isize).wrapping_sub(node as isize),
        pending: core::ptr::null(),
    };
    // SAFETY: as for the node.
    unsafe { head.write(list) };
    // SAFETY: the head is static and has the layout of the kernel's robust_list_head.
    unsafe {
        call(libc::SYS_set_robust_list, [head as usize, size_of::<Head>(), 0, 0, 0, 0]).map(drop)
    }
}
