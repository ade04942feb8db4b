//! The black box: the memory that worker and guard share, and that outlives the worker.
//!
//! The worker writes it, in part from inside a crash; the guard reads it and must take every byte of it for hostile.
//! The layout is fixed by `repr(C)`, and every field is an atomic number, so that any content is a valid content and a racing writer can only make a value wrong, never undefined.
//! Both sides are the same executable; [`LAYOUT_VERSION`] and the size are compared all the same, since an update may replace the file while the worker runs.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use crate::limits::STACK_COPY_BYTES_MAX;

/// The first eight bytes of a black box.
pub const MAGIC: u64 = u64::from_le_bytes(*b"rearguar");

/// Changes whenever the layout or the meaning of a word changes.
pub const LAYOUT_VERSION: u32 = 4;

/// Set in a futex word when someone may be asleep on it, so that the kernel wakes at the owner's death (`futex(2)`, robust futexes).
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
/// Set by the kernel in a robust futex word whose owner has ended.
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// The part of a futex word that holds the owner's thread id. Linux's largest is 2^22, so larger numbers are free for other meanings.
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Values of [`Control::bell`] that are no thread id.
pub mod bell {
    /// The guard has something to read.
    pub const RUNG: u32 = 0x3fff_fff0;
}

/// Values of [`Control::guard`] that are no thread id.
pub mod guard {
    /// No guard was ever on duty.
    pub const VACANT: u32 = 0;
    /// A crashed thread asks the keeper for a guard.
    pub const CALLED: u32 = 0x3fff_fff1;
    /// The waiting crash has its answer.
    pub const ANSWERED: u32 = 0x3fff_fff2;
    /// No guard comes any more: as many as one crash may use up have been tried.
    pub const LEFT: u32 = 0x3fff_fff3;

    /// Whether a guard may take the place: nobody was there, the last one died, or a crash calls.
    #[must_use]
    pub fn is_free(word: u32) -> bool {
        super::owner(word).is_none() && word != LEFT && word != ANSWERED
    }
}

/// Values of [`Control::crash`].
pub mod crash {
    /// No crash.
    pub const IDLE: u32 = 0;
    /// A thread is filling the crash slot.
    pub const CLAIMED: u32 = 1;
    /// The slot is filled, and its thread waits for the answer.
    pub const WAITING: u32 = 2;
    /// The crashed thread goes on to its end.
    pub const RELEASED: u32 = 3;
}

/// Values of [`Control::answer`].
pub mod answer {
    /// Not yet.
    pub const NONE: u32 = 0;
    /// The minidump is in the store.
    pub const DUMPED: u32 = 1;
    /// There will be no minidump.
    pub const FAILED: u32 = 2;
}

/// Values of [`Control::start`] that are no process id.
pub mod start {
    /// Nobody has started the next worker.
    pub const OPEN: u32 = 0;
    /// Nobody will.
    pub const CLOSED: u32 = 0xffff_ffff;
}

/// Set in [`Control::unclean_ends`] when the last run was a crash loop that was given up.
pub const GIVEN_UP: u32 = 0x8000_0000;

/// Values of [`Control::store`]; any other is [`store::FAILED`] plus the system's error number.
pub mod store {
    /// No guard has tried it yet.
    pub const UNTRIED: u32 = 0;
    /// Reports can be kept.
    pub const USABLE: u32 = 1;
    /// Added to the error number.
    pub const FAILED: u32 = 0x1_0000;
}

/// Values of [`Control::foreground`].
pub mod foreground {
    /// It has no terminal, or others are in its foreground.
    pub const NO: u32 = 0;
    /// It is the terminal's foreground job; a shell waits for its end.
    pub const JOB: u32 = 1;
    /// It has a console of its own (Windows): nobody else waits for that.
    pub const ALONE: u32 = 2;
}

