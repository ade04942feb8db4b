//! What the application chose, checked once: the builder's values in the form that worker and guard work with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rearguard_crashpath::limits::{DUMP_WAIT_MS_DEFAULT, DUMP_WAIT_MS_MAX};

#[cfg(feature = "roles")]
use crate::config::MAIN_ROLE;
use crate::config::RestartPolicy;
use crate::error::Error;
use crate::heap::{List, PutText, Text};
use crate::hooks::{self, Hooks};
use crate::limits;
use crate::reporting::{Consent, Reporting};
use crate::sys::{front, process};

/// Where the guard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Topology {
    /// The application is the first process and starts its guard. For desktop programs; the default.
    #[default]
    WorkerFirst,
    /// The first process stands in front and starts the application below it. For programs of the terminal, services and process 1 of a container: process id, exit status, signals or keys, and the terminal of the first process mean what they meant, and a restart happens in place. What `main` does before `start` happens in both processes.
    ///
    /// On Linux the first process is the guard too. On Windows it stays the program that called `start`, which doesn't return there, and the guard is a process of its own; a pipe that the application was given is handed on after a crash, not after an end that no handler sees (a fast-fail, a panic).
    ///
    /// With the feature `guard-first`, on Linux and Windows; a builder error elsewhere.
    GuardFirst,
    /// No guard until a crash; the crashing worker starts one. No other process stands beside the application (on Windows a suspended one, since none can be started from a crash), but an end without a crash (an exit code, a kill, a panic that exits) is seen by nobody.
    AtCrash,
    /// Guard-first as process 1 and as a terminal's foreground job (on Windows: with a console that others have too), at-crash under a service manager, worker-first elsewhere. [`Handle::topology`](crate::Handle::topology) says what was chosen, and why.
    Auto,
}

/// One of an application's further roles: a process of its own, from the same file, with its own name in reports and its own restart policy.
#[cfg(feature = "roles")]
#[derive(Clone, Debug)]
pub struct AppRole {
    pub(crate) name: String,
    pub(crate) restart: RestartPolicy,
    pub(crate) own_guard: bool,
}

#[cfg(feature = "roles")]
impl AppRole {
    /// A role by its name: 1 to 64 bytes, unique in the application, and not `main`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> AppRole {
        AppRole { name: name.into(), restart: RestartPolicy::default(), own_guard: false }
    }

    /// When and how often a process of this role is started again; the default policy unless set. One whose main process is gone isn't, where one guard stands for all. (A role that crashes before it has joined that guard has one of its own, and so has its next life.)
    #[must_use]
    pub fn restart(mut self, policy: RestartPolicy) -> AppRole {
        self.restart = policy;
        self.restart.explicit = true;
        self
    }

    /// Gives each process of this role a guard of its own, in the place of the one that stands for the whole family.
    #[must_use]
    pub fn own_guard(mut self) -> AppRole {
        self.own_guard = true;
        self
    }
}

/// The application's choices.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) store: Option<PathBuf>,
    pub(crate) collector: Option<String>,
    /// The file of certificates that a collector's must be signed by; empty for those that the system trusts.
    pub(crate) certificates: List<u8>,
    /// The files that go with a report, by their absolute paths.
    pub(crate) attachments: List<List<u8>>,
    pub(crate) reporting: Reporting,
    pub(crate) hooks: Hooks,
    /// Whether the process's hooks are these; set with the first of them, so that who has none has no question either.
    pub(crate) hooks_check: Option<hooks::Check>,
    pub(crate) restart: RestartPolicy,
    pub(crate) topology: Topology,
    pub(crate) wait_ready: Option<Duration>,
    pub(crate) dump_wait: Duration,
    /// `None` for the default, which the policy may end before.
    pub(crate) safe_mode_after: Option<u32>,
    pub(crate) callback: Option<fn(&crate::CrashInfo)>,
    pub(crate) raise_dumpable: bool,
    #[cfg(feature = "roles")]
    pub(crate) roles: Vec<AppRole>,
    /// The role that tells the user of the end of a crash loop.
    #[cfg(feature = "roles")]
    pub(crate) notice: Option<String>,
    pub(crate) fail_spot: Option<String>,
}

impl Settings {
    pub(crate) fn new(name: String, version: String) -> Settings {
        Settings {
            name,
            version,
            store: None,
            collector: None,
            certificates: List::new(),
            attachments: List::new(),
            reporting: Reporting::default(),
            hooks: Hooks::default(),
            hooks_check: None,
            restart: RestartPolicy::default(),
            topology: Topology::WorkerFirst,
            wait_ready: None,
            dump_wait: Duration::from_millis(u64::from(DUMP_WAIT_MS_DEFAULT)),
            safe_mode_after: None,
            callback: None,
            raise_dumpable: false,
            #[cfg(feature = "roles")]
            roles: Vec::new(),
            #[cfg(feature = "roles")]
            notice: None,
            fail_spot: None,
        }
    }

