//! The command line, on which checks outside this repository rely: options may be added, never changed.
//!
//! Parsed before `start()`, because the builder needs most of it; the guard role never comes here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use rearguard::{Consent, DumpSize, RestartWhen, Topology};

use crate::sys;
use crate::ways::Way;

/// The text of `--help`.
#[must_use]
pub fn usage() -> String {
    ["usage: crashzoo [OPTIONS] WAY\n\nways:\n", sys::ways::LISTED, OPTIONS].concat()
}

/// What follows the ways.
const OPTIONS: &str = "

options:
  --store DIR            where reports go; without it, the library's default
  --collector URL        where reports are sent; grants consent
  --topology NAME        worker-first (default), guard-first, at-crash, auto
  --restart WHEN         never, on-crash (default), always
  --wait-ready           start() waits until the worker is guarded
  --thread WHICH         which thread dies: main (default), std, foreign
  --threads N            idle threads that stand around
  --heap MIB             memory that is touched beforehand
  --after MS             waits before it dies
  --lives N              dies in the first N incarnations, then exits 0 (default 1); lifts the limits on restarts
  --hold-lock FILE       an exclusive lock for its life; exit status 75 if it is taken
  --trace FILE           appends one JSON object a line

options for the project's own tests:
  --wait-guarded         waits after start() instead of in it
  --trace-start          one more line in the trace: start() is called next
  --fail-spot STEP:ACT   passed to rearguard: what happens to the guard at which step
  --dump-wait-ms N       how long the crashed worker waits for its dump
  --dump-size NAME       small, standard (default), large
  --no-limit             restarts without end and without delay
  --default-limits       behind --lives: the library's own limits after all
  --intensity N          crashes within --period-ms (default 600000) before it gives up
  --period-ms N
  --in-a-row N           short lives before it gives up
  --first-delay-ms N     the backoff's base
  --max-delay-ms N       the backoff's cap
  --annotate KEY=VALUE   may be repeated
  --log LINE             may be repeated
  --consent WORD         granted (default with --collector), ask, denied
  --answer WORD          what the user says after start(): yes or no
  --certificates FILE    those that the collector's must be signed by
  --attach FILE          goes with a report, may be repeated; needs ZOO_HOOKS=attach
  --keep N:BYTES:S       how many reports the store keeps, how many bytes, and for how many seconds
  --uploads HOUR:DAY     how many reports are sent (default: a million)
  --retry-s N            how long after a failed delivery the next is due
  --same-crash-s N       for how long crashes at one place count as one (default 0: never); needs ZOO_HOOKS=same-crash
  --no-installation-id   reports are sent without
  --new-installation-id  asks for another one after start()
  --recovery TEXT        the state that the next incarnation gets
  --ready                calls ready()
  --print-args FILE      appends its command line, its directory and its variable ZOO_ENV, a line each
  --drop-user UID        changes to this user after start() (not on Windows)
  --raise-dumpable       lets itself be dumped after that (not on Windows)
  --health               prints the health to standard error
  --foreign WHEN         somebody else's handlers for every fault: none (default), before, after start() (not on Windows)
  --small-stack BYTES    the dying thread has an alternate stack with no more room than this (not on Windows)
  --deaf                 Ctrl-C doesn't end it (Windows only)
  --hold-ms N            holds its guard off for this long before it goes on
  --daemonize            goes on in a process that is forked twice, and is guarded there (not on Windows)
  --manners WORD         does before or after start() what some programs do, may be repeated (not on Windows): subreaper,
                         ignore-sigchld, count-sigchld, close-all, reuse-descriptors, chdir, seccomp, block-signals
  --tell-children        prints what it knows of children, their signals and its threads to standard error (not on Windows)
  --tell-history         prints what it is told of the lives before to standard error
  --tell-topology        prints where the guard stands to standard error, and why
  --roles                registers the roles helper and loner, as every option of them does
  --start ROLE:LINE      starts a process of this role (helper, or loner with a guard of its own) with the words of LINE and this store and trace; may be repeated
  --start-many N:LINE    the same for N helpers at once
  --notice               the role notice tells of a crash loop's end: it appends to the file of the variable ZOO_NOTICE what it is told
  --confine-roles        roles begin without a right that this process has: no_new_privs (not on Windows)
  --shut-door            shuts the socket to the guard of its roles down, for all (not on Windows)
  --knock N              before that, N messages that mean nothing are sent to the guard of its roles (not on Windows)

