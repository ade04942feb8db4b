//! The guard: the shell around the supervisor.
//!
//! It turns what the system tells into events, and performs the actions that come back; it decides nothing.
//! `run` never returns: no code of the application's `main` may run in a guard process.

mod case;

use std::sync::atomic::Ordering;

use rearguard_crashpath::black_box::{crash, foreground, store};

use crate::config::{ExitClass, StartBlock};
use crate::error::Error;
use crate::evidence;
use crate::fail_spots;
use crate::heap::{List, add, kept};
use crate::launch::Succession;
use crate::limits;
use crate::role::{EXIT_GUARD_ARGUMENT, EXIT_GUARD_NOT_NEEDED};
use crate::supervisor::{
    Action, Answer, Decision, DumpOutcome, Durability, Event, Note, Now, Reason, Setup,
    StartOutcome, StarterOutcome, Supervisor, Verdict,
};
use crate::sys::attach::{self, Attached, Stream};
use crate::sys::dumper;
use crate::sys::exit_status;
use crate::sys::successor::{self, Recipe, Starter};
use crate::sys::words::{Heard, Release, Started, When};
use crate::sys::{family, front, process, terminal};
use crate::text::joined;

use case::Case;

/// Ends a process whose guard argument can't be used, with one line that says why.
#[inline(always)]
pub(crate) fn refuse(reason: &str) -> ! {
    refuse_as("rearguard: guard argument not usable: ", reason)
}

/// The same for the argument of a role.
#[cfg(feature = "roles")]
pub(crate) fn refuse_role(reason: &str) -> ! {
    refuse_as("rearguard: role argument not usable: ", reason)
}

fn refuse_as(beginning: &str, reason: &str) -> ! {
    terminal::complain(&joined(&[beginning, reason, "\n"]));
    process::exit(EXIT_GUARD_ARGUMENT)
}

/// Guard-first: stands in front of a worker until that hands over what a guard needs, and then is its guard.
pub(crate) fn front(worker: u32) -> ! {
    match front::stand(worker) {
        Ok(nonce) => run(nonce),
        Err(reason) => refuse(reason),
    }
}

/// Ends this process, or, where it stands in front of its worker, waits for its end and ends alike.
#[inline(always)]
fn leave(code: i32) -> ! {
    if front::is_front() {
        front::end_with_worker()
    }
    // Who stands for a family stays for the rest of it, unless asked to stop.
    family::await_members();
    process::exit(code)
}

/// Whether somebody has asked that nothing be started, once the worker is gone: this guard to stop, or the first process, whose worker can't hear it any more.
fn stop_requested() -> bool {
    attach::stop_requested() || front::take_stop().is_some()
}

/// Steps 3 to 11 of the story.
#[inline(never)]
pub(crate) fn run(nonce: u64) -> ! {
    crate::heap::with_frame_pointer();
    // It lives as long as the process, and so does the guard below: nothing of them is ever dropped as a whole.
    let attached: &'static Attached = match attach::attach(nonce) {
        Ok(attached) => kept(attached),
        Err(_) if front::is_front() => front::end_with_worker(),
        Err(reason) => refuse(reason),
    };
    attach::become_guard(&attached.record.name, attached.black_box);
    let earlier_guards = attached.black_box.control.attached.fetch_add(1, Ordering::Relaxed);
    let record = &attached.record;
    fail_spots::set(record.fail_spot.as_deref(), record.incarnation, earlier_guards);
    fail_spots::pass("attached");
    // One that was sent by a family's guard comes from a process that stood by.
    let was_sent = family::predecessor().is_some();
    let late = attached.black_box.control.crash.load(Ordering::Acquire) != crash::IDLE && !was_sent;
    let case = Case::new(&attached.record, late);
    if !attach::take_place(attached.black_box) {
        leave(EXIT_GUARD_NOT_NEEDED);
    }
    fail_spots::pass("ready");
    let guard = kept(Guard::new(attached, case));
    attach::try_reading(guard.attached.black_box, guard.attached.record.worker_pid);
    guard.try_store();
    if !was_sent {
        guard.rehearse();
        if !late {
            guard.case.deliver_beside();
        }
        if family::IS_BUILT && attached.record.heads_family {
            guard.stand_for_family();
        }
    }
    guard.stand()
}

