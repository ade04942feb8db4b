//! The words that application, worker, guard and supervisor share: how a life ended, when the next one begins, and what is remembered from life to life.
//!
//! Only values and arithmetic live here.
//! This module must never look at a clock, the environment or a process: what it holds has to mean the same in a record that was sealed yesterday.
//! The builder fills it, both records carry it as plain numbers, and the supervisor decides by it.

use std::time::Duration;

/// How many crashes the sliding window can remember, and so the largest intensity.
/// Sixteen times fit in a record of fixed size; when the ring is full, the oldest time makes room.
pub(crate) const INTENSITY_MAX: usize = 16;

/// The longest delay between two lives, in milliseconds: one hour.
/// A guard that waits longer is a process that nobody remembers; a larger value is a builder error.
pub(crate) const DELAY_MS_MAX: u64 = 3_600_000;

/// The longest period of the window, and the longest uptime that can be asked for, in milliseconds: one week.
/// A larger value is a builder error.
pub(crate) const PERIOD_MS_MAX: u64 = 604_800_000;

/// The largest jitter, in percent of the delay. Beyond half of it the doubling would no longer be seen; a larger value is a builder error.
pub(crate) const JITTER_PERCENT_MAX: u32 = 50;

/// The largest minidump by the application's choice of its size, in bytes. The writer drops the least useful parts first.
pub(crate) const SMALL_DUMP_BYTES_MAX: usize = 512 << 10;
/// As above. Most dumps are under 1 MiB.
pub(crate) const STANDARD_DUMP_BYTES_MAX: usize = 4 << 20;
/// As above. Collectors refuse more than 20 MiB.
pub(crate) const LARGE_DUMP_BYTES_MAX: usize = 16 << 20;

/// The exit code of a process whose main thread ended by a Rust panic.
pub(crate) const PANIC_CODE: i32 = 101;

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;

/// How much a minidump holds, and how large it becomes at most.
///
/// What doesn't fit goes in the order of its worth; the crashing thread's stack is the last.
/// Windows decides itself what a kind of dump holds: where that doesn't fit, the next smaller kind is taken, and the smallest one up to 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DumpSize {
    /// At most 512 KiB: registers of all threads, 64 KiB of the crashing thread's stack, 8 KiB of each other.
    /// Windows writes `MiniDumpNormal` with thread times and unloaded modules, each stack whole.
    Small,
    /// At most 4 MiB: 128 KiB of the crashing thread's stack, 32 KiB of each other.
    /// Windows adds open handles and the memory that stacks refer to. The default.
    #[default]
    Standard,
    /// At most 16 MiB, since collectors refuse more than 20: 1 MiB of the crashing thread's stack, 128 KiB of each other.
    /// Windows adds the modules' global variables.
    Large,
}

impl DumpSize {
    pub(crate) const fn number(self) -> u32 {
        match self {
            DumpSize::Small => 0,
            DumpSize::Standard => 1,
            DumpSize::Large => 2,
        }
    }

    pub(crate) const fn from_number(number: u32) -> Option<DumpSize> {
        match number {
            0 => Some(DumpSize::Small),
            1 => Some(DumpSize::Standard),
            2 => Some(DumpSize::Large),
            _ => None,
        }
    }

    /// The limit of the whole file, in bytes.
    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            DumpSize::Small => SMALL_DUMP_BYTES_MAX,
            DumpSize::Standard => STANDARD_DUMP_BYTES_MAX,
            DumpSize::Large => LARGE_DUMP_BYTES_MAX,
        }
    }
}

/// How one life of the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitClass {
    /// It ended by itself with exit code 0.
    Clean,
    /// It ended by itself with this exit code, which is not 0.
    Code(i32),
    /// It crashed: by this signal on Unix (`signal(7)`), with this NTSTATUS on Windows.
    Crash(i32),
    /// Somebody ended it from outside, by this signal.
    Killed(i32),
    /// It no longer answered and was ended for that.
    Hang,
    /// The system did not tell. Such an end is never followed by a restart.
    Unknown,
}

impl ExitClass {
    /// The class of an exit code.
    #[must_use]
    pub const fn from_code(code: i32) -> ExitClass {
        if code == 0 { ExitClass::Clean } else { ExitClass::Code(code) }
    }

