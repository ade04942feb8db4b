//! Guard.
mod fail_spots;
pub(crate) fn run(_nonce: u64) -> ! { std::process::exit(0) }
pub(crate) fn refuse(_reason: &str) -> ! { std::process::exit(0) }