/// Whether nothing is started again because the last lives were too many or too short.
fn is_end_of_loop(reason: Reason) -> bool {
    matches!(reason, Reason::Intensity | Reason::ShortLives)
}

/// One guard and all that it holds.
struct Guard {
    attached: &'static Attached,
    supervisor: Supervisor,
    /// The report of the end that this guard deals with.
    case: Case,
    /// What happened and was not told to the supervisor yet.
    events: List<Event>,
    /// Until when the full exit is awaited, once a crash has its answer.
    end_deadline_ns: Option<u64>,
    /// The worker's streams, from its crash until the start is settled.
    streams: [Option<Stream>; 3],
    /// What starters are made from.
    recipe: Result<Recipe, Error>,
    starter: Option<Starter>,
    /// Whether the start was closed by this guard.
    closed_start: bool,
    /// How long after the full exit the starter is late, in nanoseconds.
    start_wait_ns: u64,
    /// How often the worker had survived when the last crash came.
    survived: u32,
    /// How the worker's life ended or is about to end.
    class: ExitClass,
}

impl Guard {
    #[inline(never)]
    fn new(attached: &'static Attached, case: Case) -> Guard {
        let record = &attached.record;
        let mut seed = [0; 8];
        process::random(&mut seed);
        let life_ns = process::boot_ns().saturating_sub(record.started_boot_ns);
        let setup = Setup {
            policy: record.policy,
            history: record.history,
            // The record has one clock; the other is reckoned back by the same distance.
            started: Now {
                monotonic_ns: process::monotonic_ns().saturating_sub(life_ns),
                boot_ns: record.started_boot_ns,
            },
            block: record.block,
            jitter_seed: u64::from_le_bytes(seed),
            delivery_ms_max: limits::DELIVERY_MS_MAX,
        };
        Guard {
            case,
            supervisor: Supervisor::new(setup),
            recipe: Recipe::new(record),
            attached,
            events: List::new(),
            end_deadline_ns: None,
            streams: [None, None, None],
            starter: None,
            closed_start: false,
            start_wait_ns: 0,
            survived: 0,
            class: ExitClass::Unknown,
        }
    }

    /// Opens the store while nobody waits: a crash then finds it ready, and health knows what is wrong with it.
    /// Only now, since a slow disk must not keep a guard from its place.
    fn try_store(&mut self) {
        let control = &self.attached.black_box.control;
        if control.crash.load(Ordering::Acquire) == crash::IDLE {
            let state = match self.case.try_store(self.attached.black_box) {
                Ok(()) => store::USABLE,
                Err(errno) => store::FAILED.wrapping_add(errno),
            };
            attach::tell_store(self.attached.black_box, state);
        }
    }

    /// Goes through a dump once while nobody waits, so that the one that counts is quick.
    fn rehearse(&self) {
        if self.attached.black_box.control.crash.load(Ordering::Acquire) == crash::IDLE {
            dumper::rehearse();
            // Code and tables are what it is for; its memory isn't worth a guard's whole life.
            process::give_back_memory();
        }
    }

    /// Sleeps as the guard of a family, which never works itself: another thread could have to divide the process in the midst of it.
    /// Returns in the process that goes on with what has happened to the main worker; the one that was stays for the family.
    fn stand_for_family(&mut self) {
        family::open(run);
        loop {
            match attach::watch(self.attached) {
                Heard::Stop => {}
                Heard::Deliver => {
                    // The doorkeeper is a thread beside this one; the next guard sends.
                    continue;
                }
                Heard::Crash | Heard::Gone | Heard::Replaced | Heard::Survived | Heard::Nothing => {
                    break;
                }
            }
            // Held off, it stays for the others; asked to stop, it leaves them to the next guard.
            match family::await_release(&self.attached.black_box.control) {
                Release::GoOn => {}
                Release::Stay => {
                    self.case.give_back();
                    leave(0)
                }
                Release::Leave => {
                    self.case.give_back();
                    process::end_beside();
                    process::exit(0)
                }
            }
        }
        if family::send_for_main(self.attached.black_box) {
            return;
        }
        leave(0)
    }

