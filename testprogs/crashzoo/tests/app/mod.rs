//! An application of a test's own: the test executable itself, started again, for what the zoo's command line can't say.
//!
//! A test file that uses this has a test named `application`, which does nothing unless it was started by [`command`]; then it is the application, calls rearguard, and says what it finds by [`say`].

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]
#![allow(dead_code, reason = "each test file uses its part of the stage")]
#![expect(
    unsafe_code,
    reason = "the guard's role has to be taken before the test harness reads its arguments"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::Scene;

/// Which application it is; absent in the tests themselves.
const MODE: &str = "REARGUARD_TEST_APPLICATION";
/// Where it says what it finds.
const SAID: &str = "REARGUARD_TEST_SAID";
/// Where its reports go.
const STORE: &str = "REARGUARD_TEST_STORE";

/// Runs before the harness, as the first lines of `main` would; the harness would refuse the guard argument.
extern "C" fn take_the_guard_role() {
    rearguard::run_guard_if_asked();
}

#[used]
// SAFETY: the C library calls the functions of this section once, with the arguments of `main`, which this one ignores.
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = take_the_guard_role;

/// Which application this process is to be.
pub(crate) fn mode() -> Option<String> {
    std::env::var(MODE).ok()
}

/// The builder with the scene's store.
pub(crate) fn builder() -> rearguard::Rearguard {
    let store = std::env::var_os(STORE).expect("the application was started by a test");
    rearguard::Rearguard::new("own-app", "1.0").store(store)
}

/// Appends a line to what the test reads.
pub(crate) fn say(line: &str) {
    let path = std::env::var_os(SAID).expect("the application was started by a test");
    let mut file =
        OpenOptions::new().append(true).create(true).open(path).expect("a file to say it");
    file.write_all(format!("{line}\n").as_bytes()).expect("a line is written");
}

/// Everything that was said so far.
pub(crate) fn said(scene: &Scene) -> Vec<String> {
    let text = fs::read_to_string(scene.path("said")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The application of this mode, in a scene.
pub(crate) fn command(scene: &Scene, mode: &str) -> Command {
    let executable = std::env::current_exe().expect("the test's own path");
    command_of(scene, &executable, mode)
}

fn command_of(scene: &Scene, executable: &Path, mode: &str) -> Command {
    // The scene knows what belongs into the environment of its processes.
    let model = scene.command("crashzoo");
    let mut command = Command::new(executable);
    for (name, value) in model.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .current_dir(scene.directory.path())
        .args(["application", "--exact", "--nocapture", "--test-threads", "1"])
        .env(MODE, mode)
        .env(SAID, scene.path("said"))
        .env(STORE, scene.store())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}
