//! Places where a test can make a guard end, stop or wait. Without the feature `fail-spots` there are none.
//!
//! A spot is `step:action`, with `@n` behind it for one incarnation, and at the end `*n` for its first n guards, or `*` for all of them, rather than the first alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
static SPOT: Mutex<Option<(String, Action)>> = Mutex::new(None);

fn spot() -> MutexGuard<'static, Option<(String, Action)>> {
    SPOT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes up the spot for the guard of an incarnation; `earlier` says how many guards that life has had before.
pub(crate) fn set(wanted: Option<&str>, incarnation: u32, earlier: u32) {
    if cfg!(feature = "fail-spots") {
        *spot() = wanted.and_then(|wanted| parse(wanted, incarnation, earlier));
    }
}

/// Called at each step of a guard.
pub(crate) fn pass(step: &str) {
    // Said again at each step, so that a shipped guard doesn't even hold the steps' names.
    if !cfg!(feature = "fail-spots") {
        return;
    }
    let action = spot().as_ref().filter(|(at, _)| at == step).map(|(_, action)| *action);
    match action {
        Some(Action::Kill) => process::kill_self(),
        Some(Action::Stop) => process::stop_self(),
        Some(Action::Sleep(wait_ms)) => process::sleep_ms(wait_ms),
        Some(Action::Off) | None => {}
    }
}

/// Whether a facility is to be treated as absent.
pub(crate) fn is_off(facility: &str) -> bool {
    cfg!(feature = "fail-spots")
        && spot().as_ref().is_some_and(|(at, action)| at == facility && *action == Action::Off)
}

fn parse(spot: &str, incarnation: u32, earlier: u32) -> Option<(String, Action)> {
    let (spot, guards) = match spot.split_once('*') {
        Some((spot, "")) => (spot, u32::MAX),
        Some((spot, number)) => (spot, number.parse::<u32>().ok()?),
        None => (spot, 1),
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
    let applies = wanted.is_none_or(|wanted| wanted == incarnation) && earlier < guards;
    applies.then(|| (step.to_owned(), action))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a spot means one step of the guards that it names, and nonsense means none.
    #[test]
    fn spots() {
        let kill = Some(("stopped".to_owned(), Action::Kill));
        assert_eq!(parse("stopped:kill", 3, 0), kill);
        assert_eq!(parse("stopped:kill", 3, 1), None);
        assert_eq!(parse("stopped:kill*", 3, 1), kill);
        assert_eq!(parse("stopped:kill*2", 3, 1), kill);
        assert_eq!(parse("stopped:kill*2", 3, 2), None);
        assert_eq!(parse("stopped:kill@3", 3, 0), kill);
        assert_eq!(parse("stopped:kill@2", 3, 0), None);
        assert_eq!(parse("x:sleep=50@0*", 0, 1), Some(("x".into(), Action::Sleep(50))));
        for nonsense in
            ["", "stopped", "stopped:fly", "stopped:sleep", "stopped:kill@x", "x:kill*y"]
        {
            assert_eq!(parse(nonsense, 0, 0), None, "{nonsense}");
        }
    }
}
