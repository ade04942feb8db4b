//! A counter that survives its crashes: `counter` counts to ten and aborts at every third number; the next life goes on where the last one ended.
//!
//! Run it as `cargo run --example counter &` or from a desktop: as the terminal's foreground job it is reported and not started again.

use std::time::Duration;

use rearguard::{Rearguard, RestartPolicy, RestartWhen};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guard = Rearguard::new("rearguard-counter", env!("CARGO_PKG_VERSION"))
        .restart(RestartPolicy::new(RestartWhen::OnCrash).in_a_row(10, Duration::from_secs(10)))
        .start()?;
    let begin = match guard.recovery_state() {
        Some(state) => String::from_utf8_lossy(state).parse::<u32>()? + 1,
        None => 1,
    };
    if let Some(report) = guard.last_report() {
        println!("life {}: the one before crashed, report {}", guard.incarnation(), report.id());
    }
    for number in begin..=10 {
        println!("{number}");
        guard.set_recovery_state(number.to_string().as_bytes())?;
        if number % 3 == 0 {
            std::process::abort();
        }
    }
    guard.ready();
    Ok(())
}
