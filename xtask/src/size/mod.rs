//! `cargo xtask size`: by how much rearguard makes an executable grow, and which of its parts by how much.
//!
//! Each program is built once without and once with rearguard, as a vendor who counts bytes would build it, and the stripped files are compared.
//! A twin that differs only in not being stripped tells what the bytes are.

mod executable;
mod parts;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, cargo};
use crate::windows;
use executable::Executable;
use table::{Column, Found, Table};

/// The most that an executable may grow over hello world, in bytes of the stripped file; 1 KB is 1,000 bytes.
const GROWTH_BYTES_MAX: u64 = 200_000;

/// The most that it may grow by the dump writer alone, without what goes into a dump by choice.
const WRITER_BYTES_MAX: u64 = 50_000;

/// How panics end in the measured programs.
const PANICS: [&str; 2] = ["unwind", "abort"];

/// The measured programs: each without and with rearguard.
const HELLO: [&str; 2] = ["hello", "hello-guarded"];
const BASE: [&str; 2] = ["base", "base-guarded"];

/// Hello world with the dump writer alone, on the systems that it is for.
const DUMP: &str = "hello-dump";

/// Whether the file is what a vendor ships, or has its symbols left.
#[derive(Clone, Copy)]
enum Form {
    Shipped,
    Twin,
}

/// Measures, prints the table, writes the JSON; an error when a growth is above the limit, or, with `all`, a system was not measured.
pub(crate) fn run(all: bool, json: Option<&Path>) -> Result<(), String> {
    let host = host()?;
    let mut table = Table::new();
    let mut problems = Vec::new();
    for target in [host.as_str(), windows::TARGET] {
        let missing = if target == windows::TARGET { windows::missing() } else { None };
        for panic in PANICS {
            let found = match &missing {
                Some(reason) => Found::NotMeasured(reason.clone()),
                None => match measure(target, panic) {
                    Ok(sizes) => Found::Sizes(sizes),
                    Err(problem) => {
                        problems.push(format!("{target}, panic={panic}: {problem}"));
                        Found::NotMeasured("it failed".to_owned())
                    }
                },
            };
            table.add(Column { target: target.to_owned(), panic, found });
        }
        if let (Some(reason), true) = (missing, all) {
            problems.push(format!("{target} was not measured: {reason}"));
        }
    }
    println!("{}", table.text());
    if let Some(path) = json {
        std::fs::write(path, table.json(GROWTH_BYTES_MAX))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written to {}", path.display());
    }
    problems.extend(table.above("rearguard", GROWTH_BYTES_MAX, |sizes| Some(sizes.hello)));
    problems.extend(table.above("the dump writer alone", WRITER_BYTES_MAX, |sizes| sizes.writer));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// The system that the compiler builds for unless told otherwise.
fn host() -> Result<String, String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// Builds all programs of one kind, and compares them.
fn measure(target: &str, panic: &str) -> Result<table::Sizes, String> {
    println!("building for {target}, panic={panic}");
    let shipped = build(target, panic, Form::Shipped)?;
    let twins = build(target, panic, Form::Twin)?;
    let read = |built: &Built, program: &str| Executable::read(&built.program(program)?);
    let hello = [read(&shipped, HELLO[0])?, read(&shipped, HELLO[1])?];
    let twins = [read(&twins, HELLO[0])?, read(&twins, HELLO[1])?];
    let base = [read(&shipped, BASE[0])?, read(&shipped, BASE[1])?];
    let writer = target.contains("linux").then(|| read(&shipped, DUMP)).transpose()?;
    Ok(table::Sizes {
        writer: writer.map(|writer| [hello[0].bytes, writer.bytes]),
        hello: [hello[0].bytes, hello[1].bytes],
        base: [base[0].bytes, base[1].bytes],
        rows: parts::of_growth(&hello, &twins),
        twin_code_off: twins[1].code() as i64 - hello[1].code() as i64,
    })
}

/// What one build has made.
struct Built(Vec<shell::Artifact>);

impl Built {
    fn program(&self, name: &str) -> Result<PathBuf, String> {
        let mut programs = self.0.iter().filter(|artifact| artifact.target == name);
        programs
            .find_map(|artifact| artifact.executable.clone())
            .ok_or_else(|| format!("cargo names no program {name}"))
    }
}

/// Builds the programs in a directory of their own, so that no other build's results are thrown away.
fn build(target: &str, panic: &str, form: Form) -> Result<Built, String> {
    let (name, strip, flags) = match form {
        Form::Shipped => ("shipped", "true", ""),
        // The newer names tell for which types a generic function was made.
        Form::Twin => ("twin", "false", "-Csymbol-mangling-version=v0"),
    };
    let directory = shell::target_directory()?.join("size").join(format!("{panic}-{name}"));
    let mut command = if target == windows::TARGET { windows::cargo() } else { cargo(&[]) };
    command.arg("build").args(["--quiet", "--profile", "small", "--bins"]);
    command.args(["--package", "size-programs", "--target", target]);
    command.args(["--config", &format!("profile.small.panic=\"{panic}\"")]);
    command.args(["--config", &format!("profile.small.strip={strip}")]);
    command.arg("--target-dir").arg(directory);
    if target == windows::TARGET {
        command.arg(windows::BUILD_STD);
    }
    // Set in any case: a developer's own flags would be measured.
    command.env("RUSTFLAGS", flags);
    shell::artifacts_of(command.arg(shell::MESSAGES)).map(Built)
}
