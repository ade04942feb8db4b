//! `rearguard upload`: sends what a guard would send, because a person wants it now.
//!
//! What is sent and what is noted of it is the library's ([`Rearguard::send_now`]); here it is chosen, and progress is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use rearguard::{Consent, Progress, Rearguard, SentReport, Which};

use crate::failure::{Failure, Kind};
use crate::reports::choose::choose_report;
use crate::reports::{Where, only_one, short_id, stores};
use crate::terminal::{harmless, progress_bar, show};

/// The file by which a store's application tells collectors who it is; where it has none, the tool makes none.
const INSTALLATION: &str = "installation";

/// Where reports go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) collector: String,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) has_query: bool,
    /// For one report.
    pub(crate) wait_max: Duration,
}

/// Sends one report, or all that wait in one store.
pub(crate) fn run(report: Option<&str>, place: &Where, target: &Target) -> Result<(), Failure> {
    let sent = match report {
        Some(word) => {
            let entry = choose_report(word, place)?;
            send(&entry.store(), Which::One(&entry.id), target)?
        }
        None => send(&the_store(place)?, Which::Waiting, target)?,
    };
    if sent.is_empty() {
        return show(&format!("Nothing waits in {}.\n", harmless(&place.words())));
    }
    let lines: String = sent.iter().map(line).collect();
    show(&lines)?;
    match sent.iter().filter(|report| !report.is_delivered).count() {
        0 => Ok(()),
        left => Err(Failure::from(format!("{left} of {} reports were not delivered", sent.len()))),
    }
}

/// The one store that is meant: each application has its own collector, and none has another's reports.
fn the_store(place: &Where) -> Result<PathBuf, Failure> {
    let waits = |store: &PathBuf| {
        let waiting = ["new", "pending"].map(|stage| store.join(stage).read_dir());
        waiting.into_iter().flatten().any(|mut listed| listed.next().is_some())
    };
    let (waiting, idle): (Vec<PathBuf>, Vec<PathBuf>) = stores(place)?.into_iter().partition(waits);
    let store = only_one(waiting, "reports wait in")?.or_else(|| idle.into_iter().next());
    store.ok_or_else(|| {
        let text = format!("there is no store in {}", place.words());
        Failure::new(Kind::NoSuchReport, text)
    })
}

fn line(report: &SentReport) -> String {
    format!("{}  {}\n", short_id(&report.id), harmless(&report.outcome))
}

fn send(store: &Path, which: Which<'_>, target: &Target) -> Result<Vec<SentReport>, Failure> {
    // The name is nobody's: each report has its application's.
    let mut sender = Rearguard::new("rearguard-tool", env!("CARGO_PKG_VERSION"))
        .store(store)
        .collector(&target.collector)
        .consent(Consent::Granted);
    if let Some(file) = &target.certificates {
        if !file.is_file() {
            let text = format!("--certificates {}: no such file", file.display());
            return Err(Failure::new(Kind::Usage, text));
        }
        sender = sender.collector_certificates(file);
    }
    if target.has_query {
        sender = sender.collector_query();
    }
    if !store.join(INSTALLATION).is_file() {
        sender = sender.without_installation_id();
    }
    let bar = progress_bar(Some(0));
    let sent = sender.send_now(which, target.wait_max, &mut |progress| tell(&bar, progress));
    bar.finish_and_clear();
    sent.map_err(|error| {
        let kind = if error.is_setting() { Kind::Usage } else { Kind::Failed };
        Failure::new(kind, error.to_string())
    })
}

fn tell(bar: &ProgressBar, progress: &Progress<'_>) {
    let id = short_id(progress.id);
    bar.set_message(format!("{} of {}: {id}", progress.place, progress.count));
    bar.set_length(progress.whole_bytes as u64);
    bar.set_position(progress.sent_bytes as u64);
}
