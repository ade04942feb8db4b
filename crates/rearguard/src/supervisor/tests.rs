//! The supervisor's proof: every reason of the decision, every reachable state, and whole histories with guards that die anywhere.

mod starter;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::words::ACTIONS_MAX;
use super::*;
use crate::config::RestartWhen;
use starter::{StartWord, StarterStep, StarterView, starter_step};

const S: u64 = 1_000_000_000;

fn question<'a>(policy: &'a RestartPolicy, history: &'a History, class: ExitClass) -> Question<'a> {
    Question {
        policy,
        history,
        class,
        panicked: false,
        ready: false,
        life_ns: 30 * S,
        ended_boot_ns: 1_000 * S,
        block: None,
        stopping: false,
        jitter_seed: 7,
    }
}

// Goal: each class under each policy gets the verdict and the reason that the documentation promises.
#[test]
fn every_class_has_its_reason() {
    let fresh = History::default();
    let ask = |policy: RestartPolicy, class, panicked| {
        let (decision, _) = decide(&Question { panicked, ..question(&policy, &fresh, class) });
        (decision.verdict != Verdict::Stay, decision.reason)
    };
    let never = RestartPolicy::new(RestartWhen::Never);
    let on_crash = RestartPolicy::default();
    let any_code = on_crash.any_code(true);
    let always = RestartPolicy::new(RestartWhen::Always);

    assert_eq!(ask(on_crash, ExitClass::Crash(11), false), (true, Reason::Crashed));
    assert_eq!(ask(on_crash, ExitClass::Code(101), true), (true, Reason::Panicked));
    assert_eq!(ask(on_crash, ExitClass::Code(101), false), (false, Reason::ExitCode));
    assert_eq!(ask(on_crash, ExitClass::Code(1), true), (false, Reason::ExitCode));
    assert_eq!(ask(on_crash, ExitClass::Hang, false), (true, Reason::Hung));
    assert_eq!(ask(on_crash, ExitClass::Clean, false), (false, Reason::CleanExit));
    assert_eq!(ask(on_crash, ExitClass::Code(0), true), (false, Reason::CleanExit));
    assert_eq!(ask(on_crash, ExitClass::Killed(15), false), (false, Reason::Killed));
    assert_eq!(ask(on_crash, ExitClass::Unknown, false), (false, Reason::UnknownEnd));
    assert_eq!(ask(any_code, ExitClass::Code(1), false), (true, Reason::FailingCode));
    assert_eq!(ask(any_code, ExitClass::Clean, false), (false, Reason::CleanExit));
    assert_eq!(ask(always, ExitClass::Clean, false), (true, Reason::AnyEnd));
    assert_eq!(ask(always, ExitClass::Code(1), false), (true, Reason::AnyEnd));
    assert_eq!(ask(always, ExitClass::Killed(9), false), (true, Reason::AnyEnd));
    assert_eq!(ask(always, ExitClass::Crash(6), false), (true, Reason::Crashed));
    assert_eq!(ask(always, ExitClass::Unknown, false), (false, Reason::UnknownEnd));
    assert_eq!(ask(never, ExitClass::Crash(11), false), (false, Reason::PolicyNever));
}

// Goal: each block forbids the restart, only the two outer supervisors yield to an explicit policy, and a stop request yields to nothing.
#[test]
fn blocks_and_stops_forbid() {
    let fresh = History::default();
    let mut policy = RestartPolicy::new(RestartWhen::Always);
    for explicit in [false, true] {
        policy.explicit = explicit;
        for block in StartBlock::ALL {
            let ask = question(&policy, &fresh, ExitClass::Crash(11));
            let (decision, _) = decide(&Question { block: Some(block), ..ask });
            let yields = explicit && matches!(block, StartBlock::Service | StartBlock::Kubernetes);
            let reason = if yields { Reason::Crashed } else { Reason::Blocked(block) };
            assert_eq!(decision.reason, reason);
            assert_eq!(decision.verdict == Verdict::Stay, !yields);

            let (decision, _) = decide(&Question { block: Some(block), stopping: true, ..ask });
            assert_eq!(decision, Decision::stay(Reason::StopRequested));
        }
    }
}

