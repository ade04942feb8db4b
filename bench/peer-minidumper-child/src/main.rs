//! The same worker and fault behind minidumper-child, with that crate's own defaults.
//!
//! The server is this program again, told so by an environment variable of the peer; it gets the worker's arguments so that it knows the trace and the directory.
//! Its lines in the trace are `server`, from the top of `main`, and `dumped`, from the peer's callback: at that moment the dump is written, and the worker is still waiting for its answer.

use std::process::ExitCode;

use minidumper_child::MinidumperChild;
use peer_trace::{Args, Trace, live, now_ns};

fn main() -> ExitCode {
    let main_ns = now_ns();
    match run(main_ns) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("peer-minidumper-child: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(main_ns: u64) -> Result<(), String> {
    let args = Args::parse(std::env::args_os().skip(1))?;
    let trace = Trace::open(&args)?;
    let server_trace = Trace::open(&args)?;
    let mut peer = MinidumperChild::new()
        .on_process(|command| {
            command.args(std::env::args_os().skip(1));
        })
        .on_minidump(move |dump, _path| server_trace.write_size("dumped", dump.len()));
    if let Some(store) = &args.store {
        peer = peer.with_crashes_dir(store.clone());
    }
    trace.write_at(if peer.is_crash_reporter_process() { "server" } else { "main" }, main_ns);
    // Doesn't return in the server.
    let _handle = peer.spawn().map_err(|error| error.to_string())?;
    let ready_ns = now_ns();
    // One moment for both: the call returns when the handler stands and the server has answered.
    trace.write_at("armed", ready_ns);
    trace.write_at("guarded", ready_ns);
    live(&args, &trace);
    Ok(())
}
