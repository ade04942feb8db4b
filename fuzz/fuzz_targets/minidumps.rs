//! Minidumps, as `rearguard show` reads and shows them, whoever wrote them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rearguard_cli::fuzzing::minidump(data));
