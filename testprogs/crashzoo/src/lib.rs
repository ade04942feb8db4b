//! One program, one word per way to die.
//!
//! The tests and benches start it as a real process and look at what is left: its exit status, its trace, the store, the collector.
//! It uses rearguard as an application would, through the public face only, and it is hostile where applications are: it holds a lock in a descriptor or handle that leaks into every child, leaves threads and memory behind, and ends the process when the crash path allocates.
//!
//! `badguard` is the same worker behind a guard that misbehaves, which is why this is a library.

mod allocator;
mod args;
mod fault;
mod hooks;
mod panics;
mod running;
mod sys;
mod trace;
mod ways;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

pub use args::usage;
pub use fault::null_write;

use args::{Args, Foreign};
use rearguard::AppRole;
use sys::{clock, foreign, lock, neighbours, process};
use trace::{Event, Trace};

const NAME: &str = "crashzoo";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The command line is wrong; one line on standard error says which argument.
const EXIT_USAGE: u8 = 2;
/// The way to die was not deadly.
/// No way does that on a system that the zoo knows.
const EXIT_SURVIVED: u8 = 70;
/// The file of `--hold-lock` is locked by somebody else: two workers live at once.
const EXIT_LOCKED: u8 = 75;
/// rearguard refused the configuration, or a file of the command line can't be opened.
const EXIT_CONFIG: u8 = 78;

/// The role that tells the user, how its argument ends, and the variable that tells it where.
const NOTICE_ROLE: &str = "notice";
const NOTICE_ENDING: &str = ":notice";
const NOTICE_VARIABLE: &str = "ZOO_NOTICE";

/// How long `--wait-ready` and `--wait-guarded` wait for the guard, the figure of the design.
const READY_WAIT: Duration = Duration::from_secs(2);

/// Lives in a static because `main-exited` takes away the stack of `main`, and the handle with it.
static HANDLE: OnceLock<rearguard::Handle> = OnceLock::new();

/// The whole program: rearguard first, then everything else.
pub fn main() -> ExitCode {
    hooks::add_to(rearguard::Rearguard::new(NAME, VERSION)).run_guard_if_asked();
    let main_ns = clock::now_ns();
    if let Some(path) = std::env::var_os(NOTICE_VARIABLE)
        && role_argument().is_some_and(|argument| argument.ends_with(NOTICE_ENDING))
    {
        return notice(&PathBuf::from(path));
    }
    match Args::parse(rearguard::application_arguments().skip(1)) {
        Ok(Some(args)) => run(&args, main_ns),
        Ok(None) => {
            println!("{}", usage());
            ExitCode::SUCCESS
        }
        Err(problem) => fail("crashzoo", &problem, EXIT_USAGE),
    }
}

/// The same program for `badguard`, which has taken its own argument off the line and has asked for the guard role itself.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let main_ns = clock::now_ns();
    match Args::parse(arguments.into_iter()) {
        Ok(Some(args)) => run(&args, main_ns),
        Ok(None) => {
            println!("{}", usage());
            ExitCode::SUCCESS
        }
        Err(problem) => fail("badguard", &problem, EXIT_USAGE),
    }
}

