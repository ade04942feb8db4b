//! A starter as the proof sees it: the process that waits beside the guard and becomes the next worker.
//!
//! The real one runs on raw system calls in the crash path's crate, where this crate can't be called; it must judge as this function does.
//! It outlives its guard, so it has to know by itself when it is no longer wanted, and it reads the words of the black box afresh before each step.

/// The word `start` of the black box, as a starter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartWord {
    Open,
    Claimed,
    Closed,
}

/// All that a starter has to look at before each of its steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StarterView {
    /// Whether the worker is gone.
    pub(crate) full_exit: bool,
    /// Whether the delay, counted from the full exit, is over.
    pub(crate) delay_over: bool,
    /// Whether this starter was made for a crash whose worker then still lived.
    pub(crate) made_before_exit: bool,
    /// Whether the black box, with the worker gone, shows no crash.
    pub(crate) crash_idle: bool,
    pub(crate) start: StartWord,
}

/// What a starter does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StarterStep {
    AwaitFullExit,
    AwaitDelay,
    /// Claim the start by compare-and-swap; execute the next worker if that works, leave if it doesn't.
    Claim,
    Leave,
}

/// A starter's whole judgement.
pub(crate) const fn starter_step(view: StarterView) -> StarterStep {
    match view.start {
        StartWord::Claimed | StartWord::Closed => return StarterStep::Leave,
        StartWord::Open => {}
    }
    if !view.full_exit {
        return StarterStep::AwaitFullExit;
    }
    // The worker survived the crash that this starter was made for, and its later end was judged by nobody yet.
    if view.made_before_exit && view.crash_idle {
        return StarterStep::Leave;
    }
    if view.delay_over { StarterStep::Claim } else { StarterStep::AwaitDelay }
}
