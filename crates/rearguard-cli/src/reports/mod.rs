//! The stores of applications on this machine, and the reports in them.
//!
//! A store is the application's: everything here only reads, but for what a person asks to be removed.
//! DELIVERY.md describes what lies where.

pub(crate) mod choose;
pub(crate) mod metadata;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
use metadata::Metadata;

/// Characters of an id that are shown; twice as many reports as a store keeps have different ones.
pub(crate) const ID_CHARS: usize = 8;

/// The places of whole reports, in the order of a report's life.
pub(crate) const STAGES: [&str; 3] = ["new", "pending", "completed"];

/// A report's directory is its time, a hyphen, and its UUID of 36 characters.
const UUID_CHARS: usize = 36;

/// Metadata are some kilobytes, of which the log is at most 16 KiB; more than this is something else.
const METADATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Which stores are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Where {
    /// This directory and no other.
    pub(crate) store: Option<PathBuf>,
    /// The store that an application of this name has when it chooses none.
    pub(crate) app: Option<String>,
}

impl Where {
    /// Where is looked, for whoever finds nothing there.
    pub(crate) fn words(&self) -> String {
        if let Some(store) = &self.store {
            return store.display().to_string();
        }
        let app = self.app.as_deref().unwrap_or("*");
        let states = state_directory().unwrap_or_default();
        format!("{} (--store names another place)", states.join(app).join("crashes").display())
    }
}

/// A report as its place tells it: nothing of it has been read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// Its directory's name, which sorts by time.
    pub(crate) name: String,
    /// `new`, `pending` or `completed`.
    pub(crate) stage: &'static str,
    pub(crate) directory: PathBuf,
}

impl Entry {
    /// As much of its id as is shown.
    pub(crate) fn short_id(&self) -> &str {
        short_id(&self.id)
    }

    /// The report whose directory this is.
    pub(crate) fn of_directory(path: &Path) -> Option<Entry> {
        // A link or a dot at the end hides the name.
        let directory = path.canonicalize().ok().filter(|path| path.is_dir())?;
        let name = directory.file_name()?.to_str()?.to_owned();
        let id = id_of(&name)?.to_owned();
        let stage = directory.parent()?.file_name()?;
        let stage = STAGES.into_iter().find(|known| stage == *known)?;
        Some(Entry { id, name, stage, directory })
    }

    /// The store that it lies in.
    pub(crate) fn store(&self) -> PathBuf {
        let stage = self.directory.parent();
        stage.and_then(Path::parent).unwrap_or(&self.directory).to_owned()
    }

    /// The minidump, if there is one.
    pub(crate) fn dump(&self) -> Option<PathBuf> {
        // A link may lead to anything.
        let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
        Some(self.dump_path()).filter(is_file)
    }

    /// Where the minidump is, if there is one.
    pub(crate) fn dump_path(&self) -> PathBuf {
        self.directory.join(format!("{}.dmp", self.id))
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, Failure> {
        let path = self.directory.join(format!("{}.json", self.id));
        Metadata::parse(&read(&path, METADATA_BYTES_MAX)?, &path)
    }
}

/// As much of an id as is shown.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..ID_CHARS).unwrap_or(id)
}

/// Reads a file that has at most so many bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let metadata = fs::metadata(path).map_err(|error| Failure::unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(Failure::unreadable(path, "not a file"));
    }
    if metadata.len() > bytes_max {
        let reason = format!("{} bytes, more than {bytes_max}", metadata.len());
        return Err(Failure::unreadable(path, reason));
    }
    fs::read(path).map_err(|error| Failure::unreadable(path, error))
}

/// All reports that are meant, the newest first.
pub(crate) fn entries(place: &Where) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for store in stores(place)? {
        for stage in STAGES {
            add_entries(&store.join(stage), stage, &mut entries)?;
        }
    }
    // Reports of the same name side by side, that of the earlier stage first.
    entries.sort_by(|left, right| right.name.cmp(&left.name));
    Ok(entries)
}

