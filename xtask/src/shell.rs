//! Starting other programs, and the few paths that all chores need.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs a program, so a copied tree is worked on where it lies.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The cargo that runs us, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a program to its end, with its output where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{}: {error}", name(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", name(command))) }
}

/// Runs a program to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", name(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {}", name(command), output.status))
    }
}

/// The program and its arguments as one would type them.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut name = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        name.push(' ');
        name.push_str(&argument.to_string_lossy());
    }
    name
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf, String> {
    let text = output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    directory
        .map(PathBuf::from)
        .ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// One thing that cargo has built.
pub(crate) struct Artifact {
    pub(crate) target: String,
    pub(crate) kind: String,
    pub(crate) package_directory: PathBuf,
    pub(crate) is_test: bool,
    pub(crate) executable: Option<PathBuf>,
    pub(crate) files: Vec<PathBuf>,
}

/// Builds, and returns what was built; the compiler's own words go to standard error.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<Artifact>, String> {
    build_with(arguments, &[])
}

/// The same with flags for the compiler, for `cargo rustc`.
pub(crate) fn build_with(arguments: &[&str], flags: &[&str]) -> Result<Vec<Artifact>, String> {
    let mut command = cargo(arguments);
    command.arg(MESSAGES);
    if !flags.is_empty() {
        command.arg("--").args(flags);
    }
    artifacts_of(&mut command)
}

/// With plain `json` the compiler's errors would come as JSON as well.
pub(crate) const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Runs a build of the caller's making, which is told to give its [`MESSAGES`].
pub(crate) fn artifacts_of(command: &mut Command) -> Result<Vec<Artifact>, String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", name(command)))?;
    let mut artifacts = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("{}: {error}", name(command)))?;
            artifacts.extend(serde_json::from_str(&line).ok().as_ref().and_then(artifact));
        }
    }
    let status = child.wait().map_err(|error| format!("{}: {error}", name(command)))?;
    if status.success() { Ok(artifacts) } else { Err(format!("{}: {status}", name(command))) }
}

fn artifact(message: &Value) -> Option<Artifact> {
    if message.get("reason")?.as_str()? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    let manifest = Path::new(message.get("manifest_path")?.as_str()?);
    let files = message.get("filenames")?.as_array()?;
    Some(Artifact {
        target: target.get("name")?.as_str()?.to_owned(),
        kind: target.get("kind")?.get(0)?.as_str()?.to_owned(),
        package_directory: manifest.parent()?.to_owned(),
        is_test: message.get("profile")?.get("test")?.as_bool()?,
        executable: message.get("executable")?.as_str().map(PathBuf::from),
        files: files.iter().filter_map(Value::as_str).map(PathBuf::from).collect(),
    })
}

/// Where a program lies, if it is on the search path.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let mut directories: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    // A user's path may leave these out, and setpriv or ldconfig may be nowhere else.
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}