/// Bits of [`CrashSlot::flags`].
pub mod flags {
    /// A foreign handler was asked first and did not repair the fault.
    pub const FOREIGN_ASKED: u32 = 1;
    /// The foreign handler itself crashed or aborted; the slot holds the fault that it was asked about.
    pub const FOREIGN_CRASHED: u32 = 2;
    /// The application's crash callback crashed.
    pub const CALLBACK_CRASHED: u32 = 4;
    /// The fault was near the stack pointer: most likely the stack was exhausted.
    pub const NEAR_STACK_POINTER: u32 = 8;
    /// The worker survived an earlier crash of this life.
    pub const SURVIVED_BEFORE: u32 = 16;
}

/// Whether a word of [`Control::guard`] or [`Control::bell`] says that its owner lives, and which thread that is.
#[must_use]
pub fn owner(word: u32) -> Option<u32> {
    let tid = word & FUTEX_TID_MASK;
    let special = tid >= bell::RUNG;
    if word & FUTEX_OWNER_DIED != 0 || tid == 0 || special { None } else { Some(tid) }
}

/// Bytes in shared memory, kept as words so that a racing writer is harmless.
#[repr(transparent)]
pub struct Words<const N: usize>([AtomicU64; N]);

impl<const N: usize> Words<N> {
    /// How many bytes fit.
    pub const BYTES: usize = N * 8;

    /// Stores `bytes`; what doesn't fit is left out.
    pub fn store(&self, bytes: &[u8]) {
        store_words(&self.0, bytes);
    }

    /// Fills `out` from the start; what lies beyond the end is left as it was.
    pub fn load(&self, out: &mut [u8]) {
        load_words(&self.0, out);
    }

    /// Stores one word; an index beyond the end does nothing.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Loads one word; zero beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The address of the first byte, for the kernel to write to.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// [`Words::store`] for every number of words, so that there is one of it and not one for each.
#[inline(never)]
fn store_words(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter();
    for (chunk, word) in whole.iter().zip(words.by_ref()) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty()
        && let Some(word) = words.next()
    {
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        word.store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

/// The same of [`Words::load`].
#[inline(never)]
fn load_words(words: &[AtomicU64], out: &mut [u8]) {
    let (whole, rest) = out.as_chunks_mut::<8>();
    let mut words = words.iter();
    for (chunk, word) in whole.iter_mut().zip(words.by_ref()) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if let Some(word) = words.next() {
        let last = word.load(Ordering::Relaxed).to_le_bytes();
        for (to, from) in rest.iter_mut().zip(last) {
            *to = from;
        }
    }
}

/// A text of bounded length.
#[repr(C)]
pub struct Text<const N: usize> {
    length: AtomicU32,
    _unused: AtomicU32,
    words: Words<N>,
}

impl<const N: usize> Text<N> {
    /// Stores as much of `text` as fits, cut at a character's boundary.
    /// The length is cleared first and set last, so a reader after a crash in between finds an empty text, never a torn one.
    pub fn store(&self, text: &str) {
        self.place().store(text);
    }

    /// Stores as many of `bytes` as fit.
    pub fn store_bytes(&self, bytes: &[u8]) {
        self.place().store_bytes(bytes);
    }

    /// How many bytes are stored; never more than fit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.place().len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies as many bytes as are there and fit into `out`, and says how many.
    pub fn load(&self, out: &mut [u8]) -> usize {
        self.place().load(out)
    }

    /// The text without its size in its type, so that there is one of each function and not one for each size.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place { length: &self.length, words: &self.words.0 }
    }
}

/// Where a text of bounded length is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    length: &'a AtomicU32,
    words: &'a [AtomicU64],
}

impl Place<'_> {
    fn room(self) -> usize {
        self.words.len() * 8
    }

    #[inline(never)]
    fn store(self, text: &str) {
        let mut end = text.len().min(self.room());
        while end > 0 && !text.is_char_boundary(end) {
            end -= 1;
        }
        self.store_bytes(text.as_bytes().get(..end).unwrap_or_default());
    }

    #[inline(never)]
    fn store_bytes(self, bytes: &[u8]) {
        let length = bytes.len().min(self.room());
        self.length.store(0, Ordering::Release);
        store_words(self.words, bytes.get(..length).unwrap_or_default());
        self.length.store(length as u32, Ordering::Release);
    }

