//! `cargo xtask test`: every check, one after the other, and what was not run.
//!
//! A check that fails doesn't keep the others from running, since a report of everything is worth more than a quick end.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::shell::{self, cargo, find_program};
use crate::suite::{self, Outcome, Stage, User};
use crate::{leftovers, readers, size, symbols, tools, windows};

/// The crates that are to be published, those that others need first.
const PUBLISHED: [&str; 4] =
    ["rearguard-crashpath", "rearguard-minidump", "rearguard", "rearguard-cli"];

/// The course of one run.
struct Run {
    all: bool,
    outcome: Outcome,
    not_run: Vec<String>,
}

/// Runs all checks; an error says how many of them found something.
pub(crate) fn run(all: bool) -> Result<(), String> {
    no_core_dumps();
    let begun = Instant::now();
    let mut run = Run { all, outcome: Outcome::default(), not_run: Vec::new() };
    if all {
        run.step("what the checks need", |_| tools::install())?;
    } else {
        run.not_run.extend(tools::missing());
    }
    run.check("formatting", |_| formatting());
    run.check("clippy", |run| {
        let mut arguments = vec!["clippy", "--workspace", "--all-targets"];
        if find_program("c++").is_some() {
            arguments.push("--all-features");
        } else {
            run.skip("clippy of what is behind features: c++ is missing (Debian: g++)")?;
        }
        arguments.extend(["--", "-D", "warnings"]);
        shell::run(&mut cargo(&arguments))?;
        // The library as most will build it, without what is asked for by features.
        shell::run(&mut cargo(&["clippy", "--package", "rearguard", "--", "-D", "warnings"]))?;
        // The tool as the demo is built.
        let demo = ["clippy", "--package", "rearguard-cli", "--no-default-features", "--"];
        shell::run(cargo(&demo).args(["-D", "warnings"]))?;
        // The fuzzers' doors, which no other build has.
        let doors =
            ["clippy", "--package", "rearguard-minidump", "--lib", "--", "--cfg", "fuzzing"];
        shell::run(cargo(&doors).args(["-D", "warnings"]))?;
        let doors = ["clippy", "--package", "rearguard-cli", "--lib", "--no-default-features"];
        shell::run(cargo(&doors).args(["--", "--cfg", "fuzzing", "-D", "warnings"]))
    });
    run.check("documentation", |_| {
        let mut command = cargo(&["doc", "--no-deps", "--workspace", "--quiet"]);
        shell::run(command.env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    run.check("the crash path's symbols", |run| {
        if find_program("nm").is_some() && find_program("objdump").is_some() {
            symbols::run()
        } else {
            run.skip("the crash path's symbols: nm is missing (Debian: binutils)")
        }
    });
    run.check("examples in the documentation", Run::doc_tests);
    run.suites();
    run.check("type-checks for other systems", |run| match windows::missing() {
        None => windows::type_checks(),
        Some(reason) => run.skip(&format!("type-checks for other systems: {reason}")),
    });
    run.check("the programs for Windows, under Wine", |run| {
        match windows::missing().or_else(windows::missing_wine) {
            None => run.windows(),
            Some(reason) => run.skip(&format!("the programs for Windows: {reason}")),
        }
    });
    run.check("the growth of an executable", |run| {
        if !run.all {
            return run
                .skip("the growth of an executable: only with --all, it builds many programs");
        }
        size::run(true, None)
    });
    run.check("packages for a registry", |run| {
        if !run.all {
            return run.skip("packages for a registry: only with --all, it asks the registry");
        }
        let mut command = cargo(&["publish", "--dry-run", "--allow-dirty", "--quiet"]);
        for name in PUBLISHED {
            command.args(["--package", name]);
        }
        shell::run(&mut command)
    });
    run.check("the benchmark's peers", |run| {
        if !run.all {
            return run.skip("clippy of the benchmark's peers: only with --all, it fetches them");
        }
        let mut command = cargo(&["clippy", "--manifest-path", "bench/Cargo.toml"]);
        // Not among the main workspace's results, which would be thrown away for other lock files' versions.
        let target = shell::target_directory()?.join("bench");
        command.arg("--target-dir").arg(target);
        shell::run(command.args([
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    });
    run.end(begun)
}

fn formatting() -> Result<(), String> {
    let main = shell::run(&mut cargo(&["fmt", "--all", "--check"]));
    let bench = ["fmt", "--manifest-path", "bench/Cargo.toml", "--all", "--check"];
    main.and(shell::run(&mut cargo(&bench)))
}

/// Keeps the kernel from writing cores of programs that crash on purpose.
/// Only the soft limit: a test that is about cores can raise its own.
fn no_core_dumps() {
    let now = getrlimit(Resource::Core);
    let none = Rlimit { current: Some(0), maximum: now.maximum };
    // Without it the tests run as well, only slower.
    let _ = setrlimit(Resource::Core, none);
}

impl Run {
    /// Runs a step under its heading, and tells how long it took.
    fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Run) -> Result<T, String>,
    ) -> Result<T, String> {
        println!("\n== {name}");
        let begun = Instant::now();
        let result = work(self);
        let seconds = begun.elapsed().as_secs_f64();
        match &result {
            Ok(_) => println!("-- {name}: {seconds:.1} s"),
            Err(problem) => println!("{problem}\n-- {name}: FAILED, {seconds:.1} s"),
        }
        result
    }

    /// A step whose failure is kept for the end, unless the step has told it there in more detail itself.
    fn check(&mut self, name: &str, work: impl FnOnce(&mut Run) -> Result<(), String>) {
        let before = self.outcome.problems.len();
        if let Err(problem) = self.step(name, work)
            && self.outcome.problems.len() == before
        {
            let first = problem.lines().next().unwrap_or_default();
            self.outcome.problems.push(format!("{name}: {first}"));
        }
    }

    /// Leaves something out and says so at the end, unless nothing may be left out.
    fn skip(&mut self, reason: &str) -> Result<(), String> {
        if self.all {
            return Err(format!("not run: {reason}"));
        }
        println!("not run");
        self.not_run.push(reason.to_owned());
        Ok(())
    }

    fn doc_tests(&mut self) -> Result<(), String> {
        let directory = tempfile::Builder::new()
            .prefix("rearguard-doctest-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let mut command = cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]);
        command.env("TMPDIR", directory.path()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut outcome = Outcome::of_output(&text);
        println!("  {} passed, {} failed", outcome.passed, outcome.failed);
        for problem in &mut outcome.problems {
            *problem = format!("examples in the documentation: {problem}");
        }
        if !output.status.success() {
            println!("{text}");
        }
        self.outcome.add(outcome);
        let left = leftovers::end_processes(directory.path());
        self.outcome.problems.extend(left);
        if output.status.success() { Ok(()) } else { Err(output.status.to_string()) }
    }

    /// Unit, integration and end-to-end tests, as each user that can be had.
    fn suites(&mut self) {
        let stage = self.step("building the tests", |_| Stage::new(&suite::build()?));
        let stage = match stage {
            Ok(stage) => stage,
            Err(problem) => {
                self.outcome.problems.push(format!("building the tests: {problem}"));
                return;
            }
        };
        let is_root = rustix::process::geteuid().is_root();
        let own = if is_root { "the suite as root" } else { "the suite as an unprivileged user" };
        self.check(own, |run| run.suite(own, &stage, User::Own));
        if !is_root {
            self.check("the suite as root", |run| run.skip("the suite as root: we aren't root"));
        } else if find_program("setpriv").is_none() {
            self.check("the suite as an unprivileged user", |run| {
                run.skip(
                    "the suite as an unprivileged user: setpriv is missing (Debian: util-linux)",
                )
            });
        } else {
            let name = "the suite as an unprivileged user";
            self.check(name, |run| run.suite(name, &stage, User::Nobody));
        }
        self.check("other people's readers", |run| match readers::missing() {
            None => readers::read(&stage.binary("readers"), &stage.dumps()),
            Some(reason) => run.skip(&format!("other people's readers: {reason}")),
        });
    }

    fn suite(&mut self, name: &str, stage: &Stage, user: User) -> Result<(), String> {
        let mut outcome = stage.run(user)?;
        let count = outcome.problems.len();
        for problem in &mut outcome.problems {
            *problem = format!("{name}: {problem}");
        }
        self.outcome.add(outcome);
        if count == 0 { Ok(()) } else { Err(format!("{count} problems, told above")) }
    }

    fn windows(&mut self) -> Result<(), String> {
        let mut outcome = windows::tests()?;
        let count = outcome.problems.len();
        for problem in &mut outcome.problems {
            *problem = format!("under Wine: {problem}");
        }
        self.outcome.add(outcome);
        if count == 0 { Ok(()) } else { Err(format!("{count} problems, told above")) }
    }

    /// The last lines: what was not run, what went wrong, and the counts.
    fn end(mut self, begun: Instant) -> Result<(), String> {
        println!("\n== end, after {:.0} s on {}", begun.elapsed().as_secs_f64(), machine());
        if self.not_run.is_empty() {
            println!("nothing was left out");
        } else {
            println!("not run:");
            for line in &self.not_run {
                println!("  {line}");
            }
        }
        let problems = std::mem::take(&mut self.outcome.problems);
        for problem in &problems {
            println!("FAILED: {problem}");
        }
        println!("{} passed, {} failed", self.outcome.passed, self.outcome.failed);
        if problems.is_empty() && self.outcome.failed == 0 {
            Ok(())
        } else {
            Err(format!("{} problems, {} failed tests", problems.len(), self.outcome.failed))
        }
    }
}

/// What the run was on, so that a report can be read later.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let compiler = shell::output(Command::new("rustc").arg("--version")).unwrap_or_default();
    format!("{cores} cores, kernel {}, {}", kernel.trim(), compiler.trim())
}
