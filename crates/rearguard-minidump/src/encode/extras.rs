//! Annotations, the caller's streams, texts of the system, and what went wrong.

use super::{CRASHPAD_INFO, Encoder, LINUX_AUXV, LINUX_MAPS, MOZ_SOFT_ERRORS};
use crate::heap::{self, List};
use crate::snapshot::Snapshot;
use crate::soft_error::{Object, SoftErrors};

/// The version of MinidumpCrashpadInfo that has all fields written here.
const CRASHPAD_VERSION: u32 = 1;

/// MinidumpCrashpadInfo, the length of its dictionary, and what aligning them takes.
const ANNOTATIONS_BYTES_MIN: usize = 72;

/// The client's id, which isn't told.
const CRASHPAD_CLIENT_BYTES: usize = 16;

impl Encoder {
    /// MinidumpCrashpadInfo with a dictionary of simple annotations.
    pub(super) fn annotations(&mut self, snapshot: &mut Snapshot) {
        if snapshot.request.annotations.is_empty() && snapshot.request.report_id == [0; 16] {
            return;
        }
        let mut entries = List::new();
        for (key, value) in snapshot.request.annotations {
            let needed = key.len() + value.len() + 96 + (entries.len() + 1) * 8;
            if needed > self.out.room() {
                break;
            }
            match (self.out.utf8(key), self.out.utf8(value)) {
                (Some(key), Some(value)) => heap::add(&mut entries, (key, value)),
                (None, _) | (_, None) => break,
            }
        }
        if !self.begin(&mut snapshot.soft_errors, CRASHPAD_INFO, ANNOTATIONS_BYTES_MIN + entries.len() * 8) {
            return;
        }
        let start = self.out.rva();
        self.out.u32(entries.len() as u32);
        for (key, value) in &entries {
            self.out.u32(*key);
            self.out.u32(*value);
        }
        let dictionary = self.out.since(start);
        self.out.align();
        let start = self.out.rva();
        self.out.u32(CRASHPAD_VERSION);
        self.out.bytes(&as_guid(snapshot.request.report_id));
        self.out.zeros(CRASHPAD_CLIENT_BYTES);
        self.out.location(dictionary);
        self.out.zeros(8);
        self.stream(CRASHPAD_INFO, start);
        let left_out = (snapshot.request.annotations.len() - entries.len()) as u64;
        if left_out > 0 {
            snapshot.soft_errors.add("keep annotations within the file's limit", Object::count(left_out), 0);
        }
    }

    /// The caller's streams, as they are or not at all.
    pub(super) fn user_streams(&mut self, snapshot: &mut Snapshot) {
        for stream in snapshot.request.user_streams {
            self.whole_stream(&mut snapshot.soft_errors, stream.stream_type, stream.bytes);
        }
    }

    /// The texts; each has at most a quarter of what is left and ends with a whole line.
    pub(super) fn texts(&mut self, snapshot: &mut Snapshot) {
        let errors = &mut snapshot.soft_errors;
        for (stream_type, text) in &snapshot.texts {
            self.text(errors, *stream_type, text.of(&snapshot.strings));
        }
        self.text(errors, LINUX_AUXV, &snapshot.auxiliary);
        self.text(errors, LINUX_MAPS, &snapshot.maps);
    }

    fn text(&mut self, errors: &mut SoftErrors, stream_type: u32, text: &[u8]) {
        crate::heap::with_frame_pointer();
        let kept = whole_lines(text, self.out.room() / 4);
        if kept.len() < text.len() {
            errors.add("keep text within the file's limit", Object::count(u64::from(stream_type)), 0);
        }
        if !kept.is_empty() {
            self.whole_stream(errors, stream_type, kept);
        }
    }

    /// The JSON array of the soft errors, for which room was held in reserve.
    pub(super) fn soft_errors(&mut self, snapshot: &Snapshot) {
        if snapshot.soft_errors.is_empty() {
            return;
        }
        self.out.align();
        let start = self.out.rva();
        self.out.bytes(&snapshot.soft_errors.to_json());
        self.stream(MOZ_SOFT_ERRORS, start);
    }
}

/// As many whole lines as `limit` bytes hold.
pub(crate) fn whole_lines(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit {
        return text;
    }
    let kept = text.get(..limit).unwrap_or_default();
    let end = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    kept.get(..end).unwrap_or_default()
}

/// A UUID in the layout of a GUID, whose first three parts are numbers of the processor's order.
fn as_guid(uuid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = uuid;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}