    /// [`Text::len`].
    #[must_use]
    pub fn len(self) -> usize {
        (self.length.load(Ordering::Acquire) as usize).min(self.room())
    }

    /// [`Text::is_empty`].
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// [`Text::load`].
    #[inline(never)]
    #[must_use]
    pub fn load(self, out: &mut [u8]) -> usize {
        let length = self.len().min(out.len());
        load_words(self.words, out.get_mut(..length).unwrap_or_default());
        length
    }
}

/// What the box is and whose; written once, before the guard is started.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`LAYOUT_VERSION`].
    pub layout_version: AtomicU32,
    /// The size of [`BlackBox`] in bytes.
    pub size_bytes: AtomicU32,
    /// Random; also in the guard argument and in the launch record.
    pub nonce: AtomicU64,
    /// The worker's process id, in its own namespace.
    pub worker_pid: AtomicU32,
    /// The keeper's thread id.
    pub keeper_tid: AtomicU32,
    /// Where the worker has mapped the box; for the guard to try whether it may read there.
    pub address: AtomicU64,
}

/// How many guards of one worker's life can be handed their handles.
pub const HANDOVERS_MAX: usize = 16;

/// What one guard is handed where things are handed over by handles (Windows): their values in that guard's process.
#[repr(C)]
pub struct Handover {
    /// The guard's process id; zero for a free place.
    pub pid: AtomicU32,
    _unused: AtomicU32,
    /// The worker's process.
    pub process: AtomicU64,
    /// The launch record's section, to be read.
    pub record: AtomicU64,
    /// Set by a crashed thread.
    pub crashed: AtomicU64,
    /// Set by a guard that has answered.
    pub answered: AtomicU64,
    /// Set by a guard that has taken its place.
    pub ready: AtomicU64,
}

/// The words by which the two processes talk. ARCHITECTURE.md has the protocol.
#[repr(C)]
pub struct Control {
    /// What the guard sleeps on.
    pub bell: AtomicU32,
    /// What the worker sleeps on.
    pub guard: AtomicU32,
    /// The state of the crash slot.
    pub crash: AtomicU32,
    /// The guard's answer to the waiting crash.
    pub answer: AtomicU32,
    /// Who starts the next worker.
    pub start: AtomicU32,
    /// Not zero once the application called `ready()`.
    pub ready: AtomicU32,
    /// How often the worker survived a crash of its own.
    pub survived: AtomicU32,
    /// What the worker was to its terminal when it last looked, at its start and at a panic: see [`foreground`].
    pub foreground: AtomicU32,
    /// What the guard found when it tried the store: see [`store`].
    pub store: AtomicU32,
    /// What the guard has found in the store of earlier lives: how many ended together with their guards, and [`GIVEN_UP`]; valid once `store` says that it was tried.
    pub unclean_ends: AtomicU32,
    /// Not zero while the application holds its guard off: none is wanted, and nothing is started again.
    pub held: AtomicU32,
    /// The thread of the guard that has tried and may read the worker's memory; the crash handler then needn't copy its stack.
    pub reader: AtomicU32,
    /// How many places of [`BlackBox::annotations`] are in use, from the first; the others need not be looked at.
    pub annotated: AtomicU32,
    /// How many guards mapped this box so far, whether or not they took their place.
    pub attached: AtomicU32,
    /// Not zero once the application lets what waits in the store be sent now.
    pub deliver: AtomicU32,
    /// Keeps what follows where eight bytes belong.
    pub spare: AtomicU32,
    /// When the crashed thread was released, CLOCK_MONOTONIC in nanoseconds.
    pub worker_released_ns: AtomicU64,
    /// When the guard that took the dump had stopped all threads; for a later guard that finds its report.
    pub threads_stopped_ns: AtomicU64,
    /// When it had let go of them.
    pub threads_released_ns: AtomicU64,
    /// How many threads the dump describes.
    pub dumped_threads: AtomicU64,
}

impl Control {
    /// Makes sure that nobody starts the next worker; false when the start was closed or taken already.
    pub fn close_start(&self) -> bool {
        self.change_start(start::OPEN, start::CLOSED)
    }