/// The directories of the stores; an error where one was named that is none.
pub(crate) fn stores(place: &Where) -> Result<Vec<PathBuf>, Failure> {
    if let Some(store) = &place.store {
        return if is_store(store)? {
            Ok(vec![store.clone()])
        } else {
            Err(Failure::unreadable(store, "no store of reports"))
        };
    }
    if let Some(app) = &place.app {
        let store = default_store(app)?;
        return if is_store(&store)? {
            Ok(vec![store])
        } else {
            let text = format!("{app}: there is no store {}", store.display());
            Err(Failure::new(Kind::NoSuchReport, text))
        };
    }
    let states = needed_state_directory()?;
    let apps = match fs::read_dir(&states) {
        Ok(apps) => apps,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Failure::unreadable(&states, error));
        }
        Err(_) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for path in apps.flatten().map(|app| app.path().join("crashes")) {
        match is_store(&path) {
            Ok(true) => found.push(path),
            Ok(false) => {}
            // Somebody else's doesn't hide one's own.
            Err(failure) => eprintln!("rearguard: {failure}"),
        }
    }
    found.sort();
    Ok(found)
}

/// The only one of these stores, if there is any; an error where there are several: nobody means all applications' by saying nothing.
///
/// `what` says what there is in each of them.
pub(crate) fn only_one(mut stores: Vec<PathBuf>, what: &str) -> Result<Option<PathBuf>, Failure> {
    stores.sort();
    stores.dedup();
    let [one, other, ..] = &stores[..] else { return Ok(stores.pop()) };
    let (count, one, other) = (stores.len(), one.display(), other.display());
    let text = format!(
        "{what} {count} stores, {one} and {other} among them: --app or --store says which is meant"
    );
    Err(Failure::new(Kind::Usage, text))
}

/// Where applications keep their state, each in a directory of its name.
pub(crate) fn state_directory() -> Option<PathBuf> {
    user_directory("XDG_STATE_HOME", ".local/state")
}

/// A directory of the user's by the XDG Base Directory Specification: what the variable says, else its place in the home.
pub(crate) fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
}

fn needed_state_directory() -> Result<PathBuf, Failure> {
    state_directory().ok_or_else(|| {
        Failure::new(Kind::Usage, "neither XDG_STATE_HOME nor HOME is set: name a --store")
    })
}

/// The store of an application that chooses none.
pub(crate) fn default_store(app: &str) -> Result<PathBuf, Failure> {
    Ok(needed_state_directory()?.join(app).join("crashes"))
}

/// Whether a directory is a store; an error where nobody may look.
fn is_store(path: &Path) -> Result<bool, Failure> {
    match fs::metadata(path.join("pending")) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::unreadable(path, error))
        }
        Err(_) => Ok(false),
    }
}

fn add_entries(
    directory: &Path,
    stage: &'static str,
    entries: &mut Vec<Entry>,
) -> Result<(), Failure> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        // The guard makes each when it first needs it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::unreadable(directory, error)),
    };
    for item in listed.flatten() {
        let Ok(name) = item.file_name().into_string() else { continue };
        if let Some(id) = id_of(&name) {
            entries.push(Entry { id: id.to_owned(), directory: item.path(), stage, name });
        }
    }
    Ok(())
}

/// The UUID at the end of a report's directory, if it is one.
pub(crate) fn id_of(name: &str) -> Option<&str> {
    let (time, id) = name.split_at_checked(name.len().checked_sub(UUID_CHARS)?)?;
    let is_id = id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (time.ends_with('-') && time.len() > 8 && is_id).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what a guard names so is taken for a report.
    #[test]
    fn ids_are_read_from_names() {
        let id = "d34f2513-0c3a-46d5-bb2a-9e29d70816da";
        assert_eq!(id_of(&format!("20261128T202001.182629Z-{id}")), Some(id));
        for name in ["", "README", id, "x-äääääääääääääääääääääääääääääääääääääää"]
        {
            assert_eq!(id_of(name), None, "{name}");
        }
    }
}
