//! What the checks need of the machine, and how it gets there.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, find_program};
use crate::windows;

/// A program or a library, and the Debian package that has it.
struct Tool {
    name: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const PROGRAMS: [Tool; 8] = [
    Tool { name: "cc", package: "gcc", purpose: "linking" },
    Tool { name: "c++", package: "g++", purpose: "the program that dies in C++" },
    Tool { name: "nm", package: "binutils", purpose: "the crash path's symbols" },
    Tool { name: "setpriv", package: "util-linux", purpose: "the suite as an unprivileged user" },
    Tool { name: "readelf", package: "binutils", purpose: "build ids, as others read them" },
    Tool { name: "lldb", package: "lldb", purpose: "other people's readers" },
    // It brings python3.
    Tool { name: "pip3", package: "python3-pip", purpose: "other people's readers" },
    Tool { name: "curl", package: "curl", purpose: "delivery where libcurl isn't" },
];

/// Found in the loader's cache rather than on the search path.
const LIBRARY: Tool = Tool { name: "libcurl.so.4", package: "libcurl4", purpose: "delivery" };

/// The toolchain's own parts that a minimal installation lacks.
const COMPONENTS: [(&str, &str); 2] = [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")];

/// What isn't there, a line each.
pub(crate) fn missing() -> Vec<String> {
    let mut lines: Vec<String> = missing_tools()
        .iter()
        .map(|tool| format!("{}: {} is missing", tool.purpose, tool.name))
        .collect();
    for (program, component) in COMPONENTS {
        if find_program(program).is_none() {
            lines.push(format!("{component}: {program} is missing"));
        }
    }
    lines
}

fn missing_tools() -> Vec<&'static Tool> {
    let mut missing: Vec<&Tool> =
        PROGRAMS.iter().filter(|tool| find_program(tool.name).is_none()).collect();
    if !has_library() {
        missing.push(&LIBRARY);
    }
    missing
}

fn has_library() -> bool {
    let ldconfig = find_program("ldconfig").unwrap_or_else(|| "ldconfig".into());
    let listed = Command::new(ldconfig).arg("-p").output();
    listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(LIBRARY.name))
}

/// Installs what isn't there, and fails when it can't.
pub(crate) fn install() -> Result<(), String> {
    let mut packages: Vec<&str> = missing_tools().iter().map(|tool| tool.package).collect();
    if windows::missing().is_some() {
        packages.extend(windows::TOOLCHAIN_PACKAGES);
    }
    if windows::missing_wine().is_some() {
        packages.extend(windows::WINE_PACKAGES);
    }
    if !packages.is_empty() {
        if !rustix::process::geteuid().is_root() {
            return Err(format!("{} must be installed, which needs root", packages.join(", ")));
        }
        if !Path::new("/usr/bin/apt-get").exists() {
            return Err(format!(
                "{} must be installed, and there is no apt-get",
                packages.join(", ")
            ));
        }
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        shell::run(apt().arg("update"))?;
        shell::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&packages))?;
    }
    for (program, component) in COMPONENTS {
        if find_program(program).is_none() {
            shell::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}