the variable ZOO_HOOKS lists what a guard does by code of the application's: attach, redact, query, same-crash, open-files, indirect-memory (16 KiB),
scrub-stacks, scrub (annotations
with the key secret go, of the log and of panics the word SECRET), transport (appends each request to the file of ZOO_SENT),
scrub-panics, transport-panics

exit statuses of its own: 2 wrong argument, 70 survived its way to die, 75 lock taken, 78 can't start,
99 the crash path allocated";

/// Which thread dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DyingThread {
    Main,
    Std,
    Foreign,
}

/// When somebody else's handlers are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    None,
    Before,
    After,
}

/// What the command line says about reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    pub(crate) consent: Option<Consent>,
    pub(crate) answer: Option<bool>,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) attachments: Vec<PathBuf>,
    pub(crate) keep: Option<(u32, u64, Duration)>,
    pub(crate) uploads: Option<(u32, u32)>,
    pub(crate) retry: Option<Duration>,
    pub(crate) same_crash: Duration,
    pub(crate) no_installation_id: bool,
    pub(crate) new_installation_id: bool,
}

impl Reports {
    /// Takes an option, if it is one of these.
    fn option(&mut self, name: &str, parser: &mut Parser) -> Result<bool, String> {
        match name {
            "consent" => {
                self.consent = Some(match text(name, parser)?.as_str() {
                    "granted" => Consent::Granted,
                    "ask" => Consent::Ask,
                    "denied" => Consent::Denied,
                    other => return Err(format!("--consent: '{other}' is none")),
                });
            }
            "answer" => self.answer = Some(text(name, parser)? == "yes"),
            "certificates" => self.certificates = Some(path(name, parser)?),
            "attach" => self.attachments.push(path(name, parser)?),
            "keep" => {
                let [reports, bytes, seconds] = numbers(name, &text(name, parser)?)?;
                let reports = u32::try_from(reports).unwrap_or(u32::MAX);
                self.keep = Some((reports, bytes, Duration::from_secs(seconds)));
            }
            "uploads" => {
                let [hour, day] = numbers(name, &text(name, parser)?)?;
                let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
                self.uploads = Some((number(hour), number(day)));
            }
            "retry-s" => self.retry = Some(Duration::from_secs(number(name, parser)?)),
            "same-crash-s" => self.same_crash = Duration::from_secs(number(name, parser)?),
            "no-installation-id" => self.no_installation_id = true,
            "new-installation-id" => self.new_installation_id = true,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Numbers with colons between them.
fn numbers<const N: usize>(name: &str, text: &str) -> Result<[u64; N], String> {
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    numbers
        .ok()
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("--{name}: '{text}' is not {N} numbers with colons between them"))
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) store: Option<PathBuf>,
    pub(crate) collector: Option<String>,
    pub(crate) reports: Reports,
    pub(crate) topology: Topology,
    pub(crate) restart: RestartWhen,
    pub(crate) wait_ready: bool,
    pub(crate) wait_guarded: bool,
    pub(crate) thread: DyingThread,
    pub(crate) threads: usize,
    pub(crate) heap_mib: usize,
    pub(crate) after: Duration,
    pub(crate) lives: u32,
    pub(crate) hold_lock: Option<PathBuf>,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) trace_start: bool,
    pub(crate) fail_spot: Option<String>,
    pub(crate) dump_wait: Option<Duration>,
    pub(crate) dump_size: DumpSize,
    pub(crate) intensity: Option<u32>,
    pub(crate) period: Duration,
    pub(crate) in_a_row: Option<u32>,
    pub(crate) backoff: Option<(Duration, Duration)>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) log: Vec<String>,
    pub(crate) recovery: Option<String>,
    pub(crate) ready: bool,
    pub(crate) health: bool,
    pub(crate) foreign: Foreign,
    pub(crate) small_stack: Option<usize>,
    pub(crate) deaf: bool,
    pub(crate) hold: Option<Duration>,
    pub(crate) manners: Vec<String>,
    pub(crate) tell_children: bool,
    pub(crate) daemonize: bool,
    pub(crate) tell_history: bool,
    pub(crate) tell_topology: bool,
    pub(crate) roles: bool,
    pub(crate) start: Vec<(String, String)>,
    pub(crate) knock: usize,
    pub(crate) confine_roles: bool,
    pub(crate) shut_door: bool,
    pub(crate) notice: bool,
    pub(crate) print_args: Option<PathBuf>,
    pub(crate) drop_user: Option<u32>,
    pub(crate) raise_dumpable: bool,
    pub(crate) way: Way,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            store: None,
            collector: None,
            reports: Reports::default(),
            topology: Topology::WorkerFirst,
            restart: RestartWhen::OnCrash,
            wait_ready: false,
            wait_guarded: false,
            thread: DyingThread::Main,
            threads: 0,
            heap_mib: 0,
            after: Duration::ZERO,
            lives: 1,
            hold_lock: None,
            trace: None,
            trace_start: false,
            fail_spot: None,
            dump_wait: None,
            dump_size: DumpSize::Standard,
            intensity: None,
            period: Duration::from_secs(600),
            in_a_row: None,
            backoff: None,
            annotations: Vec::new(),
            log: Vec::new(),
            recovery: None,
            ready: false,
            health: false,
            foreign: Foreign::None,
            small_stack: None,
            deaf: false,
            hold: None,
            manners: Vec::new(),
            tell_children: false,
            daemonize: false,
            tell_history: false,
            tell_topology: false,
            roles: false,
            start: Vec::new(),
            knock: 0,
            confine_roles: false,
            shut_door: false,
            notice: false,
            print_args: None,
            drop_user: None,
            raise_dumpable: false,
            way: Way::None,
        }
    }
}

