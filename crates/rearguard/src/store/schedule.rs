//! When a store's reports are sent: what all guards of it know together of servers that want to be left alone, and of how many were sent already.

use super::Store;
use crate::limits::RETRY_AFTER_S_MAX;

/// Until when the server wants to be left alone; the running hour and what was sent in it; the same for the day. In seconds, hours and days since 1970.
type Schedule = [u64; 5];

/// The file's name.
const SCHEDULE: &str = "schedule";

impl Store {
    /// Takes a turn to send one report, or says why none may be sent now.
    /// A clock that was set back begins the hour and the day anew, and a wait that no server can have asked for is none.
    pub(crate) fn take_turn(&self, now_s: u64) -> Option<&'static str> {
        let Some(_lock) = self.lock() else { return Some("the store is busy") };
        let mut schedule: Schedule = self.read_words(SCHEDULE);
        let [not_before, hour, in_hour, day, in_day] = &mut schedule;
        if now_s < *not_before && *not_before <= now_s.saturating_add(RETRY_AFTER_S_MAX) {
            return Some("the server wants to be left alone");
        }
        let reporting = &self.reporting;
        for (unit_s, unit, count, count_max) in [
            (3_600, hour, in_hour, reporting.hourly_max),
            (86_400, day, in_day, reporting.daily_max),
        ] {
            if *unit != now_s / unit_s {
                (*unit, *count) = (now_s / unit_s, 0);
            }
            if *count >= count_max {
                return Some("enough was sent for now");
            }
            *count += 1;
        }
        // Who can't count isn't to send: it would send without end.
        self.write_words(SCHEDULE, &schedule).err().map(|_| "the store can't be written")
    }

    /// Notes that the server wants to be left alone.
    pub(crate) fn leave_alone(&self, until_s: u64) {
        if let Some(_lock) = self.lock() {
            let mut schedule: Schedule = self.read_words(SCHEDULE);
            // The longest that a server can have asked for, if several did.
            if until_s > schedule[0] || schedule[0] > until_s.saturating_add(RETRY_AFTER_S_MAX) {
                schedule[0] = until_s;
            }
            let _ = self.write_words(SCHEDULE, &schedule);
        }
    }
}
