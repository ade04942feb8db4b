//! A world for the supervisor: a worker, guards that die at any action, starters with one word to claim, and a clock that jumps.
//!
//! Everything that happens is drawn from one seed, so a history that fails is repeated by its seed alone: `REARGUARD_SEED=<seed>` runs just that one, `REARGUARD_HISTORIES=<count>` runs more than usual.

use std::collections::VecDeque;

use super::*;

/// How many histories an ordinary run drives.
const HISTORIES: u64 = 1_000_000;

/// How many lives of one history are followed.
const LIVES_MAX: u32 = 8;

/// How many guards one life may use up, as the keeper and the crash handler limit them.
const GUARDS_MAX: usize = 4;

/// No life takes as many steps; one that does will never end.
const STEPS_MAX: u32 = 4_000;

/// splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Worker {
    Running,
    /// A thread waits at its crash by this signal.
    Waiting(i32),
    Released(i32),
    Gone,
    Replaced,
}

/// The black box's word `start`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Open,
    ClaimedBy(usize),
    Closed,
}

struct Guard {
    supervisor: Supervisor,
    alive: bool,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// Whether the start word was closed by this guard.
    closed_here: bool,
    /// Whether the supervisor has asked to close the start since it was last reopened.
    told_closed: bool,
    stop_seen: bool,
    settled_seen: bool,
    recorded: u32,
    awaits_exit: bool,
    awaits_start: bool,
    /// The reading of `forward_ns` at the end that was judged, and whether that life had proved itself.
    judged_forward_ns: u64,
    judged_proven: bool,
    judged_short: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Waiting,
    /// It has seen an open start and is about to swap the word: between the two, anything may happen.
    Claiming,
    Claimed,
    Ended,
}

struct Starter {
    owner: usize,
    /// Whether its guard has turned to another starter.
    forgotten: bool,
    stage: Stage,
    made_before_exit: bool,
    history: History,
    judged_forward_ns: u64,
    judged_proven: bool,
    judged_short: bool,
}

/// What outlives a life.
struct Era {
    dice: Dice,
    faults: bool,
    /// Whether every step is told, for the history that one wants to look at.
    told: bool,
    now: Now,
    /// How far the boot clock has moved forward in all; what it went back is not taken off.
    forward_ns: u64,
    /// `forward_ns` at each end that was followed by another life.
    restarts_forward_ns: Vec<u64>,
    /// How many lives in a row were short, and how many restarts there were since a life proved itself: counted here, not carried by any record.
    short_row: u32,
    unproven_restarts: u32,
    /// One in how many steps is something that goes wrong.
    fault_one_in: u64,
    /// One in how many attempts at a start fails; 1 is a program that can't be started any more.
    start_fails_one_in: u64,
}

struct World<'a> {
    era: &'a mut Era,
    setup: Setup,
    worker: Worker,
    /// Whether the black box's word `crash` is IDLE.
    crash_idle: bool,
    ready: bool,
    panicked: bool,
    word: Word,
    stop_closed: bool,
    guards: Vec<Guard>,
    starters: Vec<Starter>,
    started: Option<usize>,
    /// How the worker ended, in truth.
    class: Option<ExitClass>,
    /// Whether that end began with a crash that had its answer.
    crashed: bool,
}

/// One line of what went wrong; the caller adds the seed.
type Checked = Result<(), String>;