    /// Feeds the supervisor until it says that the guard leaves.
    #[inline(always)]
    fn stand(&mut self) -> ! {
        loop {
            self.turn();
        }
    }

    /// Waits for one event, if there is none yet, and does what it asks for.
    #[inline(never)]
    fn turn(&mut self) {
        crate::heap::with_frame_pointer();
        // A request to stop goes before what has happened meanwhile.
        let event = if self.events.is_empty() {
            self.listen()
        } else if attach::stop_requested() {
            Some(Event::StopRequested)
        } else {
            Some(self.events.as_mut_vec().remove(0))
        };
        let Some(event) = event else { return };
        let now = Now { monotonic_ns: process::monotonic_ns(), boot_ns: process::boot_ns() };
        for action in self.supervisor.handle(event, now).list().iter().flatten() {
            self.perform(action);
        }
    }

    /// Notes what has happened, for the supervisor to hear next.
    fn tell(&mut self, event: Event) {
        add(&mut self.events, event);
    }

    /// Sleeps until something happens.
    fn listen(&mut self) -> Option<Event> {
        let heard = match self.end_deadline_ns {
            Some(deadline_ns) => attach::await_end(self.attached, self.survived, deadline_ns),
            None => attach::watch(self.attached),
        };
        match heard {
            Heard::Crash => {
                self.crash_heard();
                None
            }
            Heard::Gone => {
                self.worker_gone();
                None
            }
            Heard::Replaced => Some(Event::WorkerReplaced),
            Heard::Survived => {
                self.end_deadline_ns = None;
                // Somebody else may have taken the place meanwhile; then this guard is in the way.
                if !attach::take_place_again(self.attached.black_box) {
                    self.case.give_back();
                    leave(EXIT_GUARD_NOT_NEEDED);
                }
                self.class = ExitClass::Unknown;
                Some(Event::WorkerSurvived)
            }
            Heard::Stop => Some(Event::StopRequested),
            Heard::Deliver => {
                // Who began before the user's word may not have it.
                process::end_beside();
                self.case.deliver_beside();
                None
            }
            Heard::Nothing => {
                self.end_deadline_ns = None;
                Some(Event::WaitExpired)
            }
        }
    }

    /// A crash waits: the dump comes first, everything else can be asked while the answer is prepared.
    fn crash_heard(&mut self) {
        let black_box = self.attached.black_box;
        let control = &black_box.control;
        fail_spots::pass("crash-heard");
        self.survived = control.survived.load(Ordering::Acquire);
        if control.ready.load(Ordering::Acquire) != 0 {
            self.tell(Event::ReadySeen);
        }
        let signal = self.case.open_crash(black_box);
        self.class = ExitClass::Crash(signal);
        self.tell(Event::Crashed { signal });
    }

    /// The full exit: asks how it ended.
    fn worker_gone(&mut self) {
        self.end_deadline_ns = None;
        self.case.timeline().full_exit = process::monotonic_ns();
        fail_spots::pass("full-exit");
        let black_box = self.attached.black_box;
        let control = &black_box.control;
        let told =
            matches!(control.crash.load(Ordering::Acquire), crash::WAITING | crash::RELEASED);
        if told && self.case.crashed_thread() == 0 {
            // The guard that answered this crash is gone; its report is this guard's to complete.
            let signal = self.case.open_crash(black_box);
            self.case.take_over(black_box);
            self.class = ExitClass::Crash(signal);
            self.case.timeline().full_exit = process::monotonic_ns();
        }
        let ended = exit_status::of_worker(
            self.attached.record.worker_pid,
            !fail_spots::is_off("pidfd-info"),
            told,
        );
        let class = ended.unwrap_or(self.class);
        if class != ExitClass::Unknown || !matches!(self.class, ExitClass::Crash(_)) {
            self.class = class;
        }
        let without_a_crash = self.case.crashed_thread() == 0;
        if without_a_crash
            && self.may_be_a_job()
            && control.foreground.load(Ordering::Relaxed) == foreground::JOB
        {
            // A crash was asked while it waited; of any other end only the worker itself could tell.
            self.tell(Event::BlockSeen(StartBlock::ForegroundJob));
        }
        if without_a_crash {
            self.look_for_block();
            self.case.open_end(black_box, self.class);
        }
        self.tell(Event::WorkerGone {
            class,
            panicked: black_box.panics.count.load(Ordering::Acquire) != 0,
            ready: control.ready.load(Ordering::Acquire) != 0,
        });
    }

