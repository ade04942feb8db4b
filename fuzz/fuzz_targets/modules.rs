//! Modules and the dynamic linker's list, out of memory that the input fills.
//!
//! The input lies at a fixed address, so that it can learn to point at itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rearguard_minidump::fuzzing::modules(data));
