//! Windows on a Debian machine: the toolchain that builds for it, Wine that runs it, and the checks that need both.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::leftovers;
use crate::shell::{self, Artifact, find_program};
use crate::suite::{self, Outcome};

pub(crate) const TARGET: &str = "x86_64-pc-windows-gnu";

/// The standard library is built along with the program.
pub(crate) const BUILD_STD: &str = "-Zbuild-std=std,panic_unwind,panic_abort";

const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
const CPP_COMPILER: &str = "x86_64-w64-mingw32-g++";

/// The Debian packages of the toolchain.
pub(crate) const TOOLCHAIN_PACKAGES: [&str; 7] = [
    "cargo-web",
    "rustc-web",
    "rust-web-src",
    "libstd-rust-web-dev",
    "gcc-mingw-w64-x86-64",
    "g++-mingw-w64-x86-64",
    "mingw-w64-x86-64-dev",
];

/// The Debian packages that run what it has built.
pub(crate) const WINE_PACKAGES: [&str; 3] = ["wine", "wine64", "xvfb"];

/// Where Wine's windows are.
const DISPLAY_SERVER: &str = "Xvfb";

/// How long the tests under Wine may take. Afterwards they are ended and count as failed.
const TESTS_MAX: Duration = Duration::from_secs(20 * 60);

/// How long Wine may take to make its prefix, or for another chore of its own.
const CHORE_MAX: Duration = Duration::from_secs(5 * 60);

/// How long the display's server may take to go.
const DISPLAY_END_MAX: Duration = Duration::from_secs(10);

/// The systems whose code can be type-checked without a linker for them.
const CHECKED: [&str; 3] =
    ["x86_64-pc-windows-msvc", "aarch64-apple-darwin", "aarch64-unknown-linux-gnu"];

/// The crates that a user of the library builds.
const SHIPPED: [&str; 6] =
    ["-p", "rearguard", "-p", "rearguard-crashpath", "-p", "rearguard-minidump"];

/// What the toolchain for Windows lacks on this machine.
pub(crate) fn missing() -> Option<String> {
    let missing =
        |what: &str| Some(format!("{what} is missing (Debian: {})", TOOLCHAIN_PACKAGES.join(" ")));
    for program in [CARGO, RUSTC] {
        if !Path::new(program).is_file() {
            return missing(program);
        }
    }
    if let Some(compiler) =
        [COMPILER, CPP_COMPILER].into_iter().find(|one| find_program(one).is_none())
    {
        return missing(compiler);
    }
    let root = shell::output(Command::new(RUSTC).args(["--print", "sysroot"]));
    let sources = root.map(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library"));
    if !sources.is_ok_and(|sources| sources.join("Cargo.toml").is_file()) {
        return missing("the source of the standard library");
    }
    None
}

/// What is missing to run programs for Windows.
pub(crate) fn missing_wine() -> Option<String> {
    let programs = ["wine", "wineserver", DISPLAY_SERVER];
    let lacking = programs.into_iter().find(|program| find_program(program).is_none())?;
    Some(format!("{lacking} is missing (Debian: {})", WINE_PACKAGES.join(" ")))
}

/// The cargo of that toolchain, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(CARGO);
    command.current_dir(shell::root()).stdin(Stdio::null());
    command.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Type-checks the library for the systems that nothing can be run for here.
pub(crate) fn type_checks() -> Result<(), String> {
    let directory = shell::target_directory()?.join("cross");
    for target in CHECKED {
        let mut command = cargo();
        command.args(["check", "--quiet", "--locked", BUILD_STD, "--target", target]);
        shell::run(command.args(SHIPPED).arg("--target-dir").arg(&directory))?;
    }
    Ok(())
}

/// `cargo xtask windows`; an error says what failed, or what is missing.
pub(crate) fn run() -> Result<(), String> {
    if let Some(reason) = missing().or_else(missing_wine) {
        return Err(reason);
    }
    let outcome = tests()?;
    if outcome.failed == 0 && outcome.problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} tests failed; {}", outcome.failed, outcome.problems.join("; ")))
}

/// Builds the programs for Windows, and runs their tests under Wine.
pub(crate) fn tests() -> Result<Outcome, String> {
    let target = shell::target_directory()?.join("windows");
    let build_as = |profile: &str, arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).args(["--quiet", "--locked", BUILD_STD, "--target", TARGET]);
        command.args(["--profile", profile, shell::MESSAGES, "--target-dir"]).arg(&target);
        shell::artifacts_of(&mut command)
    };
    let build = |arguments: &[&str]| build_as("wine", arguments);
    let programs = build(&["build", "-p", "crashzoo", "-p", "winhost"])?;
    // What people ship, with its line tables.
    let release = program_of(build_as("release", &["build", "-p", "inlines"])?, "inlines")?;
    // The tool reads dumps of Windows on this machine.
    let tool = program_of(suite::programs()?, "rearguard")?;
    // The library's own tests of what only Windows has.
    let units = test_of(build(&[
        "test",
        "--no-run",
        "-p",
        "rearguard",
        "--features",
        "guard-first",
        "--lib",
    ])?)?;
    let build = ["test", "--no-run", "-p", "crashzoo", "--features", "wine", "--test", "windows"];
    let scenarios = test_of(shell::build(&build)?)?;
    let places = programs.iter().find_map(|one| one.executable.as_deref()?.parent());
    let programs = places.ok_or("cargo names no program")?;

    let directory = tempfile::Builder::new()
        .prefix("rearguard-wine-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let wine = Wine::new(directory.path())?;
    let mut command = Command::new("wine");
    wine.surround(command.arg(units).arg("sys::"));
    let mut outcome = run_tests(&mut command, &directory.path().join("units"))?;
    let mut command = Command::new(scenarios);
    // One after the other: a program under Wine takes both processors of a small machine, and guards have deadlines.
    wine.surround(command.arg("--test-threads=1"));
    command.env("REARGUARD_WINDOWS", programs).env("TMPDIR", directory.path());
    command.env("REARGUARD_WINDOWS_RELEASE", release).env("REARGUARD_TOOL", tool);
    outcome.add(run_tests(&mut command, &directory.path().join("scenarios"))?);
    println!("  {} passed, {} failed", outcome.passed, outcome.failed);
    drop(wine);
    // Whether a program of ours is left is what the host counts in its job. What is left now, Wine has kept.
    for line in leftovers::end_processes(directory.path()) {
        println!("  of Wine, {line}");
    }
    Ok(outcome)
}