    /// Does what the supervisor says.
    #[inline(never)]
    fn perform(&mut self, action: &Action) {
        crate::heap::with_frame_pointer();
        match *action {
            Action::TakeDump => self.take_dump(),
            Action::MakeStarter { delay_ms } => self.make_starter(delay_ms),
            Action::CloseStart(reason) => {
                if !self.give_notice(reason) {
                    self.close_start();
                }
            }
            Action::ReopenStart => self.reopen_start(),
            Action::ReleaseWorker(answer) => self.release_worker(answer),
            Action::AwaitFullExit => {
                let limit_ns = limits::FULL_EXIT_MS_MAX * 1_000_000;
                self.end_deadline_ns = Some(process::monotonic_ns().saturating_add(limit_ns));
            }
            Action::RecordEnd { class, with_report } => {
                self.case.close(self.attached.black_box, class, with_report);
            }
            Action::RecordSurvival { .. } => self.case.survived(self.attached.black_box),
            Action::AwaitStart => self.await_start(),
            Action::RetryAfter { delay_ms } => self.retry_after(delay_ms),
            Action::MakeDurable => self.make_durable(),
            Action::Deliver { deadline_ms } => {
                if front::is_front() {
                    // Who waits for the first process is not to wait for the collector.
                    front::split(None);
                }
                let outcome = self.case.deliver(deadline_ms);
                fail_spots::pass("delivered");
                self.tell(Event::DeliveryFinished(outcome));
            }
            Action::Note(Note::Decided(decision)) => self.note(decision),
            Action::Note(Note::Impossible(_)) => {}
            Action::Exit => {
                self.case.give_back();
                if self.attached.black_box.control.held.load(Ordering::Acquire) != 0 {
                    process::end_beside();
                }
                leave(0)
            }
        }
    }

    /// Notes a decision in the report.
    fn note(&mut self, decision: Decision) {
        if decision.reason == Reason::StartLost
            && let Some(pid) = self.attached.black_box.control.chosen_start()
        {
            // An earlier guard's starter was chosen; what was decided has happened all the same.
            self.case.timeline().restarted = process::monotonic_ns();
            return self.case.restarted(pid, false);
        }
        let restart = match decision.verdict {
            Verdict::Restart { delay_ms } => Some(delay_ms),
            Verdict::Stay => {
                if is_end_of_loop(decision.reason) {
                    self.case.given_up();
                }
                None
            }
        };
        self.case.decided(restart, decision.reason.as_str());
    }

    /// Takes the worker's dump and its streams, while it waits, and looks for what forbids a restart.
    fn take_dump(&mut self) {
        let written = self.case.dump(self.attached.black_box);
        fail_spots::pass("report-written");
        self.streams = attach::take_streams(self.attached, self.case.crashed_thread());
        fail_spots::pass("streams-taken");
        if self.may_be_a_job() && attach::is_foreground_job(self.attached) {
            self.tell(Event::BlockSeen(StartBlock::ForegroundJob));
        }
        self.look_for_block();
        let outcome = if written { DumpOutcome::Written } else { DumpOutcome::Failed };
        self.tell(Event::DumpFinished(outcome));
    }

    /// Whether a shell could wait for this worker: not for one with a process in front of it, nor for a role, whose main process it waits for.
    fn may_be_a_job(&self) -> bool {
        !front::is_there() && self.attached.record.role.is_empty()
    }

