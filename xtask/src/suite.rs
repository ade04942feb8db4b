//! Runs the built test programs as one user, in a place of that user's own, and looks at what they leave.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::shell::{self, Artifact, find_program};
use crate::{leftovers, readers};

/// How long one test program may take. Afterwards it is ended and counts as failed.
const PROGRAM_MAX: Duration = Duration::from_secs(15 * 60);

/// The unprivileged user: a number that owns nothing, whether the system has a name for it or not.
const NOBODY: u32 = 65534;

/// What the tests may see of our environment beside what is made for them.
/// Everything else could change what they test: state directories, service managers, the opt-out variable.
const PASSED_ON: [&str; 8] = [
    "CARGO",
    "CI",
    "LANG",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_TEST_THREADS",
    "TERM",
    "RUSTUP_TOOLCHAIN",
];

/// Tests that read the sources, where an unprivileged user may have no right to; what they find doesn't depend on who looks.
const ABOUT_SOURCES: [&str; 1] = ["tidy"];

/// Variables with this prefix are the suite's own: seeds, rounds.
const PREFIX_PASSED_ON: &str = "REARGUARD_";

/// What came out of one or several test programs.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// What went wrong, a line each.
    pub(crate) problems: Vec<String>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.problems.extend(other.problems);
    }

    /// Reads the test runner's lines: the counts, and the names of tests that failed.
    pub(crate) fn of_output(output: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for line in output.lines() {
            let name = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
            outcome.problems.extend(name.map(str::to_owned));
        }
        for line in output.lines().filter(|line| line.starts_with("test result: ")) {
            for part in line.split([';', '.']) {
                let mut words = part.split_whitespace();
                match (words.next().and_then(|word| word.parse::<u32>().ok()), words.next()) {
                    (Some(count), Some("passed")) => outcome.passed += count,
                    (Some(count), Some("failed")) => outcome.failed += count,
                    (_, _) => {}
                }
            }
        }
        outcome
    }
}

/// A test program, copied to where everybody may execute it.
pub(crate) struct Program {
    name: String,
    target: String,
    path: PathBuf,
    package_directory: PathBuf,
}

/// The copied programs.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
    programs: Vec<Program>,
}

/// Who runs the tests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs us.
    Own,
    /// Somebody without any right.
    Nobody,
}

impl Stage {
    /// Copies test programs and the programs under test to a directory that everybody can read.
    /// The build's own directory may lie in a home that is closed to others.
    pub(crate) fn new(artifacts: &[Artifact]) -> Result<Stage, String> {
        let directory = tempfile::Builder::new()
            .prefix("rearguard-test-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(public_directory())
            .map_err(|error| error.to_string())?;
        let mut stage = Stage { directory, programs: Vec::new() };
        fs::create_dir(stage.binaries()).map_err(|error| error.to_string())?;
        set_mode(&stage.binaries(), 0o755)?;
        fs::create_dir(stage.dumps()).map_err(|error| error.to_string())?;
        // Each user adds dumps there, and nobody takes another's away.
        set_mode(&stage.dumps(), 0o1777)?;
        for artifact in artifacts {
            let Some(executable) = &artifact.executable else { continue };
            if !artifact.is_test && !matches!(artifact.kind.as_str(), "bin" | "example") {
                continue;
            }
            let path = stage.binaries().join(executable.file_name().unwrap_or_default());
            fs::copy(executable, &path).map_err(|error| format!("{}: {error}", path.display()))?;
            set_mode(&path, 0o755)?;
            if artifact.is_test {
                let package_directory = artifact.package_directory.clone();
                let package = package_directory.file_name().unwrap_or_default().to_string_lossy();
                let name = format!("{package}: {} ({})", artifact.target, artifact.kind);
                let target = artifact.target.clone();
                stage.programs.push(Program { name, target, path, package_directory });
            }
        }
        Ok(stage)
    }

    /// Where the programs under test are, for `REARGUARD_BIN_DIR`.
    fn binaries(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// Where the tests keep the dumps that they read; each program a bounded number.
    pub(crate) fn dumps(&self) -> PathBuf {
        self.directory.path().join("dumps")
    }

    /// Where a program under test is.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries().join(name)
    }

    /// Runs every test program as `user`.
    pub(crate) fn run(&self, user: User) -> Result<Outcome, String> {
        let place = Place::new(self, user)?;
        let mut outcome = Outcome::default();
        for program in &self.programs {
            if user == User::Nobody && ABOUT_SOURCES.contains(&program.target.as_str()) {
                continue;
            }
            outcome.add(place.run(program));
        }
        let mut left = leftovers::end_processes(self.directory.path());
        left.extend(leftovers::files(&place.temporary()));
        left.extend(leftovers::files(&place.home()));
        for line in &left {
            println!("  {line}");
        }
        outcome.problems.extend(left);
        Ok(outcome)
    }
}

/// A user's own temporary directory and home.
struct Place<'a> {
    stage: &'a Stage,
    user: User,
    directory: PathBuf,
}

