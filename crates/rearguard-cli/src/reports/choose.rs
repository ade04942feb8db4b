//! From what a person types to a report: an id or a unique beginning of one, a file, or `latest`.

use std::path::{Path, PathBuf};

use super::{Entry, Where, entries};
use crate::failure::{Failure, Kind};

/// Ids that an ambiguous word is answered with, and characters of each.
const IDS_SHOWN: usize = 2;
const ID_SHOWN: usize = 13;

/// What was chosen.
#[derive(Clone, Debug)]
pub(crate) enum Chosen {
    /// A report of a store.
    Report(Entry),
    /// Any minidump.
    File(PathBuf),
}

impl Chosen {
    /// The minidump; an error says why there is none.
    pub(crate) fn dump(&self) -> Result<PathBuf, Failure> {
        match self {
            Chosen::File(path) => Ok(path.clone()),
            Chosen::Report(entry) => entry.dump().ok_or_else(|| {
                let reason = entry
                    .metadata()
                    .ok()
                    .and_then(|metadata| metadata.text(&["minidump_error"]).map(str::to_owned));
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                Failure::new(
                    Kind::NoSuchReport,
                    format!("report {} has no minidump{reason}", entry.id),
                )
            }),
        }
    }
}

/// Finds what is meant.
///
/// A word with a separator or a dot in it is a file, or a report's directory; and a word that names a file and no report is a file as well.
pub(crate) fn choose(word: &str, place: &Where) -> Result<Chosen, Failure> {
    let is_path = word.contains(['/', '\\', '.']);
    if is_path {
        let path = Path::new(word);
        return Entry::of_directory(path).map_or_else(|| file(path), |it| Ok(Chosen::Report(it)));
    }
    let entries = entries(place)?;
    if word == "latest" {
        let newest = entries.into_iter().next();
        return newest.map(Chosen::Report).ok_or_else(|| none("there is no report yet".to_owned()));
    }
    if word.is_empty() {
        return Err(none("an empty word is no id".to_owned()));
    }
    let wanted = word.to_ascii_lowercase();
    let mut found: Vec<Entry> =
        entries.into_iter().filter(|entry| entry.id.starts_with(&wanted)).collect();
    // The same report may lie in two stores, or in two places of one.
    found.dedup_by(|later, earlier| later.id == earlier.id);
    match &found[..] {
        [entry] => Ok(Chosen::Report(entry.clone())),
        [] if Path::new(word).is_file() => Ok(Chosen::File(PathBuf::from(word))),
        [] => Err(none(format!("{word}: no report has an id that begins so"))),
        several => {
            let ids: Vec<&str> =
                several.iter().take(IDS_SHOWN).map(|entry| &entry.id[..ID_SHOWN]).collect();
            Err(none(format!(
                "{word}: the beginning of {} ids, {} among them",
                several.len(),
                ids.join(" and ")
            )))
        }
    }
}

/// As [`choose`], but a file is none of a store's reports.
pub(crate) fn choose_report(word: &str, place: &Where) -> Result<Entry, Failure> {
    match choose(word, place)? {
        Chosen::Report(entry) => Ok(entry),
        Chosen::File(path) => {
            Err(none(format!("{}: a file, and no report of a store", path.display())))
        }
    }
}

fn file(path: &Path) -> Result<Chosen, Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Chosen::File(path.to_owned())),
        Ok(_) => Err(Failure::unreadable(path, "not a file")),
        Err(error) => Err(Failure::unreadable(path, error)),
    }
}

fn none(text: String) -> Failure {
    Failure::new(Kind::NoSuchReport, text)
}
