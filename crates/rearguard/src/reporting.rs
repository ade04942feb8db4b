//! What an application chose about its reports: who may have them, how many are kept, how often one is tried.

use crate::config::DumpSize;
use crate::limits;

/// Whether reports may leave this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Consent {
    /// Nothing is sent; reports stay in the store. The default.
    #[default]
    Denied,
    /// Reports are sent to the collector, unless the user has said no by [`Handle::set_consent`](crate::Handle::set_consent).
    Granted,
    /// Reports stay until the user has said yes by [`Handle::set_consent`](crate::Handle::set_consent); the store remembers the answer.
    Ask,
}

impl Consent {
    const ALL: [Consent; 3] = [Consent::Denied, Consent::Granted, Consent::Ask];
}

/// The numbers of an application's choices, as the launch record carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporting {
    pub(crate) consent: Consent,
    pub(crate) dump_size: DumpSize,
    /// How many reports a store keeps, how many bytes of them, and for how long, in seconds.
    pub(crate) reports_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) age_s_max: u64,
    /// How many reports are sent from a store in an hour and in a day.
    pub(crate) hourly_max: u64,
    pub(crate) daily_max: u64,
    /// How long after a failed delivery the next is due; it doubles each time. In seconds.
    pub(crate) retry_s: u64,
    /// How long crashes of one signature count as one, in seconds; zero for never.
    pub(crate) same_crash_s: u64,
    /// Whether the installation has an identity towards collectors.
    pub(crate) has_identity: bool,
    /// Whether the user's variable forbids that this run's reports are ever sent.
    pub(crate) is_forbidden: bool,
}

impl Default for Reporting {
    fn default() -> Self {
        Reporting {
            consent: Consent::default(),
            dump_size: DumpSize::Standard,
            reports_max: limits::REPORTS_MAX,
            bytes_max: limits::STORE_BYTES_MAX,
            age_s_max: limits::REPORT_AGE_S_MAX,
            hourly_max: limits::UPLOADS_HOURLY_MAX,
            daily_max: limits::UPLOADS_DAILY_MAX,
            retry_s: limits::RETRY_S,
            same_crash_s: 0,
            has_identity: true,
            is_forbidden: false,
        }
    }
}

/// How many words they are.
const WORDS: usize = 11;

impl Reporting {
    pub(crate) fn to_words(self) -> [u64; WORDS] {
        [
            self.consent as u64,
            u64::from(self.dump_size.number()),
            self.reports_max,
            self.bytes_max,
            self.age_s_max,
            self.hourly_max,
            self.daily_max,
            self.retry_s,
            self.same_crash_s,
            u64::from(self.has_identity),
            u64::from(self.is_forbidden),
        ]
    }

    pub(crate) fn from_words(words: &[u64]) -> Option<Reporting> {
        let &[
            consent,
            dump_size,
            reports_max,
            bytes_max,
            age_s_max,
            hourly_max,
            daily_max,
            retry_s,
            same_crash_s,
            identity,
            forbidden,
        ] = words
        else {
            return None;
        };
        Some(Reporting {
            consent: *Consent::ALL.get(usize::try_from(consent).ok()?)?,
            dump_size: DumpSize::from_number(u32::try_from(dump_size).ok()?)?,
            reports_max,
            bytes_max,
            age_s_max,
            hourly_max,
            daily_max,
            retry_s,
            same_crash_s,
            has_identity: identity != 0,
            is_forbidden: forbidden != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: every choice survives the record, and words that nobody wrote are refused.
    #[test]
    fn choices_survive() {
        for consent in Consent::ALL {
            let choices = Reporting {
                consent,
                dump_size: DumpSize::Large,
                reports_max: 1,
                bytes_max: 2,
                age_s_max: 3,
                hourly_max: 4,
                daily_max: 5,
                retry_s: 6,
                same_crash_s: 7,
                has_identity: false,
                is_forbidden: true,
            };
            assert_eq!(Reporting::from_words(&choices.to_words()), Some(choices));
        }
        let words = Reporting::default().to_words();
        assert_eq!(Reporting::from_words(&words), Some(Reporting::default()));
        assert_eq!(Reporting::from_words(&words[1..]), None);
        assert_eq!(Reporting::from_words(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