impl Place<'_> {
    fn new(stage: &Stage, user: User) -> Result<Place<'_>, String> {
        let name = match user {
            User::Own => "own",
            User::Nobody => "nobody",
        };
        let place = Place { stage, user, directory: stage.directory.path().join(name) };
        for directory in [&place.directory, &place.temporary(), &place.home()] {
            let wrong = |error| format!("{}: {error}", directory.display());
            fs::create_dir(directory).map_err(wrong)?;
            // Others may pass, since root's tests have workers that become another user; nobody may look around.
            set_mode(directory, 0o711)?;
            if user == User::Nobody {
                chown(directory, Some(NOBODY), Some(NOBODY)).map_err(wrong)?;
            }
        }
        let output = place.output();
        fs::create_dir(&output).map_err(|error| format!("{}: {error}", output.display()))?;
        Ok(place)
    }

    fn temporary(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Where we keep what the tests write to their standard streams.
    fn output(&self) -> PathBuf {
        self.directory.join("output")
    }

    /// Runs one test program to its end, or to the deadline.
    fn run(&self, program: &Program) -> Outcome {
        let begun = Instant::now();
        let result = self.run_to_the_end(program);
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok((ended, output)) => {
                let mut outcome = Outcome::of_output(&output);
                let counts = format!("{} passed, {} failed", outcome.passed, outcome.failed);
                println!("  {}: {counts} ({seconds:.1} s)", program.name);
                if let Some(problem) = ended {
                    println!("{output}");
                    // A program that broke off has no result line, and must not look like one without tests.
                    outcome.failed = outcome.failed.max(1);
                    if outcome.problems.is_empty() {
                        outcome.problems.push(problem);
                    }
                }
                for problem in &mut outcome.problems {
                    *problem = format!("{}: {problem}", program.name);
                }
                outcome
            }
            Err(problem) => {
                println!("  {}: {problem}", program.name);
                let problems = vec![format!("{}: {problem}", program.name)];
                Outcome { passed: 0, failed: 1, problems }
            }
        }
    }

    /// What is wrong with its end, if anything is, and everything that it wrote.
    fn run_to_the_end(&self, program: &Program) -> Result<(Option<String>, String), String> {
        let file_name = program.path.file_name().unwrap_or_default();
        let path = self.output().join(file_name);
        // A file rather than a pipe: a process that outlives the test would keep a pipe open, and us waiting.
        let file = File::create(&path).map_err(|error| error.to_string())?;
        let other = file.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.command(&program.path)?;
        command
            .current_dir(&program.package_directory)
            .env("CARGO_MANIFEST_DIR", &program.package_directory)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let status = wait(&mut child, PROGRAM_MAX)?;
        let output = fs::read(&path).map_err(|error| error.to_string())?;
        let problem = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(status.to_string()),
            None => Some(format!("still there after {} s, and ended", PROGRAM_MAX.as_secs())),
        };
        Ok((problem, String::from_utf8_lossy(&output).into_owned()))
    }

    fn command(&self, program: &Path) -> Result<Command, String> {
        let mut command = match self.user {
            User::Own => Command::new(program),
            User::Nobody => {
                let setpriv = find_program("setpriv").ok_or("there is no setpriv")?;
                let mut command = Command::new(setpriv);
                command
                    .arg(format!("--reuid={NOBODY}"))
                    .arg(format!("--regid={NOBODY}"))
                    .args(["--clear-groups", "--inh-caps=-all", "--"])
                    .arg(program);
                command
            }
        };
        command.env_clear();
        for (name, value) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if PASSED_ON.contains(&&*text) || text.starts_with(PREFIX_PASSED_ON) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.home())
            .env("TMPDIR", self.temporary())
            .env(readers::DUMPS, self.stage.dumps())
            .env("REARGUARD_BIN_DIR", self.stage.binaries());
        Ok(command)
    }
}

/// Waits until a program has ended, and ends it at the deadline.
pub(crate) fn wait(child: &mut Child, wait_max: Duration) -> Result<Option<ExitStatus>, String> {
    let deadline = Instant::now() + wait_max;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().map_err(|error| error.to_string())?;
                child.wait().map_err(|error| error.to_string())?;
                return Ok(None);
            }
        }
    }
}

/// A directory in memory where programs can be executed, else the temporary directory, if everybody can get there; some systems give each user one that is closed.
/// In memory, since hundreds of reports are made durable, and a shared disk can take seconds for one.
fn public_directory() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let in_memory = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/dev/shm")
            && fields.next() == Some("tmpfs")
            && fields
                .next()
                .is_some_and(|options| options.split(',').all(|one| one != "noexec" && one != "ro"))
    });
    if in_memory && std::env::var_os("TMPDIR").is_none() {
        return PathBuf::from("/dev/shm");
    }
    let wanted = std::env::temp_dir();
    let open = wanted.ancestors().all(|directory| {
        fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    });
    if open { wanted } else { PathBuf::from("/tmp") }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(|error| format!("{}: {error}", path.display()))
}

/// Builds all programs under test.
pub(crate) fn programs() -> Result<Vec<Artifact>, String> {
    shell::build(&["build", "--workspace", "--bins"])
}

/// Builds all test programs and all programs under test.
pub(crate) fn build() -> Result<Vec<Artifact>, String> {
    let mut artifacts = programs()?;
    // What is shown of a release build needs one; on the stage it takes the other one's place.
    artifacts.extend(shell::build(&["build", "--release", "--package", "inlines"])?);
    let tests = shell::build(&["test", "--workspace", "--no-run"])?;
    artifacts.extend(tests.into_iter().filter(|one| one.is_test || one.kind == "example"));
    Ok(artifacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the counts of several programs are summed, and other lines are no counts.
    #[test]
    fn result_lines_are_summed() {
        let output = "test result: ok. 16 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.80s\n\
                      3 failed\ntest b ... ok\ntest a::b ... FAILED\n\
                      test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        let outcome = Outcome::of_output(output);
        assert_eq!((outcome.passed, outcome.failed), (18, 1));
        assert_eq!(outcome.problems, ["a::b"]);
    }
}
