//! Runs the frozen phase on a thread of its own, whose end lets everything go.
//!
//! ptrace knows tracers as threads, and the end of a tracer detaches all its tracees at once, even those that never stopped: there is no other way to be rid of a thread that sleeps in the kernel without regard to signals.
//! It is also faster than one PTRACE_DETACH after the other, and a signal that a thread was about to take isn't lost.
//! While the thread stops the target's, its maker reads what doesn't need them stopped.
//!
//! The thread is the C library's, since the standard library's cost the guard 20 KB.
//! It is a thread and not a process, so that what kills or stops the caller kills or stops it too.

#![expect(unsafe_code, reason = "a thread without the standard library's")]

use core::ffi::c_void;
use core::mem;
use core::ptr;

use super::handover::Handover;
use super::sys::{self, Errno};

/// The stack of the frozen phase: its largest frame holds a batch of 1,024 pieces, 16 KiB; the rest is for the callers of the probe, and for what the C library keeps there.
const STACK_BYTES: usize = 256 * 1024;

/// How long the end of the thread is waited for, once it is done with its work.
const END_WAIT_NS_MAX: u64 = 1_000_000_000;

/// How long the wait gives the processor to others before it begins to sleep.
///
/// The end of a tracer of few threads takes less than this; for one of many a waiter that yields would take part of the processor from those who are let go.
const YIELD_NS_MAX: u64 = 60_000;

/// How long it sleeps then between two looks.
const LOOK_PERIOD_NS: u32 = 30_000;

/// What the thread is given.
struct Order<F> {
    work: F,
    /// Whether its maker runs on another processor.
    is_apart: bool,
    /// Its id, once the work is done.
    done: Handover<i32>,
}

/// The thread, done with its work, which is ending; or none. Dropping it waits for that.
pub(super) struct Ending {
    thread: libc::pthread_t,
    /// 0 for none.
    tid: i32,
}

// SAFETY: any thread may join it.
unsafe impl Send for Ending {}
// SAFETY: a shared one can't be used for anything.
unsafe impl Sync for Ending {}

impl Ending {
    pub(super) fn none() -> Ending {
        // SAFETY: any bytes will do, since nobody looks at them where there is no thread.
        Ending { thread: unsafe { mem::zeroed() }, tid: 0 }
    }

    pub(super) fn is_none(&self) -> bool {
        self.tid == 0
    }