    /// The store's absolute path; `None` where there is no place for one.
    pub(crate) fn store_path(&self) -> Option<&'static Path> {
        match &self.store {
            Some(path) => process::absolute(path),
            None => process::default_store(&self.name),
        }
    }

    /// What was chosen about reports, unless the user's variable forbids to send any.
    pub(crate) fn reporting(&self) -> Reporting {
        let mut reporting = self.reporting;
        if says_yes(&self.name, "_NO_CRASH_UPLOAD") {
            reporting.consent = Consent::Denied;
            reporting.is_forbidden = true;
        }
        reporting
    }

    /// How long a crashed worker waits for its guard, in milliseconds.
    pub(crate) fn dump_wait_ms(&self) -> u32 {
        u32::try_from(self.dump_wait.as_millis()).unwrap_or(DUMP_WAIT_MS_MAX)
    }

    /// Checks every value; the first that can't be used is the error.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name("name", &self.name)?;
        check_name("version", &self.version)?;
        if let Some(url) = &self.collector {
            check_url(url)?;
        }
        if let Some(store) = &self.store
            && store.as_os_str().is_empty()
        {
            return Err(Error::setting("store", "the path is empty"));
        }
        if let Err((field, reason)) = self.restart.validate() {
            return Err(Error::setting(field, reason));
        }
        if self.topology == Topology::GuardFirst && !front::IS_BUILT {
            return Err(Error::setting(
                "topology",
                "guard-first needs the feature `guard-first`, and Linux or Windows",
            ));
        }
        if let Some(lives) = self.safe_mode_after
            && (lives == 0 || lives >= self.restart.in_a_row_max)
        {
            return Err(Error::setting(
                "safe_mode_after",
                "it must be at least one life, and fewer than the policy's `in_a_row` ends with",
            ));
        }
        if self.reporting.reports_max == 0
            || self.reporting.reports_max > limits::REPORTS_CHOSEN_MAX
        {
            return Err(Error::setting("keep_reports", "it must be between 1 and 20000"));
        }
        if self.attachments.len() > limits::ATTACHMENTS_MAX {
            return Err(Error::setting("attachment", "there are more than 16"));
        }
        self.check_roles()?;
        let wait = self.dump_wait.as_millis();
        if wait == 0 || wait > u128::from(DUMP_WAIT_MS_MAX) {
            return Err(Error::setting("dump_wait", "it must be between 1 ms and 60 s"));
        }
        Ok(())
    }
}

/// Whether a variable of the user's says yes: `<APP>` and an ending, the name in capitals, everything else an underscore.
pub(crate) fn says_yes(name: &str, ending: &str) -> bool {
    let mut variable = Text::new();
    for character in name.chars() {
        let is_usable = character.is_ascii_alphanumeric();
        variable.put_char(if is_usable { character.to_ascii_uppercase() } else { '_' });
    }
    variable.put(ending);
    process::variable(variable.as_bytes()).is_some_and(|value| value.as_slice() == b"1")
}

/// What there is to choose for an application without roles.
#[cfg(not(feature = "roles"))]
impl Settings {
    /// None tells the user anything.
    pub(crate) fn notice_role(&self) -> &str {
        ""
    }

    fn check_roles(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(feature = "roles")]
impl Settings {
    /// Whether there are roles that are to have one guard with the main process.
    pub(crate) fn has_family(&self) -> bool {
        self.roles.iter().any(|role| !role.own_guard)
    }

    /// The role that tells the user of the end of a crash loop; empty for none.
    pub(crate) fn notice_role(&self) -> &str {
        self.notice.as_deref().unwrap_or_default()
    }

    /// Takes up the choices of one of the roles, in its process; false for a name that none has.
    pub(crate) fn become_role(&mut self, name: &str) -> bool {
        let Some(role) = self.roles.iter().find(|role| role.name == name) else { return false };
        self.restart = role.restart;
        true
    }