    /// The class of an end by this Linux signal.
    ///
    /// ILL, TRAP, ABRT, BUS, FPE, SEGV and SYS are a program's own faults, every other signal came from outside.
    /// QUIT dumps core too, but a person at a keyboard sends it.
    #[must_use]
    pub const fn from_signal(signal: i32) -> ExitClass {
        match signal {
            4..=8 | 11 | 31 => ExitClass::Crash(signal),
            _ => ExitClass::Killed(signal),
        }
    }

    /// The class as one lower-case word, as metadata and records carry it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            ExitClass::Clean => "clean",
            ExitClass::Code(_) => "code",
            ExitClass::Crash(_) => "crash",
            ExitClass::Killed(_) => "killed",
            ExitClass::Hang => "hang",
            ExitClass::Unknown => "unknown",
        }
    }

    /// The exit code, signal or NTSTATUS, where the class has one.
    #[must_use]
    pub const fn value(self) -> Option<i32> {
        match self {
            ExitClass::Code(value) | ExitClass::Crash(value) | ExitClass::Killed(value) => {
                Some(value)
            }
            ExitClass::Clean | ExitClass::Hang | ExitClass::Unknown => None,
        }
    }

    /// Puts [`label`](ExitClass::label) and [`value`](ExitClass::value) together again.
    ///
    /// `None` when there is no such label, or when the label needs a value and has none; a value that the label doesn't need is dropped.
    #[must_use]
    pub fn from_label(label: &str, value: Option<i32>) -> Option<ExitClass> {
        match label {
            "clean" => Some(ExitClass::Clean),
            "code" => value.map(ExitClass::Code),
            "crash" => value.map(ExitClass::Crash),
            "killed" => value.map(ExitClass::Killed),
            "hang" => Some(ExitClass::Hang),
            "unknown" => Some(ExitClass::Unknown),
            _ => None,
        }
    }
}

/// The name of a Linux signal as `signal(7)` has it, or of a Windows exception code as its header has it, or `"signal"` for a number without one.
///
/// No number means both: exception codes have bits of severity that no signal number reaches.
#[must_use]
pub const fn signal_name(signal: i32) -> &'static str {
    match signal as u32 {
        0xc000_0005 => "EXCEPTION_ACCESS_VIOLATION",
        0xc000_0006 => "EXCEPTION_IN_PAGE_ERROR",
        0xc000_001d => "EXCEPTION_ILLEGAL_INSTRUCTION",
        0xc000_0025 => "EXCEPTION_NONCONTINUABLE_EXCEPTION",
        0xc000_008c => "EXCEPTION_ARRAY_BOUNDS_EXCEEDED",
        0xc000_008e => "EXCEPTION_FLT_DIVIDE_BY_ZERO",
        0xc000_0094 => "EXCEPTION_INT_DIVIDE_BY_ZERO",
        0xc000_0095 => "EXCEPTION_INT_OVERFLOW",
        0xc000_0096 => "EXCEPTION_PRIV_INSTRUCTION",
        0xc000_00fd => "EXCEPTION_STACK_OVERFLOW",
        0xc000_0374 => "STATUS_HEAP_CORRUPTION",
        0xc000_0409 => "STATUS_STACK_BUFFER_OVERRUN",
        0xc000_0417 => "STATUS_INVALID_CRUNTIME_PARAMETER",
        0xc000_0420 => "STATUS_ASSERTION_FAILURE",
        0x4000_0015 => "STATUS_FATAL_APP_EXIT",
        0x8000_0003 => "EXCEPTION_BREAKPOINT",
        0x8000_0004 => "EXCEPTION_SINGLE_STEP",
        0xe06d_7363 => "CPP_EXCEPTION",
        _ => linux_signal_name(signal),
    }
}

/// Each has nine places, and stands where its number says. In one text they take a third of what a list of them takes.
const LINUX_SIGNALS: &str = "\
    SIGHUP   SIGINT   SIGQUIT  SIGILL   SIGTRAP  SIGABRT  SIGBUS   SIGFPE   \
    SIGKILL  SIGUSR1  SIGSEGV  SIGUSR2  SIGPIPE  SIGALRM  SIGTERM  SIGSTKFLT\
    signal   signal   signal   signal   signal   signal   signal   SIGXCPU  \
    SIGXFSZ  SIGVTALRMSIGPROF  signal   SIGIO    SIGPWR   SIGSYS   ";

