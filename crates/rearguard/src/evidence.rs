//! What the black box tells, read once, bounded, and turned into owned values.
//!
//! Every byte of it may be hostile: the worker wrote it, perhaps while it was falling apart.

use std::sync::atomic::Ordering;

use rearguard_crashpath::black_box::{
    ANNOTATIONS_MAX, BlackBox, CrashSlot, FLOATING_WORDS, GENERAL_WORDS, LogRing, PANICS_MAX,
    Place, Text as BoxText, flags,
};
use rearguard_crashpath::limits::STACK_COPY_BYTES_MAX;

use crate::heap::{List, PutBytes, Text, add, copied, lossy, zeros};
use crate::limits::LOG_BYTES_MAX;
use crate::order::sort_by;
use crate::sys::words::Crash;

/// The last panic.
pub(crate) struct Panic {
    pub(crate) message: Text,
    pub(crate) location: Text,
    pub(crate) thread: Text,
    pub(crate) count: u32,
}

/// The UUID that a crash of this life has or would have.
pub(crate) fn report_id(black_box: &BlackBox) -> [u8; 16] {
    let mut id = [0; 16];
    black_box.slot.report_id.load(&mut id);
    id
}

/// Reads the crash slot.
pub(crate) fn crash(black_box: &BlackBox) -> Crash {
    let slot: &CrashSlot = &black_box.slot;
    let general_count = (slot.general_count.load(Ordering::Acquire) as usize).min(GENERAL_WORDS);
    let floating_bytes =
        (slot.floating_bytes.load(Ordering::Relaxed) as usize).min(FLOATING_WORDS * 8);
    let stack_bytes = (slot.stack_bytes.load(Ordering::Relaxed) as usize).min(STACK_COPY_BYTES_MAX);
    let mut general = List::new();
    for index in 0..general_count {
        add(&mut general, slot.general.get(index));
    }
    let mut floating = zeros(floating_bytes);
    slot.floating.load(&mut floating);
    let mut stack = zeros(stack_bytes);
    black_box.stack.load(&mut stack);
    Crash {
        tid: slot.tid.load(Ordering::Relaxed) as i32,
        signal: slot.signal.load(Ordering::Relaxed),
        code: slot.code.load(Ordering::Relaxed),
        address: slot.address.load(Ordering::Relaxed),
        sender_pid: slot.sender_pid.load(Ordering::Relaxed),
        flags: slot.flags.load(Ordering::Relaxed),
        seen_ns: slot.seen_ns.load(Ordering::Relaxed),
        seen_real_ns: slot.seen_real_ns.load(Ordering::Relaxed),
        general,
        floating,
        stack_address: slot.stack_address.load(Ordering::Relaxed),
        stack,
    }
}

/// The words for the bits of a crash's flags.
pub(crate) fn flag_names(bits: u32) -> impl Iterator<Item = &'static str> {
    [
        (flags::FOREIGN_ASKED, "foreign_handler_asked"),
        (flags::FOREIGN_CRASHED, "foreign_handler_crashed"),
        (flags::CALLBACK_CRASHED, "crash_callback_crashed"),
        (flags::NEAR_STACK_POINTER, "near_stack_pointer"),
        (flags::SURVIVED_BEFORE, "survived_earlier_crash"),
    ]
    .into_iter()
    .filter(move |(bit, _)| bits & bit != 0)
    .map(|(_, name)| name)
}

/// Reads the panic that matters, if there was one: the last, or the one that began what the runtime then made an abort.
pub(crate) fn panic(black_box: &BlackBox) -> Option<Panic> {
    let panics = &black_box.panics;
    let count = panics.count.load(Ordering::Acquire);
    let at = |back: u32| {
        let number = count.checked_sub(back + 1)?;
        panics.ring.get(number as usize % PANICS_MAX)
    };
    let last = at(0)?;
    let thread = last.tid.load(Ordering::Relaxed);
    // The same thread's panics before it, newest first.
    let mut earlier = (1..PANICS_MAX as u32)
        .filter_map(at)
        .filter(|slot| slot.tid.load(Ordering::Relaxed) == thread);
    let chosen = match text(&last.message).as_str() {
        "panic in a function that cannot unwind" => earlier.next().unwrap_or(last),
        // It ended a clean-up, whose own panic came after the one that began it.
        "panic in a destructor during cleanup" => {
            let in_cleanup = earlier.next();
            earlier.next().or(in_cleanup).unwrap_or(last)
        }
        _ => last,
    };
    Some(Panic {
        message: text(&chosen.message),
        location: text(&chosen.location),
        thread: text(&chosen.thread),
        count,
    })
}

/// Reads the annotations, sorted by key; of equal keys the first counts.
pub(crate) fn annotations(black_box: &BlackBox) -> List<(Text, Text)> {
    let mut annotations = List::new();
    let used = black_box.control.annotated.load(Ordering::Acquire) as usize;
    for annotation in black_box.annotations.iter().take(used.min(ANNOTATIONS_MAX)) {
        let key = text(&annotation.key);
        if !key.is_empty() {
            add(&mut annotations, (key, text(&annotation.value)));
        }
    }
    sort_by(&mut annotations, |annotation| &annotation.0);
    annotations.as_mut_vec().dedup_by(|later, earlier| later.0 == earlier.0);
    annotations
}

/// Reads the log ring, oldest line first; a line that the ring has half overwritten is left out.
pub(crate) fn log(black_box: &BlackBox) -> Text {
    let ring: &LogRing = &black_box.log;
    let written = ring.written.load(Ordering::Acquire);
    let mut bytes = zeros(written.min(LOG_BYTES_MAX as u64) as usize);
    ring.ring.load(&mut bytes);
    if written <= LOG_BYTES_MAX as u64 {
        return lossy(&bytes);
    }
    let oldest = (written % LOG_BYTES_MAX as u64) as usize;
    let mut lines = copied(bytes.get(oldest..).unwrap_or_default());
    lines.put(bytes.get(..oldest).unwrap_or_default());
    let first_whole = lines.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    lossy(lines.get(first_whole..).unwrap_or_default())
}

/// Reads what the application left for its next life.
pub(crate) fn recovery(black_box: &BlackBox) -> Option<List<u8>> {
    let length = black_box.recovery.len();
    if length == 0 {
        return None;
    }
    let mut bytes = zeros(length);
    black_box.recovery.load(&mut bytes);
    Some(bytes)
}

#[inline(always)]
fn text<const N: usize>(text: &BoxText<N>) -> Text {
    text_at(text.place())
}

#[inline(never)]
fn text_at(text: Place<'_>) -> Text {
    let mut bytes = zeros(text.len());
    let length = text.load(&mut bytes);
    bytes.truncate(length);
    lossy(&bytes)
}