fn hold(holds: bool, what: &str) -> Checked {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl World<'_> {
    fn run(&mut self) -> Checked {
        self.new_guard();
        for _ in 0..STEPS_MAX {
            if !self.step()? {
                return self.check_end();
            }
        }
        Err("bounded steps to the end".to_owned())
    }

    /// Does one thing that can be done; `false` when there is none.
    fn step(&mut self) -> Result<bool, String> {
        self.check_answers()?;
        if self.era.faults && self.fault() {
            return Ok(true);
        }
        let choices = [self.era.dice.below(8), 0, 5, 7];
        for choice in choices {
            let done = match choice {
                0..=4 => self.guard_step()?,
                5 | 6 => self.starter_step()?,
                _ => self.worker_step(),
            };
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn living(&self) -> Vec<usize> {
        (0..self.guards.len()).filter(|guard| self.guards[*guard].alive).collect()
    }

    fn new_guard(&mut self) -> bool {
        if self.guards.len() == GUARDS_MAX {
            return false;
        }
        let mut events = VecDeque::new();
        if let Worker::Waiting(signal) = self.worker {
            if self.ready {
                events.push_back(Event::ReadySeen);
            }
            events.push_back(Event::Crashed { signal });
        }
        self.guards.push(Guard {
            supervisor: Supervisor::new(self.setup),
            alive: true,
            actions: VecDeque::new(),
            events,
            closed_here: false,
            told_closed: false,
            stop_seen: false,
            settled_seen: false,
            recorded: 0,
            awaits_exit: false,
            awaits_start: false,
            judged_forward_ns: 0,
            judged_proven: false,
            judged_short: false,
        });
        true
    }

    fn tell(&mut self, event: Event) {
        for guard in self.guards.iter_mut().filter(|guard| guard.alive) {
            guard.events.push_back(event);
        }
    }

    fn kill_guards(&mut self) {
        for guard in &mut self.guards {
            guard.alive = false;
        }
    }

    /// Now and then something goes wrong.
    fn fault(&mut self) -> bool {
        if !self.era.dice.one_in(self.era.fault_one_in) {
            return false;
        }
        let living = self.living();
        let Some(guard) = living.first().copied() else {
            return false;
        };
        match self.era.dice.below(10) {
            0..=2 => {
                self.guards[guard].alive = false;
                if self.worker == Worker::Running {
                    self.new_guard();
                }
            }
            3 => self.guards[guard].events.push_back(Event::StopRequested),
            4 => {
                let block = self.era.dice.pick(&StartBlock::ALL);
                self.guards[guard].events.push_back(Event::BlockSeen(block));
            }
            5 if self.guards[guard].awaits_exit && self.worker != Worker::Gone => {
                self.guards[guard].awaits_exit = false;
                self.guards[guard].events.push_back(Event::WaitExpired);
            }
            6 if self.guards[guard].awaits_start => {
                self.guards[guard].awaits_start = false;
                self.guards[guard].events.push_back(Event::StartFinished(StartOutcome::Late));
            }
            7 => {
                let jump = self.era.dice.below(2_000 * S);
                self.era.now.boot_ns = self.era.now.boot_ns.saturating_sub(jump);
            }
            8 => {
                let jump = self.era.dice.below(1_000 * S);
                self.pass(jump);
            }
            _ => {
                let jump = self.era.dice.below(100 * S);
                self.era.now.monotonic_ns = self.era.now.monotonic_ns.saturating_sub(jump);
            }
        }
        true
    }

    fn pass(&mut self, time_ns: u64) {
        self.era.now.boot_ns = self.era.now.boot_ns.saturating_add(time_ns);
        self.era.now.monotonic_ns = self.era.now.monotonic_ns.saturating_add(time_ns);
        self.era.forward_ns = self.era.forward_ns.saturating_add(time_ns);
    }

    fn worker_step(&mut self) -> bool {
        match self.worker {
            Worker::Running => self.live(),
            Worker::Waiting(signal) => self.wait_at_crash(signal),
            Worker::Released(signal) => self.die(signal),
            Worker::Gone | Worker::Replaced => return false,
        }
        true
    }

    fn live(&mut self) {
        let life_s = self.era.dice.pick(&[0, 1, 9, 11, 30, 61, 200, 700]);
        let extra_ns = self.era.dice.below(S);
        self.pass(life_s * S + extra_ns);
        self.ready |= self.era.dice.one_in(6);
        match self.era.dice.below(12) {
            0..=6 => self.crash(),
            7 => self.gone(ExitClass::Clean),
            8 => {
                self.panicked = self.era.dice.one_in(2);
                let code = self.era.dice.pick(&[101, 101, 3]);
                self.gone(ExitClass::Code(code));
            }
            9 => self.gone(ExitClass::Killed(15)),
            10 => self.gone(ExitClass::Hang),
            _ => {
                self.worker = Worker::Replaced;
                self.tell(Event::WorkerReplaced);
            }
        }
    }

    fn crash(&mut self) {
        let signal = self.era.dice.pick(&[4, 6, 11]);
        self.worker = Worker::Waiting(signal);
        self.crash_idle = false;
        if self.ready {
            self.tell(Event::ReadySeen);
        }
        self.tell(Event::Crashed { signal });
    }

    fn gone(&mut self, class: ExitClass) {
        self.worker = Worker::Gone;
        self.class = Some(class);
        // A guard that is not the parent is not always told.
        let told =
            if self.era.faults && self.era.dice.one_in(6) { ExitClass::Unknown } else { class };
        let (panicked, ready) = (self.panicked, self.ready);
        self.tell(Event::WorkerGone { class: told, panicked, ready });
    }

    fn wait_at_crash(&mut self, signal: i32) {
        if self.living().is_empty() {
            if !self.new_guard() {
                self.worker = Worker::Released(signal);
            }
            return;
        }
        if !self.era.faults {
            return;
        }
        match self.era.dice.below(20) {
            0 => self.kill_guards(),
            1 => self.gone(ExitClass::Killed(9)),
            2 => {
                self.worker = Worker::Replaced;
                self.tell(Event::WorkerReplaced);
            }
            _ => {}
        }
    }

    fn die(&mut self, signal: i32) {
        self.pass(1_000_000);
        match if self.era.faults { self.era.dice.below(8) } else { 7 } {
            0 => {
                self.worker = Worker::Running;
                self.crash_idle = true;
                if self.era.dice.one_in(3) {
                    self.crash();
                } else {
                    self.tell(Event::WorkerSurvived);
                }
            }
            1 => self.gone(ExitClass::Killed(9)),
            2 => self.gone(ExitClass::Code(1)),
            _ => {
                self.crashed = true;
                self.gone(ExitClass::Crash(signal));
            }
        }
    }

    fn starter_step(&mut self) -> Result<bool, String> {
        let active: Vec<usize> =
            (0..self.starters.len()).filter(|s| self.starters[*s].stage != Stage::Ended).collect();
        if active.is_empty() {
            return Ok(false);
        }
        let index = self.era.dice.pick(&active);
        match self.starters[index].stage {
            Stage::Claiming => return self.claim(index).map(|()| true),
            Stage::Claimed => return self.execute(index).map(|()| true),
            Stage::Waiting | Stage::Ended => {}
        }
        let view = StarterView {
            full_exit: self.worker == Worker::Gone,
            delay_over: self.era.dice.one_in(3),
            made_before_exit: self.starters[index].made_before_exit,
            crash_idle: self.crash_idle,
            start: match self.word {
                Word::Open => StartWord::Open,
                Word::ClaimedBy(_) => StartWord::Claimed,
                Word::Closed => StartWord::Closed,
            },
        };
        match starter_step(view) {
            StarterStep::AwaitFullExit => {
                // A starter's wait is bounded, as every wait; and nobody misses one whose worker is another program.
                let orphan = !self.guards[self.starters[index].owner].alive;
                if self.worker == Worker::Replaced || orphan && self.era.dice.one_in(50) {
                    self.end_starter(index, StartOutcome::Failed);
                    return Ok(true);
                }
                Ok(false)
            }
            StarterStep::AwaitDelay => {
                self.pass(S / 10);
                Ok(true)
            }
            StarterStep::Claim => {
                self.starters[index].stage = Stage::Claiming;
                Ok(true)
            }
            StarterStep::Leave => {
                self.end_starter(index, StartOutcome::Lost);
                Ok(true)
            }
        }
    }

    fn claim(&mut self, index: usize) -> Checked {
        if self.word != Word::Open {
            self.end_starter(index, StartOutcome::Lost);
            return Ok(());
        }
        self.word = Word::ClaimedBy(index);
        self.starters[index].stage = Stage::Claimed;
        hold(self.worker == Worker::Gone, "no start before full exit")?;
        hold(!self.stop_closed, "nothing started after a stop request")?;
        hold(
            !(self.starters[index].made_before_exit && self.crash_idle),
            "no start for a crash that was survived",
        )
    }

    fn start_fails(&mut self) -> bool {
        self.era.faults && self.era.dice.one_in(self.era.start_fails_one_in)
    }

    fn execute(&mut self, index: usize) -> Checked {
        if self.start_fails() {
            self.end_starter(index, StartOutcome::Failed);
            return Ok(());
        }
        hold(self.started.is_none(), "at most one start per incarnation")?;
        self.started = Some(index);
        let starter = &self.starters[index];
        let (before, after) = (self.setup.history, starter.history);
        hold(after.incarnation == before.incarnation + 1, "incarnations are counted")?;
        if starter.judged_proven {
            (self.era.short_row, self.era.unproven_restarts) = (0, 0);
        } else {
            self.era.short_row += u32::from(starter.judged_short);
        }
        self.era.unproven_restarts += 1;
        let kept = after.in_a_row == self.era.short_row
            && after.backoff_step == self.era.unproven_restarts;
        hold(kept, "counters are reset by a proven life and never by a spawn")?;
        let policy = &self.setup.policy;
        hold(self.era.short_row < policy.in_a_row_max, "short lives in a row are kept")?;
        let end_ns = starter.judged_forward_ns;
        self.era.restarts_forward_ns.push(end_ns);
        let in_window = self
            .era
            .restarts_forward_ns
            .iter()
            .filter(|other| end_ns.saturating_sub(**other) < policy.period_ms * 1_000_000)
            .count();
        hold(in_window < policy.intensity as usize, "the window is kept under any clock")?;
        self.end_starter(index, StartOutcome::Started);
        Ok(())
    }

    /// The guard that made this starter, if it lives, sees it end; it alone takes a claim back.
    fn end_starter(&mut self, index: usize, outcome: StartOutcome) {
        self.starters[index].stage = Stage::Ended;
        let guard = &mut self.guards[self.starters[index].owner];
        if !guard.alive || self.starters[index].forgotten {
            return;
        }
        if outcome == StartOutcome::Failed
            && !guard.told_closed
            && self.word == Word::ClaimedBy(index)
        {
            self.word = Word::Open;
        }
        guard.awaits_start = false;
        guard.events.push_back(Event::StartFinished(outcome));
    }

    fn guard_step(&mut self) -> Result<bool, String> {
        for index in self.living() {
            if let Some(action) = self.guards[index].actions.pop_front() {
                return self.perform(index, action).map(|()| true);
            }
            if let Some(event) = self.guards[index].events.pop_front() {
                return self.feed(index, event).map(|()| true);
            }
        }
        Ok(false)
    }

    fn feed(&mut self, index: usize, event: Event) -> Checked {
        let guard = &mut self.guards[index];
        let now = self.era.now;
        let gone = matches!(event, Event::WorkerGone { .. });
        if matches!(event, Event::Crashed { .. })
            || gone && guard.supervisor.state_name() == "watching"
        {
            let life_ns = now.monotonic_ns.saturating_sub(self.setup.started.monotonic_ns);
            guard.judged_forward_ns = self.era.forward_ns;
            guard.judged_short = life_ns < self.setup.policy.minimum_uptime_ms * 1_000_000;
            guard.judged_proven =
                self.ready || life_ns >= self.setup.policy.uptime_reset_ms * 1_000_000;
        }
        guard.stop_seen |= event == Event::StopRequested;
        guard.settled_seen |=
            matches!(event, Event::StartFinished(StartOutcome::Started | StartOutcome::Lost));
        let before = guard.supervisor.state_name();
        let actions = guard.supervisor.handle(event, now);
        if self.era.told {
            println!("guard {index}: {before} + {event:?} -> {}", guard.supervisor.state_name());
        }
        hold(actions.len() < ACTIONS_MAX, "no action is lost")?;
        let impossible =
            actions.into_iter().any(|action| matches!(action, Action::Note(Note::Impossible(_))));
        hold(!impossible || self.era.faults, "nothing impossible in a world without faults")?;
        self.guards[index].actions.extend(actions);
        Ok(())
    }

    fn perform(&mut self, index: usize, action: Action) -> Checked {
        if self.era.told {
            let (action, word, worker) = (action_text(&action), self.word, self.worker);
            println!("guard {index}: {action}, start {word:?}, worker {worker:?}");
        }
        let faults = self.era.faults;
        match action {
            Action::TakeDump => {
                let failed = faults && self.era.dice.one_in(4);
                let outcome = if failed { DumpOutcome::Failed } else { DumpOutcome::Written };
                self.answer(index, Event::DumpFinished(outcome));
            }
            Action::MakeStarter { .. } => {
                let history = *self.guards[index].supervisor.next_history();
                self.make_starter(index, history)?;
            }
            Action::CloseStart(reason) => self.close_start(index, reason),
            Action::ReopenStart => self.reopen_start(index),
            Action::ReleaseWorker(_) => {
                if let Worker::Waiting(signal) = self.worker {
                    self.worker = Worker::Released(signal);
                }
            }
            Action::AwaitFullExit => self.guards[index].awaits_exit = true,
            Action::RecordEnd { .. } => {
                self.guards[index].recorded += 1;
                hold(self.guards[index].recorded == 1, "an end is recorded once")?;
            }
            Action::AwaitStart => self.guards[index].awaits_start = true,
            Action::RetryAfter { .. } => {
                self.pass(S);
                self.answer(index, Event::RetryDue);
            }
            Action::MakeDurable => {
                // The report of a crash that was survived has no start to wait for.
                let settled = self.word != Word::Open || self.guards[index].recorded == 0;
                hold(settled, "nothing is made durable before the start is settled")?;
                let failed = faults && self.era.dice.one_in(6);
                let outcome = if failed { Durability::Failed } else { Durability::Durable };
                self.answer(index, Event::ReportDurable(outcome));
            }
            Action::Deliver { .. } => {
                hold(self.word != Word::Open, "delivery never precedes the start's settlement")?;
                hold(!self.guards[index].stop_seen, "nothing is delivered after a stop request")?;
                self.answer(index, Event::DeliveryFinished(DeliveryOutcome::Retry));
            }
            Action::RecordSurvival { .. } | Action::Note(_) => {}
            Action::Exit => self.guards[index].alive = false,
        }
        Ok(())
    }

    /// What a guard did comes back as an event; in a restless world something else may come first.
    fn answer(&mut self, index: usize, event: Event) {
        let events = &mut self.guards[index].events;
        if self.era.faults && self.era.dice.one_in(2) {
            events.push_back(event);
        } else {
            events.push_front(event);
        }
    }

    fn make_starter(&mut self, index: usize, history: History) -> Checked {
        hold(!self.guards[index].stop_seen, "no starter is made after a stop request")?;
        hold(!self.guards[index].settled_seen, "no starter is made after the start is settled")?;
        self.forget_starters(index);
        if self.start_fails() {
            self.answer(index, Event::StarterMade(StarterOutcome::Failed));
            return Ok(());
        }
        self.starters.push(Starter {
            owner: index,
            forgotten: false,
            stage: Stage::Waiting,
            made_before_exit: self.worker != Worker::Gone,
            history,
            judged_forward_ns: self.guards[index].judged_forward_ns,
            judged_proven: self.guards[index].judged_proven,
            judged_short: self.guards[index].judged_short,
        });
        self.answer(index, Event::StarterMade(StarterOutcome::Made));
        Ok(())
    }

    fn close_start(&mut self, index: usize, reason: Reason) {
        self.guards[index].told_closed = true;
        if self.word == Word::Open {
            self.word = Word::Closed;
            self.guards[index].closed_here = true;
            self.end_own_starters(index);
        }
        self.stop_closed |= reason == Reason::StopRequested;
    }

    fn reopen_start(&mut self, index: usize) {
        if self.word == Word::Open {
            self.end_own_starters(index);
        }
        self.forget_starters(index);
        let guard = &mut self.guards[index];
        guard.told_closed = false;
        guard.settled_seen = false;
        if self.word == Word::Closed && guard.closed_here {
            guard.closed_here = false;
            self.word = Word::Open;
        }
    }

    /// A guard speaks of its newest starter only.
    fn forget_starters(&mut self, index: usize) {
        self.guards[index]
            .events
            .retain(|event| !matches!(event, Event::StartFinished(_) | Event::StarterMade(_)));
        for starter in &mut self.starters {
            starter.forgotten |= starter.owner == index;
        }
    }

    fn end_own_starters(&mut self, index: usize) {
        for starter in &mut self.starters {
            let unclaimed = matches!(starter.stage, Stage::Waiting | Stage::Claiming);
            if starter.owner == index && unclaimed {
                starter.stage = Stage::Ended;
            }
        }
    }

    /// A worker may wait for a guard that works or that is dead, never for one that has nothing left to do.
    fn check_answers(&self) -> Checked {
        let Worker::Waiting(_) = self.worker else {
            return Ok(());
        };
        let idle = self
            .guards
            .iter()
            .any(|guard| guard.alive && guard.actions.is_empty() && guard.events.is_empty());
        hold(!idle, "a dump request is always answered")
    }

    fn check_end(&self) -> Checked {
        hold(
            self.worker == Worker::Gone || self.worker == Worker::Replaced,
            "the worker's life comes to an end",
        )?;
        hold(self.living().is_empty(), "every guard comes to its end")?;
        if self.era.faults {
            return Ok(());
        }
        let expected = self.class.is_some_and(|class| self.expects_restart(class));
        hold(
            expected == self.started.is_some(),
            "without faults a start comes if and only if it is due",
        )
    }

    /// What should follow in a world without faults, found in another way than `decide` does.
    fn expects_restart(&self, class: ExitClass) -> bool {
        let policy = &self.setup.policy;
        let crash = self.crashed
            || class == ExitClass::Hang
            || class == ExitClass::Code(101) && self.panicked
            || policy.any_code && matches!(class, ExitClass::Code(_));
        let wanted = match policy.when {
            RestartWhen::Never => false,
            RestartWhen::OnCrash => crash,
            RestartWhen::Always => true,
        };
        let judged = self.guards[0].judged_forward_ns;
        let recent = self
            .era
            .restarts_forward_ns
            .iter()
            // A start of this life is already among them.
            .filter(|end| **end < judged && judged - **end < policy.period_ms * 1_000_000)
            .count() as u32;
        // A start of this life has counted it already.
        let counted = u32::from(self.started.is_none() && self.guards[0].judged_short);
        let row = if self.guards[0].judged_proven { 0 } else { self.era.short_row + counted };
        wanted && recent + 1 < policy.intensity && row < policy.in_a_row_max
    }
}

fn draw_policy(dice: &mut Dice) -> RestartPolicy {
    let when = dice.pick(&[
        RestartWhen::OnCrash,
        RestartWhen::OnCrash,
        RestartWhen::Always,
        RestartWhen::Always,
        RestartWhen::Never,
    ]);
    let intensity = dice.pick(&[1, 2, 3, 5, 16]);
    let period = dice.pick(&[1, 60, 600, 6_000]);
    let row = dice.pick(&[1, 2, 3, 9]);
    let mut policy = RestartPolicy::new(when)
        .any_code(dice.one_in(3))
        .intensity(intensity, Duration::from_secs(period))
        .in_a_row(row, Duration::from_secs(10));
    policy.explicit = dice.one_in(2);
    policy
}

/// Follows one history through its lives; the answer is how many there were.
fn history(seed: u64, told: bool) -> Result<u32, String> {
    let mut dice = Dice(seed);
    let policy = draw_policy(&mut dice);
    policy.validate().map_err(|(field, reason)| format!("{field}: {reason}"))?;
    let faults = !dice.one_in(4);
    let start = Now { monotonic_ns: 0, boot_ns: 0 };
    let fault_one_in = dice.pick(&[12, 12, 12, u64::MAX]);
    let start_fails_one_in = dice.pick(&[6, 6, 6, 1]);
    let mut era = Era {
        dice,
        faults,
        told,
        now: start,
        forward_ns: 0,
        restarts_forward_ns: Vec::new(),
        short_row: 0,
        unproven_restarts: 0,
        fault_one_in,
        start_fails_one_in,
    };
    let mut next = History::default();
    for life in 1..=LIVES_MAX {
        let setup = Setup {
            policy,
            history: next,
            started: era.now,
            block: (faults && era.dice.one_in(8)).then_some(StartBlock::Service),
            jitter_seed: seed,
            delivery_ms_max: 15_000,
        };
        let mut world = World {
            era: &mut era,
            setup,
            worker: Worker::Running,
            crash_idle: true,
            ready: false,
            panicked: false,
            word: Word::Open,
            stop_closed: false,
            guards: Vec::new(),
            starters: Vec::new(),
            started: None,
            class: None,
            crashed: false,
        };
        world.run()?;
        let Some(winner) = world.started else {
            return Ok(life);
        };
        next = world.starters[winner].history;
        let words = next.to_words();
        hold(History::from_words(&words) == Some(next), "a record carries the history")?;
    }
    Ok(LIVES_MAX)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

// Goal: in no history, whoever dies whenever, does a property of the supervisor fail.
#[test]
fn no_history_breaks_a_property() {
    if let Some(seed) = number("REARGUARD_SEED") {
        history(seed, true).unwrap_or_else(|property| panic!("broken: {property}"));
        return;
    }
    let count = number("REARGUARD_HISTORIES").unwrap_or(HISTORIES);
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let lives: u64 = std::thread::scope(|scope| {
        let drive = |first: u64| {
            move || -> u64 {
                let seeds = (first..count).step_by(threads as usize);
                let lives = seeds.map(|seed| {
                    history(seed, false).unwrap_or_else(|property| {
                        panic!("broken: {property}; repeat with REARGUARD_SEED={seed}")
                    })
                });
                lives.map(u64::from).sum()
            }
        };
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(drive(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no property is broken")).sum()
    });
    // A world in which nobody is ever restarted would prove nothing.
    assert!(lives > count * 3 / 2, "only {lives} lives in {count} histories");
}