/// [`signal_name`] of a signal alone: a Linux guard has no use for the others.
pub(crate) const fn linux_signal_name(signal: i32) -> &'static str {
    const PLACES: usize = 9;
    let number = signal as usize;
    if number == 0 || number > LINUX_SIGNALS.len() / PLACES {
        return "signal";
    }
    let Some((_, from_here)) = LINUX_SIGNALS.split_at_checked((number - 1) * PLACES) else {
        return "signal";
    };
    match from_here.split_at_checked(PLACES) {
        Some((name, _)) => name.trim_ascii_end(),
        None => "signal",
    }
}

/// Which ends of a life are followed by another life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RestartWhen {
    /// None; ends are reported only.
    Never,
    /// Crash, abort, hang, and exit code 101 after a Rust panic. The default.
    #[default]
    OnCrash,
    /// Every end, a clean one and a kill too, except those whose class is unknown and those after a request to stop.
    Always,
}

/// When the worker is started again, how soon, and when that is given up.
///
/// Times have a resolution of one millisecond; what is finer is dropped.
/// Nothing is checked before [`validate`](RestartPolicy::validate), which the builder calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    pub(crate) when: RestartWhen,
    pub(crate) any_code: bool,
    /// Whether the application chose this policy itself. Then an outer supervisor's own restarts don't turn ours off.
    pub(crate) explicit: bool,
    pub(crate) first_delay_ms: u64,
    pub(crate) backoff_base_ms: u64,
    pub(crate) backoff_ms_max: u64,
    pub(crate) jitter_percent: u32,
    pub(crate) intensity: u32,
    pub(crate) period_ms: u64,
    pub(crate) in_a_row_max: u32,
    pub(crate) minimum_uptime_ms: u64,
    pub(crate) uptime_reset_ms: u64,
}

/// How many words [`RestartPolicy::to_words`] makes.
pub(crate) const POLICY_WORDS: usize = 12;

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy {
            when: RestartWhen::OnCrash,
            any_code: false,
            explicit: false,
            first_delay_ms: 0,
            backoff_base_ms: 1_000,
            backoff_ms_max: 60_000,
            jitter_percent: 25,
            intensity: 5,
            period_ms: 600_000,
            in_a_row_max: 3,
            minimum_uptime_ms: 10_000,
            uptime_reset_ms: 60_000,
        }
    }
}

impl RestartPolicy {
    /// The default policy for these ends.
    #[must_use]
    pub fn new(when: RestartWhen) -> RestartPolicy {
        RestartPolicy { when, ..RestartPolicy::default() }
    }

    /// Which ends are followed by a restart. Default: [`RestartWhen::OnCrash`].
    #[must_use]
    pub const fn when(mut self, when: RestartWhen) -> RestartPolicy {
        self.when = when;
        self
    }

    /// Whether [`RestartWhen::OnCrash`] takes every exit code but 0 for a crash. Default: no.
    #[must_use]
    pub const fn any_code(mut self, any_code: bool) -> RestartPolicy {
        self.any_code = any_code;
        self
    }

    /// How long after the full exit the first restart comes. Default: at once. At most one hour.
    #[must_use]
    pub const fn first_delay(mut self, delay: Duration) -> RestartPolicy {
        self.first_delay_ms = whole_ms(delay);
        self
    }

    /// The delay of the second restart, which doubles with every further one, and where the doubling ends.
    /// Default: 1 s and 60 s. At most one hour each.
    #[must_use]
    pub const fn backoff(mut self, base: Duration, max: Duration) -> RestartPolicy {
        self.backoff_base_ms = whole_ms(base);
        self.backoff_ms_max = whole_ms(max);
        self
    }

    /// By how much of itself a delay may differ in both directions, in percent, so that many machines don't come back in one instant.
    /// Default: 25. At most 50. A delay never becomes longer than the backoff's maximum.
    #[must_use]
    pub const fn jitter_percent(mut self, percent: u32) -> RestartPolicy {
        self.jitter_percent = percent;
        self
    }

