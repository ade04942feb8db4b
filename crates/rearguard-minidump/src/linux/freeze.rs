//! The frozen phase: hold all threads, copy registers and stacks.
//!
//! It runs on the helper's thread, whose end lets the threads go.
//! What the copies need to know of the target, the thread beside reads meanwhile; nobody is stopped before that is there.
//! All threads are seized before the first is interrupted, so that as little time as possible lies between the first and the last stop.
//! Then the registers are asked for from the last thread to the first: an answer proves that the thread has stopped, and only where there is none is it waited for.
//! What doesn't need the threads held doesn't belong here.

use core::sync::atomic::Ordering;

use super::{First, Place, Shared};
use super::alarm::Alarm;
use super::copy::{Copied, Owner};
use super::memory::TargetMemory;
use super::procfs::{Proc, insert_sorted};
use super::ptrace;
use super::sys::{self, Errno, Event};
use crate::heap::{self, List};
use crate::registers::{Registers, TRACE_WORDS};
use crate::request::{Request, Step, Times};
use crate::soft_error::{Object, SoftErrors};

/// Lists of threads that are made until none is new; a target that still makes threads then makes them faster than they can be held.
const ROUNDS_MAX: usize = 10;

/// What the stack of a waiting thread takes, as a rule; more costs a little time while the threads are held.
const TYPICAL_STACK_BYTES: usize = 4096;

/// How long the mappings are waited for without sleeping; those of 200 threads take two thirds of it.
const AWAKE_NS_MAX: u64 = 300_000;

/// How long a wait without the alarm sleeps between two looks.
const LOOK_PERIOD_NS: u32 = 50_000;

/// How long a held thread is waited for between two tries to seize it.
const SEIZE_PERIOD_NS: u32 = 1_000_000;

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Traced and running.
    Seized,
    /// Traced and stopped.
    Stopped,
    /// Traced, and it doesn't stop.
    Unstoppable,
    /// Not traced, because the system or the caller doesn't want it.
    Left,
    /// It has ended, and its number is free.
    Ended,
    /// It has ended and is still listed: the main thread of a process that goes on without it.
    Zombie,
}

/// One thread that the frozen phase knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) tid: i32,
    pub(super) hold: Hold,
    /// The place of its registers among all, where they are known.
    pub(super) registers: Option<usize>,
}

/// The state of the frozen phase.
pub(super) struct Freeze<'c> {
    pub(super) request: &'c Request<'c>,
    pub(super) proc: Option<&'c Proc>,
    /// The thread under whose number the target is read.
    who: i32,
    shared: &'c Shared,
    /// All threads, the crashing one too.
    pub(super) held: List<Held>,
    /// Their ids, in ascending order.
    pub(super) known: List<i32>,
    /// Those of the stopped threads.
    pub(super) registers: List<Registers>,
    pub(super) copied: Copied,
    pub(super) times: Times,
    pub(super) errors: SoftErrors,
    /// The first refusal by the system's policy.
    pub(super) refused: Option<Errno>,
}