fn run(args: &Args, main_ns: u64) -> ExitCode {
    // Handlers that are "there first" have to be there before the crash handler is armed.
    if args.foreign == Foreign::Before
        && let Err(problem) = neighbours::install(args.foreign)
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if let Err(problem) = foreign::install_before(args.way) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if let Err(problem) = neighbours::behave(&args.manners, false) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    let builder = builder(args);
    let starting_ns = clock::now_ns();
    let started = builder.start();
    let armed_ns = clock::now_ns();
    // Opened only now: what lies between `main` and `armed` is to be rearguard's time, not the disk's.
    let trace = match Trace::open(args.trace.as_deref()) {
        Ok(trace) => trace,
        Err(problem) => return fail("crashzoo", &problem, EXIT_CONFIG),
    };
    let handle = match started {
        Ok(mut handle) => {
            if args.daemonize
                && let Err(problem) = daemonize(&mut handle)
            {
                return fail("crashzoo", &problem, EXIT_CONFIG);
            }
            HANDLE.get_or_init(|| handle)
        }
        Err(error) => {
            // A start that was refused has no incarnation, but its `main` did run, and that has to be seen.
            trace.write_at(Event::Main, main_ns);
            return fail("crashzoo", &format!("rearguard refused to start: {error}"), EXIT_CONFIG);
        }
    };
    trace.learn(handle);
    trace.write_at(Event::Main, main_ns);
    if args.trace_start {
        trace.write_at(Event::Starting, starting_ns);
    }
    trace.write_at(Event::Armed, armed_ns);
    if let Some(is_given) = args.reports.answer
        && let Err(error) = handle.set_consent(is_given)
    {
        return fail("crashzoo", &error.to_string(), EXIT_CONFIG);
    }
    if args.reports.new_installation_id
        && let Err(error) = handle.reset_installation_id()
    {
        return fail("crashzoo", &error.to_string(), EXIT_CONFIG);
    }
    if args.deaf
        && let Err(problem) = process::be_deaf()
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if let Some(path) = &args.print_args
        && let Err(problem) = running::print_args(path)
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if args.foreign == Foreign::After
        && let Err(problem) = neighbours::install(args.foreign)
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if let Err(problem) = foreign::install_after(args.way) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if args.tell_topology {
        let (topology, reason) = handle.topology();
        eprintln!("crashzoo: topology: {topology:?}: {reason}");
    }
    if args.wait_ready || args.wait_guarded {
        if handle.wait_guarded(READY_WAIT) {
            trace.learn(handle);
            trace.write(Event::Guarded);
        } else {
            eprintln!("crashzoo: not guarded after {READY_WAIT:?}: {}", handle.health());
        }
    }
    leave_facts(args, handle);
    if let Err(problem) = start_roles(args, handle) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if args.hold.is_some() && !args.start.is_empty() {
        // Roles that are to be guarded by then.
        std::thread::sleep(args.after);
    }
    if let Some(wait) = args.hold
        && let Err(problem) = hold(handle, &trace, wait)
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if let Err(problem) = neighbours::behave(&args.manners, true) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    if args.tell_children {
        eprintln!("crashzoo: {}", neighbours::children());
    }
    if let Some(user) = args.drop_user
        && let Err(problem) = process::drop_user(user)
    {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    let _lock = match args.hold_lock.as_deref().map(lock::take) {
        None => None,
        Some(Ok(Some(lock))) => Some(lock),
        Some(Ok(None)) => return fail("crashzoo", "--hold-lock: the file is locked", EXIT_LOCKED),
        Some(Err(problem)) => return fail("crashzoo", &problem, EXIT_CONFIG),
    };
    if handle.incarnation() >= args.lives {
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = running::furnish(args) {
        return fail("crashzoo", &problem, EXIT_CONFIG);
    }
    std::thread::sleep(args.after);
    if !(args.wait_ready || args.wait_guarded) && handle.guard_pid().is_some() {
        // Nobody waited for it, but it is there by now.
        trace.learn(handle);
        trace.write(Event::Guarded);
    }
    match running::die(args) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => fail("crashzoo", &problem, EXIT_SURVIVED),
    }
}

fn builder(args: &Args) -> rearguard::Rearguard {
    let mut builder = hooks::add_to(rearguard::Rearguard::new(NAME, VERSION))
        .topology(args.topology)
        .restart(restart_policy(args));
    // Whoever has none is guarded in another way, and that is what most of the tests are about.
    let is_role = role_argument().is_some();
    if args.notice {
        builder = builder.role(AppRole::new(NOTICE_ROLE)).notice(NOTICE_ROLE);
    }
    if args.roles || !args.start.is_empty() || is_role {
        builder = builder
            .role(AppRole::new("helper").restart(restart_policy(args)))
            .role(AppRole::new("loner").restart(restart_policy(args)).own_guard());
    }
    if let Some(store) = &args.store {
        builder = builder.store(store);
    }
    if let Some(collector) = &args.collector {
        builder = builder.collector(collector.as_str()).consent(rearguard::Consent::Granted);
    }
    builder = report_choices(&args.reports, builder);
    if args.wait_ready {
        builder = builder.wait_ready(READY_WAIT);
    }
    builder = builder.dump_size(args.dump_size);
    if let Some(wait) = args.dump_wait {
        builder = builder.dump_wait(wait);
    }
    if args.raise_dumpable {
        builder = builder.dump_after_privilege_drop(true);
    }
    if let Some(spot) = &args.fail_spot {
        builder = builder.fail_spot(spot);
    }
    if let Some(callback) = ways::on_crash(args.way) {
        builder = builder.on_crash(callback);
    }
    builder
}

/// What the command line says about reports.
fn report_choices(
    reports: &args::Reports,
    mut builder: rearguard::Rearguard,
) -> rearguard::Rearguard {
    // Most tests count reports, and are about other limits than these.
    let (in_an_hour, in_a_day) = reports.uploads.unwrap_or((1_000_000, 1_000_000));
    builder = builder.uploads_at_most(in_an_hour, in_a_day);
    if !reports.same_crash.is_zero() {
        builder = builder.same_crash_window(reports.same_crash);
    }
    if let Some(consent) = reports.consent {
        builder = builder.consent(consent);
    }
    if let Some(file) = &reports.certificates {
        builder = builder.collector_certificates(file);
    }
    for file in &reports.attachments {
        builder = builder.attachment(file);
    }
    if let Some((count, bytes, age)) = reports.keep {
        builder = builder.keep_reports(count, bytes, age);
    }
    if let Some(first) = reports.retry {
        builder = builder.retry_delivery(first);
    }
    if reports.no_installation_id {
        builder = builder.without_installation_id();
    }
    builder
}

/// The argument by which this process is one of the roles.
fn role_argument() -> Option<String> {
    let first = std::env::args_os().nth(1)?.to_string_lossy().into_owned();
    first.starts_with(rearguard::ROLE_ARGUMENT_PREFIX).then_some(first)
}

/// The process that tells the user: appends one line about what it was told.
fn notice(path: &Path) -> ExitCode {
    let started = rearguard::Rearguard::new(NAME, VERSION)
        .store(path.with_file_name("store"))
        .role(AppRole::new(NOTICE_ROLE))
        .notice(NOTICE_ROLE)
        .restart(rearguard::RestartPolicy::default())
        .start();
    let handle = match started {
        Ok(handle) => handle,
        Err(error) => return fail("crashzoo", &error.to_string(), EXIT_CONFIG),
    };
    let class = handle.last_exit_class().map_or("none", |class| class.label());
    let report = handle.last_report().map_or("none", |report| report.id()).to_owned();
    let role = handle.role().unwrap_or("none");
    let line = format!("{role} {} {class} {report}\n", handle.incarnation());
    let file = OpenOptions::new().append(true).create(true).open(path);
    match file.and_then(|mut file| file.write_all(line.as_bytes())) {
        // The notice itself may be what fails.
        Ok(()) if std::env::var_os("ZOO_NOTICE_FAILS").is_some() => std::process::abort(),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("crashzoo", &error.to_string(), EXIT_CONFIG),
    }
}

/// Becomes a daemon, and is guarded as one.
fn daemonize(handle: &mut rearguard::Handle) -> Result<(), String> {
    let early = handle.after_fork().err().map(|error| error.to_string());
    if early.is_none_or(|error| !error.contains("the process that was started")) {
        return Err(String::from(
            "--daemonize: the process that was started took itself for a fork",
        ));
    }
    process::daemonize()?;
    handle.after_fork().map_err(|error| error.to_string())
}

/// Starts what `--start` asks for. Nobody waits for them: this process goes on to its own way to die.
fn start_roles(args: &Args, handle: &rearguard::Handle) -> Result<(), String> {
    neighbours::knock(args.knock, args.shut_door)?;
    for (role, line) in &args.start {
        let mut command = handle.role_command(role).map_err(|error| error.to_string())?;
        if let Some(store) = &args.store {
            command.arg("--store").arg(store);
        }
        if let Some(trace) = &args.trace {
            command.arg("--trace").arg(trace);
        }
        command.args(line.split_whitespace());
        if args.confine_roles {
            neighbours::confine(&mut command);
        }
        let child = command.spawn().map_err(|error| format!("--start {role}: {error}"))?;
        drop(child);
    }
    Ok(())
}

/// Holds the guard off for a while, as an installer would have it.
fn hold(handle: &rearguard::Handle, trace: &Trace, wait: Duration) -> Result<(), String> {
    handle.hold().map_err(|error| error.to_string())?;
    trace.write(Event::Held);
    std::thread::sleep(wait);
    handle.release();
    if !handle.wait_guarded(READY_WAIT) {
        return Err(format!("not guarded after {READY_WAIT:?}: {}", handle.health()));
    }
    trace.learn(handle);
    trace.write(Event::Guarded);
    Ok(())
}

fn restart_policy(args: &Args) -> rearguard::RestartPolicy {
    let mut policy = rearguard::RestartPolicy::new(args.restart);
    if let Some(crashes) = args.intensity {
        policy = policy.intensity(crashes, args.period);
    }
    if let Some(crashes) = args.in_a_row {
        policy = policy.in_a_row(crashes, Duration::from_secs(10));
    }
    if let Some((base, max)) = args.backoff {
        policy = policy.backoff(base, max);
    }
    policy
}

/// What the command line asks to leave in the black box.
fn leave_facts(args: &Args, handle: &rearguard::Handle) {
    for (key, value) in &args.annotations {
        if let Err(error) = handle.annotate(key, value) {
            eprintln!("crashzoo: --annotate {key}: {error}");
        }
    }
    for line in &args.log {
        handle.log(line);
    }
    if let Some(state) = &args.recovery
        && let Err(error) = handle.set_recovery_state(state.as_bytes())
    {
        eprintln!("crashzoo: --recovery: {error}");
    }
    if args.ready {
        handle.ready();
    }
    if args.tell_history {
        let (lives, unclean) = (handle.short_lives(), handle.unclean_ends());
        let (safe, given_up) = (handle.is_safe_mode(), handle.was_given_up());
        eprintln!(
            "crashzoo: short lives: {lives}, safe mode: {safe}, unclean ends: {unclean}, given up: {given_up}"
        );
    }
    if args.health {
        eprintln!("crashzoo: health: {}", handle.health());
    }
}

fn fail(program: &str, problem: &str, code: u8) -> ExitCode {
    eprintln!("{program}: {problem}");
    ExitCode::from(code)
}
