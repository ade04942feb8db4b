//! Captures a Linux process: the order of things.
//!
//! One thread stops those of the target and copies their registers and stacks (`freeze`, on the thread of `helper`); this one reads at the same time what doesn't need them stopped: mappings, names, modules, texts.
//! A target of which every thread waits already has nobody to be stopped, and one thread does it all.
//! This file owns the flow; the other files of the folder each know one thing.
//! `alarm`, `handover`, `helper`, `ptrace` and `sys` alone make system calls of their own.

mod alarm;
mod copy;
pub(crate) mod extras;
mod freeze;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handover;
mod helper;
mod memory;
mod modules;
mod procfs;
mod ptrace;
mod stack;
mod sys;
mod system;

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Write};

use copy::{Copied, Owner};
use freeze::{Freeze, Held, Hold};
use helper::Ending;
use handover::Handover;
use memory::{Arena, TargetMemory};
use procfs::{Proc, insert_sorted};

use crate::encode;
use crate::error::Error;
use crate::heap::{self, List, Span};
use crate::parse::auxv;
use crate::parse::maps::{self, Mapping};
use crate::parse::process::{self, Stat};
use crate::registers::Registers;
use crate::request::{Request, Step, Times};
use crate::snapshot::{Memory, Snapshot, Thread};
use crate::soft_error::{Object, SoftError, SoftErrors};

/// Bytes of the auxiliary vector; the kernel gives about 350.
const AUXV_BYTES_MAX: usize = 4096;

/// Threads among which a living one is looked for.
const LIVING_SEARCH_MAX: usize = 256;

/// A smaller room is part of memory that was touched long ago, as a rule.
const ROOM_BYTES_MIN: usize = 128 * 1024;

/// Bytes of a thread's name; the kernel keeps 16.
const NAME_BYTES_MAX: usize = 64;

/// What was taken from a process, which isn't needed any more; with the annotations and streams of the request.
///
/// Its threads are being let go, which the kernel does one after the other, some microseconds each; whatever takes or drops the capture waits for the last one.
pub struct Capture<'r> {
    snapshot: Box<Snapshot<'r>>,
    times: Times,
    /// The thread whose end lets the target's threads go.
    ending: Ending,
}

impl fmt::Debug for Capture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Capture<'_> {
    /// The number of threads that were captured; a small limit of bytes may leave some of them out of the file.
    pub fn thread_count(&self) -> usize {
        self.snapshot.threads.len()
    }

    /// What could not be done or read; the dump holds it too, and beside it what found no room, which is known only when the bytes are made.
    pub fn soft_errors(&self) -> &[SoftError] {
        self.snapshot.soft_errors.as_slice()
    }

    /// The bytes of the minidump, at most [`Limits::file_bytes_max`](crate::Limits::file_bytes_max), though never less than 32 KiB are allowed; and when threads were stopped and released.
    pub fn finish(mut self) -> (Vec<u8>, Times) {
        let bytes = encode::encode(&mut self.snapshot);
        (bytes.into(), self.released())
    }

    /// As [`Capture::finish`], but for the times.
    pub fn encode(self) -> Vec<u8> {
        self.finish().0
    }

    /// Writes the bytes of the minidump, and says when threads were stopped and released.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_to(mut self, out: &mut impl Write) -> io::Result<Times> {
        let written = out.write_all(&encode::encode(&mut self.snapshot));
        let times = self.released();
        written.map(|()| times)
    }

    /// Waits until all threads run.
    fn released(mut self) -> Times {
        let was_helped = !self.ending.is_none();
        self.ending.wait();
        if was_helped && self.times.threads_stopped_ns != 0 {
            self.times.threads_released_ns = sys::now_ns();
        }
        step(self.snapshot.request, Step::Released);
        self.times
    }
}

