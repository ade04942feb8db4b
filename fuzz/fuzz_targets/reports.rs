//! What the tool reads of reports: metadata, and exported reports.
//!
//! Metadata begin with a brace, and everything else is taken for an export.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| match data {
    [b'{', ..] => rearguard_cli::fuzzing::metadata(data),
    data => rearguard_cli::fuzzing::archive(data),
});