/// One program of a build.
fn program_of(artifacts: Vec<Artifact>, name: &str) -> Result<PathBuf, String> {
    let program = artifacts.into_iter().find(|one| one.kind == "bin" && one.target == name);
    program.and_then(|one| one.executable).ok_or_else(|| format!("cargo names no {name}"))
}

/// The one test program of a build.
fn test_of(artifacts: Vec<Artifact>) -> Result<PathBuf, String> {
    let test = artifacts.into_iter().find(|one| one.is_test).and_then(|one| one.executable);
    test.ok_or_else(|| "cargo names no test".to_owned())
}

/// Runs one test program, with what it writes in a file, since what Wine keeps would keep a pipe open.
fn run_tests(command: &mut Command, output: &Path) -> Result<Outcome, String> {
    let file = File::create(output).map_err(|error| error.to_string())?;
    let other = file.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(file).stderr(other);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let status = suite::wait(&mut child, TESTS_MAX)?;
    let text = fs::read(output).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    let mut outcome = Outcome::of_output(&text);
    if !status.is_some_and(|status| status.success()) {
        println!("{text}");
        let ended = status.map_or_else(
            || format!("still there after {} s, and ended", TESTS_MAX.as_secs()),
            |status| status.to_string(),
        );
        // A program that broke off has no result line.
        if outcome.failed == 0 {
            outcome.failed = 1;
            outcome.problems.push(ended);
        }
    } else if outcome.passed == 0 {
        return Err("no test was run".to_owned());
    }
    Ok(outcome)
}

/// A Wine of our own: its prefix, and its server while this lives.
struct Wine {
    prefix: PathBuf,
    display: Display,
}

impl Wine {
    /// Makes the prefix, with the one library that Wine lacks.
    fn new(directory: &Path) -> Result<Wine, String> {
        let wine = Wine { prefix: directory.join("prefix"), display: Display::new()? };
        wine.run(&["wineboot", "--init"])?;
        // It stays between the tests: the first program of a server that has just begun takes seconds.
        let mut server = Command::new("wineserver");
        wine.surround(&mut server);
        // A server that runs already says so with an error, and stays as well.
        let _ = server.arg("--persistent").status();
        let library = wine.prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
        let mut compiler = Command::new(COMPILER);
        compiler.arg("-shared").arg("-o").arg(&library);
        compiler.arg(shell::root().join("xtask/wine/bcryptprimitives.c")).arg("-ladvapi32");
        shell::run(&mut compiler)?;
        fs::metadata(library).map_err(|error| error.to_string())?;
        Ok(wine)
    }

    /// Runs a program of Wine's own.
    fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("wine");
        self.surround(&mut command);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("wine: {error}"))?;
        match suite::wait(&mut child, CHORE_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("wine {}: {status}", arguments.join(" "))),
            None => Err(format!("wine {} took too long, and was ended", arguments.join(" "))),
        }
    }

    /// What a program needs to run there.
    fn surround(&self, command: &mut Command) {
        command
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env("DISPLAY", &self.display.name)
            // Its debugger would print pages about every crash, and winemenubuilder writes into the user's home.
            .env("WINEDLLOVERRIDES", "winedbg.exe,winemenubuilder.exe=d");
    }
}

/// A display that nobody sees: without one, Wine makes no window.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    fn new() -> Result<Display, String> {
        let mut command = Command::new(DISPLAY_SERVER);
        // It says its number when it is ready, and says it nowhere when it can't begin.
        command.args(["-displayfd", "1", "-screen", "0", "640x480x16", "-nolisten", "tcp"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().map_err(|error| format!("{DISPLAY_SERVER}: {error}"))?;
        let mut number = String::new();
        if let Some(stdout) = server.stdout.take() {
            BufReader::new(stdout).read_line(&mut number).map_err(|error| error.to_string())?;
        }
        let display = Display { server, name: format!(":{}", number.trim()) };
        if display.name == ":" {
            return Err(format!("{DISPLAY_SERVER} has not begun"));
        }
        Ok(display)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Asked rather than killed: it removes its socket then.
        if let Some(pid) = Pid::from_raw(self.server.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = suite::wait(&mut self.server, DISPLAY_END_MAX);
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        for flag in ["--kill", "--wait"] {
            let mut server = Command::new("wineserver");
            self.surround(&mut server);
            let _ = server.arg(flag).status();
        }
    }
}
