//! From registers and stacks to frames: by unwind tables, by Breakpad's symbols, by frame pointers, by what looks like a return address.

use minidump::system_info::Cpu;
use minidump::{
    MinidumpContext, MinidumpModuleList, MinidumpRawContext, MinidumpThread, UnifiedMemory,
};
use minidump_unwind::debuginfo::DebugInfoSymbolProvider;
use minidump_unwind::{
    CallStack, CallStackInfo, FrameTrust, MultiSymbolProvider, Symbolizer, SystemInfo,
    simple_symbol_supplier, walk_stack,
};

use super::files::Found;
use super::{Depth, Reading, SymbolPlaces};

/// Threads of which stacks are walked; of more, the crashed one and the first are.
const THREADS_MAX: usize = 4096;

/// Words of the far end that are tried as return addresses, and callers behind one that make it believed.
const CANDIDATES_MAX: usize = 256;
const FAR_FRAMES_ENOUGH: usize = 3;

/// A thread's stack.
pub(super) struct Walked {
    pub(super) stack: CallStack,
    /// The end where it began, and how many bytes lie between.
    pub(super) far_end: Option<(u64, CallStack)>,
}

impl Walked {
    pub(super) fn frames(&self) -> impl Iterator<Item = &minidump_unwind::StackFrame> {
        let far = self.far_end.iter().flat_map(|(_, stack)| &stack.frames);
        self.stack.frames.iter().chain(far)
    }
}

/// Registers that are at an instruction with a stack, and say nothing else.
fn at(mut context: MinidumpContext, instruction: u64, stack: u64) -> Option<MinidumpContext> {
    if let MinidumpRawContext::Amd64(registers) = &mut context.raw {
        (registers.rip, registers.rsp, registers.rbp) = (instruction, stack, 0);
    } else if let MinidumpRawContext::Arm64(registers) = &mut context.raw {
        (registers.pc, registers.sp) = (instruction, stack);
        // Frame pointer and link register.
        (registers.iregs[29], registers.iregs[30]) = (0, 0);
    } else {
        return None;
    }
    Some(context)
}

