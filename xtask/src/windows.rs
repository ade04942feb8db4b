//! Windows on a Debian machine: the toolchain that builds for it, Wine that runs it, and the checks that need both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::leftovers;
use crate::shell::{self, find_program};
use crate::suite::Outcome;

pub(crate) const TARGET: &str = "x86_64-pc-windows-gnu";

/// The standard library is built along with the program.
pub(crate) const BUILD_STD: &str = "-Zbuild-std=std,panic_unwind,panic_abort";

const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// The Debian packages of the toolchain.
pub(crate) const TOOLCHAIN_PACKAGES: [&str; 6] = [
    "cargo-web",
    "rustc-web",
    "rust-web-src",
    "libstd-rust-web-dev",
    "gcc-mingw-w64-x86-64",
    "mingw-w64-x86-64-dev",
];

/// The Debian packages that run what it has built.
const WINE_PACKAGES: [&str; 2] = ["wine", "wine64"];

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
    if find_program(COMPILER).is_none() {
        return missing(COMPILER);
    }
    let root = shell::output(Command::new(RUSTC).args(["--print", "sysroot"]));
    let sources = root.map(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library"));
    if !sources.is_ok_and(|sources| sources.join("Cargo.toml").is_file()) {
        return missing("the source of the standard library");
    }
    None
}

/// What is missing to run programs for Windows.
fn missing_wine() -> Option<String> {
    let none = find_program("wine").is_none() || find_program("wineserver").is_none();
    none.then(|| format!("wine is missing (Debian: {})", WINE_PACKAGES.join(" ")))
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

/// Builds the programs for Windows, and runs their tests under Wine; an error says what failed, or what is missing.
///
/// A chore of its own: Wine 8 now and then keeps a process that was ended while it began, and who waits for that waits long.
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

fn tests() -> Result<Outcome, String> {
    let target = shell::target_directory()?.join("windows");
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", BUILD_STD, "--target", TARGET]);
    command.args(["--profile", "wine", "-p", "crashzoo", "-p", "winhost"]);
    shell::run(command.arg("--target-dir").arg(&target))?;
    let directory = tempfile::Builder::new()
        .prefix("rearguard-wine-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let wine = Wine::new(directory.path())?;
    // The library's own tests of what only Windows has.
    let mut units = cargo();
    units.args(["test", "--quiet", "--locked", BUILD_STD, "--target", TARGET]);
    units.args(["--profile", "wine", "-p", "rearguard", "--lib", "sys::", "--target-dir"]);
    wine.surround(units.arg(&target));
    let text = shell::output(units.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine"))?;
    let units = Outcome::of_output(&text);
    if units.passed == 0 {
        return Err("no unit test was run".to_owned());
    }
    let mut command = shell::cargo(&["test", "-p", "crashzoo", "--features", "wine"]);
    // One after the other: a program under Wine takes both processors of a small machine, and guards have deadlines.
    command.args(["--test", "windows", "--", "--test-threads=1"]);
    wine.surround(&mut command);
    command.env("REARGUARD_WINDOWS", target.join(TARGET).join("wine"));
    command.env("TMPDIR", directory.path());
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcome = Outcome::of_output(&text);
    outcome.add(units);
    println!("  {} passed, {} failed", outcome.passed, outcome.failed);
    if !output.status.success() {
        println!("{text}");
        outcome.failed = outcome.failed.max(1);
    }
    drop(wine);
    outcome.problems.extend(leftovers::end_processes(directory.path()));
    Ok(outcome)
}

/// A Wine of our own: its prefix, and its server while this lives.
struct Wine {
    prefix: PathBuf,
}

impl Wine {
    /// Makes the prefix, with the one library that Wine lacks.
    fn new(directory: &Path) -> Result<Wine, String> {
        let wine = Wine { prefix: directory.join("prefix") };
        let mut boot = Command::new("wine");
        wine.surround(&mut boot);
        shell::run(boot.args(["wineboot", "--init"]).stdin(Stdio::null()).stdout(Stdio::null()))?;
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

    /// What a program needs to run there.
    fn surround(&self, command: &mut Command) {
        command
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            // Its debugger would print pages about every crash, and winemenubuilder writes into the user's home.
            .env("WINEDLLOVERRIDES", "winedbg.exe,winemenubuilder.exe=d");
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
