//! Without the feature `roles` there is no guard of many workers.

use crate::black_box::Control;

/// What a worker brings when it joins; there is no such value.
pub enum Family {}

/// The line that nobody has.
pub(super) struct Line;

impl Line {
    pub(super) fn new() -> Line {
        Line
    }

    /// Nobody asks.
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(super) fn ask(&mut self, family: &Family, _control: &Control, _crashed: bool) -> bool {
        match *family {}
    }
}
