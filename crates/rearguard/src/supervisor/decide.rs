//! The one decision: whether a life that has ended is followed by another, and when.
//!
//! A pure function of what is known, so that whoever asks twice, the guard and the late guard after it, gets the same answer.
//! It must never look anywhere else: clock readings and the jitter's seed are part of the question.
//! Called by the supervisor alone.

use crate::config::{
    ExitClass, History, NS_PER_MS, PANIC_CODE, RestartPolicy, RestartWhen, StartBlock,
};

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) policy: &'a RestartPolicy,
    /// The history of the life that has ended.
    pub(crate) history: &'a History,
    pub(crate) class: ExitClass,
    /// Whether a Rust panic was recorded in this life.
    pub(crate) panicked: bool,
    /// Whether the application called `ready()` in this life.
    pub(crate) ready: bool,
    /// How long the life was, in nanoseconds of the clock that stands still while the machine sleeps.
    pub(crate) life_ns: u64,
    /// When it ended, in nanoseconds of the clock that counts sleep as well.
    pub(crate) ended_boot_ns: u64,
    pub(crate) block: Option<StartBlock>,
    /// Whether somebody has asked that nothing be started any more.
    pub(crate) stopping: bool,
    pub(crate) jitter_seed: u64,
}

/// Whether there is another life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is, this long after the full exit, in milliseconds.
    Restart { delay_ms: u64 },
    /// There is none.
    Stay,
}

/// A verdict with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
}

impl Decision {
    /// No other life, for this reason.
    pub(crate) const fn stay(reason: Reason) -> Decision {
        Decision { verdict: Verdict::Stay, reason }
    }
}

/// Why a life is followed by another, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Restart: it crashed.
    Crashed,
    /// Restart: it panicked.
    Panicked,
    /// Restart: it hung.
    Hung,
    /// Restart: it failed with an exit code, and the policy takes every such code for a crash.
    FailingCode,
    /// Restart: the policy wishes it after every end.
    AnyEnd,
    /// The policy wishes none.
    PolicyNever,
    /// It ended by itself and well.
    CleanExit,
    /// It ended by itself with a code that the policy doesn't take for a crash.
    ExitCode,
    /// Somebody ended it.
    Killed,
    /// Nobody knows how it ended, and a program that was ended on purpose must not come back.
    UnknownEnd,
    /// The window holds as many crashes as the policy's intensity.
    Intensity,
    /// Too many lives in a row were shorter than the minimum uptime.
    ShortLives,
    /// The surroundings forbid it.
    Blocked(StartBlock),
    /// Somebody asked the guard to stop.
    StopRequested,
    /// The worker goes on living after its dump.
    WorkerSurvived,
    /// The worker became another program.
    WorkerReplaced,
    /// The worker wasn't gone within the limit, and nothing is started before it is.
    FullExitLate,
    /// No starter could be made.
    StarterFailed,
    /// The starters could not execute the next worker.
    StartFailed,
    /// Another guard has settled the start.
    StartLost,
    /// The starter didn't finish within the limit.
    StartLate,
}

impl Reason {
    /// The reason as a clause for a person.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Reason::Crashed => "worker crashed",
            Reason::Panicked => "worker panicked",
            Reason::Hung => "worker hung",
            Reason::FailingCode => "worker failed, and policy restarts any exit code but 0",
            Reason::AnyEnd => "policy restarts after every end",
            Reason::PolicyNever => "policy says never",
            Reason::CleanExit => "clean exit",
            Reason::ExitCode => "exit code, and policy restarts after crashes only",
            Reason::Killed => "killed from outside",
            Reason::UnknownEnd => "unknown exit class",
            Reason::Intensity => "crash loop: too many crashes in the period",
            Reason::ShortLives => "crash loop: too many short lives in a row",
            Reason::Blocked(block) => block.as_str(),
            Reason::StopRequested => "stop requested",
            Reason::WorkerSurvived => "worker survived its dump",
            Reason::WorkerReplaced => "worker became another program",
            Reason::FullExitLate => "worker's full exit did not come in time",
            Reason::StarterFailed => "no starter could be made",
            Reason::StartFailed => "next worker could not be executed",
            Reason::StartLost => "another guard settled the start",
            Reason::StartLate => "starter did not finish in time",
        }
    }
}