impl<'c> Freeze<'c> {
    pub(super) fn new(place: &Place<'c>, shared: &'c Shared) -> Freeze<'c> {
        let Place { request, proc, who } = *place;
        Freeze {
            request,
            proc,
            who,
            shared,
            held: List::new(),
            known: List::new(),
            registers: List::new(),
            copied: Copied::new(request),
            times: Times::default(),
            errors: SoftErrors::default(),
            refused: None,
        }
    }

    /// Says what the threads are at the beginning, where that is known without a list.
    pub(super) fn set_first(&self, tids: List<i32>) {
        self.shared.first.set(First { tids, rooms: [(0, 0); 2] });
    }

    /// The threads at the beginning, which the other thread is told too, with the rooms for what they have.
    pub(super) fn list_first(&mut self) -> &'c [i32] {
        if self.shared.first.get().is_none() {
            let tids = self.list();
            let bytes = tids.len().saturating_mul(TYPICAL_STACK_BYTES);
            let stacks = self.copied.arena.reserve(bytes.min(self.request.limits.file_bytes_max));
            heap::reserve(&mut self.registers, tids.len());
            self.shared.first.set(First { tids, rooms: [stacks, heap::place(&self.registers)] });
        }
        self.shared.first.get().map(|first| &*first.tids).unwrap_or_default()
    }

    /// Everything, up to the copies; the threads are held when it returns.
    ///
    /// `is_apart`: whoever reads the mappings has a processor of its own.
    pub(super) fn run(&mut self, is_apart: bool) {
        crate::heap::with_frame_pointer();
        self.step(Step::BeforeSeize);
        self.hold_all(is_apart);
        self.times.threads_stopped_ns = sys::now_ns();
        self.step(Step::Stopped);
        self.step(Step::RegistersRead);
        self.copy_stacks();
        self.step(Step::StacksCopied);
    }

    #[inline(always)]
    fn step(&self, step: Step) {
        super::step(self.request, step);
    }

    fn stopped(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(|held| held.hold == Hold::Stopped)
    }

    /// Holds the threads, and those that they made meanwhile, until none is new.
    fn hold_all(&mut self, is_apart: bool) {
        let mut alarm = None;
        let mut deadline = 0;
        for round in 0..ROUNDS_MAX {
            let new = if round == 0 { heap::copied(self.list_first()) } else { self.list_new() };
            if new.is_empty() && round > 0 {
                return;
            }
            let mut group = List::new();
            heap::reserve(&mut group, new.len());
            for tid in &new {
                heap::add(&mut group, self.seize(*tid));
            }
            if round == 0 {
                // Only now is there time to wait, for another tracer or for memory: nothing is stopped yet.
                self.seize_again(&mut group);
                self.step(Step::Seized);
                if is_apart {
                    // A busy thread of the target would have this processor for milliseconds, once it was given up.
                    self.shared.target.wait_awake(AWAKE_NS_MAX);
                }
                self.shared.target.wait();
                self.times.first_stop_ns = sys::now_ns();
                let wait_ns = u64::from(self.request.limits.stop_wait_ms_max) * 1_000_000;
                deadline = self.times.first_stop_ns.saturating_add(wait_ns);
            }
            if alarm.is_none() && group.iter().any(|held| held.hold == Hold::Seized) {
                alarm = Alarm::start();
            }
            for held in group.iter_mut().filter(|held| held.hold == Hold::Seized) {
                if ptrace::interrupt(held.tid).is_err() {
                    held.hold = Hold::Ended;
                }
            }
            self.shared.is_called.store(true, Ordering::Relaxed);
            for held in group.iter_mut().rev().filter(|held| held.hold == Hold::Seized) {
                self.wait_stop(held, deadline, alarm.is_some());
            }
            for held in &group {
                insert_sorted(&mut self.known, held.tid);
                heap::add(&mut self.held, *held);
            }
            if self.all_known() {
                return;
            }
        }
        self.errors.add("list threads until none is new", Object::PROCESS, 0);
    }

    /// The ids of the target's threads, as many as are wanted; that of the crashing one is among them.
    fn list(&mut self) -> List<i32> {
        let limits = &self.request.limits;
        let near = self.request.crash.as_ref().map_or(self.request.pid, |crash| crash.tid);
        let threads = |proc: &Proc| proc.threads(limits.threads_max, near, self.request.pid);
        let (mut tids, complete) = self.proc.map_or(Ok((List::new(), true)), threads).unwrap_or_else(|errno| {
            self.errors.add("list threads", Object::PROCESS, errno);
            (List::new(), true)
        });
        // Told once, whatever the later lists are short of.
        if !complete && self.held.is_empty() {
            self.errors.add("describe more threads than", Object::count(limits.threads_max as u64), 0);
        }
        if self.request.crash.is_some() {
            insert_sorted(&mut tids, near);
        }
        tids
    }

    /// The threads that aren't known yet.
    fn list_new(&mut self) -> List<i32> {
        let mut tids = self.list();
        tids.retain(|tid| self.known.binary_search(tid).is_err());
        tids.truncate(self.request.limits.threads_max.saturating_sub(self.held.len()));
        tids
    }

    /// Whether the number of threads is that of the threads known: none has to be listed then.
    ///
    /// A thread that is stopped makes no thread and doesn't end, so an equal number means that all are known.
    fn all_known(&self) -> bool {
        let known = self.held.iter().filter(|held| held.hold != Hold::Ended).count();
        self.proc.and_then(Proc::thread_count) == Some(known)
    }

    /// Begins to trace a thread.
    fn seize(&mut self, tid: i32) -> Held {
        let crashing = self.request.crash.as_ref().is_some_and(|crash| crash.tid == tid);
        if crashing || self.request.exempt.contains(&tid) {
            return Held { tid, hold: Hold::Left, registers: None };
        }
        let hold = match ptrace::seize(tid) {
            Ok(()) => Hold::Seized,
            Err(libc::ESRCH) => Hold::Ended,
            Err(_) if self.refused.is_some() => Hold::Left,
            Err(_) if self.ended(tid) => Hold::Zombie,
            Err(_) if self.traced(tid) => Hold::Left,
            // A tracer that is about to end may have let go before it was looked for.
            Err(_) => match ptrace::seize(tid) {
                Ok(()) => Hold::Seized,
                Err(errno) => {
                    self.refused = Some(errno);
                    self.errors.add("trace thread", Object::thread(tid), errno);
                    Hold::Left
                }
            },
        };
        Held { tid, hold, registers: None }
    }

    /// The thread has ended, though it may still be listed.
    fn ended(&self, tid: i32) -> bool {
        let state = self.proc.and_then(|proc| proc.thread_state(tid));
        matches!(state, None | Some(b'Z' | b'X'))
    }

    /// Somebody else traces the thread.
    fn traced(&self, tid: i32) -> bool {
        crate::heap::with_frame_pointer();
        self.proc.and_then(|proc| proc.thread_tracer(tid)).is_some_and(|tracer| tracer != 0)
    }

    /// Tries again to seize threads that an earlier tracer still holds, which was killed just now.
    fn seize_again(&mut self, group: &mut [Held]) {
        if self.refused.is_some() {
            return;
        }
        let wait_ns = u64::from(self.request.limits.seize_retry_ms_max) * 1_000_000;
        let deadline = sys::now_ns().saturating_add(wait_ns);
        for held in group.iter_mut() {
            let crashing = self.request.crash.as_ref().is_some_and(|crash| crash.tid == held.tid);
            if held.hold != Hold::Left || crashing || self.request.exempt.contains(&held.tid) {
                continue;
            }
            while held.hold == Hold::Left && self.traced(held.tid) && sys::now_ns() < deadline {
                sys::sleep_ns(SEIZE_PERIOD_NS);
                if ptrace::seize(held.tid).is_ok() {
                    held.hold = Hold::Seized;
                }
            }
            // The tracer may have let go between the first try and the look.
            if held.hold == Hold::Left && !self.ended(held.tid) {
                match ptrace::seize(held.tid) {
                    Ok(()) => held.hold = Hold::Seized,
                    Err(errno) => self.errors.add("trace thread", Object::thread(held.tid), errno),
                }
            }
        }
    }

    /// Waits until a thread has stopped, and reads its registers.
    fn wait_stop(&mut self, held: &mut Held, deadline: u64, block: bool) {
        let mut words = [0_u64; TRACE_WORDS];
        loop {
            match ptrace::general(held.tid, &mut words) {
                Ok(count) => {
                    held.hold = Hold::Stopped;
                    match ptrace::registers(held.tid, words.get(..count).unwrap_or_default()) {
                        Some(registers) => {
                            held.registers = Some(self.registers.len());
                            heap::add(&mut self.registers, registers);
                        }
                        None => self.errors.add("read registers", Object::thread(held.tid), 0),
                    }
                    return;
                }
                Err(libc::ESRCH) => {}
                Err(errno) => {
                    held.hold = Hold::Unstoppable;
                    self.errors.add("read registers", Object::thread(held.tid), errno);
                    return;
                }
            }
            let late = sys::now_ns() > deadline;
            match sys::wait_event(held.tid, block && !late) {
                Ok(Event::Stopped(_)) if !late => {}
                Ok(Event::Ended) => {
                    // The end of a traced thread waits for its tracer. That of the whole process is its parent's to take, which may be this very process; letting go hands it over.
                    if held.tid != self.request.pid {
                        let _ = sys::take_event(held.tid, false);
                    }
                    held.hold = Hold::Ended;
                    return;
                }
                Ok(Event::Nothing) if !late => sys::sleep_ns(LOOK_PERIOD_NS),
                // The alarm: time to look at the thread.
                Err(libc::EINTR) if !late && !self.ended(held.tid) => {}
                Ok(Event::Stopped(_) | Event::Nothing) | Err(_) => {
                    self.give_up(held);
                    return;
                }
            }
        }
    }

    /// A thread that didn't stop: it ended, or it sleeps without regard to signals.
    fn give_up(&mut self, held: &mut Held) {
        if self.ended(held.tid) {
            held.hold = Hold::Zombie;
        } else {
            held.hold = Hold::Unstoppable;
            self.errors.add("stop thread", Object::thread(held.tid), libc::ETIMEDOUT);
        }
    }

    /// Copies the stacks of the stopped threads and of the crashing one, and what is around its instruction.
    fn copy_stacks(&mut self) {
        let Some(target) = self.shared.target.get() else { return };
        let mut memory = TargetMemory::new(self.who, self.proc, &target.secrets);
        memory.set_stopped(self.stopped().next().map(|held| held.tid));
        let mut owners = List::new();
        heap::reserve(&mut owners, self.held.len() + 1);
        if let Some(crash) = &self.request.crash {
            heap::add(&mut owners, Owner::crash(crash.tid, &crash.registers));
        }
        for held in self.stopped() {
            if let Some(registers) = held.registers.and_then(|at| self.registers.get(at)) {
                heap::add(&mut owners, Owner::new(held.tid, registers));
            }
        }
        self.copied.copy(&owners, &mut memory, target, &self.request.limits);
        if let Some((indirect, bytes_max)) = self.request.extras.indirect {
            let crash = self.request.crash.as_ref();
            indirect(crash, &self.registers, &mut self.copied, &mut memory, target, bytes_max);
        }
        // Where there are mappings, whoever reads the modules tells it.
        if target.mappings.is_empty() {
            memory.tell_refusal(&mut self.errors);
        }
    }

    /// Lets the threads go without the help of a thread's end.
    pub(super) fn release(&mut self) {
        for held in &self.held {
            if held.hold == Hold::Stopped {
                // Whatever signal the thread was about to take has to be given back.
                let signal = match sys::take_event(held.tid, false) {
                    Ok(Event::Stopped(signal)) => signal,
                    Ok(Event::Ended | Event::Nothing) | Err(_) => 0,
                };
                let _ = ptrace::detach(held.tid, signal);
            } else if held.hold == Hold::Unstoppable {
                self.errors.add("let thread go", Object::thread(held.tid), 0);
            }
        }
    }
}