/// Takes from a process what a dump needs.
///
/// All threads but the crashing one and the exempt ones are stopped for as long as copying their registers and stacks takes.
/// A process that is killed by a signal while it captures leaves no thread stopped.
///
/// The caller may ignore SIGCHLD.
/// The process of the caller should have one thread: for the time of the capture the handler of SIGURG is the crate's own, and other threads that fork meanwhile don't disturb it but inherit descriptors.
///
/// A process that may not be traced is no error: its dump has what can be had, which may be next to nothing, and [`Capture::soft_errors`] says so and what to grant ([`SoftError::grant`]).
///
/// # Errors
///
/// The process is gone or has ended ([`Error::is_gone`]), the crashing thread isn't one of its threads (the same), or an id is no id.
/// Everything else is a soft error.
pub fn capture<'r>(request: &'r Request<'r>) -> Result<Capture<'r>, Error> {
    crate::heap::with_frame_pointer();
    let who = request.crash.as_ref().map_or(request.pid, |crash| crash.tid);
    if request.pid <= 0 || who <= 0 {
        return Err(Error::bad_id(request.pid));
    }
    // The thread's number comes from the target, so it is the kernel who says whose thread it is.
    if !sys::thread_exists(request.pid, who) {
        return Err(Error::gone(request.pid));
    }
    let mut capture = Capture { snapshot: Box::new(Snapshot::new(request)), times: Times::default(), ending: Ending::none() };
    take(request, if request.crash.is_none() { living_thread(who) } else { who }, &mut capture);
    // One that has ended and waits to be reaped has none; a crash has at least its own.
    if capture.snapshot.threads.is_empty() {
        return Err(Error::gone(request.pid));
    }
    Ok(capture)
}

/// Everything, through the directory of the thread `who`; without unwinding, as the functions of `heap`.
extern "C" fn take(request: &Request<'_>, who: i32, capture: &mut Capture<'_>) {
    crate::heap::with_frame_pointer();
    // On the heap and filled in place: it is large, and every step adds to it.
    let snapshot = &mut *capture.snapshot;
    let proc = Proc::open(who)
        .map_err(|errno| snapshot.soft_errors.add("open /proc of thread", Object::thread(who), errno))
        .ok();
    let proc = proc.as_ref();
    let place = &Place { request, proc, who };
    let shared = Shared { first: Handover::new(), is_called: AtomicBool::new(false), target: Handover::new() };
    let mut freeze = Freeze::new(place, &shared);
    let mut names = List::new();
    (capture.times, capture.ending) = both(&mut freeze, || names = describe(snapshot, place, &shared));
    snapshot.soft_errors.join(&freeze.errors);
    core::mem::swap(&mut snapshot.registers, &mut freeze.registers);
    add_threads(place, &freeze.held, &names, snapshot);
    if let Some(target) = shared.target.get() {
        place_memory(snapshot, &mut freeze.copied, place, target);
    }
    drop(freeze);
    let target = shared.target.into_inner().unwrap_or_default();
    step(request, Step::ModulesRead);
    snapshot.mappings = target.mappings;
    snapshot.auxiliary = target.auxiliary;
    snapshot.maps = target.maps;
    step(request, Step::BeforeEncode);
}

/// Tells the probe; a panic in it ends the process, and with that lets the threads go.
#[expect(improper_ctypes_definitions, reason = "nothing of C calls it; the ABI is the one that doesn't unwind")]
extern "C" fn step(request: &Request<'_>, step: Step) {
    if let Some(probe) = request.probe {
        probe(step);
    }
}

/// A thread under whose number the process can be read: not that of a main thread which has ended while others live.
fn living_thread(pid: i32) -> i32 {
    let Ok(proc) = Proc::open(pid) else { return pid };
    let ended = |tid| matches!(proc.thread_state(tid), None | Some(b'Z' | b'X'));
    if !ended(pid) {
        return pid;
    }
    let (tids, _) = proc.threads(LIVING_SEARCH_MAX, pid, pid).unwrap_or_default();
    tids.iter().copied().find(|tid| !ended(*tid)).unwrap_or(pid)
}

/// The crashing thread and the exempt ones, where they are all that there are: then nobody has to be held, nor listed.
fn nobody_to_hold(freeze: &Freeze<'_>) -> Option<List<i32>> {
    let Freeze { request, proc, .. } = freeze;
    let mut tids = List::new();
    insert_sorted(&mut tids, request.crash.as_ref()?.tid);
    for tid in request.exempt {
        insert_sorted(&mut tids, *tid);
    }
    let may_be_all = tids.len() <= request.limits.threads_max && proc.and_then(Proc::thread_count) == Some(tids.len());
    // An id that can't be one is no thread's, whatever the kernel says of it.
    let is_one = |tid: &i32| *tid > 0 && sys::thread_exists(request.pid, *tid);
    (may_be_all && tids.iter().all(is_one)).then_some(tids)
}