    /// Checks the roles, each by itself and against the others.
    fn check_roles(&self) -> Result<(), Error> {
        for (at, role) in self.roles.iter().enumerate() {
            check_name("role", &role.name)?;
            if role.name == MAIN_ROLE {
                return Err(Error::setting_value("role", &role.name, "that is the main process"));
            }
            if self.roles.iter().take(at).any(|earlier| earlier.name == role.name) {
                return Err(Error::setting_value("role", &role.name, "two roles have this name"));
            }
            if let Err((field, reason)) = role.restart.validate() {
                return Err(Error::setting_value(field, &role.name, reason));
            }
        }
        if let Some(notice) = &self.notice
            && self.roles.iter().all(|role| role.name != *notice)
        {
            return Err(Error::setting_value("notice", notice, "no role has this name"));
        }
        Ok(())
    }
}

/// Names become directories and form fields, so what they may hold is narrow.
fn check_name(field: &'static str, value: &str) -> Result<(), Error> {
    if value.is_empty() {
        return Err(Error::setting(field, "it is empty"));
    }
    if value.len() > limits::NAME_BYTES_MAX {
        return Err(Error::setting_value(field, value, "it is longer than 64 bytes"));
    }
    if value.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == b'/' || byte == b'\\') {
        return Err(Error::setting_value(
            field,
            value,
            "it has a control character or a path separator",
        ));
    }
    if value.starts_with('.') {
        return Err(Error::setting_value(field, value, "it begins with a dot"));
    }
    Ok(())
}

fn check_url(url: &str) -> Result<(), Error> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(host) = host else {
        return Err(Error::setting_value(
            "collector",
            url,
            "it begins with neither https:// nor http://",
        ));
    };
    if url.len() > limits::URL_BYTES_MAX {
        return Err(Error::setting_value("collector", url, "it is longer than 2048 bytes"));
    }
    if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Error::setting_value(
            "collector",
            url,
            "it has a space or a control character",
        ));
    }
    let mut authority = host.as_bytes();
    while let Some(end) = authority.iter().rposition(|byte| b"/?#".contains(byte)) {
        authority = authority.get(..end).unwrap_or_default();
    }
    if authority.contains(&b'@') {
        // Not its value: the error may be logged.
        return Err(Error::setting(
            "collector",
            "it holds a name or a password, which every copy would carry",
        ));
    }
    if authority.first().is_none_or(|first| *first == b':') {
        return Err(Error::setting_value("collector", url, "it names no host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::new("app".into(), "1.0".into());
        change(&mut settings);
        settings.check().expect_err("it must be refused").to_string()
    }

    // Goal: every bad value is refused by an error that names the field and the reason.
    #[test]
    fn bad_values_name_field_and_reason() {
        assert_eq!(refused(|s| s.name.clear()), "setting `name`: it is empty");
        assert!(refused(|s| s.name = "a/b".into()).contains("`name` \"a/b\""));
        assert!(refused(|s| s.name = "x".repeat(65)).contains("longer than 64 bytes"));
        assert!(refused(|s| s.version = "..".into()).contains("begins with a dot"));
        assert!(refused(|s| s.version = "1\n2".into()).contains("control character"));
        assert!(refused(|s| s.collector = Some("ftp://x".into())).contains("`collector`"));
        assert!(refused(|s| s.collector = Some("http://".into())).contains("no host"));
        for url in ["http:///x", "http://?x", "http://:80/", "https://#"] {
            assert!(refused(|s| s.collector = Some(url.into())).contains("no host"), "{url}");
        }
        for url in ["", "x", "//h/", "file:///x", "mailto:a@b", "HTTP ://h"] {
            assert!(refused(|s| s.collector = Some(url.into())).contains("neither"), "{url}");
        }
        let told = refused(|s| s.collector = Some("https://name:secret@host/".into()));
        assert!(told.contains("password") && !told.contains("secret"), "{told}");
        assert!(refused(|s| s.collector = Some("http://a b".into())).contains("space"));
        assert!(refused(|s| s.reporting.reports_max = 0).contains("`keep_reports`"));
        assert!(refused(|s| s.reporting.reports_max = 1 << 20).contains("`keep_reports`"));
        assert!(refused(|s| s.store = Some(PathBuf::new())).contains("`store`"));
        assert!(refused(|s| s.dump_wait = Duration::ZERO).contains("`dump_wait`"));
        assert!(refused(|s| s.safe_mode_after = Some(0)).contains("`safe_mode_after`"));
        assert!(refused(|s| s.safe_mode_after = Some(3)).contains("`in_a_row`"));
        assert!(Settings::new("app".into(), "1.0".into()).check().is_ok());
    }
    // Goal: the same for roles, against each other too.
    #[cfg(feature = "roles")]
    #[test]
    fn bad_roles_are_named() {
        let roles = |names: &[&str]| names.iter().map(|name| AppRole::new(*name)).collect();
        assert!(refused(|s| s.roles = roles(&["a", "b", "a"])).contains("`role` \"a\": two roles"));
        assert!(refused(|s| s.roles = roles(&["main"])).contains("main process"));
        assert!(refused(|s| s.roles = roles(&[""])).contains("empty"));
        assert!(refused(|s| s.notice = Some("a".into())).contains("`notice` \"a\""));
        assert!(refused(|s| s.roles = roles(&["a/b"])).contains("path separator"));
    }
}