impl Args {
    /// `None` means that help was asked for.
    /// The error is one line that names the argument.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Args>, String> {
        let mut parser = Parser::from_args(arguments);
        let mut args = Args::default();
        let mut way = None;
        while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Long(name) => {
                    let name = name.to_owned();
                    args.option(&name, &mut parser)?;
                }
                Arg::Short(letter) => return Err(format!("-{letter}: no such option")),
                Arg::Value(word) => {
                    let word = word.to_string_lossy().into_owned();
                    if way.is_some() {
                        return Err(format!("'{word}': one way to die is enough"));
                    }
                    let parsed =
                        Way::parse(&word).ok_or_else(|| format!("'{word}': no such way to die"))?;
                    way = Some(parsed);
                }
            }
        }
        args.way = way.ok_or("WAY: the way to die is missing")?;
        Ok(Some(args))
    }

    fn option(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        if sys::ABSENT_OPTIONS.contains(&name) {
            return Err(format!("--{name}: not on this system"));
        }
        match name {
            "store" => self.store = Some(path(name, parser)?),
            "collector" => self.collector = Some(text(name, parser)?),
            "topology" => self.topology = topology(&text(name, parser)?)?,
            "restart" => self.restart = restart(&text(name, parser)?)?,
            "wait-ready" => self.wait_ready = true,
            "wait-guarded" => self.wait_guarded = true,
            "thread" => self.thread = thread(&text(name, parser)?)?,
            "threads" => self.threads = number(name, parser)?,
            "heap" => self.heap_mib = number(name, parser)?,
            "after" => self.after = millis(name, parser)?,
            "lives" => {
                self.lives = number(name, parser)?;
                // Whoever asks for N deaths wants to see all of them; the loop's end has options of its own.
                self.lift_limits();
            }
            "hold-lock" => self.hold_lock = Some(path(name, parser)?),
            "trace" => self.trace = Some(path(name, parser)?),
            _ => self.own_option(name, parser)?,
        }
        Ok(())
    }

    /// Restarts without end and without delay: no sixteen crashes fit into a millisecond.
    fn lift_limits(&mut self) {
        self.intensity = Some(16);
        self.period = Duration::from_millis(1);
        self.in_a_row = Some(u32::MAX);
        self.backoff = Some((Duration::ZERO, Duration::ZERO));
    }

    /// The options that are for the project's own tests.
    fn own_option(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        if self.reports.option(name, parser)? {
            return Ok(());
        }
        match name {
            "trace-start" => self.trace_start = true,
            "fail-spot" => self.fail_spot = Some(text(name, parser)?),
            "dump-wait-ms" => self.dump_wait = Some(millis(name, parser)?),
            "dump-size" => self.dump_size = dump_size(&text(name, parser)?)?,
            "no-limit" => self.lift_limits(),
            "default-limits" => {
                self.intensity = None;
                self.in_a_row = None;
                self.backoff = None;
            }
            "intensity" => self.intensity = Some(number(name, parser)?),
            "period-ms" => self.period = millis(name, parser)?,
            "in-a-row" => self.in_a_row = Some(number(name, parser)?),
            "first-delay-ms" => {
                let base = millis(name, parser)?;
                let max = self.backoff.map_or(base, |(_, max)| max.max(base));
                self.backoff = Some((base, max));
            }
            "max-delay-ms" => {
                let max = millis(name, parser)?;
                let base = self.backoff.map_or(Duration::from_secs(1), |(base, _)| base);
                self.backoff = Some((base.min(max), max));
            }
            "annotate" => {
                let pair = text(name, parser)?;
                let (key, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("--annotate: '{pair}' has no '='"))?;
                self.annotations.push((key.to_owned(), value.to_owned()));
            }
            // What is no text is logged as far as it is: a test passes what a system allows in an argument.
            "log" => {
                let line = parser.value().map_err(|e| e.to_string())?;
                self.log.push(line.to_string_lossy().into_owned());
            }
            "recovery" => self.recovery = Some(text(name, parser)?),
            "ready" => self.ready = true,
            "print-args" => self.print_args = Some(path(name, parser)?),
            "drop-user" => self.drop_user = Some(number(name, parser)?),
            "raise-dumpable" => self.raise_dumpable = true,
            "health" => self.health = true,
            "foreign" => self.foreign = foreign(&text(name, parser)?)?,
            "small-stack" => self.small_stack = Some(number(name, parser)?),
            "deaf" => self.deaf = true,
            "hold-ms" => self.hold = Some(millis(name, parser)?),
            "manners" => self.manners.push(text(name, parser)?),
            "tell-children" => self.tell_children = true,
            "daemonize" => self.daemonize = true,
            "tell-history" => self.tell_history = true,
            "tell-topology" => self.tell_topology = true,
            "roles" => self.roles = true,
            "notice" => self.notice = true,
            "confine-roles" => self.confine_roles = true,
            "shut-door" => self.shut_door = true,
            "knock" => self.knock = number(name, parser)?,
            "start-many" => {
                let pair = text(name, parser)?;
                let (count, line) = pair
                    .split_once(':')
                    .and_then(|(count, line)| Some((count.parse().ok()?, line)))
                    .ok_or_else(|| format!("--start-many: '{pair}' is not N:LINE"))?;
                for _ in 0..count {
                    self.start.push((String::from("helper"), line.to_owned()));
                }
            }
            "start" => {
                let pair = text(name, parser)?;
                let (role, line) =
                    pair.split_once(':').ok_or_else(|| format!("--start: '{pair}' has no ':'"))?;
                self.start.push((role.to_owned(), line.to_owned()));
            }
            _ => return Err(format!("--{name}: no such option")),
        }
        Ok(())
    }
}

