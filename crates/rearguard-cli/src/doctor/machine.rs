//! Checks of the system: who may trace, what a filter refuses, what delays an end, and what sends.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;

/// Directories where the dynamic linker of the common distributions looks for libraries.
const LIBRARY_DIRECTORIES: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// Names under which libcurl is loaded.
const CURL_LIBRARIES: [&str; 3] = ["libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4"];

/// How a guard's first argument begins.
const GUARD_ARGUMENT: &[u8] = b"--rearguard-guard=";

pub(super) fn all() -> Vec<Finding> {
    let text = |path: &str| fs::read_to_string(path).ok();
    let status = text("/proc/self/status");
    vec![
        tracing(text("/proc/sys/kernel/yama/ptrace_scope").as_deref()),
        filter(status.as_deref()),
        process_one(text("/proc/self/stat").as_deref()),
        core_dumps(text("/proc/self/limits").as_deref()),
        sending(),
        variables(std::env::vars_os().map(|(name, _)| name)),
        old_guards(),
    ]
}

/// Yama (the kernel's admin-guide/LSM/Yama.rst) decides whom a process may trace.
fn tracing(scope: Option<&str>) -> Finding {
    const SUBJECT: &str = "tracing";
    match scope.map(str::trim) {
        None => Finding::good(SUBJECT, "nothing forbids it (the kernel has no Yama)"),
        Some("0" | "1") => {
            Finding::good(SUBJECT, "a guard may trace the application that names it")
        }
        Some("2") => Finding::weak(
            SUBJECT,
            "only administrators may trace, so minidumps have the crashed thread alone",
            "as administrator: sysctl kernel.yama.ptrace_scope=1, and in /etc/sysctl.d to keep it",
        ),
        Some(_) => Finding::weak(
            SUBJECT,
            "nobody may trace until the next boot, so minidumps have the crashed thread alone",
            "kernel.yama.ptrace_scope=1 in /etc/sysctl.d, and a new boot",
        ),
    }
}

/// seccomp (proc(5), `Seccomp` of status): a filter may refuse what a guard needs.
fn filter(status: Option<&str>) -> Finding {
    const SUBJECT: &str = "system call filter";
    let mode =
        status.and_then(|status| status.lines().find_map(|line| line.strip_prefix("Seccomp:")));
    match mode.map(str::trim) {
        Some("0") => Finding::good(SUBJECT, "there is none here"),
        Some(_) => Finding::weak(
            SUBJECT,
            "there is one here, as in containers; it may refuse ptrace or process_vm_readv",
            "look at the soft errors of a report (rearguard show), which say what was refused; Docker: --cap-add SYS_PTRACE, or a profile that allows both",
        ),
        None => Finding::weak(
            SUBJECT,
            "the kernel doesn't tell",
            "mount /proc, which the guard needs as well",
        ),
    }
}

/// Whether this is a container of one application, whose end is the end of all.
fn process_one(stat: Option<&str>) -> Finding {
    const SUBJECT: &str = "process 1";
    let parent = stat
        .and_then(|stat| stat.rsplit_once(')'))
        .and_then(|(_, rest)| rest.split_whitespace().nth(1));
    match parent {
        Some("1" | "0") if fs::read_link("/proc/1/exe").is_err() || is_container() => {
            Finding::weak(
                SUBJECT,
                "this looks like a container whose first process may be the application",
                "an application that is process 1 is guarded with Topology::GuardFirst only; docker run --init makes another one the first",
            )
        }
        Some(_) => Finding::good(SUBJECT, "it isn't the application"),
        None => Finding::weak(
            SUBJECT,
            "/proc isn't there",
            "mount /proc: without it minidumps have no modules, and nothing is restarted",
        ),
    }
}

fn is_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists())
}

/// Core dumps are written before the process is gone, and the next life waits for that.
fn core_dumps(limits: Option<&str>) -> Finding {
    const SUBJECT: &str = "core dumps";
    let line = limits
        .and_then(|limits| limits.lines().find_map(|line| line.strip_prefix("Max core file size")));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("0") => Finding::good(SUBJECT, "they are off, and delay no restart"),
        Some(_) => Finding::weak(
            SUBJECT,
            "the system writes them too, which delays a restart by the time that takes: seconds for gigabytes",
            "ulimit -c 0 where the minidump is enough",
        ),
        None => Finding::good(SUBJECT, "the kernel doesn't tell"),
    }
}

