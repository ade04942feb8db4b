//! The texts that a kernel shows of a process: mappings, lists of threads, numbers.
//!
//! The input is taken for each of them in turn.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rearguard_minidump::fuzzing::texts(data));
