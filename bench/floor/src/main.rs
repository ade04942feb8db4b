//! The same worker and fault without any handler: what no crash handler can be faster than.

use std::process::ExitCode;

use peer_trace::{Args, Trace, live, now_ns};

fn main() -> ExitCode {
    let main_ns = now_ns();
    match run(main_ns) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("floor: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(main_ns: u64) -> Result<(), String> {
    let args = Args::parse(std::env::args_os().skip(1))?;
    let trace = Trace::open(&args)?;
    trace.write_at("main", main_ns);
    live(&args, &trace);
    Ok(())
}
