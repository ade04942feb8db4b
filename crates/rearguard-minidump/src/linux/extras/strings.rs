//! The command line and the environment, as the kernel shows them.

use core::ffi::CStr;

use super::Place;
use crate::encode::{LINUX_CMD_LINE, LINUX_ENVIRON};
use crate::snapshot::Snapshot;
use crate::soft_error::Object;

pub(super) extern "C" fn command_line(place: &Place<'_>, snapshot: &mut Snapshot) {
    strings(place, snapshot, c"cmdline", LINUX_CMD_LINE);
}

pub(super) extern "C" fn environment(place: &Place<'_>, snapshot: &mut Snapshot) {
    strings(place, snapshot, c"environ", LINUX_ENVIRON);
}

/// Strings that end with NUL each, as many whole ones as the limit allows.
fn strings(place: &Place<'_>, snapshot: &mut Snapshot, file: &CStr, stream_type: u32) {
    let Place { request, proc, .. } = *place;
    let Some(proc) = proc else { return };
    match proc.read(file, request.limits.text_bytes_max) {
        Ok(mut text) => {
            let whole = text.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
            text.truncate(whole);
            snapshot.add_text(stream_type, &text);
        }
        Err(errno) => snapshot.soft_errors.add("read command line or environment", Object::PROCESS, errno),
    }
}
