//! Dumps a running process: `dump PID FILE`, and says how long its threads were stopped.

use std::fs::File;
use std::process::ExitCode;

use rearguard_minidump::{Request, SoftError, capture};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, path] = arguments.as_slice() else {
        eprintln!("usage: dump PID FILE");
        return ExitCode::from(2);
    };
    let Ok(pid) = pid.parse() else {
        eprintln!("dump: not a process id: {pid}");
        return ExitCode::from(2);
    };
    match dump(pid, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dump(pid: i32, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let request = Request::new(pid);
    let capture = capture(&request)?;
    println!("threads: {}", capture.thread_count());
    for error in capture.soft_errors() {
        println!("soft error: {error}");
    }
    if let Some(grant) = capture.soft_errors().iter().find_map(SoftError::grant) {
        println!("to be granted: {grant}");
    }
    let mut file = File::create(path)?;
    let times = capture.write_to(&mut file)?;
    if times.threads_released_ns == 0 {
        println!("no thread was stopped");
    } else {
        println!("to the stop: {} us", (times.threads_stopped_ns - times.first_stop_ns) / 1000);
        println!(
            "seen to run again after: {} us",
            (times.threads_released_ns - times.first_stop_ns) / 1000
        );
    }
    println!("bytes: {}", file.metadata()?.len());
    Ok(())
}
