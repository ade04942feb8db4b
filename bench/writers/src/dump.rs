//! A look at a finished dump: it counts as one only when it describes every thread, and the right one as the crashed.
//!
//! The layout is from Microsoft's `minidumpapiset.h`.

/// Types of streams.
const THREAD_LIST: u32 = 3;
const EXCEPTION: u32 = 6;

/// How long the description of a thread is.
const THREAD_BYTES: usize = 48;

/// Returns what is wrong with a dump of a process with that many threads.
pub(crate) fn check(dump: &[u8], threads: usize, crashed_tid: u32) -> Result<(), String> {
    if dump.get(..4) != Some(b"MDMP") {
        return Err("it doesn't begin as a minidump does".to_owned());
    }
    let list = stream(dump, THREAD_LIST).ok_or("it has no list of threads")?;
    let count = word(list, 0).ok_or("its list of threads is empty")? as usize;
    if count != threads {
        return Err(format!("it has {count} threads, and the program had {threads}"));
    }
    let mut tids = Vec::new();
    for index in 0..count {
        let thread =
            list.get(4 + index * THREAD_BYTES..).ok_or("its list of threads is cut off")?;
        tids.push(word(thread, 0).ok_or("its list of threads is cut off")?);
        // Stack, then registers: size and place of each.
        for (what, at) in [("stack", 32), ("registers", 40)] {
            let size = word(thread, at).ok_or("its list of threads is cut off")?;
            let place = word(thread, at + 4).ok_or("its list of threads is cut off")?;
            if size == 0 || part(dump, place, size).is_none() {
                return Err(format!("it lacks the {what} of thread {index}"));
            }
        }
    }
    tids.sort_unstable();
    tids.dedup();
    if tids.len() != count {
        return Err("it has a thread twice".to_owned());
    }
    let exception = stream(dump, EXCEPTION).ok_or("it has no exception")?;
    match word(exception, 0) {
        Some(tid) if tid == crashed_tid => Ok(()),
        other => Err(format!("it says that thread {other:?} has crashed, not {crashed_tid}")),
    }
}

/// The first stream of a type.
fn stream(dump: &[u8], wanted: u32) -> Option<&[u8]> {
    let count = word(dump, 8)?;
    let directory = word(dump, 12)? as usize;
    for index in 0..count as usize {
        let entry = dump.get(directory.checked_add(index.checked_mul(12)?)?..)?;
        if word(entry, 0)? == wanted {
            return part(dump, word(entry, 8)?, word(entry, 4)?);
        }
    }
    None
}

fn part(dump: &[u8], place: u32, size: u32) -> Option<&[u8]> {
    dump.get(place as usize..(place as usize).checked_add(size as usize)?)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