fn value(name: &str, parser: &mut Parser) -> Result<OsString, String> {
    parser.value().map_err(|_| format!("--{name}: its value is missing"))
}

fn path(name: &str, parser: &mut Parser) -> Result<PathBuf, String> {
    value(name, parser).map(PathBuf::from)
}

fn text(name: &str, parser: &mut Parser) -> Result<String, String> {
    value(name, parser)?.string().map_err(|_| format!("--{name}: its value is not UTF-8"))
}

fn number<T: FromStr>(name: &str, parser: &mut Parser) -> Result<T, String> {
    let text = text(name, parser)?;
    text.parse().map_err(|_| format!("--{name}: '{text}' is not a number in its range"))
}

fn millis(name: &str, parser: &mut Parser) -> Result<Duration, String> {
    number(name, parser).map(Duration::from_millis)
}

fn topology(word: &str) -> Result<Topology, String> {
    match word {
        "worker-first" => Ok(Topology::WorkerFirst),
        "guard-first" => Ok(Topology::GuardFirst),
        "at-crash" => Ok(Topology::AtCrash),
        "auto" => Ok(Topology::Auto),
        _ => Err(format!(
            "--topology: '{word}' is none of worker-first, guard-first, at-crash, auto"
        )),
    }
}

fn restart(word: &str) -> Result<RestartWhen, String> {
    match word {
        "never" => Ok(RestartWhen::Never),
        "on-crash" => Ok(RestartWhen::OnCrash),
        "always" => Ok(RestartWhen::Always),
        _ => Err(format!("--restart: '{word}' is none of never, on-crash, always")),
    }
}

