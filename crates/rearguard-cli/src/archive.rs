//! `rearguard export` and `import`: a report as one file, to attach to a ticket and to look at elsewhere.
//!
//! The file is a tar archive, compressed by gzip, with the report's directory as it lies in the store; whoever has no such tool can unpack it.
//! What is imported comes from anybody: names, kinds, number and sizes are checked before anything is written, and nothing of it is ever sent.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use crate::failure::Failure;
use crate::reports::{Entry, STAGES, Where, default_store, id_of};

/// The application under whose name imported reports are kept, where no store is named.
const IMPORTED: &str = "rearguard-imported";

/// Files of a report: metadata, minidump, repeats, and what the application attached.
const FILES_MAX: usize = 256;

/// Bytes of all files of a report that is imported.
const BYTES_MAX: u64 = 256 << 20;

/// Writes a report into one new file; returns how many bytes that has.
pub(crate) fn export(entry: &Entry, target: &Path) -> Result<u64, Failure> {
    let problem = |error: io::Error| Failure::from(format!("{}: {error}", target.display()));
    // What is there already is somebody's, and a part of an archive is no use.
    if target.exists() {
        return Err(Failure::from(format!("{}: it is there already", target.display())));
    }
    let directory =
        target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(problem)?;
    write(entry, file.as_file_mut())
        .map_err(|error| Failure::from(format!("{}: {error}", entry.directory.display())))?;
    let file = file.persist_noclobber(target).map_err(|error| problem(error.error))?;
    Ok(file.metadata().map_or(0, |metadata| metadata.len()))
}

fn write(entry: &Entry, out: &mut File) -> io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(out, Compression::default()));
    let mut names: Vec<_> = fs::read_dir(&entry.directory)?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for item in names {
        let metadata = item.metadata()?;
        if !metadata.is_file() {
            continue;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        // Neither the user's name nor a time is anybody else's.
        header.set_mode(0o600);
        let path = Path::new(&entry.name).join(item.file_name());
        // A file that grows meanwhile must not break the archive.
        let bytes = File::open(item.path())?.take(metadata.len());
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// Takes a report from such a file into a store, and returns its id.
pub(crate) fn import(source: &Path, place: &Where) -> Result<String, Failure> {
    let store = target_store(place)?;
    let is_new = !store.exists();
    let imported = import_into(source, &store);
    if imported.is_err() && is_new {
        // What was made for nothing; where something else has come meanwhile this does nothing.
        for directory in [store.join("pending"), store.join("completed"), store] {
            let _ = fs::remove_dir(directory);
        }
    }
    imported.map_err(|reason| match reason {
        Problem::Archive(reason) => Failure::unreadable(source, reason),
        Problem::Store(reason) => Failure::from(reason),
    })
}

/// Whose fault it is.
enum Problem {
    Archive(String),
    Store(String),
}

fn import_into(source: &Path, store: &Path) -> Result<String, Problem> {
    let refused = |reason: &str| Problem::Archive(reason.to_owned());
    let of_store = |path: &Path, error: io::Error| {
        Problem::Store(format!("{}: {}", path.display(), error.kind()))
    };
    let file = File::open(source).map_err(|error| Problem::Archive(error.to_string()))?;
    let stage = store.join("completed");
    for directory in [store.join("pending"), stage.clone()] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| of_store(&directory, error))?;
    }
    let scratch = tempfile::Builder::new().prefix(".import-").tempdir_in(&stage);
    let scratch = scratch.map_err(|error| of_store(&stage, error))?;
    let name = unpack(file, scratch.path()).map_err(Problem::Archive)?;
    let id = id_of(&name).ok_or_else(|| refused("no report is in it"))?.to_owned();
    if !scratch.path().join(format!("{id}.json")).is_file() {
        return Err(refused("the report in it has no metadata"));
    }
    if STAGES.iter().any(|stage| store.join(stage).join(&name).exists()) {
        return Err(Problem::Store(format!(
            "report {id} is there already, in {}",
            store.display()
        )));
    }
    let target = stage.join(&name);
    fs::rename(scratch.path(), &target).map_err(|error| of_store(&target, error))?;
    // It isn't there any more.
    let _ = scratch.keep();
    Ok(id)
}

fn target_store(place: &Where) -> Result<PathBuf, Failure> {
    match &place.store {
        Some(store) => Ok(store.clone()),
        None => default_store(place.app.as_deref().unwrap_or(IMPORTED)),
    }
}

/// Unpacks the files of one report into a directory; returns the report's name.
fn unpack(file: File, directory: &Path) -> Result<String, String> {
    // Bounded here, so that a few bytes that unfold to a disk full of zeros don't.
    let mut archive = Archive::new(GzDecoder::new(file).take(BYTES_MAX));
    let mut report: Option<String> = None;
    let entries = archive.entries().map_err(|error| error.to_string())?;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| format!("no exported report: {error}"))?;
        if count >= FILES_MAX {
            return Err(format!("more than {FILES_MAX} files"));
        }
        let path = entry.path().map_err(|error| error.to_string())?.into_owned();
        let (name, file) =
            names(&path).ok_or_else(|| format!("'{}' is no file of a report", path.display()))?;
        if entry.header().entry_type() != EntryType::Regular {
            return Err(format!("'{}' is no plain file", path.display()));
        }
        if report.get_or_insert_with(|| name.clone()) != &name {
            return Err("it holds more than one report".to_owned());
        }
        let mut target = File::create_new(directory.join(file))
            .map_err(|error| format!("'{}': {error}", path.display()))?;
        io::copy(&mut entry, &mut target)
            .map_err(|error| format!("'{}': {error}", path.display()))?;
    }
    report.ok_or_else(|| "no exported report: it is empty".to_owned())
}

/// The report's name and the file's, where a path is of exactly these two.
fn names(path: &Path) -> Option<(String, String)> {
    let mut parts = path.components().map(|part| match part {
        Component::Normal(part) => part.to_str().map(str::to_owned),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    });
    let (name, file) = (parts.next()??, parts.next()??);
    (parts.next().is_none() && id_of(&name).is_some()).then_some((name, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is written anywhere but into the report's own directory.
    #[test]
    fn only_files_of_a_report_have_names() {
        let report = "20261128T202001.182629Z-d34f2513-0c3a-46d5-bb2a-9e29d70816da";
        assert!(names(Path::new(&format!("{report}/a.json"))).is_some());
        for path in [
            format!("{report}/../a"),
            format!("/{report}/a"),
            format!("{report}/a/b"),
            format!("../{report}"),
            report.to_owned(),
            "x/a".to_owned(),
        ] {
            assert!(names(Path::new(&path)).is_none(), "{path}");
        }
    }
}
