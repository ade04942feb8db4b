//! What the crash path's object code asks of others.
//!
//! Rust can't promise that code doesn't panic, allocate or call the C library, but the linker's view can: what isn't an undefined symbol isn't called.
//! Each way in which an application may be optimised is looked at, since the optimiser decides which checks stay.
//! Generic and inlined functions aren't in this object but in their callers'; the allocation trap of the end-to-end suite covers those.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// Compilers put calls of these into any code that copies or compares; they take no lock and no memory.
const ALLOWED: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// The optimisation levels of applications: the default of release builds, a smaller one, and the two for size.
const LEVELS: [&str; 4] = ["3", "2", "s", "z"];

/// Compares all of them, and lists what doesn't belong.
pub(crate) fn run() -> Result<(), String> {
    let mut found = Vec::new();
    for level in LEVELS {
        let object = object(level)?;
        let symbols = shell::output(Command::new("nm").arg("--format=posix").arg(&object))?;
        let wrong = violations(&symbols);
        println!(
            "  opt-level={level}: {} symbols, {} that don't belong",
            symbols.lines().count(),
            wrong.len()
        );
        if wrong.is_empty() {
            continue;
        }
        let code = shell::output(
            Command::new("objdump").args(["-dr", "--no-show-raw-insn"]).arg(&object),
        )?;
        for symbol in wrong {
            let users = users_of(&code, &symbol);
            found.push(format!("opt-level={level}: {symbol}, used by {}", users.join(", ")));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("the crash path uses\n{}", found.join("\n")))
    }
}

/// Builds the crate as one object file.
fn object(level: &str) -> Result<PathBuf, String> {
    // A directory a level: cargo would take another level's object for up to date.
    let directory = shell::target_directory()?.join("symbols").join(level);
    let directory = directory.to_string_lossy();
    let level = format!("-Copt-level={level}");
    let arguments = [
        "rustc",
        "--quiet",
        "--release",
        "--package=rearguard-crashpath",
        "--lib",
        "--target-dir",
        &directory,
    ];
    let built = shell::build_with(
        &arguments,
        &[&level, "--emit=obj", "-Ccodegen-units=1", "-Cdebuginfo=0", "-Cpanic=abort"],
    )?;
    let library = built
        .iter()
        .filter(|artifact| artifact.target == "rearguard_crashpath")
        .flat_map(|artifact| &artifact.files)
        .find(|file| file.extension().is_some_and(|extension| extension == "rlib"))
        .ok_or("cargo names no library of rearguard-crashpath")?;
    let stem = library.file_stem().unwrap_or_default().to_string_lossy();
    let object = format!("{}.o", stem.trim_start_matches("lib"));
    let object = library.parent().unwrap_or(Path::new(".")).join(object);
    // Beside the library in a newer layout, in `deps` otherwise.
    if object.is_file() {
        return Ok(object);
    }
    newest_object(Path::new(&*directory))
}

/// The object file of the crate, where cargo shows only a link to the library.
fn newest_object(directory: &Path) -> Result<PathBuf, String> {
    let deps = directory.join("release/deps");
    let entries =
        std::fs::read_dir(&deps).map_err(|error| format!("{}: {error}", deps.display()))?;
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("rearguard_crashpath-") && name.ends_with(".o")
        })
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .map(|entry| entry.path())
        .ok_or_else(|| format!("{}: no object file of rearguard-crashpath", deps.display()))
}

/// The symbols that don't belong: undefined ones that aren't allowed, and panics of whatever kind.
fn violations(symbols: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in symbols.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        // The table of offsets is a linker's own symbol on some machines.
        let undefined = matches!(kind, "U" | "w" | "v") && name != "_GLOBAL_OFFSET_TABLE_";
        if (undefined && !ALLOWED.contains(&name)) || name.contains("panic") {
            wrong.push(name.to_owned());
        }
    }
    wrong
}

/// The crate's own functions that lead to a symbol, by objdump's listing.
///
/// A function of the core library in between is followed to its users, since only our own code can be changed.
fn users_of(code: &str, symbol: &str) -> Vec<String> {
    let mut reached = vec![symbol];
    let mut next = 0;
    while let Some(wanted) = reached.get(next).copied() {
        next += 1;
        if is_own(wanted) {
            continue;
        }
        let mut function = "";
        for line in code.lines() {
            if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
                function = name;
            } else if refers_to(line, wanted) && !reached.contains(&function) {
                reached.push(function);
            }
        }
    }
    let own: Vec<String> =
        reached.iter().filter(|name| is_own(name)).map(|name| (*name).to_owned()).collect();
    // Code that nobody calls is told by its own name.
    if own.is_empty() {
        reached.iter().skip(1).map(|name| (*name).to_owned()).collect()
    } else {
        own
    }
}

fn is_own(function: &str) -> bool {
    function.contains("rearguard_crashpath")
}

/// Whether a line is a relocation to this very symbol, or to its section where functions have one each.
fn refers_to(line: &str, symbol: &str) -> bool {
    let Some((_, target)) = line.split_once("R_").and_then(|(_, line)| line.split_once('\t'))
    else {
        return false;
    };
    let target = target.strip_prefix(".text.").unwrap_or(target);
    target.strip_prefix(symbol).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a panic, an allocation and a library call are seen; what compilers put in isn't.
    #[test]
    fn what_does_not_belong_is_seen() {
        let symbols = "memcpy U\nmalloc U\n_ZN4core9panicking5panic17h0E U\nour_panic_path T 0 1\nours T 0 1\n";
        assert_eq!(
            violations(symbols),
            ["malloc", "_ZN4core9panicking5panic17h0E", "our_panic_path"]
        );
    }

    /// Goal: the report names our own function, also where the core library stands in between.
    #[test]
    fn users_are_followed_to_our_own_code() {
        let code = "0000 <core_size>:\n  2d: R_X86_64_GOTPCREL\tpanic_div-0x4\n\
                    0000 <rearguard_crashpath_store>:\n  28: R_X86_64_GOTPCREL\t.text.core_size-0x4\n\
                    0000 <rearguard_crashpath_other>:\n  28: R_X86_64_PLT32\tcore_size_hint-0x4\n";
        assert_eq!(users_of(code, "panic_div"), ["rearguard_crashpath_store"]);
    }
}