    /// How many crashes within a sliding period are a crash loop: the last of them is not followed by a restart.
    /// Default: 5 in 10 minutes. From 1 to 16 crashes, from 1 ms to one week.
    #[must_use]
    pub const fn intensity(mut self, crashes: u32, period: Duration) -> RestartPolicy {
        self.intensity = crashes;
        self.period_ms = whole_ms(period);
        self
    }

    /// How many lives in a row that are shorter than the minimum uptime are a crash loop: the last of them is not followed by a restart.
    /// Default: 3 under 10 s. At least 1.
    #[must_use]
    pub const fn in_a_row(mut self, lives: u32, minimum_uptime: Duration) -> RestartPolicy {
        self.in_a_row_max = lives;
        self.minimum_uptime_ms = whole_ms(minimum_uptime);
        self
    }

    /// How long a life proves that all is well: backoff and in-a-row count begin anew. The window of crashes only slides.
    /// A life between minimum uptime and this proves nothing and changes neither count.
    /// Default: 60 s. Not shorter than the minimum uptime, and at most one week.
    #[must_use]
    pub const fn uptime_reset(mut self, uptime: Duration) -> RestartPolicy {
        self.uptime_reset_ms = whole_ms(uptime);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first field that can't be used, and why.
    pub const fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.first_delay_ms > DELAY_MS_MAX {
            return Err(("first_delay", "it is longer than one hour"));
        }
        if self.backoff_ms_max > DELAY_MS_MAX {
            return Err(("backoff", "the maximum is longer than one hour"));
        }
        if self.backoff_base_ms > self.backoff_ms_max {
            return Err(("backoff", "the base is longer than the maximum"));
        }
        if self.jitter_percent > JITTER_PERCENT_MAX {
            return Err(("jitter_percent", "it is more than 50"));
        }
        if self.intensity == 0 || self.intensity as usize > INTENSITY_MAX {
            return Err(("intensity", "it must be between 1 and 16 crashes"));
        }
        if self.period_ms == 0 || self.period_ms > PERIOD_MS_MAX {
            return Err(("intensity", "the period must be between 1 ms and one week"));
        }
        if self.in_a_row_max == 0 {
            return Err(("in_a_row", "it must be at least one life"));
        }
        if self.uptime_reset_ms > PERIOD_MS_MAX {
            return Err(("uptime_reset", "it is longer than one week"));
        }
        if self.minimum_uptime_ms > self.uptime_reset_ms {
            return Err(("uptime_reset", "it is shorter than the minimum uptime"));
        }
        Ok(())
    }

    /// The policy as plain numbers, for a record.
    pub(crate) const fn to_words(self) -> [u64; POLICY_WORDS] {
        [
            match self.when {
                RestartWhen::Never => 0,
                RestartWhen::OnCrash => 1,
                RestartWhen::Always => 2,
            },
            self.any_code as u64,
            self.explicit as u64,
            self.first_delay_ms,
            self.backoff_base_ms,
            self.backoff_ms_max,
            self.jitter_percent as u64,
            self.intensity as u64,
            self.period_ms,
            self.in_a_row_max as u64,
            self.minimum_uptime_ms,
            self.uptime_reset_ms,
        ]
    }

    /// Reads [`to_words`](RestartPolicy::to_words); `None` for anything that it can't have made of a valid policy.
    pub(crate) fn from_words(words: &[u64]) -> Option<RestartPolicy> {
        let &[
            when,
            any_code,
            explicit,
            first,
            base,
            max,
            jitter,
            intensity,
            period,
            row,
            minimum,
            reset,
        ] = words
        else {
            return None;
        };
        let policy = RestartPolicy {
            when: match when {
                0 => RestartWhen::Never,
                1 => RestartWhen::OnCrash,
                2 => RestartWhen::Always,
                _ => return None,
            },
            any_code: flag(any_code)?,
            explicit: flag(explicit)?,
            first_delay_ms: first,
            backoff_base_ms: base,
            backoff_ms_max: max,
            jitter_percent: u32::try_from(jitter).ok()?,
            intensity: u32::try_from(intensity).ok()?,
            period_ms: period,
            in_a_row_max: u32::try_from(row).ok()?,
            minimum_uptime_ms: minimum,
            uptime_reset_ms: reset,
        };
        policy.validate().ok()?;
        Some(policy)
    }
}

const fn whole_ms(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000).saturating_add(time.subsec_millis() as u64)
}

