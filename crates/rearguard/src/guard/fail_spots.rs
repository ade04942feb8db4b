//! Places where a test can make a guard end, stop or wait. Without the feature `fail-spots` there are none.
//!
//! A spot is `step:action`, with `@n` behind it for one incarnation and `*` at the end for every guard of it, not the first alone.

use crate::sys::process;

/// What happens at a spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    /// Sleeps for this long, in milliseconds.
    Sleep(u64),
    /// What the step asks is as if the system didn't have it.
    Off,
}

/// The spot of this guard, if it has one.
pub(crate) struct FailSpots {
    spot: Option<(String, Action)>,
}

impl FailSpots {
    /// Reads a spot for the guard of an incarnation; `first` says whether it is that life's first guard.
    pub(crate) fn new(spot: Option<&str>, incarnation: u32, first: bool) -> FailSpots {
        let spot = if cfg!(feature = "fail-spots") {
            spot.and_then(|spot| parse(spot, incarnation, first))
        } else {
            None
        };
        FailSpots { spot }
    }

    /// Called at each step of the guard.
    pub(crate) fn pass(&self, step: &str) {
        // Said again at each step, so that a shipped guard doesn't even hold the steps' names.
        if !cfg!(feature = "fail-spots") {
            return;
        }
        let Some((at, action)) = &self.spot else { return };
        if at == step {
            match action {
                Action::Kill => process::kill_self(),
                Action::Stop => process::stop_self(),
                Action::Sleep(wait_ms) => process::sleep_ms(*wait_ms),
                Action::Off => {}
            }
        }
    }
}

impl FailSpots {
    /// Whether a facility is to be treated as absent.
    pub(crate) fn is_off(&self, facility: &str) -> bool {
        cfg!(feature = "fail-spots")
            && matches!(&self.spot, Some((at, Action::Off)) if at == facility)
    }
}

fn parse(spot: &str, incarnation: u32, first: bool) -> Option<(String, Action)> {
    let (spot, every_guard) = match spot.strip_suffix('*') {
        Some(spot) => (spot, true),
        None => (spot, false),
    };
    let (spot, wanted) = match spot.split_once('@') {
        Some((spot, number)) => (spot, Some(number.parse::<u32>().ok()?)),
        None => (spot, None),
    };
    let (step, action) = spot.split_once(':')?;
    let action = match action {
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        "off" => Action::Off,
        other => Action::Sleep(other.strip_prefix("sleep=")?.parse().ok()?),
    };
    let applies = wanted.is_none_or(|wanted| wanted == incarnation) && (first || every_guard);
    applies.then(|| (step.to_owned(), action))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a spot means one step of the guards that it names, and nonsense means none.
    #[test]
    fn spots() {
        let kill = Some(("stopped".to_owned(), Action::Kill));
        assert_eq!(parse("stopped:kill", 3, true), kill);
        assert_eq!(parse("stopped:kill", 3, false), None);
        assert_eq!(parse("stopped:kill*", 3, false), kill);
        assert_eq!(parse("stopped:kill@3", 3, true), kill);
        assert_eq!(parse("stopped:kill@2", 3, true), None);
        assert_eq!(parse("x:sleep=50@0*", 0, false), Some(("x".into(), Action::Sleep(50))));
        for nonsense in ["", "stopped", "stopped:fly", "stopped:sleep", "stopped:kill@x"] {
            assert_eq!(parse(nonsense, 0, true), None, "{nonsense}");
        }
    }
}
