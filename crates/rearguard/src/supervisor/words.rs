//! The words between the guard's shell and its supervisor: events go in, actions come out.
//!
//! Closed enums and a list of fixed size, and nothing that acts.
//! The shell matches on every [`Action`]; the supervisor matches on every [`Event`] in every state.

use super::decide::{Decision, Reason};
use crate::config::{ExitClass, StartBlock};

/// How many actions one event can have; a test goes through the whole table to see that it is enough.
pub(crate) const ACTIONS_MAX: usize = 8;

/// Two readings of clocks that the whole machine shares, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// The clock that stands still while the machine sleeps; lives are measured with it.
    pub(crate) monotonic_ns: u64,
    /// The clock that counts sleep as well; the window of crashes is measured with it.
    pub(crate) boot_ns: u64,
}

/// What happened.
///
/// Of several starters only the newest is spoken of, and none after [`Action::ReopenStart`]; a starter is made before its start is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A thread of the worker waits at a crash by this signal. A late guard begins with it.
    Crashed {
        signal: i32,
    },
    DumpFinished(DumpOutcome),
    StarterMade(StarterOutcome),
    /// The worker was released and lives on.
    WorkerSurvived,
    /// The worker executed another program.
    WorkerReplaced,
    /// The full exit, with the class that the system tells.
    WorkerGone {
        class: ExitClass,
        panicked: bool,
        ready: bool,
    },
    StartFinished(StartOutcome),
    ReportDurable(Durability),
    DeliveryFinished(DeliveryOutcome),
    /// The application has called `ready()` in this life.
    ReadySeen,
    /// The guard was asked to stop.
    StopRequested,
    /// The full exit that [`Action::AwaitFullExit`] asked for did not come in time.
    WaitExpired,
    /// The wait of [`Action::RetryAfter`] is over.
    RetryDue,
    /// The surroundings turned out to forbid a restart.
    BlockSeen(StartBlock),
}

impl Event {
    /// The event's name, for the tests.
    #[cfg(test)]
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Event::Crashed { .. } => "crashed",
            Event::DumpFinished(_) => "dump finished",
            Event::StarterMade(_) => "starter made",
            Event::WorkerSurvived => "worker survived",
            Event::WorkerReplaced => "worker replaced",
            Event::WorkerGone { .. } => "worker gone",
            Event::StartFinished(_) => "start finished",
            Event::ReportDurable(_) => "report durable",
            Event::DeliveryFinished(_) => "delivery finished",
            Event::ReadySeen => "ready seen",
            Event::StopRequested => "stop requested",
            Event::WaitExpired => "wait expired",
            Event::RetryDue => "retry due",
            Event::BlockSeen(_) => "block seen",
        }
    }
}

/// Whether there is a dump of the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DumpOutcome {
    Written,
    Failed,
}

/// Whether there is a starter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StarterOutcome {
    Made,
    Failed,
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartOutcome {
    /// Our starter is the next worker.
    Started,
    /// Somebody else has claimed or closed the start.
    Lost,
    /// Our starter ended without being the next worker.
    /// Its claim, if it had one, was taken back by this guard; no one else may do that, and this guard may not after [`Action::CloseStart`].
    Failed,
    /// Our starter wasn't done within the delay and the limit.
    Late,
}

/// Whether the report outlives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Durable,
    Failed,
}

/// How a delivery ended. One that ran out of time is to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    Accepted,
    Retry,
    Refused,
    NothingToSend,
}

/// What a crashed worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Dumped,
    Failed,
}

/// What is to be done. Each is performed before the next is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take the dump of the waiting crash; answered by [`Event::DumpFinished`].
    TakeDump,
    /// Make the process that waits for the full exit, then for the delay, claims the start and executes the next worker with [`next_history`](super::Supervisor::next_history); answered by [`Event::StarterMade`].
    MakeStarter { delay_ms: u64 },
    /// Close the start if it is open, and, if that worked, end our own starter. Afterwards the question is settled, in whosever favour.
    CloseStart(Reason),
    /// The worker survived: end our own starter, and open the start again if this guard closed it.
    ReopenStart,
    /// Give the waiting crash its answer. Without a waiting crash this does nothing.
    ReleaseWorker(Answer),
    /// Wait for the full exit within the limit; answered by [`Event::WorkerGone`], [`Event::WorkerSurvived`], [`Event::WorkerReplaced`] or [`Event::WaitExpired`].
    AwaitFullExit,
    /// Write down how the life ended, in a report of its own if there is to be one.
    RecordEnd { class: ExitClass, with_report: bool },
    /// Write into the crash's report that the worker survived it.
    RecordSurvival { signal: i32 },
    /// Wait for our own starter within the delay and the limit; answered by [`Event::StartFinished`].
    AwaitStart,
    /// Let the time pass; answered by [`Event::RetryDue`].
    RetryAfter { delay_ms: u64 },
    /// Make the report outlive a power failure; answered by [`Event::ReportDurable`].
    MakeDurable,
    /// Deliver what is pending; answered by [`Event::DeliveryFinished`].
    Deliver { deadline_ms: u64 },
    /// Nothing to do, something to know.
    Note(Note),
    /// Leave, and let nothing that still runs hold the guard up. Always the last action.
    Exit,
}

/// What a supervisor has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Decided(Decision),
    /// An event that can't come in this state. It was ignored; either the shell or this table is wrong.
    Impossible(Event),
}

/// The actions of one event, in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actions {
    list: [Option<Action>; ACTIONS_MAX],
    len: usize,
}

impl Actions {
    pub(super) const fn new() -> Actions {
        Actions { list: [None; ACTIONS_MAX], len: 0 }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The actions in their order; the empty places are behind them.
    pub(crate) fn list(&self) -> &[Option<Action>] {
        &self.list
    }

    pub(super) fn push(&mut self, action: Action) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = Some(action);
            self.len += 1;
        }
    }

    pub(super) fn decided(&mut self, decision: Decision) {
        self.push(Action::Note(Note::Decided(decision)));
    }
}

/// For the tests; the shell goes through the list by [`Actions::list`].
#[cfg(test)]
impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = core::iter::Flatten<core::array::IntoIter<Option<Action>, ACTIONS_MAX>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter().flatten()
    }
}