    /// Who starts or has started the next worker, if anybody does.
    #[must_use]
    pub fn chosen_start(&self) -> Option<u32> {
        let word = self.start.load(Ordering::Acquire);
        (word != start::OPEN && word != start::CLOSED).then_some(word)
    }

    /// Lets a worker that survived have a start again, after a cancelled one.
    pub fn open_start(&self) {
        self.change_start(start::CLOSED, start::OPEN);
    }

    /// Gives back a start that failed after this claim, so that it can be tried again.
    pub fn give_back_start(&self, claim: u32) {
        self.change_start(claim, start::OPEN);
    }

    fn change_start(&self, from: u32, to: u32) -> bool {
        self.start.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// How many general registers a slot can hold: x86_64 has 23 in its signal context, aarch64 34.
pub const GENERAL_WORDS: usize = 40;
/// Room for the floating-point state: FXSAVE has 512 bytes, aarch64's FPSIMD 520.
pub const FLOATING_WORDS: usize = 66;
/// The size of the kernel's `siginfo_t` in words.
pub const SIGINFO_WORDS: usize = 16;

/// The crash context, as the crash handler saw it.
#[repr(C)]
pub struct CrashSlot {
    /// The UUID of the report that a crash in this slot will get; set when the slot is made ready.
    pub report_id: Words<2>,
    /// The crashed thread.
    pub tid: AtomicU32,
    /// The signal.
    pub signal: AtomicI32,
    /// `si_code`.
    pub code: AtomicI32,
    /// `si_errno`.
    pub errno: AtomicI32,
    /// `si_addr`; zero where the signal has none.
    pub address: AtomicU64,
    /// Who sent the signal, where a process did; else zero.
    pub sender_pid: AtomicU32,
    /// See [`flags`].
    pub flags: AtomicU32,
    /// When the handler was entered, CLOCK_MONOTONIC in nanoseconds.
    pub seen_ns: AtomicU64,
    /// The same moment, CLOCK_REALTIME in nanoseconds.
    pub seen_real_ns: AtomicU64,
    /// How many of `general` are filled.
    pub general_count: AtomicU32,
    /// How many bytes of `floating` are filled.
    pub floating_bytes: AtomicU32,
    /// General registers in the order of the kernel's signal context; on Windows the first is the address of the EXCEPTION_POINTERS.
    pub general: Words<GENERAL_WORDS>,
    /// Floating-point state as in the signal frame.
    pub floating: Words<FLOATING_WORDS>,
    /// The kernel's `siginfo_t`.
    pub siginfo: Words<SIGINFO_WORDS>,
    /// Where the copied part of the stack began.
    pub stack_address: AtomicU64,
    /// How many bytes of [`BlackBox::stack`] are filled.
    pub stack_bytes: AtomicU32,
    _unused: AtomicU32,
}

/// How many of the last panics are kept: one that began an abort, one in its clean-up, the runtime's remark about it, and one of another thread in between.
pub const PANICS_MAX: usize = 4;

/// The last panics that the panic hook saw: a ring.
#[repr(C)]
pub struct Panics {
    /// How many panics there were; the next goes to this place modulo the size.
    pub count: AtomicU32,
    _unused: AtomicU32,
    /// The ring.
    pub ring: [PanicSlot; PANICS_MAX],
}

/// One panic.
#[repr(C)]
pub struct PanicSlot {
    /// The thread that panicked, as the kernel numbers it.
    pub tid: AtomicU32,
    _unused: AtomicU32,
    /// When, CLOCK_REALTIME in nanoseconds.
    pub real_ns: AtomicU64,
    /// The message.
    pub message: Text<128>,
    /// `file:line:column`.
    pub location: Text<32>,
    /// The thread's name.
    pub thread: Text<8>,
}

/// How many annotations fit.
pub const ANNOTATIONS_MAX: usize = 64;

/// One annotation; an empty key means a free place.
#[repr(C)]
pub struct Annotation {
    /// Up to 64 bytes.
    pub key: Text<8>,
    /// Up to 256 bytes.
    pub value: Text<32>,
}

/// The log ring's size in words.
pub const LOG_WORDS: usize = 2048;

/// The last lines that the application logged: a ring of bytes.
#[repr(C)]
pub struct LogRing {
    /// How many bytes were ever written; the next goes to this position modulo the size.
    pub written: AtomicU64,
    /// The ring.
    pub ring: Words<LOG_WORDS>,
}

/// The largest recovery state in words.
pub const RECOVERY_WORDS: usize = 512;

/// The whole shared memory.
#[repr(C)]
pub struct BlackBox {
    /// What it is.
    pub header: Header,
    /// The words by which the two processes talk.
    pub control: Control,
    /// The crash context.
    pub slot: CrashSlot,
    /// The last panics.
    pub panics: Panics,
    /// Facts that the application wants in the report.
    pub annotations: [Annotation; ANNOTATIONS_MAX],
    /// The last lines of its log.
    pub log: LogRing,
    /// What the next incarnation gets to recover from.
    pub recovery: Text<RECOVERY_WORDS>,
    /// What each guard is handed, on systems with handles: a ring.
    pub handovers: [Handover; HANDOVERS_MAX],
    /// The crashed thread's own copy of its stack.
    pub stack: Words<{ STACK_COPY_BYTES_MAX / 8 }>,
}

/// The size of the shared memory in bytes, in whole pages.
pub const BLACK_BOX_BYTES: usize = size_of::<BlackBox>().next_multiple_of(4096);

impl BlackBox {
    /// Whether this is a box of this executable's layout that belongs to `nonce`.
    #[must_use]
    pub fn is_ours(&self, nonce: u64) -> bool {
        let header = &self.header;
        header.magic.load(Ordering::Acquire) == MAGIC
            && header.layout_version.load(Ordering::Relaxed) == LAYOUT_VERSION
            && header.size_bytes.load(Ordering::Relaxed) as usize == size_of::<BlackBox>()
            && header.nonce.load(Ordering::Relaxed) == nonce
    }

    /// Fills the header of a box that was just mapped in this worker, and makes it ready. The nonce comes when it is known.
    pub fn begin(&self, worker_pid: u32, report_id: [u8; 16]) {
        let header = &self.header;
        header.layout_version.store(LAYOUT_VERSION, Ordering::Relaxed);
        header.size_bytes.store(size_of::<BlackBox>() as u32, Ordering::Relaxed);
        header.worker_pid.store(worker_pid, Ordering::Relaxed);
        header.address.store(core::ptr::from_ref(self) as u64, Ordering::Relaxed);
        self.make_ready(report_id);
        header.magic.store(MAGIC, Ordering::Release);
    }

    /// Makes the slot ready for a crash, with the UUID that its report will have.
    pub fn make_ready(&self, report_id: [u8; 16]) {
        self.slot.report_id.store(&report_id);
        self.control.answer.store(answer::NONE, Ordering::Relaxed);
        self.control.crash.store(crash::IDLE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: no word that means something else is taken for a living owner.
    #[test]
    fn special_words_have_no_owner() {
        for word in [
            guard::VACANT,
            guard::CALLED,
            guard::ANSWERED,
            guard::LEFT,
            bell::RUNG,
            FUTEX_OWNER_DIED | 77,
            FUTEX_OWNER_DIED | FUTEX_WAITERS,
        ] {
            assert_eq!(owner(word), None, "{word:#x}");
        }
        assert_eq!(owner(77), Some(77));
        assert_eq!(owner(FUTEX_WAITERS | 4_194_304), Some(4_194_304));
    }

    // Goal: a text longer than its place is cut at a character's boundary, and a length from hostile memory is bounded.
    #[test]
    fn texts_are_bounded() {
        let text: Text<1> = Text {
            length: AtomicU32::new(0),
            _unused: AtomicU32::new(0),
            words: Words([AtomicU64::new(0)]),
        };
        text.store("1234567é");
        let mut out = [0; 16];
        assert_eq!(text.load(&mut out), 7);
        assert_eq!(&out[..7], b"1234567");
        text.length.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(text.len(), 8);
    }
}