/// The frozen phase, the beginning of the release, and what is done `meanwhile`.
fn both(freeze: &mut Freeze<'_>, mut meanwhile: impl FnMut()) -> (Times, Ending) {
    // Without anybody to hold, the thread that would hold them is only in the way.
    let alone = nobody_to_hold(freeze).map(|tids| freeze.set_first(tids)).is_some();
    let mut ending = Ending::none();
    if !alone {
        match helper::run(system::processors(), |is_apart| freeze.run(is_apart), &mut meanwhile) {
            Ok(done) => ending = done,
            Err(errno) => freeze.errors.add("make the thread that holds the others", Object::PROCESS, errno),
        }
    }
    if ending.is_none() {
        freeze.list_first();
        meanwhile();
        freeze.run(false);
        // Also when nobody was to be held: a thread may have come just now.
        freeze.release();
    }
    let stopped = freeze.held.iter().any(|held| held.hold == Hold::Stopped);
    // Where another thread lets them go it isn't done yet.
    let released = Times { threads_released_ns: sys::now_ns(), ..freeze.times };
    (if stopped || alone { released } else { Times::default() }, ending)
}

/// Where the target is: what was asked for, its directory, and the thread under whose number it is read.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    request: &'p Request<'p>,
    proc: Option<&'p Proc>,
    who: i32,
}

/// What the two threads tell each other.
struct Shared {
    /// From the one that stops to the one that reads.
    first: Handover<First>,
    /// The same way: the threads were told to stop.
    is_called: AtomicBool,
    /// The other way.
    target: Handover<Target>,
}

/// The threads at the beginning.
struct First {
    tids: List<i32>,
    /// Where their registers and stacks will be, so that no page has to be found for them while they are held.
    rooms: [(usize, usize); 2],
}

/// What has to be known of the target to copy from it.
#[derive(Default)]
pub(crate) struct Target {
    maps: List<u8>,
    mappings: List<Mapping>,
    auxiliary: List<u8>,
    stat: Stat,
    /// Where the strings of arguments and environment are.
    secrets: [Range<u64>; 3],
}

impl Target {
    fn read(place: &Place<'_>, errors: &mut SoftErrors) -> Target {
        let Place { request, proc, .. } = *place;
        let limits = &request.limits;
        let mut file = |name, operation, max| {
            let result = proc.map(|proc| proc.read(name, max));
            result.and_then(|result| result.map_err(|errno| errors.add(operation, Object::PROCESS, errno)).ok())
        };
        // A byte more than is kept tells whether there is more.
        let mut maps = file(c"maps", "read maps", limits.maps_bytes_max.saturating_add(1)).unwrap_or_default();
        let is_cut = maps.len() > limits.maps_bytes_max;
        maps.truncate(limits.maps_bytes_max);
        let auxiliary = file(c"auxv", "read auxiliary vector", AUXV_BYTES_MAX).unwrap_or_default();
        let stat = system::stat(proc, request.pid);
        let (mappings, damaged) = maps::parse(&maps);
        if damaged > 0 || is_cut {
            errors.add("read mappings", Object::count(damaged), 0);
        }
        let secrets = secrets(&stat, &mappings);
        Target { maps, mappings, auxiliary, stat, secrets }
    }
}

/// Where the command line and the environment are.
///
/// The kernel puts both above the first frame of the main thread, and nothing else that a reader of a dump needs is there.
/// A program may move either (prctl(2), PR_SET_MM), so the places that the kernel tells count too.
fn secrets(stat: &Stat, mappings: &[Mapping]) -> [Range<u64>; 3] {
    // Where the mapping isn't known everything above counts.
    let unknown = if stat.stack_start == 0 { 0 } else { u64::MAX };
    let top = maps::find(mappings, stat.stack_start).map_or(unknown, |mapping| mapping.end);
    [stat.stack_start..top, stat.arguments.0..stat.arguments.1, stat.environment.0..stat.environment.1]
}

/// What is read while the threads are stopped, and from the running process as well; returns the names of the threads that were there at the beginning.
fn describe(snapshot: &mut Snapshot, place: &Place<'_>, shared: &Shared) -> List<Span> {
    crate::heap::with_frame_pointer();
    let Place { request, proc, who } = *place;
    let limits = &request.limits;
    shared.target.set(Target::read(place, &mut snapshot.soft_errors));
    let Some(target) = shared.target.get() else { return List::new() };
    let mut memory = TargetMemory::new(who, proc, &target.secrets);
    modules::read(&mut memory, target, limits.modules_max, snapshot);
    if let Some(linker) = request.extras.linker {
        linker(&mut memory, target, snapshot, limits.modules_max);
    }
    memory.tell_refusal(&mut snapshot.soft_errors);
    snapshot.process = system::process(&target.stat);
    system::describe(proc, request.pid, limits.text_bytes_max, snapshot);
    let extras = &request.extras;
    for extra in [extras.open_files, extras.command_line, extras.environment].into_iter().flatten() {
        extra(place, snapshot);
    }
    let Some(First { tids, rooms }) = shared.first.wait() else { return List::new() };
    for room in rooms {
        if room.1 > ROOM_BYTES_MIN {
            sys::get_pages(*room);
        }
    }
    let mut names = List::new();
    heap::reserve(&mut names, tids.len());
    for tid in tids {
        if shared.is_called.load(Ordering::Relaxed) {
            // They have to run to stop, and again once they are let go; nobody else lets them on this processor.
            sys::yield_now();
        }
        heap::add(&mut names, name(proc, *tid, &mut snapshot.strings));
    }
    names
}