/// Ends one life after another, each `life_s` long, until there is no next; the answer is every delay and the last reason.
fn lives(policy: &RestartPolicy, life_s: u64, ready: bool, lives_max: u32) -> (Vec<u64>, Reason) {
    let (mut history, mut boot_ns, mut delays) = (History::default(), 0, Vec::new());
    loop {
        boot_ns += life_s * S;
        let ask = question(policy, &history, ExitClass::Crash(11));
        let (decision, next) =
            decide(&Question { life_ns: life_s * S, ended_boot_ns: boot_ns, ready, ..ask });
        let Verdict::Restart { delay_ms } = decision.verdict else {
            return (delays, decision.reason);
        };
        delays.push(delay_ms);
        if delays.len() as u32 == lives_max {
            return (delays, decision.reason);
        }
        boot_ns += delay_ms * 1_000_000;
        assert_eq!(next.incarnation, history.incarnation + 1);
        history = next;
    }
}

// Goal: with the defaults, the third short life in a row and the fifth crash in ten minutes are the last; 60 s of life or `ready()` begin anew.
#[test]
fn crash_loops_end_as_the_defaults_say() {
    let plain = RestartPolicy::default().jitter_percent(0);
    assert_eq!(lives(&plain, 1, false, 99), (vec![0, 1_000], Reason::ShortLives));
    assert_eq!(lives(&plain, 10, false, 99), (vec![0, 1_000, 2_000, 4_000], Reason::Intensity));
    assert_eq!(lives(&plain, 59, false, 99), (vec![0, 1_000, 2_000, 4_000], Reason::Intensity));
    assert_eq!(lives(&plain, 60, false, 99), (vec![0, 0, 0, 0], Reason::Intensity));
    assert_eq!(lives(&plain, 1, true, 99), (vec![0, 0, 0, 0], Reason::Intensity));
    assert_eq!(lives(&plain, 149, false, 99), (vec![0, 0, 0, 0], Reason::Intensity));
    assert_eq!(lives(&plain, 150, false, 99), (vec![0; 99], Reason::Crashed));
    let once = plain.intensity(1, Duration::from_secs(1));
    assert_eq!(lives(&once, 100, false, 99), (vec![], Reason::Intensity));
    let first = plain.in_a_row(1, Duration::from_secs(10));
    assert_eq!(lives(&first, 9, false, 99), (vec![], Reason::ShortLives));
}

// Goal: delays double up to the maximum, and jitter stays within its share and the maximum, for every seed and step.
#[test]
fn delays_double_within_their_bounds() {
    let policy = RestartPolicy::default().first_delay(Duration::from_millis(5));
    let plain = policy.jitter_percent(0);
    let steps = [0, 1, 2, 3, 6, 7, 8, 33, 34, u32::MAX];
    let delays = steps.map(|step| delay_ms(&plain, step, 0));
    assert_eq!(delays, [5, 1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000]);
    let mut seen = BTreeSet::new();
    for seed in 0..2_000 {
        for step in steps {
            let (exact, delay) = (delay_ms(&plain, step, seed), delay_ms(&policy, step, seed));
            if step == 0 {
                assert_eq!(delay, 5);
            } else {
                assert!(delay >= exact * 75 / 100 && delay <= exact * 125 / 100 && delay <= 60_000);
            }
            if step == 1 {
                seen.insert(delay);
            }
        }
    }
    assert_eq!(seen.len(), 51, "every whole percent from 75 to 125");
}

const NOW: Now = Now { monotonic_ns: 100 * S, boot_ns: 100 * S };

fn setup(policy: RestartPolicy) -> Setup {
    Setup {
        policy,
        history: History::default(),
        started: Now { monotonic_ns: 0, boot_ns: 0 },
        block: None,
        jitter_seed: 1,
        delivery_ms_max: 15_000,
    }
}

const GONE: Event =
    Event::WorkerGone { class: ExitClass::Crash(11), panicked: false, ready: false };

/// One event of each kind that makes a difference.
fn events() -> Vec<Event> {
    let gone = |class, panicked| Event::WorkerGone { class, panicked, ready: false };
    vec![
        Event::Crashed { signal: 11 },
        Event::DumpFinished(DumpOutcome::Written),
        Event::DumpFinished(DumpOutcome::Failed),
        Event::StarterMade(StarterOutcome::Made),
        Event::StarterMade(StarterOutcome::Failed),
        Event::WorkerSurvived,
        Event::WorkerReplaced,
        gone(ExitClass::Clean, false),
        gone(ExitClass::Code(3), false),
        gone(ExitClass::Code(101), true),
        GONE,
        gone(ExitClass::Killed(9), false),
        gone(ExitClass::Hang, false),
        gone(ExitClass::Unknown, false),
        Event::StartFinished(StartOutcome::Started),
        Event::StartFinished(StartOutcome::Lost),
        Event::StartFinished(StartOutcome::Failed),
        Event::StartFinished(StartOutcome::Late),
        Event::ReportDurable(Durability::Durable),
        Event::ReportDurable(Durability::Failed),
        Event::DeliveryFinished(DeliveryOutcome::Accepted),
        Event::ReadySeen,
        Event::StopRequested,
        Event::WaitExpired,
        Event::RetryDue,
        Event::BlockSeen(StartBlock::ForegroundJob),
    ]
}