    /// Asks the system what forbids a restart.
    fn look_for_block(&mut self) {
        if self.attached.black_box.control.held.load(Ordering::Acquire) != 0 {
            self.tell(Event::BlockSeen(StartBlock::Held));
        }
        if front::stop_was_asked() {
            self.tell(Event::BlockSeen(StartBlock::StopAsked));
        }
        if let Some(block) = attach::restart_block(&self.attached.record) {
            self.tell(Event::BlockSeen(block));
        }
    }

    /// Makes the process that will be the next worker.
    ///
    /// After a crash that a foreign handler was asked about it is made only when the worker is gone: such a handler may still mend the fault, and a worker that then ends by itself is no crash.
    fn make_starter(&mut self, delay_ms: u64) {
        if attach::CAN_SURVIVE && self.case.timeline().full_exit == 0 && self.case.may_be_survived()
        {
            return self.tell(Event::StarterMade(StarterOutcome::Failed));
        }
        if front::is_there() {
            for (stream, own) in self.streams.iter_mut().zip(front::own_streams()) {
                *stream = stream.take().or(own);
            }
        }
        let record = &self.attached.record;
        let succession = self.succession();
        let when = When { delay_ms, at_crash: self.case.timeline().full_exit == 0 };
        let black_box = self.attached.black_box;
        let made = match &self.recipe {
            Ok(recipe) => {
                successor::prepare(recipe, record, &succession, &mut self.streams, when, black_box)
                    .map_err(|error| error.text())
            }
            Err(error) => Err(error.text()),
        };
        fail_spots::pass("starter-made");
        let outcome = match made {
            Ok(starter) => {
                self.starter = Some(starter);
                let wait_ms = delay_ms.saturating_add(limits::START_MS_MAX);
                self.start_wait_ns = wait_ms.saturating_mul(1_000_000);
                StarterOutcome::Made
            }
            Err(text) => {
                self.case.soft_error(text.into());
                StarterOutcome::Failed
            }
        };
        self.tell(Event::StarterMade(outcome));
    }

    /// Lets the role that the application has named tell the user of the end of a crash loop; false where there is none, and nothing is started.
    /// Its process is what the next worker would have been: the one start of this life is its own.
    #[cfg(feature = "roles")]
    fn give_notice(&mut self, reason: Reason) -> bool {
        let record = &self.attached.record;
        // A role that ends in a loop of its own is its main process's affair; and one that gives the notice must not give another.
        let is_main = record.role.is_empty();
        if !is_end_of_loop(reason) || !is_main || record.notice.is_empty() || front::is_front() {
            return false;
        }
        let succession = self.succession();
        let when = When { delay_ms: 0, at_crash: self.case.timeline().full_exit == 0 };
        let black_box = self.attached.black_box;
        // The user's terminal is not the notice's.
        let mut streams = [None, None, None];
        let made = Recipe::for_role(record, &record.notice).and_then(|recipe| {
            successor::prepare(&recipe, record, &succession, &mut streams, when, black_box)
        });
        match made {
            Ok(starter) => {
                // It goes its way by itself.
                core::mem::forget(starter);
                true
            }
            Err(error) => {
                self.case.soft_error(error.text().into());
                false
            }
        }
    }