const fn flag(word: u64) -> Option<bool> {
    match word {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// What passes from life to life: everything that a crash loop is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct History {
    /// The number of the life that this history belongs to, from 0.
    pub(crate) incarnation: u32,
    /// How many lives in a row were shorter than the minimum uptime.
    pub(crate) in_a_row: u32,
    /// How many restarts there were since a life last proved itself: 0 is followed by the first delay, 1 by the backoff's base.
    pub(crate) backoff_step: u32,
    /// How many of `crashes_boot_ns` are in use.
    crashes: u32,
    /// When the last crashes were, oldest first, on the clock that counts suspended time as well.
    crashes_boot_ns: [u64; INTENSITY_MAX],
}

/// How many words [`History::to_words`] makes.
pub(crate) const HISTORY_WORDS: usize = 4 + INTENSITY_MAX;

impl History {
    /// The crashes that the window holds, oldest first.
    pub(crate) fn crashes_boot_ns(&self) -> &[u64] {
        self.crashes_boot_ns.get(..self.crashes as usize).unwrap_or(&[])
    }

    /// Slides the window to `now` and puts a crash into it; the answer is how many it then holds.
    ///
    /// A time that lies ahead of `now` means that the clock went back.
    /// It becomes `now`, so it counts in full and ages from here on: a clock that jumps can make the window stricter and never forgetful.
    pub(crate) fn push_crash(&mut self, now_boot_ns: u64, period_ns: u64) -> u32 {
        let mut kept = [0; INTENSITY_MAX];
        let mut count = 0;
        let recent = |crash: &u64| now_boot_ns.saturating_sub(*crash) < period_ns;
        let mut old = self.crashes_boot_ns();
        if old.len() == INTENSITY_MAX {
            old = old.get(1..).unwrap_or(&[]);
        }
        for (slot, crash) in
            kept.iter_mut().zip(old.iter().copied().filter(recent).chain([now_boot_ns]))
        {
            *slot = crash.min(now_boot_ns);
            count += 1;
        }
        self.crashes_boot_ns = kept;
        self.crashes = count;
        count
    }

    /// The history as plain numbers, for a record.
    pub(crate) fn to_words(self) -> [u64; HISTORY_WORDS] {
        let mut words = [0; HISTORY_WORDS];
        let head =
            [self.incarnation, self.in_a_row, self.backoff_step, self.crashes].map(u64::from);
        for (word, value) in words.iter_mut().zip(head.into_iter().chain(self.crashes_boot_ns)) {
            *word = value;
        }
        words
    }

    /// Reads [`to_words`](History::to_words); `None` for a wrong length or a number that is out of bounds.
    pub(crate) fn from_words(words: &[u64]) -> Option<History> {
        let (&[incarnation, in_a_row, backoff_step, crashes], times) =
            words.split_first_chunk::<4>()?;
        let crashes = u32::try_from(crashes).ok()?;
        (crashes as usize <= INTENSITY_MAX).then_some(())?;
        Some(History {
            incarnation: u32::try_from(incarnation).ok()?,
            in_a_row: u32::try_from(in_a_row).ok()?,
            backoff_step: u32::try_from(backoff_step).ok()?,
            crashes,
            crashes_boot_ns: times.try_into().ok()?,
        })
    }
}

/// Why this process must not be started again here, whatever the policy wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartBlock {
    /// It is the terminal's foreground job: the shell has taken the terminal back, and a second reader would steal its input.
    ForegroundJob,
    /// A service manager runs it and restarts it itself. An explicit policy overrides this.
    Service,
    /// Kubernetes runs it and restarts it itself. An explicit policy overrides this.
    Kubernetes,
    /// It is process 1 of its namespace: the kernel ends everything with it.
    PidOne,
    /// It has changed its user since its start; the next life would begin with other rights than the first.
    PrivilegeDrop,
    /// A filter of system calls was installed since its start, and the next life would inherit it.
    Seccomp,
    /// A debugger holds it, and its user wants to look at this life.
    Debugger,
    /// The user turned the guard off.
    OptOut,
    /// What is needed to start it again is missing or unreadable.
    NoLaunchRecord,
    /// The user's session ends, and all programs with it.
    SessionEnd,
    /// The program was asked to stop, and ended otherwise than it should have.
    StopAsked,
    /// It holds its guard off, for an installer or an update.
    Held,
    /// It is a role, and the application's main process is gone, which would have used it.
    FamilyEnded,
}

