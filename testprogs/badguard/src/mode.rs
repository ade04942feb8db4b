//! The words for what a guard does wrong.

use std::time::Duration;

/// For the message about a wrong word.
pub(crate) const NAMES: &str = "crash-at-start, hang, exit-early, refuse, slow:MS, ok";

/// What a guard does before it calls rearguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writes through null.
    CrashAtStart,
    /// Never says anything.
    Hang,
    /// Leaves with a status of its own.
    ExitEarly,
    /// Leaves as rearguard does when it is given a guard argument that it can't accept.
    Refuse,
    /// Behaves, later.
    Slow(Duration),
    /// Behaves.
    Ok,
}

impl Mode {
    pub(crate) fn parse(word: &str) -> Option<Mode> {
        Some(match word {
            "crash-at-start" => Mode::CrashAtStart,
            "hang" => Mode::Hang,
            "exit-early" => Mode::ExitEarly,
            "refuse" => Mode::Refuse,
            "ok" => Mode::Ok,
            _ => {
                let millis = word.strip_prefix("slow:")?.parse().ok()?;
                Mode::Slow(Duration::from_millis(millis))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every word that the message names is one, and no other.
    #[test]
    fn words_are_understood() {
        for word in NAMES.split(", ") {
            let word = word.replace("MS", "250");
            assert!(Mode::parse(&word).is_some(), "{word}");
        }
        assert_eq!(Mode::parse("slow:250"), Some(Mode::Slow(Duration::from_millis(250))));
        for word in ["", "slow", "slow:", "slow:x", "OK"] {
            assert_eq!(Mode::parse(word), None, "{word}");
        }
    }
}
