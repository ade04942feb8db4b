//! The machine, the process as a whole, and the texts of the system.

use super::handover::Handover;
use super::procfs::{self, Proc};
use super::sys;
use crate::encode::{LINUX_CPU_INFO, LINUX_LSB_RELEASE, LINUX_PROC_STATUS, whole_lines};
use crate::heap::List;
use crate::parse::process::{self, Stat};
use crate::registers::processor_info;
use crate::snapshot::{Process, Snapshot, System};
use crate::text;

/// Bytes of the line of `stat`, of which the kernel gives some 400; no choice of the caller's cuts it, since it says where the secrets are.
const STAT_BYTES_MAX: usize = 4096;

/// Adds the texts of the system and what kind of machine it is, the short ones first.
///
/// `status` is that of the whole process as long as its main thread lives, since readers take the process id from it.
pub(super) fn describe(proc: Option<&Proc>, pid: i32, max: usize, snapshot: &mut Snapshot) {
    let of_process = proc.and_then(|proc| proc.read_thread(pid, b"/status", max).ok());
    let alive = of_process.filter(|text| !text.windows(8).any(|window| window == b"State:\tZ"));
    let status = alive.or_else(|| proc.and_then(|proc| proc.read(c"status", max).ok()));
    snapshot.add_text(LINUX_PROC_STATUS, &status.unwrap_or_default());
    // Read once: the kernel takes longer to describe its processors than a small process is stopped for.
    if let Some(kept) = FIXED.get().filter(|kept| kept.limit == max) {
        return kept.tell(snapshot);
    }
    let fixed = Fixed::read(max);
    fixed.tell(snapshot);
    FIXED.set(fixed);
}

/// How many processors the system has running, as it was told last.
pub(super) fn processors() -> u8 {
    FIXED.get().map_or_else(sys::processors, |kept| kept.processors)
}

/// What doesn't change while this process lives, and the limit that its texts were read with.
struct Fixed {
    limit: usize,
    /// How many processors there are; the C library opens a file for it.
    processors: u8,
    /// The kernel's description of the processors: as many whole lines as the limit allows.
    cpuinfo: List<u8>,
    /// What the processor says of itself: a virtual one takes 20 microseconds for it.
    processor: (u16, u16, [u8; 24]),
    release: List<u8>,
}

static FIXED: Handover<Fixed> = Handover::new();

impl Fixed {
    fn tell(&self, snapshot: &mut Snapshot) {
        crate::heap::with_frame_pointer();
        snapshot.add_text(LINUX_LSB_RELEASE, &self.release);
        snapshot.add_text(LINUX_CPU_INFO, &self.cpuinfo);
        machine(self, &mut snapshot.system);
    }

    #[inline(never)]
    fn read(max: usize) -> Fixed {
        let mut cpuinfo = procfs::read_path(c"/proc/cpuinfo", max).unwrap_or_default();
        if cpuinfo.len() == max {
            let kept = whole_lines(&cpuinfo, max.saturating_sub(1)).len();
            cpuinfo.truncate(kept);
        }
        let release = procfs::read_path(c"/etc/lsb-release", max)
            .or_else(|_| procfs::read_path(c"/etc/os-release", max));
        let processor = processor_info(&cpuinfo);
        Fixed { limit: max, processors: sys::processors(), cpuinfo, processor, release: release.unwrap_or_default() }
    }
}

/// What kind of machine this is.
fn machine(fixed: &Fixed, system: &mut System) {
    let (description, release) = sys::kernel();
    (system.level, system.revision, system.processor_info) = fixed.processor;
    let release_text = description.get(release).unwrap_or_default();
    let mut parts = release_text.split(|byte| !byte.is_ascii_digit());
    for number in &mut system.release {
        *number = parts.next().and_then(text::decimal).unwrap_or(0) as u32;
    }
    system.description = description;
    system.processors = fixed.processors;
    system.now_s = (sys::clock_ns(libc::CLOCK_REALTIME) / 1_000_000_000) as u32;
}

/// When the process started and how much time it has used.
pub(super) fn process(stat: &Stat) -> Process {
    let ticks = sys::ticks_per_second();
    let seconds = |count: u64| u32::try_from(count.checked_div(ticks).unwrap_or(0)).unwrap_or(u32::MAX);
    let second_ns = 1_000_000_000;
    let now_s = sys::clock_ns(libc::CLOCK_REALTIME) / second_ns;
    let up_s = sys::clock_ns(libc::CLOCK_BOOTTIME) / second_ns;
    let start_s = now_s.saturating_sub(up_s).saturating_add(stat.start_ticks.checked_div(ticks).unwrap_or(0));
    Process {
        start_s: if stat.start_ticks == 0 { 0 } else { u32::try_from(start_s).unwrap_or(0) },
        user_s: seconds(stat.user_ticks),
        system_s: seconds(stat.system_ticks),
    }
}

/// The line of `stat` of the process, or nothing but zeros.
///
/// The main thread's line is enough while that thread lives; the kernel adds up all threads for each line, so a second is read only without it.
pub(super) fn stat(proc: Option<&Proc>, pid: i32) -> Stat {
    let parse =
        |line: Option<List<u8>>| process::stat(&line.unwrap_or_default()).unwrap_or_default();
    let of_main = parse(proc.and_then(|proc| proc.read_thread(pid, b"/stat", STAT_BYTES_MAX).ok()));
    if of_main.stack_start != 0 {
        return of_main;
    }
    let mut stat = parse(proc.and_then(|proc| proc.read(c"stat", STAT_BYTES_MAX).ok()));
    // The start in the line is that of the thread whose directory it is; the main thread's is the process's.
    stat.start_ticks = of_main.start_ticks;
    stat
}