    /// There is no role to tell anybody.
    #[cfg(not(feature = "roles"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    fn give_notice(&mut self, _reason: Reason) -> bool {
        false
    }

    /// What the next worker is to learn.
    fn succession(&self) -> Succession {
        let record = &self.attached.record;
        Succession {
            incarnation: record.incarnation.saturating_add(1),
            history: *self.supervisor.next_history(),
            last_class: self.class,
            last_report: self.case.report_id(self.attached.black_box, self.class),
            streams_lost: self.streams.iter().all(Option::is_none),
            recovery: evidence::recovery(self.attached.black_box),
        }
    }

    /// Makes sure that nobody starts the next worker, if nobody has.
    fn close_start(&mut self) {
        self.closed_start |= self.attached.black_box.control.close_start();
        front::nothing_follows();
        if let Some(starter) = self.starter.take() {
            starter.end(self.attached.black_box);
            self.streams = starter.into_streams();
        }
    }

    /// Ends our own starter, and opens the start again if it was closed by us.
    fn reopen_start(&mut self) {
        self.close_start();
        if core::mem::take(&mut self.closed_start) {
            self.attached.black_box.control.open_start();
        }
        self.streams = [None, None, None];
    }

    /// Answers the waiting crash; says the one line to the user before the worker's pipes are let go for good.
    fn release_worker(&mut self, answer: Answer) {
        fail_spots::pass("before-answer");
        if self.starter.is_none() {
            self.say();
            self.streams = [None, None, None];
        }
        attach::answer_crash(self.attached.black_box, answer == Answer::Dumped);
        fail_spots::pass("answered");
    }

    /// One polite line, if the worker's standard error is a terminal.
    fn say(&self) {
        crate::heap::with_frame_pointer();
        if let Some(Some(stream)) = self.streams.get(2) {
            terminal::say(stream, &self.case.line());
        }
    }

    /// Waits for our own starter, in slices, so that a request to stop is heard.
    fn await_start(&mut self) {
        let Some(mut starter) = self.starter.take() else {
            self.tell(Event::StartFinished(StartOutcome::Failed));
            return;
        };
        // From here on, since the starter's time begins with the full exit; a core dump may have taken minutes before it.
        let deadline_ns = process::monotonic_ns().saturating_add(self.start_wait_ns);
        let started = loop {
            let now_ns = process::monotonic_ns();
            let slice_ns = now_ns.saturating_add(limits::STOP_HEARD_MS_MAX * 1_000_000);
            match starter.wait(slice_ns.min(deadline_ns)) {
                Started::NotYet if now_ns < deadline_ns && stop_requested() => {
                    self.starter = Some(starter);
                    self.tell(Event::StopRequested);
                    return;
                }
                Started::NotYet if now_ns < deadline_ns => {}
                settled @ (Started::Yes
                | Started::Lost
                | Started::Late
                | Started::Failed(_)
                | Started::NotYet) => break settled,
            }
        };
        let outcome = self.start_outcome(&starter, started);
        fail_spots::pass("started");
        match outcome {
            StartOutcome::Started | StartOutcome::Lost => {
                let next = starter.take_socket().map(|socket| (starter.pid(), socket));
                self.streams = starter.into_streams();
                self.say();
                // The worker's pipes belong to the next worker alone from here on.
                self.streams = [None, None, None];
                if let (Some(next), StartOutcome::Started) = (next, outcome) {
                    front::split(Some(next));
                }
            }
            StartOutcome::Failed => self.streams = starter.into_streams(),
            StartOutcome::Late => self.starter = Some(starter),
        }
        self.tell(Event::StartFinished(outcome));
    }

    /// What a starter's end means, noted in the report.
    fn start_outcome(&mut self, starter: &Starter, started: Started) -> StartOutcome {
        match started {
            Started::Yes => {
                self.case.timeline().restarted = process::monotonic_ns();
                self.case.restarted(starter.pid(), starter.directory_gone());
                StartOutcome::Started
            }
            Started::Lost => StartOutcome::Lost,
            Started::Failed(errno) => {
                self.attached.black_box.control.give_back_start(starter.claim());
                self.case.start_failed(errno);
                StartOutcome::Failed
            }
            Started::Late | Started::NotYet => StartOutcome::Late,
        }
    }

    /// Lets the time pass, or a request to stop end it.
    fn retry_after(&mut self, delay_ms: u64) {
        let deadline_ns =
            process::monotonic_ns().saturating_add(delay_ms.saturating_mul(1_000_000));
        loop {
            if stop_requested() {
                return self.tell(Event::StopRequested);
            }
            let left_ms = deadline_ns.saturating_sub(process::monotonic_ns()) / 1_000_000;
            if left_ms == 0 {
                return self.tell(Event::RetryDue);
            }
            process::sleep_ms(left_ms.min(limits::STOP_HEARD_MS_MAX));
        }
    }

    fn make_durable(&mut self) {
        self.streams = [None, None, None];
        let durable = self.case.make_durable(self.attached.black_box);
        fail_spots::pass("durable");
        let outcome = if durable { Durability::Durable } else { Durability::Failed };
        self.tell(Event::ReportDurable(outcome));
    }
}