/// What a guard sends by.
fn sending() -> Finding {
    const SUBJECT: &str = "sending";
    let library = LIBRARY_DIRECTORIES
        .iter()
        .flat_map(|directory| {
            CURL_LIBRARIES.iter().map(move |name| Path::new(directory).join(name))
        })
        .find(|path| path.exists());
    if let Some(path) = library {
        return Finding::good(SUBJECT, format!("by {}", path.display()));
    }
    let program = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|directory| directory.join("curl"))
            .find(|path| path.is_file())
    });
    match program {
        Some(path) => Finding::weak(
            SUBJECT,
            format!("by the program {}", path.display()),
            "libcurl sends faster and needs no process: install libcurl4 or libcurl",
        ),
        None => Finding::bad(
            SUBJECT,
            "there is neither libcurl nor the program curl, so reports stay here",
            "install libcurl4, libcurl or curl",
        ),
    }
}

/// Variables that turn the guard or the sending off.
fn variables(names: impl Iterator<Item = impl AsRef<OsStr>>) -> Finding {
    const SUBJECT: &str = "environment";
    let mut found: Vec<String> = names
        .filter_map(|name| name.as_ref().to_str().map(str::to_owned))
        .filter(|name| name.ends_with("_NO_CRASH_GUARD") || name.ends_with("_NO_CRASH_UPLOAD"))
        .collect();
    found.sort();
    if found.is_empty() {
        return Finding::good(SUBJECT, "no variable turns a guard or its sending off");
    }
    Finding::weak(
        SUBJECT,
        format!(
            "{} is set: that application is not guarded, or nothing of it is sent",
            found.join(", ")
        ),
        "unset it, unless it is meant so",
    )
}

/// Guards whose executable was replaced: an update that didn't `hold()`.
fn old_guards() -> Finding {
    const SUBJECT: &str = "guards";
    let Ok(processes) = fs::read_dir("/proc") else {
        return Finding::good(SUBJECT, "/proc doesn't tell");
    };
    let (mut running, mut old) = (0_usize, Vec::new());
    for process in processes.flatten() {
        let path: PathBuf = process.path();
        let Ok(arguments) = fs::read(path.join("cmdline")) else { continue };
        if !arguments
            .split(|byte| *byte == 0)
            .nth(1)
            .is_some_and(|first| first.starts_with(GUARD_ARGUMENT))
        {
            continue;
        }
        running += 1;
        let program = fs::read_link(path.join("exe")).unwrap_or_default();
        if program.to_string_lossy().ends_with(" (deleted)") {
            old.push(process.file_name().to_string_lossy().into_owned());
        }
    }
    if old.is_empty() {
        return Finding::good(
            SUBJECT,
            format!("running here: {running}; none of a file that was replaced"),
        );
    }
    Finding::weak(
        SUBJECT,
        format!("process {} guards with a file that was replaced since", old.join(", ")),
        "start the application anew; an installer calls hold() before it replaces the file, and release() afterwards",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    /// Goal: each state of the system has the right weight.
    #[test]
    fn states_have_weights() {
        for (scope, level) in [
            (None, Level::Good),
            (Some("1\n"), Level::Good),
            (Some("2\n"), Level::Weak),
            (Some("3\n"), Level::Weak),
        ] {
            assert_eq!(tracing(scope).level, level, "{scope:?}");
        }
        for (status, level) in [
            (None, Level::Weak),
            (Some("Name:\tx\nSeccomp:\t0\n"), Level::Good),
            (Some("Seccomp:\t2\n"), Level::Weak),
        ] {
            assert_eq!(filter(status).level, level, "{status:?}");
        }
        let limits = |size: &str| {
            format!(
                "Limit\nMax core file size        {size}                    unlimited            bytes\n"
            )
        };
        assert_eq!(core_dumps(Some(&limits("0"))).level, Level::Good);
        assert_eq!(core_dumps(Some(&limits("unlimited"))).level, Level::Weak);
        assert_eq!(variables(["HOME"].iter()).level, Level::Good);
        let found = variables(["B_NO_CRASH_UPLOAD", "A_NO_CRASH_GUARD"].iter());
        assert!(found.found.starts_with("A_NO_CRASH_GUARD, B_NO_CRASH_UPLOAD is set"), "{found:?}");
    }
}