/// More states than the machine has with all that they carry; beyond it something counts without end.
const STATES_MAX: usize = 20_000;

/// Every state that any order of events can reach, by breadth, so that each is reached on a shortest way.
fn reachable(policy: RestartPolicy) -> Vec<Supervisor> {
    let first = Supervisor::new(setup(policy));
    let mut seen = BTreeSet::from([format!("{first:?}")]);
    let mut all = vec![first];
    let mut next = 0;
    while let Some(supervisor) = all.get(next).copied() {
        next += 1;
        assert!(next < STATES_MAX, "the states grow without end");
        for event in events() {
            let mut after = supervisor;
            after.handle(event, NOW);
            if seen.insert(format!("{after:?}")) {
                all.push(after);
            }
        }
    }
    all
}

fn policies() -> [RestartPolicy; 4] {
    [
        RestartPolicy::default(),
        RestartPolicy::new(RestartWhen::Never),
        RestartPolicy::new(RestartWhen::Always),
        RestartPolicy::default().any_code(true),
    ]
}

/// State × event → state and actions, as Markdown, found by running the machine with the default policy.
/// Events that change nothing and ask for nothing are left out; impossible ones are named in one row for each state.
pub(crate) fn transition_table() -> String {
    let mut states = BTreeMap::new();
    let mut order = Vec::new();
    for supervisor in reachable(RestartPolicy::default()) {
        if !supervisor.stopping && supervisor.setup.block.is_none()
            || supervisor.state_name() == "done"
        {
            states.entry(supervisor.state_name()).or_insert_with(|| {
                order.push(supervisor.state_name());
                supervisor
            });
        }
    }
    let mut table = String::from("| state | event | next state | actions |\n|---|---|---|---|\n");
    for name in order {
        let mut impossible = BTreeSet::new();
        for event in events() {
            let mut after = states[name];
            let actions: Vec<Action> = after.handle(event, NOW).into_iter().collect();
            let is_impossible =
                actions.iter().any(|action| matches!(action, Action::Note(Note::Impossible(_))));
            if is_impossible && actions.len() == 1 {
                impossible.insert(event.name());
            } else if !actions.is_empty() || after.state_name() != name {
                let text: Vec<String> = actions.iter().map(action_text).collect();
                let event = event_text(event);
                let next = after.state_name();
                writeln!(table, "| {name} | {event} | {next} | {} |", text.join(", ")).unwrap();
            }
        }
        if !impossible.is_empty() {
            let events: Vec<&str> = impossible.into_iter().collect();
            writeln!(table, "| {name} | *impossible:* {} | {name} | note |", events.join(", "))
                .unwrap();
        }
    }
    table
}

fn event_text(event: Event) -> String {
    let detail = match event {
        Event::DumpFinished(outcome) => format!("{outcome:?}"),
        Event::StarterMade(outcome) => format!("{outcome:?}"),
        Event::WorkerGone { class, panicked, .. } => {
            format!("{class:?}{}", if panicked { " after a panic" } else { "" })
        }
        Event::StartFinished(outcome) => format!("{outcome:?}"),
        Event::ReportDurable(outcome) => format!("{outcome:?}"),
        Event::BlockSeen(block) => format!("{block:?}"),
        Event::DeliveryFinished(_) => "any".to_owned(),
        Event::Crashed { .. }
        | Event::WorkerSurvived
        | Event::WorkerReplaced
        | Event::ReadySeen
        | Event::StopRequested
        | Event::WaitExpired
        | Event::RetryDue => return event.name().to_owned(),
    };
    format!("{}: {detail}", event.name())
}