/// Decides, and says what the next life is to know of the ones before it.
///
/// The history counts this end whatever the verdict is; only a life that begins takes it over.
pub(crate) fn decide(question: &Question<'_>) -> (Decision, History) {
    let (mut next, crashes) = count(question);
    let decision = match refusal(question, &next, crashes) {
        Err(reason) => Decision::stay(reason),
        Ok(reason) => {
            let delay_ms = delay_ms(question.policy, next.backoff_step, question.jitter_seed);
            next.backoff_step = next.backoff_step.saturating_add(1);
            Decision { verdict: Verdict::Restart { delay_ms }, reason }
        }
    };
    (decision, next)
}

/// The reason to restart, or the first reason not to.
fn refusal(question: &Question<'_>, next: &History, crashes: u32) -> Result<Reason, Reason> {
    if question.stopping {
        return Err(Reason::StopRequested);
    }
    let reason = wish(question.policy, question.class, question.panicked)?;
    if let Some(block) = question.block
        && forbids(block, question.policy)
    {
        return Err(Reason::Blocked(block));
    }
    if crashes >= question.policy.intensity {
        return Err(Reason::Intensity);
    }
    if next.in_a_row >= question.policy.in_a_row_max {
        return Err(Reason::ShortLives);
    }
    Ok(reason)
}

/// Whether this block holds under this policy.
pub(crate) const fn forbids(block: StartBlock, policy: &RestartPolicy) -> bool {
    !(policy.explicit && block.yields_to_explicit())
}

/// What the policy wishes after such an end, with nothing else considered.
fn wish(policy: &RestartPolicy, class: ExitClass, panicked: bool) -> Result<Reason, Reason> {
    let on_crash = match class {
        ExitClass::Unknown => return Err(Reason::UnknownEnd),
        ExitClass::Clean | ExitClass::Code(0) => Err(Reason::CleanExit),
        ExitClass::Code(_) if is_panic(class, panicked) => Ok(Reason::Panicked),
        ExitClass::Code(_) if policy.any_code => Ok(Reason::FailingCode),
        ExitClass::Code(_) => Err(Reason::ExitCode),
        ExitClass::Crash(_) => Ok(Reason::Crashed),
        ExitClass::Killed(_) => Err(Reason::Killed),
        ExitClass::Hang => Ok(Reason::Hung),
    };
    match policy.when {
        RestartWhen::Never => Err(Reason::PolicyNever),
        RestartWhen::OnCrash => on_crash,
        RestartWhen::Always => Ok(on_crash.unwrap_or(Reason::AnyEnd)),
    }
}

/// Whether this end is a Rust panic: the exit code alone may mean anything.
pub(crate) const fn is_panic(class: ExitClass, panicked: bool) -> bool {
    match class {
        ExitClass::Code(code) => panicked && code == PANIC_CODE,
        ExitClass::Clean
        | ExitClass::Crash(_)
        | ExitClass::Killed(_)
        | ExitClass::Hang
        | ExitClass::Unknown => false,
    }
}

/// The history with this end counted, and how many crashes the window then holds.
///
/// Nothing but a life that proved itself resets a counter; that the spawn of a life worked proves nothing.
fn count(question: &Question<'_>) -> (History, u32) {
    let policy = question.policy;
    let mut next = *question.history;
    next.incarnation = next.incarnation.saturating_add(1);
    if question.ready || question.life_ns >= policy.uptime_reset_ms.saturating_mul(NS_PER_MS) {
        next.in_a_row = 0;
        next.backoff_step = 0;
    } else if question.life_ns < policy.minimum_uptime_ms.saturating_mul(NS_PER_MS) {
        next.in_a_row = next.in_a_row.saturating_add(1);
    }
    let crashes =
        next.push_crash(question.ended_boot_ns, policy.period_ms.saturating_mul(NS_PER_MS));
    (next, crashes)
}

/// The delay before the next life, after `step` restarts without proof.
pub(crate) fn delay_ms(policy: &RestartPolicy, step: u32, jitter_seed: u64) -> u64 {
    let Some(doublings) = step.checked_sub(1) else {
        return policy.first_delay_ms;
    };
    // 2^32 ms is beyond every maximum that `validate` lets through.
    let doubled = policy.backoff_base_ms.saturating_mul(1 << doublings.min(32));
    let delay = doubled.min(policy.backoff_ms_max);
    let spread = u64::from(policy.jitter_percent);
    let percent =
        (100 + scatter(jitter_seed ^ u64::from(step)) % (2 * spread + 1)).saturating_sub(spread);
    (delay.saturating_mul(percent) / 100).min(policy.backoff_ms_max)
}

/// The finishing step of splitmix64 (Steele, Lea, Flood 2014): one multiplication less would leave neighbouring seeds alike.
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