/// What the process is called that has none of the application's further roles.
pub(crate) const MAIN_ROLE: &str = "main";

impl StartBlock {
    /// Every block, in the order of its number.
    pub(crate) const ALL: [StartBlock; 13] = [
        StartBlock::ForegroundJob,
        StartBlock::Service,
        StartBlock::Kubernetes,
        StartBlock::PidOne,
        StartBlock::PrivilegeDrop,
        StartBlock::Seccomp,
        StartBlock::Debugger,
        StartBlock::OptOut,
        StartBlock::NoLaunchRecord,
        StartBlock::SessionEnd,
        StartBlock::StopAsked,
        StartBlock::Held,
        StartBlock::FamilyEnded,
    ];

    /// The reason as a clause for a person.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            StartBlock::ForegroundJob => "worker was the terminal's foreground job",
            StartBlock::Service => "a service manager restarts it",
            StartBlock::Kubernetes => "Kubernetes restarts it",
            StartBlock::PidOne => "worker was process 1",
            StartBlock::PrivilegeDrop => "worker had dropped privileges",
            StartBlock::Seccomp => "worker had installed a seccomp filter",
            StartBlock::Debugger => "a debugger holds the worker",
            StartBlock::OptOut => "guard was turned off by the user",
            StartBlock::NoLaunchRecord => "launch record is missing",
            StartBlock::SessionEnd => "the session ends",
            StartBlock::StopAsked => "worker had been asked to stop",
            StartBlock::Held => "worker held its guard off",
            StartBlock::FamilyEnded => "the application's main process is gone",
        }
    }

    /// Whether a policy that the application chose itself goes before this block.
    pub(crate) const fn yields_to_explicit(self) -> bool {
        match self {
            StartBlock::Service | StartBlock::Kubernetes => true,
            StartBlock::ForegroundJob
            | StartBlock::PidOne
            | StartBlock::PrivilegeDrop
            | StartBlock::Seccomp
            | StartBlock::Debugger
            | StartBlock::OptOut
            | StartBlock::NoLaunchRecord
            | StartBlock::SessionEnd
            | StartBlock::StopAsked
            | StartBlock::Held
            | StartBlock::FamilyEnded => false,
        }
    }

    /// The block's number in a record, from 1; 0 is free for "none".
    pub(crate) const fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Reads [`number`](StartBlock::number); `None` for 0 and for numbers that no block has.
    pub(crate) fn from_number(number: u32) -> Option<StartBlock> {
        StartBlock::ALL.get((number as usize).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: label and value carry every class without loss, and nothing else is read as a class.
    #[test]
    fn labels_read_back() {
        let classes = [
            ExitClass::Clean,
            ExitClass::Code(7),
            ExitClass::Crash(11),
            ExitClass::Crash(-1_073_741_819),
            ExitClass::Killed(9),
            ExitClass::Hang,
            ExitClass::Unknown,
        ];
        for class in classes {
            assert_eq!(ExitClass::from_label(class.label(), class.value()), Some(class));
        }
        assert_eq!(ExitClass::from_label("crash", None), None);
        assert_eq!(ExitClass::from_label("Clean", None), None);
        assert_eq!(ExitClass::from_label("hang", Some(0)), Some(ExitClass::Hang));
    }

    // Goal: the signals of a program's own faults are crashes, what people and kernels send from outside is a kill.
    #[test]
    fn signals_divide_into_crashes_and_kills() {
        let crashes: Vec<_> = (1..65)
            .filter(|n| ExitClass::from_signal(*n) == ExitClass::Crash(*n))
            .map(signal_name)
            .collect();
        assert_eq!(
            crashes,
            ["SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS"]
        );
        assert_eq!(ExitClass::from_signal(3), ExitClass::Killed(3));
        assert_eq!(ExitClass::from_code(0), ExitClass::Clean);
        assert_eq!(signal_name(64), "signal");
        assert_eq!(signal_name(0), "signal");
        assert_eq!(signal_name(-1), "signal");
        assert_eq!(
            [1, 16, 24, 26, 31].map(signal_name),
            ["SIGHUP", "SIGSTKFLT", "SIGXCPU", "SIGVTALRM", "SIGSYS"]
        );
    }

    // Goal: the default policy is valid, and each bound names its field on both sides.
    #[test]
    fn policies_out_of_range_are_refused() {
        let good = RestartPolicy::default();
        let hour = Duration::from_secs(3_600);
        let field = |policy: RestartPolicy| policy.validate().map_err(|(field, _)| field);
        assert_eq!(field(good), Ok(()));
        assert_eq!(field(good.first_delay(hour).backoff(Duration::ZERO, hour)), Ok(()));
        let over = hour + Duration::from_millis(1);
        assert_eq!(field(good.first_delay(over)), Err("first_delay"));
        assert_eq!(field(good.backoff(hour, over)), Err("backoff"));
        assert_eq!(field(good.backoff(hour, Duration::from_secs(1))), Err("backoff"));
        assert_eq!(field(good.jitter_percent(51)), Err("jitter_percent"));
        assert_eq!(field(good.intensity(0, hour)), Err("intensity"));
        assert_eq!(field(good.intensity(16, hour)), Ok(()));
        assert_eq!(field(good.intensity(17, hour)), Err("intensity"));
        assert_eq!(field(good.intensity(5, Duration::from_nanos(999_999))), Err("intensity"));
        assert_eq!(field(good.intensity(5, Duration::MAX)), Err("intensity"));
        assert_eq!(field(good.in_a_row(0, hour)), Err("in_a_row"));
        assert_eq!(field(good.in_a_row(3, hour)), Err("uptime_reset"));
        assert_eq!(field(good.uptime_reset(Duration::MAX)), Err("uptime_reset"));
    }

    // Goal: records carry policy, history and block without loss, and refuse what nobody wrote.
    #[test]
    fn words_read_back_and_are_bounded() {
        let policy = RestartPolicy::new(RestartWhen::Always)
            .any_code(true)
            .intensity(16, Duration::from_secs(1));
        assert_eq!(RestartPolicy::from_words(&policy.to_words()), Some(policy));
        for index in 0..POLICY_WORDS {
            let mut words = policy.to_words();
            words[index] = u64::MAX;
            assert_eq!(RestartPolicy::from_words(&words), None, "word {index}");
        }
        assert_eq!(RestartPolicy::from_words(&policy.to_words()[1..]), None);

        let mut history =
            History { incarnation: 9, in_a_row: 1, backoff_step: 2, ..History::default() };
        for crash in 0..40 {
            history.push_crash(crash, u64::MAX);
        }
        assert_eq!(history.crashes_boot_ns(), (24..40).collect::<Vec<u64>>());
        let words = history.to_words();
        assert_eq!(History::from_words(&words), Some(history));
        for index in 0..4 {
            let mut words = words;
            words[index] = u64::MAX;
            assert_eq!(History::from_words(&words), None, "word {index}");
        }
        let mut crowded = words;
        crowded[3] = INTENSITY_MAX as u64 + 1;
        assert_eq!(History::from_words(&crowded), None);
        assert_eq!(History::from_words(&words[..HISTORY_WORDS - 1]), None);
        assert_eq!(History::from_words(&[]), None);

        assert_eq!(StartBlock::from_number(0), None);
        for block in StartBlock::ALL {
            assert_eq!(StartBlock::from_number(block.number()), Some(block));
        }
        assert_eq!(StartBlock::from_number(StartBlock::ALL.len() as u32 + 1), None);
    }

    // Goal: the window forgets a crash after exactly one period, and a clock that goes back makes it stricter only.
    #[test]
    fn the_window_slides_and_never_forgets_early() {
        let mut history = History::default();
        assert_eq!(history.push_crash(1_000, 100), 1);
        assert_eq!(history.push_crash(1_099, 100), 2);
        assert_eq!(history.push_crash(1_100, 100), 2);
        assert_eq!(history.push_crash(500, 100), 3);
        assert_eq!(history.crashes_boot_ns(), [500, 500, 500]);
        assert_eq!(history.push_crash(599, 100), 4);
        assert_eq!(history.push_crash(600, 100), 2);
        assert_eq!(history.push_crash(u64::MAX, 100), 1);
        assert_eq!(history.push_crash(0, 100), 2);
    }
}