fn action_text(action: &Action) -> String {
    match action {
        Action::MakeStarter { .. } => "MakeStarter".to_owned(),
        Action::RetryAfter { .. } => "RetryAfter".to_owned(),
        Action::Deliver { .. } => "Deliver".to_owned(),
        Action::RecordEnd { class, with_report: true } => format!("RecordEnd({class:?})"),
        Action::RecordEnd { class, with_report: false } => {
            format!("RecordEnd({class:?}, no report)")
        }
        Action::RecordSurvival { .. } => "RecordSurvival".to_owned(),
        Action::Note(Note::Decided(decision)) => match decision.verdict {
            Verdict::Restart { .. } => format!("*restart: {}*", decision.reason.as_str()),
            Verdict::Stay => format!("*stay: {}*", decision.reason.as_str()),
        },
        Action::Note(Note::Impossible(_)) => "*impossible*".to_owned(),
        Action::TakeDump
        | Action::CloseStart(_)
        | Action::ReopenStart
        | Action::ReleaseWorker(_)
        | Action::AwaitFullExit
        | Action::AwaitStart
        | Action::MakeDurable
        | Action::Exit => format!("{action:?}"),
    }
}

// Goal: the table has a row for every state, and shows the order that everything hangs on.
#[test]
fn the_transition_table_is_complete() {
    let table = transition_table();
    for state in [
        "watching",
        "dumping",
        "preparing",
        "dying, start settled",
        "dying, starter made",
        "dying, starter wanted",
        "making starter",
        "awaiting start",
        "awaiting retry",
        "making durable",
        "making durable, to deliver",
        "delivering",
        "done",
    ] {
        assert!(table.contains(&format!("\n| {state} |")), "no row for {state}\n{table}");
    }
    assert!(table.contains(
        "| dumping | dump finished: Written | preparing | *restart: worker crashed*, MakeStarter |"
    ));
    assert!(table.contains(
        "| preparing | starter made: Made | dying, starter made | ReleaseWorker(Dumped), AwaitFullExit |"
    ));
}

// Goal: the table that a reader finds is the machine's; `REARGUARD_TABLE=1` writes it anew.
#[test]
fn the_transition_table_is_documented() {
    const DOCUMENT: &str = include_str!("../../../../ARCHITECTURE.md");
    const BEGIN: &str = "<!-- The table is written by a test: REARGUARD_TABLE=1 cargo test -p rearguard --lib supervisor -->\n";
    let at = DOCUMENT.find(BEGIN).expect("the table's place") + BEGIN.len();
    let end = DOCUMENT[at..].find("\n\n").map_or(DOCUMENT.len(), |length| at + length + 1);
    let table = transition_table();
    if std::env::var_os("REARGUARD_TABLE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = format!("{}{table}{}", &DOCUMENT[..at], &DOCUMENT[end..]);
        std::fs::write(path, text).expect("the document is written");
    } else {
        assert_eq!(&DOCUMENT[at..end], table, "REARGUARD_TABLE=1 writes it anew");
    }
}

// Goal: in every reachable state, whatever comes: no action is lost for lack of room, Exit is last and final, nothing is started after a stop request, and a crash gets its dump or its answer.
#[test]
fn every_reachable_state_is_safe() {
    for policy in policies() {
        for supervisor in reachable(policy) {
            for event in events() {
                let context = format!("{} + {}", supervisor.state_name(), event.name());
                let mut after = supervisor;
                let actions = after.handle(event, NOW);
                assert!(actions.len() < ACTIONS_MAX, "{context}");
                let actions: Vec<Action> = actions.into_iter().collect();
                let exit = actions.iter().position(|action| *action == Action::Exit);
                let is_last = exit.is_some_and(|at| at + 1 == actions.len());
                let enters_done = after.state_name() == "done" && supervisor.state_name() != "done";
                assert_eq!(enters_done, is_last, "{context}: {actions:?}");
                assert_eq!(exit.is_some(), is_last, "{context}: {actions:?}");
                let starts = actions.iter().any(|a| matches!(a, Action::MakeStarter { .. }));
                assert!(!(starts && after.stopping), "{context}: {actions:?}");
                let waits_on = after.stopping && matches!(after.state, State::Watching);
                assert!(!waits_on, "{context}: a guard that was stopped watches on");
                if matches!(event, Event::Crashed { .. }) && supervisor.state_name() != "done" {
                    let taken = actions.contains(&Action::TakeDump)
                        || actions.contains(&Action::ReleaseWorker(Answer::Failed))
                        || matches!(supervisor.state, State::Dumping(..) | State::Preparing(..));
                    assert!(taken, "{context}: {actions:?}");
                }
            }
        }
    }
}

fn names(actions: Actions) -> Vec<String> {
    actions.into_iter().filter(|a| !matches!(a, Action::Note(_))).map(|a| action_text(&a)).collect()
}