    /// Waits, once, until the thread has ended.
    #[inline(never)]
    pub(super) fn wait(&mut self) {
        if !self.is_none() {
            // SAFETY: the thread was made by `run` and is joined here alone.
            unsafe { libc::pthread_join(self.thread, ptr::null_mut()) };
            wait_end(self.tid);
            self.tid = 0;
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Runs `work` on a thread of its own, of so many `processors` on another one, which is told whether this one has another processor, and `meanwhile` on this one, and waits until both are done; an error means that neither was run.
pub(super) fn run<F: FnMut(bool) + Send>(processors: u8, work: F, meanwhile: impl FnOnce()) -> Result<Ending, Errno> {
    let mut order = Order { work, is_apart: false, done: Handover::new() };
    // SAFETY: any bytes will do, the call below fills them.
    let mut attributes: libc::pthread_attr_t = unsafe { mem::zeroed() };
    // SAFETY: the structure is valid and not in use.
    unsafe { libc::pthread_attr_init(&raw mut attributes) };
    // SAFETY: the structure was filled by the call above. A C library that wants more keeps its own size.
    unsafe { libc::pthread_attr_setstacksize(&raw mut attributes, STACK_BYTES) };
    let places = Places::new(&mut attributes, processors);
    order.is_apart = places.are_apart;
    // SAFETY: any bytes will do, the call below fills them.
    let mut thread: libc::pthread_t = unsafe { mem::zeroed() };
    let argument: *mut c_void = (&raw mut order).cast();
    // SAFETY: `argument` points to the order that `entry` expects, which nobody moves or drops before the thread has told that it is done; `F` may be used by another thread.
    let mut errno = unsafe { libc::pthread_create(&raw mut thread, &raw const attributes, entry::<F>, argument) };
    // SAFETY: the structure was filled above and isn't used any more.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    if errno != 0 {
        places.end();
        // Large thread-local variables, a filter that refuses the affinity: the attributes may be at fault.
        order.is_apart = false;
        // SAFETY: as above.
        errno = unsafe { libc::pthread_create(&raw mut thread, ptr::null(), entry::<F>, argument) };
    }
    if errno != 0 {
        return Err(errno);
    }
    aside(meanwhile);
    // The thread touches nothing of the order's once it has told that it is done; at most it wakes somebody by the address.
    let tid = order.done.wait().copied().unwrap_or(0);
    places.end();
    Ok(Ending { thread, tid })
}

/// Where the two threads run.
#[derive(Clone, Copy, Default)]
struct Places {
    /// The new one keeps from its maker's processor.
    are_apart: bool,
    /// The maker stays on its own until [`Places::end`].
    #[cfg_attr(not(target_env = "gnu"), expect(dead_code, reason = "other C libraries can't be told"))]
    is_kept: bool,
}

#[cfg(target_env = "gnu")]
impl Places {
    /// Keeps the two apart, where there is more than one processor.
    ///
    /// Where the kernel doesn't spread threads by itself, in small virtual machines, the new one would begin only when its maker first waits, and a maker that it wakes would come to where it is and stop it for milliseconds.
    ///
    /// A maker that has limits of its own, or a container's, is left alone: the kernel doesn't tell them whole, and whoever is forked later inherits what was put back.
    fn new(attributes: &mut libc::pthread_attr_t, processors: u8) -> Places {
        let Some([here, others]) = sys::processors_apart() else { return Places::default() };
        // SAFETY: the structure is valid, and the set, whose size is told, is copied.
        let are_apart = unsafe { libc::pthread_attr_setaffinity_np(attributes, size_of_val(&others), others.as_ptr().cast()) } == 0;
        let is_kept = sys::size(&others) + 1 == usize::from(processors);
        if is_kept {
            sys::run_on(&here);
        }
        Places { are_apart, is_kept }
    }

    /// Lets the maker go to every processor again, as it could before.
    fn end(self) {
        if self.is_kept {
            sys::run_on(&sys::ALL_PROCESSORS);
        }
    }
}

#[cfg(not(target_env = "gnu"))]
impl Places {
    fn new(_attributes: &mut libc::pthread_attr_t, _processors: u8) -> Places {
        Places::default()
    }

    fn end(self) {}
}

/// Calls `meanwhile`; a panic in it ends the process, since the thread beside uses what this one would give back.
extern "C" fn aside<M: FnOnce()>(meanwhile: M) {
    meanwhile();
}

extern "C" fn entry<F: FnMut(bool)>(argument: *mut c_void) -> *mut c_void {
    let order: *mut Order<F> = argument.cast();
    // SAFETY: `run` passes a pointer to its own order, and leaves the work alone until it is done.
    let work = unsafe { &mut (*order).work };
    // SAFETY: as above; nobody writes it once the thread is made.
    let is_apart = unsafe { (*order).is_apart };
    work(is_apart);
    // SAFETY: the order is there until this is told.
    unsafe { &(*order).done }.set(sys::own_ids().1);
    ptr::null_mut()
}

/// Waits until the kernel has ended the thread, which is later than the C library says: tracees are detached in between.
///
/// After a second, what was to be done is done all the same.
fn wait_end(tid: i32) {
    let (pid, _) = sys::own_ids();
    let start = sys::now_ns();
    while sys::thread_exists(pid, tid) {
        let waited = sys::now_ns().saturating_sub(start);
        if waited > END_WAIT_NS_MAX {
            return;
        }
        if waited < YIELD_NS_MAX {
            sys::yield_now();
        } else {
            sys::sleep_ns(LOOK_PERIOD_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_by_another_thread_of_the_process() {
        let allowed = || std::fs::read_to_string("/proc/thread-self/status").unwrap().lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned();
        let processors = allowed();
        let before = sys::own_ids();
        let (mut inside, mut outside) = ((0, 0), (0, 0));
        let mut text = String::new();
        let work = |_| {
            inside = sys::own_ids();
            text = "made there".repeat(1000);
        };
        drop(run(sys::processors(), work, || outside = sys::own_ids()).unwrap());
        assert_eq!(inside.0, before.0);
        assert_eq!(outside, before);
        assert_ne!(inside.1, before.1);
        assert_eq!(text.len(), 10_000);
        assert!(!sys::thread_exists(inside.0, inside.1));
        assert_eq!(allowed(), processors, "this thread may run where it could before");
    }
}
