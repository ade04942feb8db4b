//! The guard's state machine: what happened goes in, what is to be done comes out, always with a reason.
//!
//! The guard's shell turns the operating system's facts into [`Event`]s, feeds them in the order in which it learns them, and performs the [`Action`]s in the order in which it gets them.
//! Nothing here looks at a clock, asks the system, allocates or waits, so that a seeded simulation can drive any number of histories through it.
//!
//! Two rules stand above the rest.
//! A crashed worker always gets its answer.
//! Whether there is a next life is settled before anything is delivered, and no failure to report can change it.

mod decide;
#[cfg(test)]
mod tests;
mod words;

use crate::config::{ExitClass, History, RestartPolicy, StartBlock};

pub(crate) use decide::{Decision, Reason, Verdict};
pub(crate) use words::{
    Action, Actions, Answer, DeliveryOutcome, DumpOutcome, Durability, Event, Note, Now,
    StartOutcome, StarterOutcome,
};

use decide::{Question, decide, delay_ms, forbids, is_panic};

/// How many starters are made for one start before it is given up.
/// A second one helps when the machine was out of processes for a moment, a third when an update was replacing the file; further ones only put off the truth.
pub(crate) const START_ATTEMPTS_MAX: u32 = 3;

/// What a supervisor knows when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) policy: RestartPolicy,
    /// The history of the life that is guarded.
    pub(crate) history: History,
    /// When that life began.
    pub(crate) started: Now,
    /// What forbade a restart when that life began.
    pub(crate) block: Option<StartBlock>,
    pub(crate) jitter_seed: u64,
    /// How long the delivery may keep the guard, in milliseconds.
    pub(crate) delivery_ms_max: u64,
}

/// A crash that has been seen and not yet been followed to its end.
#[derive(Clone, Copy, Debug)]
struct Crash {
    signal: i32,
    at: Now,
}

impl Crash {
    /// The class of an end that began with this crash.
    /// When the system tells nothing, the crash is what is known; what it does tell goes first.
    const fn class(self, told: ExitClass) -> ExitClass {
        match told {
            ExitClass::Unknown => ExitClass::Crash(self.signal),
            ExitClass::Clean
            | ExitClass::Code(_)
            | ExitClass::Crash(_)
            | ExitClass::Killed(_)
            | ExitClass::Hang => told,
        }
    }
}

/// The next life, wanted but not yet begun.
#[derive(Clone, Copy, Debug)]
struct Plan {
    delay_ms: u64,
    /// How many starters have failed.
    failures: u32,
}

/// An end that is to be reported.
#[derive(Clone, Copy, Debug)]
struct End {
    class: ExitClass,
    /// Whether the report is one that is sent; the others stay in the store.
    deliver: bool,
    /// Whether [`Action::RecordEnd`] has been asked for.
    recorded: bool,
}

impl End {
    /// An end that no crash came before.
    const fn of(class: ExitClass, panicked: bool) -> End {
        let deliver = match class {
            ExitClass::Crash(_) | ExitClass::Hang => true,
            ExitClass::Code(_) => is_panic(class, panicked),
            ExitClass::Clean | ExitClass::Killed(_) | ExitClass::Unknown => false,
        };
        End { class, deliver, recorded: false }
    }

    /// The end of a worker that had crashed: whatever ended it then, the crash is worth a report and its delivery.
    const fn after_crash(crash: Crash, told: ExitClass) -> End {
        End { class: crash.class(told), deliver: true, recorded: false }
    }
}

/// How far the start has come while the worker's full exit is awaited.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// Closed by us, or claimed by somebody.
    Settled,
    /// A starter waits beside us.
    Made(Plan),
    /// Wanted, but no starter could be made yet.
    Unmade(Plan),
}

/// Where the guard is in the life it watches.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The worker runs.
    Watching,
    /// The worker waits at its crash while the dump is taken.
    Dumping(Crash),
    /// The worker waits at its crash while the starter is made.
    Preparing(Crash, Answer, Plan),
    /// The worker has its answer and is about to die.
    Dying(Crash, Start),
    /// The worker is gone and a starter is being made.
    MakingStarter(End, Plan),
    /// The worker is gone and the starter has the word.
    AwaitingStart(End, Plan),
    /// The worker is gone, a starter has failed, and the next one is due soon.
    AwaitingRetry(End, Plan),
    /// The start is settled and the report is made durable.
    MakingDurable { deliver: bool },
    /// The report is being delivered.
    Delivering,
    /// The guard leaves.
    Done,
}

