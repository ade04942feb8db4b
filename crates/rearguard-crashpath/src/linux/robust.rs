//! A futex word that tells its owner's death (`set_robust_list(2)`).
//!
//! The kernel walks the list of a thread that ends, in whatever way, sets OWNER_DIED in each word that still holds the thread's id, and wakes one sleeper.
//! The list's nodes stay in private memory: their distance to the words is part of the list's head, so no pointer ever lies in shared memory.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::syscall::{Result, call};

#[repr(C)]
struct Head {
    first: *const Node,
    futex_offset: isize,
    pending: *const Node,
}

/// What the kernel follows from word to word. The last one leads back to the head.
#[repr(C)]
pub struct Node {
    next: *const Node,
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
    unsafe { node.write(Node { next: head.cast_const().cast() }) };
    let list = Head {
        first: node,
        futex_offset: (word.as_ptr() as isize).wrapping_sub(node as isize),
        pending: core::ptr::null(),
    };
    // SAFETY: as for the node.
    unsafe { head.write(list) };
    register(head)
}

/// Tells the kernel of the calling thread's list.
fn register(head: *mut Head) -> Result<()> {
    // SAFETY: the head is static and has the layout of the kernel's robust_list_head.
    unsafe {
        call(libc::SYS_set_robust_list, [head as usize, size_of::<Head>(), 0, 0, 0, 0]).map(drop)
    }
}

/// Lets a forked process, which has no list of its own, make one.
pub fn forget() {
    LIST.taken.store(false, Ordering::Release);
}

/// The list of a thread that has many words, each at the same distance from its node.
pub struct Many {
    head: UnsafeCell<Head>,
}

// SAFETY: it is one thread's, says `begin`.
unsafe impl Sync for Many {}

impl Many {
    /// None yet.
    #[must_use]
    pub const fn new() -> Many {
        Many {
            head: UnsafeCell::new(Head {
                first: core::ptr::null(),
                futex_offset: 0,
                pending: core::ptr::null(),
            }),
        }
    }

    /// Lets the kernel look at this list when the calling thread ends. `futex_offset` is the distance in bytes from a node to its word.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Safety
    ///
    /// Called once; from then on one thread alone uses the list, and it has no other.
    pub unsafe fn begin(&'static self, futex_offset: isize) -> Result<()> {
        let head = self.head.get();
        let empty =
            Head { first: head.cast_const().cast(), futex_offset, pending: core::ptr::null() };
        // SAFETY: the kernel doesn't know it yet, and the caller answers for other threads.
        unsafe { head.write(empty) };
        register(head)
    }

    /// Replaces the words of the list.
    ///
    /// # Safety
    ///
    /// The nodes are writable and stay so until the list is set without them, and each has a word at the distance that was told.
    pub unsafe fn set(&'static self, nodes: impl Iterator<Item = *mut Node>) {
        let head = self.head.get();
        let mut first: *const Node = head.cast_const().cast();
        for node in nodes {
            // SAFETY: the caller answers for the node.
            unsafe { node.write(Node { next: first }) };
            first = node;
        }
        // Until here the kernel goes the old way, whose nodes lead to the end all the same.
        // SAFETY: the head is static, and this thread's alone.
        unsafe { (*head).first = first };
    }
}

impl Default for Many {
    fn default() -> Self {
        Self::new()
    }
}
