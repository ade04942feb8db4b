//! Filling the crash slot: the crash context, copied to where it outlives the process.

use core::sync::atomic::Ordering;

use super::fault::{
    Fault, GENERAL, address, code, floating_state, general_registers, info, stack_pointer, was_sent,
};
use super::syscall::{self, call, plain};
use super::time;
use crate::black_box::{BlackBox, flags, owner};
use crate::limits;

/// Stores the crash context in the black box.
pub(super) fn fill_slot(black_box: &BlackBox, fault: &Fault) {
    let slot = &black_box.slot;
    let general = general_registers(fault);
    let stack_pointer = stack_pointer(&general);
    let mut remarks = fault.flags;
    let distance = address(fault).abs_diff(stack_pointer);
    if fault.signal == libc::SIGSEGV && !was_sent(fault) && distance < 65_536 {
        remarks |= flags::NEAR_STACK_POINTER;
    }
    if black_box.control.survived.load(Ordering::Relaxed) != 0 {
        remarks |= flags::SURVIVED_BEFORE;
    }
    slot.flags.store(remarks, Ordering::Relaxed);
    slot.tid.store(fault.tid, Ordering::Relaxed);
    slot.signal.store(fault.signal, Ordering::Relaxed);
    slot.code.store(code(fault), Ordering::Relaxed);
    slot.address.store(address(fault), Ordering::Relaxed);
    slot.seen_ns.store(fault.seen_ns, Ordering::Relaxed);
    slot.seen_real_ns.store(time::real_ns(), Ordering::Relaxed);
    // SAFETY: for a signal that a process sent, the union holds its pid.
    let sender = if was_sent(fault) { unsafe { info(fault).si_pid() } } else { 0 };
    slot.sender_pid.store(sender as u32, Ordering::Relaxed);
    for (index, register) in general.iter().enumerate() {
        slot.general.set(index, *register);
    }
    slot.general_count.store(GENERAL as u32, Ordering::Relaxed);
    let (floating, bytes) = floating_state(fault);
    if !floating.is_null() {
        // SAFETY: the kernel wrote this state into the signal frame.
        let floating = unsafe { core::slice::from_raw_parts(floating, bytes) };
        slot.floating.store(floating);
        slot.floating_bytes.store(bytes as u32, Ordering::Relaxed);
    }
    // SAFETY: siginfo_t has 128 bytes, all written by the kernel.
    let info = unsafe { core::slice::from_raw_parts(fault.info.cast_const().cast::<u8>(), 128) };
    slot.siginfo.store(info);
    // 128 bytes below the stack pointer belong to the function too, on x86_64.
    slot.stack_address.store(stack_pointer.wrapping_sub(128) & !15, Ordering::Relaxed);
    slot.stack_bytes.store(0, Ordering::Relaxed);
    if !guard_reads(black_box) {
        copy_stack(black_box);
    }
}

/// Whether the guard on duty can read our memory by itself: it has tried, and nothing has been closed to it since.
fn guard_reads(black_box: &BlackBox) -> bool {
    let control = &black_box.control;
    let reader = control.reader.load(Ordering::Acquire);
    reader != 0
        && owner(control.guard.load(Ordering::Acquire)) == Some(reader)
        && plain!(libc::SYS_prctl, libc::PR_GET_DUMPABLE) == Ok(1)
}

/// Copies the stack from the stack pointer up, as far as it is there, for a guard that may not read our memory.
/// The kernel copies, so an unmapped page is a short answer and no fault.
pub(super) fn copy_stack(black_box: &BlackBox) {
    const PAGE: usize = 4096;
    const PAGES: usize = limits::STACK_COPY_BYTES_MAX / PAGE;
    let start = black_box.slot.stack_address.load(Ordering::Relaxed) as usize;
    let local = libc::iovec {
        iov_base: black_box.stack.address().cast(),
        iov_len: limits::STACK_COPY_BYTES_MAX,
    };
    // One element a page: the kernel stops at the first that can't be read whole.
    let mut remote = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; PAGES];
    let mut at = start;
    let end = start.wrapping_add(limits::STACK_COPY_BYTES_MAX);
    for element in &mut remote {
        let next = (at & !(PAGE - 1)).wrapping_add(PAGE).min(end);
        *element =
            libc::iovec { iov_base: at as *mut libc::c_void, iov_len: next.wrapping_sub(at) };
        at = next;
    }
    // SAFETY: the kernel writes to the black box, whose length is given, and checks what it reads.
    let copied = unsafe {
        call(
            libc::SYS_process_vm_readv,
            [
                syscall::getpid() as usize,
                &raw const local as usize,
                1,
                remote.as_ptr() as usize,
                PAGES,
                0,
            ],
        )
    };
    black_box.slot.stack_bytes.store(copied.unwrap_or(0) as u32, Ordering::Relaxed);
}
