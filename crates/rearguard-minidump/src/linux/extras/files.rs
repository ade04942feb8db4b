//! The open files, from `/proc/<pid>/fd`.

use super::Place;
use crate::encode;
use crate::heap;
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

/// Bytes of what a descriptor leads to; PATH_MAX of the kernel.
const LINK_BYTES_MAX: usize = 4096;

pub(super) extern "C" fn read(place: &Place<'_>, snapshot: &mut Snapshot) {
    let Place { request, proc, .. } = *place;
    let Some(proc) = proc else { return };
    let (mut numbers, complete) = match proc.numbers(c"fd") {
        Ok(found) => found,
        Err(errno) => {
            snapshot.soft_errors.add("list open files", Object::PROCESS, errno);
            return;
        }
    };
    let max = request.limits.files_max;
    if !complete || numbers.len() > max {
        snapshot.soft_errors.add("list more open files than", Object::count(max as u64), 0);
        numbers.truncate(max);
    }
    for number in &numbers {
        // One that was closed meanwhile is no loss.
        if let Ok(link) = proc.link(b"fd/", *number, LINK_BYTES_MAX) {
            let name = heap::put(&mut snapshot.strings, &link);
            // They may have a quarter of what is left, and a byte becomes two.
            snapshot.added_bytes += (name.len() * 2 + 128) * 4;
            heap::add(&mut snapshot.open_files, (number.unsigned_abs(), name));
        }
    }
    snapshot.encode_files = Some(encode::open_files);
}