// Goal: the ordinary crash goes through the protocol step by step, in its order.
#[test]
fn a_crash_is_followed_to_its_end() {
    let mut guard = Supervisor::new(setup(RestartPolicy::default()));
    let mut say = |event| names(guard.handle(event, NOW));
    assert_eq!(say(Event::Crashed { signal: 11 }), ["TakeDump"]);
    assert_eq!(say(Event::DumpFinished(DumpOutcome::Failed)), ["MakeStarter"]);
    assert_eq!(
        say(Event::StarterMade(StarterOutcome::Made)),
        ["ReleaseWorker(Failed)", "AwaitFullExit"]
    );
    assert_eq!(say(GONE), ["RecordEnd(Crash(11))", "AwaitStart"]);
    assert_eq!(say(Event::StartFinished(StartOutcome::Started)), ["MakeDurable"]);
    assert_eq!(say(Event::ReportDurable(Durability::Durable)), ["Deliver"]);
    assert_eq!(say(Event::DeliveryFinished(DeliveryOutcome::Retry)), ["Exit"]);
    assert_eq!(say(GONE), [""; 0]);
}

// Goal: which ends are recorded, made durable and delivered is as promised, whatever the restart policy is.
#[test]
fn ends_are_recorded_and_delivered_by_class() {
    let after = |class, panicked| {
        let mut guard = Supervisor::new(setup(RestartPolicy::new(RestartWhen::Never)));
        let mut all = names(guard.handle(Event::WorkerGone { class, panicked, ready: false }, NOW));
        all.extend(names(guard.handle(Event::ReportDurable(Durability::Durable), NOW)));
        all.join(" ")
    };
    let close = "CloseStart(PolicyNever)";
    let sent = |class| format!("{close} RecordEnd({class}) MakeDurable Deliver");
    let kept = |class| format!("{close} RecordEnd({class}) MakeDurable Exit");
    assert_eq!(after(ExitClass::Crash(6), false), sent("Crash(6)"));
    assert_eq!(after(ExitClass::Code(101), true), sent("Code(101)"));
    assert_eq!(after(ExitClass::Hang, false), sent("Hang"));
    assert_eq!(after(ExitClass::Code(101), false), kept("Code(101)"));
    assert_eq!(after(ExitClass::Killed(9), false), kept("Killed(9)"));
    let unknown = "CloseStart(UnknownEnd) RecordEnd(Unknown) MakeDurable Exit";
    assert_eq!(after(ExitClass::Unknown, false), unknown);
    assert_eq!(after(ExitClass::Clean, false), format!("{close} RecordEnd(Clean, no report) Exit"));
}

// Goal: a start that fails is tried three times with pauses, then given up, closed and still reported.
#[test]
fn a_start_is_tried_three_times() {
    let mut guard = Supervisor::new(setup(RestartPolicy::default()));
    let mut say = |event| names(guard.handle(event, NOW));
    assert_eq!(say(GONE), ["MakeStarter"]);
    assert_eq!(say(Event::StarterMade(StarterOutcome::Failed)), ["RetryAfter"]);
    assert_eq!(say(Event::RetryDue), ["MakeStarter"]);
    let made = Event::StarterMade(StarterOutcome::Made);
    assert_eq!(say(made), ["RecordEnd(Crash(11))", "AwaitStart"]);
    assert_eq!(say(Event::StartFinished(StartOutcome::Failed)), ["RetryAfter"]);
    assert_eq!(say(Event::RetryDue), ["MakeStarter"]);
    assert_eq!(say(made), ["AwaitStart"]);
    assert_eq!(
        say(Event::StartFinished(StartOutcome::Failed)),
        ["CloseStart(StartFailed)", "MakeDurable"]
    );
}

// Goal: a starter knows by itself when it is not wanted.
#[test]
fn a_starter_leaves_when_it_is_not_wanted() {
    let view = StarterView {
        full_exit: true,
        delay_over: true,
        made_before_exit: true,
        crash_idle: false,
        start: StartWord::Open,
    };
    assert_eq!(starter_step(view), StarterStep::Claim);
    assert_eq!(
        starter_step(StarterView { full_exit: false, crash_idle: true, ..view }),
        StarterStep::AwaitFullExit
    );
    assert_eq!(starter_step(StarterView { delay_over: false, ..view }), StarterStep::AwaitDelay);
    assert_eq!(starter_step(StarterView { crash_idle: true, ..view }), StarterStep::Leave);
    let late = StarterView { crash_idle: true, made_before_exit: false, ..view };
    assert_eq!(starter_step(late), StarterStep::Claim);
    for start in [StartWord::Claimed, StartWord::Closed] {
        assert_eq!(starter_step(StarterView { start, ..view }), StarterStep::Leave);
    }
}
