//! Other people's readers: each dump that the tests kept is read by all of them, and they must agree.
//!
//! The package `readers` says what is compared; here its parts are started in their order, each with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::shell::{self, cargo, find_program};
use crate::suite;

/// Names the directory to the tests, which keep their dumps there.
pub(crate) const DUMPS: &str = "REARGUARD_DUMPS";

/// Names the directory to the script under lldb, which gets no arguments.
const DUMPS_FOR_LLDB: &str = "READERS_DUMPS";

/// How long one reader may take for all dumps; lldb, the slowest, takes about a twentieth of a second for each.
const READER_MAX: Duration = Duration::from_secs(10 * 60);

/// The directory that pip makes for the version of `requirements.txt`.
const PYPI_INSTALLED: &str = "minidump-0.0.24.dist-info";

/// What is needed beside the toolchain.
const PROGRAMS: [&str; 3] = ["lldb", "python3", "readelf"];

/// Runs the tests of the writer, then the readers.
pub(crate) fn run() -> Result<(), String> {
    if let Some(reason) = missing() {
        return Err(reason);
    }
    let built = shell::build(&["build", "--package", "readers", "--bins"])?;
    let program = built.iter().find_map(|artifact| artifact.executable.clone());
    let program = program.ok_or("cargo built no program of the package readers")?;
    let dumps = tempfile::Builder::new()
        .prefix("rearguard-dumps-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let mut tests = cargo(&["test", "--package", "rearguard-minidump"]);
    // A test that fails leaves its dumps, and what the readers say of them may be the reason.
    let tested = shell::run(tests.env(DUMPS, dumps.path()));
    tested.and(read(&program, dumps.path()))
}

/// Why the readers can't run here; puts PyPI's package into the target directory if it isn't there.
pub(crate) fn missing() -> Option<String> {
    let lacking = PROGRAMS.into_iter().find(|program| find_program(program).is_none());
    match lacking {
        Some(program) => Some(format!("{program} is missing (Debian: lldb python3-pip binutils)")),
        None => package().err(),
    }
}

/// Has every dump of a directory read by every reader; an error says that they don't agree, or that one of them broke off.
pub(crate) fn read(program: &Path, dumps: &Path) -> Result<(), String> {
    let package = package()?;
    let scripts = shell::root().join("testprogs/readers/src");
    let lldb = find_program("lldb").ok_or("there is no lldb")?;
    let python = find_program("python3").ok_or("there is no python3")?;

    end(Command::new(program).arg("plan").arg(dumps))?;
    let import = format!("command script import {}", scripts.join("lldb_reader.py").display());
    let mut command = Command::new(&lldb);
    command.args(["--no-lldbinit", "--batch", "--one-line", &import]).env(DUMPS_FOR_LLDB, dumps);
    if let Some(modules) = lldb_modules(&lldb) {
        command.env("PYTHONPATH", modules);
    }
    // It repeats the command.
    end(command.stdout(Stdio::null()))?;
    let mut command = Command::new(python);
    command.arg(scripts.join("pypi_reader.py")).arg(dumps);
    end(command.env("PYTHONPATH", package).env("PYTHONDONTWRITEBYTECODE", "1"))?;
    end(Command::new(program).arg("compare").arg(dumps))
}

/// Runs one reader to its end, or to the deadline.
fn end(command: &mut Command) -> Result<(), String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let name = program.to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("{name}: {error}"))?;
    match suite::wait(&mut child, READER_MAX)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{name}: {status}")),
        None => Err(format!("{name}: still there after {} s", READER_MAX.as_secs())),
    }
}

/// Where lldb's own Python modules are. Debian's lldb doesn't find them by itself.
fn lldb_modules(lldb: &Path) -> Option<PathBuf> {
    let program = fs::canonicalize(lldb).ok()?;
    let libraries = program.ancestors().nth(2)?.join("lib");
    for entry in fs::read_dir(libraries).ok()?.flatten() {
        // `lib/python3` beside it has a part of them only.
        for directory in ["dist-packages", "site-packages"].map(|name| entry.path().join(name)) {
            if directory.join("lldb/embedded_interpreter.py").is_file() {
                return Some(directory);
            }
        }
    }
    None
}

/// PyPI's package, in a directory of its own below the target directory.
fn package() -> Result<PathBuf, String> {
    let directory = shell::target_directory()?.join("readers-pypi");
    if directory.join(PYPI_INSTALLED).is_dir() {
        return Ok(directory);
    }
    let pip = find_program("pip3").ok_or("pip3 is missing (Debian: python3-pip)")?;
    let mut command = Command::new(pip);
    command
        .args(["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"])
        .args(["--no-deps", "--require-hashes", "--upgrade", "--target"])
        .arg(&directory)
        .arg("--requirement")
        .arg(shell::root().join("testprogs/readers/requirements.txt"));
    end(&mut command)?;
    Ok(directory)
}