impl Reading<'_> {
    /// The stacks of the threads, as many as are walked: the crashed one first.
    pub(super) fn walk(&self, found: &[Found], places: &SymbolPlaces, depth: Depth) -> Vec<Walked> {
        let provider = self.provider(found, places);
        let crashed = self.crashed();
        let is_crashed = |thread: &&MinidumpThread<'_>| Some(thread.raw.thread_id) == crashed;
        let threads = &self.threads.threads;
        let others_max = if depth == Depth::Whole { THREADS_MAX } else { 0 };
        let first = threads.iter().filter(is_crashed);
        let others = threads.iter().filter(|thread| !is_crashed(thread)).take(others_max);
        let mut stacks = Vec::new();
        for (index, thread) in first.take(1).chain(others).enumerate() {
            let Some(context) = self.context(thread, crashed) else {
                let (id, info) = (thread.raw.thread_id, CallStackInfo::MissingContext);
                let stack = self.stack(CallStack::with_info(id, info));
                stacks.push(Walked { stack, far_end: None });
                continue;
            };
            // The region that the pointer is in: the thread's own may be another one.
            let memory = self
                .memory
                .memory_at_address(context.get_stack_pointer())
                .or_else(|| thread.stack_memory(&self.memory));
            let stack = self.walk_one(thread, context, memory, index, &provider);
            let is_crashed = is_crashed(&thread);
            let far_end = memory
                .filter(|_| is_crashed)
                .and_then(|near| self.far_end(thread, near, index, &provider));
            stacks.push(Walked { stack, far_end });
        }
        stacks
    }

    fn walk_one(
        &self,
        thread: &MinidumpThread<'_>,
        context: MinidumpContext,
        memory: Option<UnifiedMemory<'_, '_>>,
        index: usize,
        provider: &MultiSymbolProvider,
    ) -> CallStack {
        let thread_id = thread.raw.thread_id;
        let mut stack = self.stack(CallStack { thread_id, ..CallStack::with_context(context) });
        let system = SystemInfo {
            os: self.system.os,
            os_version: None,
            os_build: None,
            cpu: self.system.cpu,
            cpu_info: None,
            cpu_microcode_version: None,
            cpu_count: usize::from(self.system.raw.number_of_processors),
        };
        let modules = &self.modules;
        let walk = walk_stack(index, (), &mut stack, memory, modules, &system, provider);
        pollster::block_on(walk);
        stack
    }

    /// The end where a stack began, where the minidump has it behind a gap in the same mapping.
    ///
    /// No register tells how to get there: what looks like a return address is taken for one where the unwind tables lead on from it.
    fn far_end(
        &self,
        thread: &MinidumpThread<'_>,
        near: UnifiedMemory<'_, '_>,
        index: usize,
        provider: &MultiSymbolProvider,
    ) -> Option<(u64, CallStack)> {
        let near_end = near.base_address().checked_add(near.size())?;
        let mappings = self.mappings.as_ref()?;
        let mapping = mappings.memory_info_at_address(near.base_address())?.memory_range()?;
        let behind = |memory: &UnifiedMemory<'_, '_>| {
            memory.base_address() > near_end && mapping.contains(memory.base_address())
        };
        let far = self.memory.iter().filter(behind).max_by_key(|memory| memory.base_address())?;
        let context = self.context(thread, Some(thread.raw.thread_id))?;
        let words = far
            .bytes()
            .chunks_exact(8)
            .map(|word| word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        let in_code = |(_, word): &(u64, u64)| self.modules.module_at_address(*word).is_some();
        let mut best: Option<CallStack> = None;
        let behind = (1_u64..).map(|count| far.base_address().wrapping_add(count * 8));
        for (stack, word) in behind.zip(words).filter(in_code).take(CANDIDATES_MAX) {
            // The call is before the address to which it returns.
            let context = at(context.clone(), word.wrapping_sub(1), stack)?;
            let mut stack = self.walk_one(thread, context, Some(far), index, provider);
            let known = stack.frames.iter().skip(1);
            let known = known.take_while(|frame| frame.trust == FrameTrust::CallFrameInfo).count();
            let before = best.as_ref().map_or(0, |best| best.frames.len());
            if known + 1 > before {
                stack.frames.truncate(known + 1);
                best = Some(stack);
            }
            if known >= FAR_FRAMES_ENOUGH {
                break;
            }
        }
        Some((far.base_address() - near_end, best?))
    }

    /// A thread's registers: those of the crash where it is the one that crashed.
    fn context(
        &self,
        thread: &MinidumpThread<'_>,
        crashed: Option<u32>,
    ) -> Option<MinidumpContext> {
        let of_crash = self.exception.as_ref().filter(|_| Some(thread.raw.thread_id) == crashed);
        let of_crash =
            of_crash.and_then(|exception| exception.context(&self.system, self.misc.as_ref()));
        let context = of_crash.or_else(|| thread.context(&self.system, self.misc.as_ref()))?;
        Some(context.into_owned())
    }

    fn stack(&self, stack: CallStack) -> CallStack {
        let name = self.names.get_name(stack.thread_id).map(std::borrow::Cow::into_owned);
        CallStack { thread_name: name.filter(|name| !name.is_empty()), ..stack }
    }

    /// What finds callers: Breakpad's `.sym` files, then the files that were mapped, where they are the same.
    fn provider(&self, found: &[Found], places: &SymbolPlaces) -> MultiSymbolProvider {
        let mut provider = MultiSymbolProvider::new();
        if !places.directories.is_empty() {
            let supplier = simple_symbol_supplier(places.directories.clone());
            provider.add(Box::new(Symbolizer::new(supplier)));
        }
        if matches!(self.system.cpu, Cpu::X86_64 | Cpu::Arm64) {
            let verified = self.modules.iter().zip(found).filter_map(|(module, found)| {
                let mut module = module.clone();
                module.name = found.binary.as_ref()?.to_str()?.to_owned();
                Some(module)
            });
            let verified = MinidumpModuleList::from_modules(verified.collect());
            provider.add(Box::new(pollster::block_on(DebugInfoSymbolProvider::new(
                &self.system,
                &verified,
            ))));
        }
        provider
    }
}