/// The state machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supervisor {
    setup: Setup,
    /// What the life that is planned is to know of those before it. Here rather than in the plan, which is handed from state to state.
    next_history: History,
    ready: bool,
    stopping: bool,
    state: State,
}

impl Supervisor {
    /// A supervisor of a life that runs as far as is known.
    pub(crate) const fn new(setup: Setup) -> Supervisor {
        Supervisor {
            setup,
            next_history: setup.history,
            ready: false,
            stopping: false,
            state: State::Watching,
        }
    }

    /// The history for the starter that [`Action::MakeStarter`] asks for.
    pub(crate) const fn next_history(&self) -> &History {
        &self.next_history
    }

    /// The state's name, for the tests.
    #[cfg(test)]
    pub(crate) const fn state_name(&self) -> &'static str {
        match self.state {
            State::Watching => "watching",
            State::Dumping(..) => "dumping",
            State::Preparing(..) => "preparing",
            State::Dying(_, Start::Settled) => "dying, start settled",
            State::Dying(_, Start::Made(_)) => "dying, starter made",
            State::Dying(_, Start::Unmade(_)) => "dying, starter wanted",
            State::MakingStarter(..) => "making starter",
            State::AwaitingStart(..) => "awaiting start",
            State::AwaitingRetry(..) => "awaiting retry",
            State::MakingDurable { deliver: true } => "making durable, to deliver",
            State::MakingDurable { deliver: false } => "making durable",
            State::Delivering => "delivering",
            State::Done => "done",
        }
    }

    /// Takes one event in and says what is to be done.
    pub(crate) fn handle(&mut self, event: Event, now: Now) -> Actions {
        let mut actions = Actions::new();
        match self.state {
            State::Watching => self.watching(event, now, &mut actions),
            State::Dumping(crash) => self.dumping(crash, event, &mut actions),
            State::Preparing(crash, answer, plan) => {
                self.preparing((crash, answer, plan), event, &mut actions);
            }
            State::Dying(crash, start) => self.dying(crash, start, event, now, &mut actions),
            State::MakingStarter(end, plan) => self.making_starter(end, plan, event, &mut actions),
            State::AwaitingStart(end, plan) => self.awaiting_start(end, plan, event, &mut actions),
            State::AwaitingRetry(end, plan) => self.awaiting_retry(end, plan, event, &mut actions),
            State::MakingDurable { deliver } => self.making_durable(deliver, event, &mut actions),
            State::Delivering => self.delivering(event, &mut actions),
            State::Done => self.impossible(event, &mut actions),
        }
        actions
    }

    fn watching(&mut self, event: Event, now: Now, actions: &mut Actions) {
        match event {
            Event::Crashed { signal } => self.take_dump(Crash { signal, at: now }, actions),
            Event::WorkerGone { class, panicked, ready } => {
                self.ready |= ready;
                self.ended(End::of(class, panicked), panicked, now, actions);
            }
            Event::WorkerReplaced => self.leave(Reason::WorkerReplaced, actions),
            Event::StopRequested => {
                self.stopping = true;
                self.leave(Reason::StopRequested, actions);
            }
            Event::ReadySeen => self.ready = true,
            Event::BlockSeen(block) => self.keep_block(block),
            // Echoes of a crash that the worker survived.
            Event::DumpFinished(_)
            | Event::StarterMade(_)
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::WaitExpired => {}
            Event::WorkerSurvived | Event::DeliveryFinished(_) | Event::RetryDue => {
                self.impossible(event, actions);
            }
        }
    }

    fn dumping(&mut self, crash: Crash, event: Event, actions: &mut Actions) {
        match event {
            Event::DumpFinished(outcome) => {
                let answer = match outcome {
                    DumpOutcome::Written => Answer::Dumped,
                    DumpOutcome::Failed => Answer::Failed,
                };
                let class = ExitClass::Crash(crash.signal);
                match self.decide(class, false, crash.at, actions) {
                    Ok(wanted) => {
                        let plan = self.adopt(wanted);
                        actions.push(plan.starter());
                        self.state = State::Preparing(crash, answer, plan);
                    }
                    Err(reason) => {
                        actions.push(Action::CloseStart(reason));
                        self.release(crash, answer, Start::Settled, actions);
                    }
                }
            }
            // Somebody has ended the waiting worker: whether it comes back is decided by what the system tells, no longer by the crash.
            Event::WorkerGone { class, panicked, ready } => {
                self.ready |= ready;
                self.ended(End::after_crash(crash, class), panicked, crash.at, actions);
            }
            Event::WorkerSurvived if self.stopping => self.leave(Reason::StopRequested, actions),
            Event::WorkerSurvived => {
                actions.decided(Decision::stay(Reason::WorkerSurvived));
                self.state = State::Watching;
            }
            Event::WorkerReplaced => self.leave(Reason::WorkerReplaced, actions),
            Event::StopRequested => {
                self.stopping = true;
                actions.push(Action::CloseStart(Reason::StopRequested));
            }
            Event::ReadySeen => self.ready = true,
            Event::BlockSeen(block) => self.keep_block(block),
            // Echoes of an earlier crash that the worker survived.
            Event::StarterMade(_)
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::WaitExpired => {}
            Event::Crashed { .. } | Event::DeliveryFinished(_) | Event::RetryDue => {
                self.impossible(event, actions);
            }
        }
    }

    fn preparing(
        &mut self,
        (crash, answer, plan): (Crash, Answer, Plan),
        event: Event,
        actions: &mut Actions,
    ) {
        match event {
            Event::StarterMade(StarterOutcome::Made) => {
                self.release(crash, answer, Start::Made(plan), actions);
            }
            Event::StarterMade(StarterOutcome::Failed) => {
                self.release(crash, answer, Start::Unmade(plan.failed()), actions);
            }
            Event::WorkerGone { class, panicked, .. } => {
                let end = End::after_crash(crash, class);
                match self.decide(end.class, panicked, crash.at, actions) {
                    // The starter that is being made serves this end as well.
                    Ok(_) => self.state = State::MakingStarter(end, plan),
                    Err(reason) => self.close(reason, end, actions),
                }
            }
            Event::WorkerSurvived => {
                actions.decided(Decision::stay(Reason::WorkerSurvived));
                actions.push(Action::ReopenStart);
                self.state = State::Watching;
            }
            Event::WorkerReplaced => self.leave(Reason::WorkerReplaced, actions),
            Event::StopRequested | Event::BlockSeen(_) => {
                if let Some(reason) = self.veto(event) {
                    actions.decided(Decision::stay(reason));
                    actions.push(Action::CloseStart(reason));
                    self.release(crash, answer, Start::Settled, actions);
                }
            }
            // Too late for a decision that is made; and echoes of an earlier crash that the worker survived.
            Event::ReadySeen
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::WaitExpired => {}
            Event::Crashed { .. }
            | Event::DumpFinished(_)
            | Event::DeliveryFinished(_)
            | Event::RetryDue => self.impossible(event, actions),
        }
    }

    fn dying(&mut self, crash: Crash, start: Start, event: Event, now: Now, actions: &mut Actions) {
        match event {
            Event::WorkerGone { class, panicked, ready } => {
                self.ready |= ready;
                let end = End::after_crash(crash, class);
                match start {
                    Start::Settled => self.settle(end, actions),
                    Start::Made(plan) => self.await_start(end, plan, actions),
                    Start::Unmade(plan) => match class {
                        // It ended by itself, so it had survived: no longer the crash, but this end decides.
                        ExitClass::Clean | ExitClass::Code(_) => {
                            self.ended(end, panicked, crash.at, actions);
                        }
                        ExitClass::Crash(_)
                        | ExitClass::Killed(_)
                        | ExitClass::Hang
                        | ExitClass::Unknown => self.make_starter(end, plan, actions),
                    },
                }
            }
            Event::WorkerSurvived => {
                self.survived(crash, actions);
                actions.push(Action::MakeDurable);
                self.state = if self.stopping {
                    State::MakingDurable { deliver: false }
                } else {
                    State::Watching
                };
            }
            // The worker survived and crashed again before the shell could tell. It waits, so it comes first.
            Event::Crashed { signal } => {
                self.survived(crash, actions);
                self.take_dump(Crash { signal, at: now }, actions);
            }
            Event::WorkerReplaced => {
                let end = End::after_crash(crash, ExitClass::Unknown);
                actions.decided(Decision::stay(Reason::WorkerReplaced));
                self.close(Reason::WorkerReplaced, end, actions);
            }
            Event::WaitExpired => {
                let end = End::after_crash(crash, ExitClass::Unknown);
                actions.decided(Decision::stay(Reason::FullExitLate));
                self.close(Reason::FullExitLate, end, actions);
            }
            Event::StopRequested | Event::BlockSeen(_) => {
                if let (Some(reason), Start::Made(_) | Start::Unmade(_)) = (self.veto(event), start)
                {
                    actions.decided(Decision::stay(reason));
                    actions.push(Action::CloseStart(reason));
                    self.state = State::Dying(crash, Start::Settled);
                }
            }
            // The starter may see the full exit before we do.
            Event::StartFinished(outcome) => {
                self.start_finished_early(crash, start, outcome, actions)
            }
            // Too late, or of a starter that has lost its start meanwhile, or of an earlier crash.
            Event::ReadySeen | Event::StarterMade(_) | Event::ReportDurable(_) => {}
            Event::DumpFinished(_) | Event::DeliveryFinished(_) | Event::RetryDue => {
                self.impossible(event, actions);
            }
        }
    }

    fn start_finished_early(
        &mut self,
        crash: Crash,
        start: Start,
        outcome: StartOutcome,
        actions: &mut Actions,
    ) {
        let Start::Made(plan) = start else {
            return;
        };
        let plan = plan.failed();
        let start = match outcome {
            StartOutcome::Started => Start::Settled,
            StartOutcome::Lost => {
                actions.decided(Decision::stay(Reason::StartLost));
                Start::Settled
            }
            StartOutcome::Failed if plan.failures < START_ATTEMPTS_MAX => Start::Unmade(plan),
            StartOutcome::Failed => {
                actions.decided(Decision::stay(Reason::StartFailed));
                actions.push(Action::CloseStart(Reason::StartFailed));
                Start::Settled
            }
            StartOutcome::Late => {
                actions.decided(Decision::stay(Reason::StartLate));
                actions.push(Action::CloseStart(Reason::StartLate));
                Start::Settled
            }
        };
        self.state = State::Dying(crash, start);
    }

    fn making_starter(&mut self, end: End, plan: Plan, event: Event, actions: &mut Actions) {
        match event {
            Event::StarterMade(StarterOutcome::Made) => self.await_start(end, plan, actions),
            Event::StarterMade(StarterOutcome::Failed) => {
                self.retry(Reason::StarterFailed, end, plan, actions);
            }
            Event::StopRequested | Event::BlockSeen(_) => self.veto_start(end, event, actions),
            // Two tellings of one end, or of what was done before it.
            Event::WorkerGone { .. }
            | Event::WorkerSurvived
            | Event::WorkerReplaced
            | Event::DumpFinished(_)
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::ReadySeen
            | Event::WaitExpired => {}
            Event::Crashed { .. } => self.refuse_dump(event, actions),
            Event::DeliveryFinished(_) | Event::RetryDue => self.impossible(event, actions),
        }
    }

    fn awaiting_start(&mut self, end: End, plan: Plan, event: Event, actions: &mut Actions) {
        match event {
            Event::StartFinished(StartOutcome::Started) => self.settle(end, actions),
            Event::StartFinished(StartOutcome::Lost) => {
                actions.decided(Decision::stay(Reason::StartLost));
                self.settle(end, actions);
            }
            Event::StartFinished(StartOutcome::Failed) => {
                self.retry(Reason::StartFailed, end, plan, actions);
            }
            Event::StartFinished(StartOutcome::Late) => {
                actions.decided(Decision::stay(Reason::StartLate));
                self.close(Reason::StartLate, end, actions);
            }
            Event::StopRequested | Event::BlockSeen(_) => self.veto_start(end, event, actions),
            // Two tellings of one end, or of what was done before it.
            Event::WorkerGone { .. }
            | Event::WorkerSurvived
            | Event::WorkerReplaced
            | Event::DumpFinished(_)
            | Event::ReportDurable(_)
            | Event::ReadySeen
            | Event::WaitExpired => {}
            Event::Crashed { .. } => self.refuse_dump(event, actions),
            Event::StarterMade(_) | Event::DeliveryFinished(_) | Event::RetryDue => {
                self.impossible(event, actions);
            }
        }
    }

    fn awaiting_retry(&mut self, end: End, plan: Plan, event: Event, actions: &mut Actions) {
        match event {
            Event::RetryDue => self.make_starter(end, plan, actions),
            Event::StopRequested | Event::BlockSeen(_) => self.veto_start(end, event, actions),
            // Two tellings of one end, or of what was done before it.
            Event::WorkerGone { .. }
            | Event::WorkerSurvived
            | Event::WorkerReplaced
            | Event::DumpFinished(_)
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::ReadySeen
            | Event::WaitExpired => {}
            Event::Crashed { .. } => self.refuse_dump(event, actions),
            Event::StarterMade(_) | Event::DeliveryFinished(_) => self.impossible(event, actions),
        }
    }

    fn making_durable(&mut self, deliver: bool, event: Event, actions: &mut Actions) {
        match event {
            Event::ReportDurable(Durability::Durable) if deliver && !self.stopping => {
                actions.push(Action::Deliver { deadline_ms: self.setup.delivery_ms_max });
                self.state = State::Delivering;
            }
            // What could not be made durable stays where it is, and a later guard finds it.
            Event::ReportDurable(_) => self.exit(actions),
            Event::StopRequested => self.stopping = true,
            Event::Crashed { .. } => self.refuse_dump(event, actions),
            // All that was to be settled is settled.
            Event::DumpFinished(_)
            | Event::StarterMade(_)
            | Event::WorkerSurvived
            | Event::WorkerReplaced
            | Event::WorkerGone { .. }
            | Event::StartFinished(_)
            | Event::ReadySeen
            | Event::WaitExpired
            | Event::RetryDue
            | Event::BlockSeen(_) => {}
            Event::DeliveryFinished(_) => self.impossible(event, actions),
        }
    }

    fn delivering(&mut self, event: Event, actions: &mut Actions) {
        match event {
            // What wasn't accepted stays pending; the outcome changes nothing here.
            Event::DeliveryFinished(_) => self.exit(actions),
            Event::StopRequested => {
                self.stopping = true;
                self.exit(actions);
            }
            Event::Crashed { .. } => self.refuse_dump(event, actions),
            // All that was to be settled is settled.
            Event::DumpFinished(_)
            | Event::StarterMade(_)
            | Event::WorkerSurvived
            | Event::WorkerReplaced
            | Event::WorkerGone { .. }
            | Event::StartFinished(_)
            | Event::ReportDurable(_)
            | Event::ReadySeen
            | Event::WaitExpired
            | Event::RetryDue
            | Event::BlockSeen(_) => {}
        }
    }

    /// Asks the one question, says the answer, and gives the plan or the reason against it.
    fn decide(
        &self,
        class: ExitClass,
        panicked: bool,
        ended: Now,
        actions: &mut Actions,
    ) -> Result<(Plan, History), Reason> {
        let setup = &self.setup;
        let (decision, history) = decide(&Question {
            policy: &setup.policy,
            history: &setup.history,
            class,
            panicked,
            ready: self.ready,
            life_ns: ended.monotonic_ns.saturating_sub(setup.started.monotonic_ns),
            ended_boot_ns: ended.boot_ns,
            block: setup.block,
            stopping: self.stopping,
            jitter_seed: setup.jitter_seed,
        });
        actions.decided(decision);
        match decision.verdict {
            Verdict::Restart { delay_ms } => Ok((Plan { delay_ms, failures: 0 }, history)),
            Verdict::Stay => Err(decision.reason),
        }
    }

    /// The worker is gone, and nothing has been decided yet.
    fn ended(&mut self, end: End, panicked: bool, ended: Now, actions: &mut Actions) {
        match self.decide(end.class, panicked, ended, actions) {
            // The restart goes first; a store that hangs must not hold it up.
            Ok(wanted) => {
                let plan = self.adopt(wanted);
                self.make_starter(end, plan, actions);
            }
            Err(reason) => self.close(reason, end, actions),
        }
    }

    fn adopt(&mut self, (plan, history): (Plan, History)) -> Plan {
        self.next_history = history;
        plan
    }

    fn take_dump(&mut self, crash: Crash, actions: &mut Actions) {
        actions.push(Action::TakeDump);
        self.state = State::Dumping(crash);
    }

    fn release(&mut self, crash: Crash, answer: Answer, start: Start, actions: &mut Actions) {
        actions.push(Action::ReleaseWorker(answer));
        actions.push(Action::AwaitFullExit);
        self.state = State::Dying(crash, start);
    }

    fn survived(&mut self, crash: Crash, actions: &mut Actions) {
        actions.decided(Decision::stay(Reason::WorkerSurvived));
        // A request to stop outlives the crash that it came in.
        if !self.stopping {
            actions.push(Action::ReopenStart);
        }
        actions.push(Action::RecordSurvival { signal: crash.signal });
    }

    fn make_starter(&mut self, end: End, plan: Plan, actions: &mut Actions) {
        actions.push(plan.starter());
        self.state = State::MakingStarter(end, plan);
    }

    fn await_start(&mut self, end: End, plan: Plan, actions: &mut Actions) {
        let end = Supervisor::record(end, actions);
        actions.push(Action::AwaitStart);
        self.state = State::AwaitingStart(end, plan);
    }

    /// Another starter after a pause, or the end of trying.
    fn retry(&mut self, reason: Reason, end: End, plan: Plan, actions: &mut Actions) {
        let plan = plan.failed();
        if plan.failures < START_ATTEMPTS_MAX {
            let delay_ms = delay_ms(&self.setup.policy, plan.failures, self.setup.jitter_seed);
            actions.push(Action::RetryAfter { delay_ms });
            self.state = State::AwaitingRetry(end, plan);
        } else {
            actions.decided(Decision::stay(reason));
            self.close(reason, end, actions);
        }
    }

    /// Whether this event forbids every start from here on, and why.
    fn veto(&mut self, event: Event) -> Option<Reason> {
        if event == Event::StopRequested {
            self.stopping = true;
            return Some(Reason::StopRequested);
        }
        if let Event::BlockSeen(block) = event {
            self.keep_block(block);
            return forbids(block, &self.setup.policy).then_some(Reason::Blocked(block));
        }
        None
    }

    fn veto_start(&mut self, end: End, event: Event, actions: &mut Actions) {
        if let Some(reason) = self.veto(event) {
            actions.decided(Decision::stay(reason));
            self.close(reason, end, actions);
        }
    }

    /// Keeps what forbids a restart; a block that yields to the policy makes room for one that doesn't.
    fn keep_block(&mut self, block: StartBlock) {
        let kept = self.setup.block;
        if kept.is_none_or(|kept| !forbids(kept, &self.setup.policy)) {
            self.setup.block = Some(block);
        }
    }

    /// No other life; on to the report.
    fn close(&mut self, reason: Reason, end: End, actions: &mut Actions) {
        actions.push(Action::CloseStart(reason));
        self.settle(end, actions);
    }

    fn record(end: End, actions: &mut Actions) -> End {
        if !end.recorded {
            let with_report = end.with_report();
            actions.push(Action::RecordEnd { class: end.class, with_report });
        }
        End { recorded: true, ..end }
    }

    /// The start is settled; what is left is the report.
    fn settle(&mut self, end: End, actions: &mut Actions) {
        let end = Supervisor::record(end, actions);
        if end.with_report() {
            actions.push(Action::MakeDurable);
            self.state = State::MakingDurable { deliver: end.deliver };
        } else {
            self.exit(actions);
        }
    }

    /// There is nothing to report and nothing to start.
    fn leave(&mut self, reason: Reason, actions: &mut Actions) {
        actions.decided(Decision::stay(reason));
        actions.push(Action::CloseStart(reason));
        self.exit(actions);
    }

    fn exit(&mut self, actions: &mut Actions) {
        actions.push(Action::Exit);
        self.state = State::Done;
    }

    /// A crash after the worker was given up: it may be alive after all, so it gets an answer, though no dump.
    fn refuse_dump(&self, event: Event, actions: &mut Actions) {
        actions.push(Action::ReleaseWorker(Answer::Failed));
        self.impossible(event, actions);
    }

    fn impossible(&self, event: Event, actions: &mut Actions) {
        actions.push(Action::Note(Note::Impossible(event)));
    }
}

impl Plan {
    const fn starter(&self) -> Action {
        Action::MakeStarter { delay_ms: self.delay_ms }
    }

    const fn failed(self) -> Plan {
        Plan { failures: self.failures + 1, ..self }
    }
}

impl End {
    /// Whether there is something to report: a clean end is only noted.
    const fn with_report(&self) -> bool {
        match self.class {
            ExitClass::Clean => self.deliver,
            ExitClass::Code(_)
            | ExitClass::Crash(_)
            | ExitClass::Killed(_)
            | ExitClass::Hang
            | ExitClass::Unknown => true,
        }
    }
}
