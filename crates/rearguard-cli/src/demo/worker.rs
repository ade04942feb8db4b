//! The demo's application: it edits a document, crashes in its first life, and comes back in its second.
//!
//! It tells the demo what it sees, one JSON object a line on standard output, and waits for a line on standard input before each of its deeds, so that the demo can watch.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use rearguard::{Consent, Rearguard, RestartPolicy, RestartWhen};
use serde_json::json;

use super::bug;

/// What the worker rescues from its first life.
pub(super) const STATE: &str = "letter.txt: 3 unsaved lines, cursor in line 17";

/// The product's name in the report.
pub(super) const NAME: &str = "rearguard-demo";

/// The figure of the design for waiting until guarded.
const READY_WAIT: Duration = Duration::from_secs(2);

/// `main` of the worker: `demo-worker STORE URL [THREADS]`, with so many threads that stand around.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(store), Some(url)) = (arguments.next(), arguments.next()) else {
        eprintln!(
            "rearguard demo-worker: it is started by `rearguard demo`, with a store and a URL"
        );
        return ExitCode::from(2);
    };
    let url = url.to_string_lossy().into_owned();
    let threads = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0);
    let started = Rearguard::new(NAME, env!("CARGO_PKG_VERSION"))
        .store(store)
        .collector(url)
        .consent(Consent::Granted)
        .restart(RestartPolicy::new(RestartWhen::OnCrash))
        .wait_ready(READY_WAIT)
        .start();
    match started {
        Ok(handle) => {
            // They end with the process.
            for _ in 0..threads {
                std::thread::spawn(std::thread::park);
            }
            live(&handle)
        }
        Err(error) => {
            eprintln!("rearguard demo-worker: rearguard can't start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn live(handle: &rearguard::Handle) -> ExitCode {
    let prepared = handle
        .annotate("document", "letter.txt")
        .and_then(|()| handle.set_recovery_state(STATE.as_bytes()));
    if let Err(error) = prepared {
        eprintln!("rearguard demo-worker: {error}");
        return ExitCode::FAILURE;
    }
    handle.log("letter.txt opened");
    tell(handle);
    wait_for_word();
    if handle.incarnation() == 0 {
        handle.log("saving letter.txt");
        bug::save();
    }
    handle.ready();
    ExitCode::SUCCESS
}

fn tell(handle: &rearguard::Handle) {
    let class = handle.last_exit_class().map(|class| match class.value() {
        Some(value) => format!("{}:{value}", class.label()),
        None => class.label().to_owned(),
    });
    let recovered =
        handle.recovery_state().map(|state| String::from_utf8_lossy(state).into_owned());
    let line = json!({
        "pid": std::process::id(),
        "guard_pid": handle.guard_pid(),
        "incarnation": handle.incarnation(),
        "last_report": handle.last_report().map(rearguard::LastReport::id),
        "last_exit_class": class,
        "recovered": recovered,
        "health": handle.health().to_string(),
    });
    // When the demo is gone there is nobody to tell, and the wait for its word ends at once.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line, or the end of the demo.
fn wait_for_word() {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}