fn thread(word: &str) -> Result<DyingThread, String> {
    match word {
        "main" => Ok(DyingThread::Main),
        "std" => Ok(DyingThread::Std),
        "foreign" => Ok(DyingThread::Foreign),
        _ => Err(format!("--thread: '{word}' is none of main, std, foreign")),
    }
}

fn foreign(word: &str) -> Result<Foreign, String> {
    match word {
        "none" => Ok(Foreign::None),
        "before" => Ok(Foreign::Before),
        "after" => Ok(Foreign::After),
        _ => Err(format!("--foreign: '{word}' is none of none, before, after")),
    }
}

fn dump_size(word: &str) -> Result<DumpSize, String> {
    match word {
        "small" => Ok(DumpSize::Small),
        "standard" => Ok(DumpSize::Standard),
        "large" => Ok(DumpSize::Large),
        _ => Err(format!("--dump-size: '{word}' is none of small, standard, large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>, String> {
        Args::parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    /// Goal: the whole agreed command line is understood.
    #[test]
    fn the_agreed_line_is_understood() {
        let line = "--store /s --collector http://h/ --topology at-crash --restart always --wait-ready \
                    --thread foreign --threads 3 --heap 4 --after 5 --lives 6 --hold-lock /l --trace /t ill";
        let args = parse(line).unwrap().unwrap();
        assert_eq!(args.store, Some(PathBuf::from("/s")));
        assert_eq!(args.collector.as_deref(), Some("http://h/"));
        assert_eq!(args.topology, Topology::AtCrash);
        assert_eq!(args.restart, RestartWhen::Always);
        assert!(args.wait_ready);
        assert_eq!(args.thread, DyingThread::Foreign);
        assert_eq!((args.threads, args.heap_mib, args.lives), (3, 4, 6));
        assert_eq!(args.after, Duration::from_millis(5));
        assert_eq!(args.hold_lock, Some(PathBuf::from("/l")));
        assert_eq!(args.trace, Some(PathBuf::from("/t")));
        assert_eq!(args.way, Way::Ill);
    }

    /// Goal: a wrong argument is named.
    #[test]
    fn a_wrong_argument_is_named() {
        for (line, named) in [
            ("", "WAY"),
            ("nonsense", "nonsense"),
            ("ill fpe", "fpe"),
            ("--lives many ill", "--lives"),
            ("--store", "--store"),
            ("--thread minor ill", "minor"),
            ("--unheard-of ill", "--unheard-of"),
            ("-x ill", "-x"),
            ("--annotate pair ill", "pair"),
        ] {
            let problem = parse(line).unwrap_err();
            assert!(problem.contains(named), "{line}: {problem}");
            assert!(!problem.contains('\n'), "{line}: {problem}");
        }
    }

    /// Goal: every way in the usage text exists, and every way is in the usage text.
    #[test]
    fn usage_and_ways_agree() {
        let usage = usage();
        let listed: Vec<&str> = usage
            .lines()
            .skip_while(|line| *line != "ways:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .flat_map(str::split_whitespace)
            .collect();
        for word in &listed {
            assert!(Way::parse(word).is_some(), "{word}");
        }
        assert_eq!(listed.len(), Way::count());
    }

    /// Goal: an option that has no meaning on this system is refused by its name, in one line.
    #[test]
    fn an_absent_option_is_named() {
        for name in sys::ABSENT_OPTIONS {
            let problem = parse(&format!("--{name} 1 ill")).unwrap_err();
            assert_eq!(problem, format!("--{name}: not on this system"));
        }
    }
}