/// Gives the threads their stacks, and the snapshot the rest of the memory.
fn place_memory(snapshot: &mut Snapshot, copied: &mut Copied, place: &Place<'_>, target: &Target) {
    let Place { request, proc, who } = *place;
    let mut memory = TargetMemory::new(who, proc, &target.secrets);
    copy_left(snapshot, copied, &mut memory, target, request);
    place_stacks(snapshot, copied, request, target);
    if let Some(scrub) = request.extras.scrub {
        scrub(copied, snapshot, target);
    }
    core::mem::swap(&mut snapshot.memory, &mut copied.memory);
    core::mem::swap(&mut snapshot.arena, copied.arena.bytes());
}

/// Adds the threads in the order of the dump, the crashing one first.
///
/// The names are those of the threads that were listed at the beginning.
fn add_threads(place: &Place<'_>, held: &[Held], names: &[Span], snapshot: &mut Snapshot) {
    let Place { request, proc, .. } = *place;
    let crash = request.crash.as_ref();
    heap::reserve(&mut snapshot.threads, held.len());
    let mut nearest = Nearest::to(crash.map_or(request.pid, |crash| crash.tid), held);
    while let Some(index) = nearest.next(held) {
        let Some(Held { tid, hold, mut registers }) = held.get(index).copied() else { continue };
        let crash = crash.filter(|crash| crash.tid == tid);
        if crash.is_none() && matches!(hold, Hold::Ended | Hold::Zombie) {
            continue;
        }
        if registers.is_none()
            && let Some(found) = crash.map(|crash| crash.registers).or_else(|| pointers(proc, tid))
        {
            registers = Some(snapshot.registers.len());
            heap::add(&mut snapshot.registers, found);
        }
        let name = names.get(index).copied().unwrap_or_else(|| name(proc, tid, &mut snapshot.strings));
        heap::add(&mut snapshot.threads, Thread { tid, name, registers, stack: Memory::default() });
    }
}

/// The places of threads by the distance of their ids from one, as far as they are in ascending order.
///
/// Ids ascend with the time of their making as a rule, so neighbours serve the same end, and are worth most where not all have room.
struct Nearest {
    tid: i32,
    /// What is below this place is still to come, and what is from `high` on.
    low: usize,
    high: usize,
}

impl Nearest {
    fn to(tid: i32, held: &[Held]) -> Nearest {
        let at = held.iter().take_while(|held| held.tid < tid).count();
        Nearest { tid, low: at, high: at }
    }

    fn next(&mut self, held: &[Held]) -> Option<usize> {
        let distance = |index: usize| held.get(index).map_or(u32::MAX, |held| held.tid.abs_diff(self.tid));
        let below = self.low.wrapping_sub(1);
        if self.low > 0 && distance(below) <= distance(self.high) {
            self.low = below;
            return Some(below);
        }
        self.high += 1;
        (self.high <= held.len()).then_some(self.high - 1)
    }
}

/// The name of a thread, put among the strings.
fn name(proc: Option<&Proc>, tid: i32, strings: &mut List<u8>) -> Span {
    crate::heap::with_frame_pointer();
    let name = proc.and_then(|proc| proc.read_thread(tid, b"/comm", NAME_BYTES_MAX).ok()).unwrap_or_default();
    heap::put(strings, name.strip_suffix(b"\n").unwrap_or(&name))
}

/// Stack and instruction pointer of a thread that isn't stopped, as the kernel shows them while it waits.
fn pointers(proc: Option<&Proc>, tid: i32) -> Option<Registers> {
    let line = proc?.read_thread(tid, b"/syscall", NAME_BYTES_MAX * 4).ok()?;
    let (stack, instruction) = process::syscall_pointers(&line)?;
    Some(Registers::from_pointers(stack, instruction))
}

