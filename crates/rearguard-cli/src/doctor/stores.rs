//! Checks of the stores: whose they are, who may read them, what lies aside, and whether there is room.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, statvfs};
use rustix::process::geteuid;

use super::Finding;
use crate::failure::Failure;
use crate::reports::{Entry, Where, entries, state_directory, stores};
use crate::terminal::harmless;

/// Room that ten large reports take.
const FREE_BYTES_MIN: u64 = 128 << 20;

pub(super) fn all(place: &Where, fix: bool) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let found = stores(place)?;
    if found.is_empty() {
        findings.push(empty(fix));
    }
    let mut listed = Vec::new();
    for store in &found {
        findings.push(rights(store, fix));
        findings.push(room(store));
        findings.extend(aside(store));
        let reports = entries(&Where { store: Some(store.clone()), app: None });
        findings.extend(reports.as_ref().ok().and_then(|reports| waiting(store, reports)));
        listed.push(reports.map(|reports| reports.len()));
    }
    // What can't be listed is told once all that can be mended is.
    let count: usize = listed.into_iter().sum::<Result<usize, Failure>>()?;
    findings.push(Finding::good("reports", format!("{count}, stores: {}", found.len())));
    Ok(findings)
}

/// Whether an application could make its store.
fn empty(fix: bool) -> Finding {
    const SUBJECT: &str = "store";
    let Some(states) = state_directory() else {
        return Finding::bad(
            SUBJECT,
            "there is no place for one: neither XDG_STATE_HOME nor HOME is set",
            "set HOME, or give the application a store of its own",
        );
    };
    if !states.exists() && fix {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&states);
        if let Err(error) = made {
            return Finding::bad(
                SUBJECT,
                format!("{} can't be made: {error}", states.display()),
                "make it by hand",
            );
        }
    }
    let directory = states.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::access(directory, Access::WRITE_OK) {
        Ok(()) => Finding::good(
            SUBJECT,
            format!("none yet; applications make theirs below {}", states.display()),
        ),
        Err(error) => Finding::bad(
            SUBJECT,
            format!("no store can be made below {}: {error}", directory.display()),
            "give yourself the right to write there",
        ),
    }
}

/// Reports hold what was on the application's stacks: nobody else's business.
fn rights(store: &Path, fix: bool) -> Finding {
    const SUBJECT: &str = "store";
    let shown = store.display();
    let metadata = match fs::metadata(store) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Finding::bad(
                SUBJECT,
                format!("{shown}: {error}"),
                "look at the directories above it",
            );
        }
    };
    let me = geteuid();
    if metadata.uid() != me.as_raw() && !me.is_root() {
        return Finding::bad(
            SUBJECT,
            format!("{shown} is of user {}, so nothing can be stored", metadata.uid()),
            format!("as administrator: chown -R {} {shown}", me.as_raw()),
        );
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        if fix && fs::set_permissions(store, fs::Permissions::from_mode(0o700)).is_ok() {
            return Finding::good(
                SUBJECT,
                format!("{shown} was open to others, and is yours alone now"),
            );
        }
        return Finding::weak(
            SUBJECT,
            format!("{shown} is open to others"),
            "rearguard doctor --fix, or chmod 700",
        );
    }
    // A report goes through all of these.
    let places = ["", "tmp", "new", "pending", "completed"].map(|name| store.join(name));
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    for place in places.iter().filter(|place| place.exists()) {
        if let Err(error) = rustix::fs::access(place, needed) {
            return Finding::bad(
                SUBJECT,
                format!("{} can't be written to: {error}", place.display()),
                "a read-only file system, or rights that are missing (chmod 700)",
            );
        }
    }
    Finding::good(SUBJECT, format!("{shown} is yours alone"))
}

/// Whether reports wait, and why none is sent.
fn waiting(store: &Path, entries: &[Entry]) -> Option<Finding> {
    const SUBJECT: &str = "delivery";
    let shown = store.display();
    if store.join("consent-withdrawn").exists() {
        return Some(Finding::weak(
            SUBJECT,
            format!("{shown}: the user has withdrawn the consent, so nothing is sent"),
            "the application asks again, and tells the answer by set_consent(true)",
        ));
    }
    let waiting: Vec<&Entry> = entries.iter().filter(|entry| entry.stage == "pending").collect();
    let newest = waiting.first()?.metadata().ok()?;
    let reason = newest.text(&["delivery", "reason"]).unwrap_or("no reason is noted").to_owned();
    let how_many = match waiting.len() {
        1 => "1 report waits".to_owned(),
        count => format!("{count} reports wait"),
    };
    Some(Finding::weak(
        SUBJECT,
        format!("{shown}: {how_many}; the newest: {}", harmless(&reason)),
        "a guard tries again at the next start; rearguard upload --pending sends now",
    ))
}

fn room(store: &Path) -> Finding {
    const SUBJECT: &str = "free space";
    match statvfs(store) {
        Ok(system) => {
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            let text = format!("{} MiB at {}", free >> 20, store.display());
            if free < FREE_BYTES_MIN {
                Finding::weak(
                    SUBJECT,
                    text,
                    "below 128 MiB reports lose their minidumps first; make room",
                )
            } else {
                Finding::good(SUBJECT, text)
            }
        }
        Err(error) => Finding::weak(
            SUBJECT,
            format!("{}: {error}", store.display()),
            "the system doesn't tell",
        ),
    }
}

/// What is no report, and was put aside instead of lost.
fn aside(store: &Path) -> Option<Finding> {
    let count = fs::read_dir(store.join("aside")).ok()?.count();
    (count > 0).then(|| {
        Finding::weak(
            "put aside",
            format!("{count} in {}: no whole reports", store.join("aside").display()),
            "look at them; nothing of it is ever removed by a guard",
        )
    })
}
