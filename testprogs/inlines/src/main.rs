//! `inlines STORE rust|cpp|deep`: dies within inlined functions or of too many, and leaves its report in the store.
//!
//! Built in the release profile, as what people ship; what `rearguard show` says of it is held against `addr2line`.

mod fault;

use std::process::ExitCode;
use std::time::Duration;

use rearguard::{Rearguard, RestartPolicy, RestartWhen, Topology};

/// A dump takes seconds under Wine.
const DUMP_WAIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    rearguard::run_guard_if_asked();
    let mut arguments = std::env::args_os().skip(1);
    let (Some(store), Some(way)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: inlines STORE rust|cpp|deep");
        return ExitCode::from(2);
    };
    let started = Rearguard::new("inlines", env!("CARGO_PKG_VERSION"))
        .store(store)
        .topology(Topology::GuardFirst)
        .restart(RestartPolicy::new(RestartWhen::Never))
        .dump_wait(DUMP_WAIT)
        .start();
    if let Err(error) = started {
        eprintln!("inlines: rearguard can't start: {error}");
        return ExitCode::FAILURE;
    }
    match way.to_str() {
        Some("rust") => fault::in_rust(), // rust 4: inlines::main
        Some("deep") => fault::deep(),    // deep 1: inlines::main
        #[cfg(has_cpp)]
        Some("cpp") => fault::in_cpp(), // cpp 6: inlines::main
        _ => eprintln!("inlines: it was built without the way {}", way.display()),
    }
    ExitCode::from(2)
}