/// Copies the stacks of the threads that weren't stopped.
fn copy_left(
    snapshot: &Snapshot,
    copied: &mut Copied,
    memory: &mut TargetMemory<'_>,
    target: &Target,
    request: &Request<'_>,
) {
    let mut owners = List::new();
    for thread in snapshot.threads.iter().filter(|thread| copied.stack(thread.tid).is_none()) {
        if let Some(registers) = snapshot.registers_of(thread) {
            heap::add(&mut owners, Owner::new(thread.tid, registers));
        }
    }
    if !owners.is_empty() {
        copied.copy(&owners, memory, target, &request.limits);
    }
}

/// Gives each thread its stack, and the crashing thread the handler's own copy where nothing better was read.
fn place_stacks(snapshot: &mut Snapshot, copied: &mut Copied, request: &Request<'_>, target: &Target) {
    // Where the kernel doesn't tell where the strings are, the auxiliary vector below them does.
    let unknown = target.stat.stack_start == 0;
    let mut taken = List::new();
    for thread in snapshot.threads.iter_mut() {
        thread.stack = copied.stack(thread.tid).unwrap_or_default();
        if unknown {
            cut_strings(&mut thread.stack, &mut copied.arena);
        }
        let copy = request.crash.as_ref().filter(|crash| crash.tid == thread.tid).and_then(|crash| crash.stack_copy);
        if let Some((address, bytes)) = copy.filter(|_| thread.stack.place.is_empty()) {
            let length = bytes.len().min(request.limits.crash_stack_bytes_max);
            let place = copied.arena.append(bytes.get(..length).unwrap_or_default());
            thread.stack = Memory { address, place };
            cut_strings(&mut thread.stack, &mut copied.arena);
        }
        without_overlap(&mut thread.stack, &mut taken, &mut copied.arena);
        if thread.stack.place.is_empty() && thread.registers.is_some() {
            snapshot.soft_errors.add("read stack", Object::thread(thread.tid), 0);
        }
    }
    for memory in copied.memory.iter_mut() {
        if unknown {
            cut_strings(memory, &mut copied.arena);
        }
        without_overlap(memory, &mut taken, &mut copied.arena);
    }
}

/// Cuts from a piece of memory what others have `taken`, whose addresses ascend, and forgets it: readers take no region that overlaps another, and what no region names isn't scrubbed.
///
/// Mappings that change while they are read, and stacks side by side in one mapping, make two threads claim the same.
fn without_overlap(memory: &mut Memory, taken: &mut List<(u64, u64)>, arena: &mut Arena) {
    let at = taken.partition_point(|(start, _)| *start <= memory.address);
    let before = at.checked_sub(1).and_then(|at| taken.get(at)).map_or(0, |(_, end)| *end);
    let behind = taken.get(at).map_or(u64::MAX, |(start, _)| *start);
    let room = if before > memory.address { 0 } else { behind - memory.address };
    let len = usize::try_from(room).unwrap_or(usize::MAX).min(memory.place.len());
    arena.cut(memory, len);
    if len > 0 {
        heap::insert(taken, at, (memory.address, memory.end()));
    }
}

/// Ends a piece of memory where an auxiliary vector stands in it, and forgets what is behind.
fn cut_strings(memory: &mut Memory, arena: &mut Arena) {
    crate::heap::with_frame_pointer();
    let bytes = arena.get(memory.place);
    if let Some(at) = auxv::find_on_stack(bytes, memory.address) {
        arena.cut(memory, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let sorted = |tids: &[i32], tid| {
            let held: Vec<Held> =
                tids.iter().map(|tid| Held { tid: *tid, hold: Hold::Stopped, registers: None }).collect();
            let mut nearest = Nearest::to(tid, &held);
            core::iter::from_fn(|| nearest.next(&held)).map(|index| tids[index]).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&[1, 5, 18, 20, 21, 23, 90], 20), [20, 21, 18, 23, 5, 1, 90]);
        assert_eq!(sorted(&[1, 2], 20), [2, 1]);
        assert_eq!(sorted(&[30, 31], 20), [30, 31]);
        assert_eq!(sorted(&[20, 30, 31], 20), [20, 30, 31]);
        assert!(sorted(&[], 20).is_empty());
        // One that came later and has a lower number: all are there once all the same.
        let mut all = sorted(&[18, 20, 21, 7], 20);
        all.sort_unstable();
        assert_eq!(all, [7, 18, 20, 21]);
    }
}
