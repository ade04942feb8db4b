//! `rearguard upload`: sends what a guard would send, because a person wants it now.
//!
//! What is sent and what is noted of it is the library's ([`Rearguard::send_now`]); here it is chosen, and progress is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rearguard::{Consent, Progress, Rearguard, SentReport, Which};

use crate::failure::{Failure, Kind};
use crate::list::ID_CHARS;
use crate::reports::choose::choose_report;
use crate::reports::{Where, stores};
use crate::terminal::{harmless, show};

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

/// Sends one report, or all that wait.
pub(crate) fn run(report: Option<&str>, place: &Where, target: &Target) -> Result<(), Failure> {
    let mut sent = Vec::new();
    match report {
        Some(word) => {
            let entry = choose_report(word, place)?;
            sent.extend(send(&entry.store(), Which::One(&entry.id), target)?);
        }
        None => {
            for store in stores(place)? {
                // A store whose user has said no is no reason to leave out the others.
                match send(&store, Which::Waiting, target) {
                    Err(failure) if place.names_one() => return Err(failure),
                    Err(failure) => eprintln!("rearguard: {failure}"),
                    Ok(reports) => sent.extend(reports),
                }
            }
        }
    }
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

fn line(report: &SentReport) -> String {
    let id = report.id.get(..ID_CHARS).unwrap_or(&report.id);
    format!("{id}  {}\n", harmless(&report.outcome))
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
    let bar = bar();
    let sent = sender.send_now(which, target.wait_max, &mut |progress| tell(&bar, progress));
    bar.finish_and_clear();
    sent.map_err(|error| {
        let kind = if error.is_setting() { Kind::Usage } else { Kind::Failed };
        Failure::new(kind, error.to_string())
    })
}

/// On standard error, where that is a terminal.
fn bar() -> ProgressBar {
    let style = "{msg} [{bar:24}] {bytes} of {total_bytes}";
    // The template is a constant that is right; if it weren't, the default would do.
    let style = ProgressStyle::with_template(style)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

fn tell(bar: &ProgressBar, progress: &Progress<'_>) {
    let id = progress.id.get(..ID_CHARS).unwrap_or(progress.id);
    bar.set_message(format!("{} of {}: {id}", progress.place, progress.count));
    bar.set_length(progress.whole_bytes as u64);
    bar.set_position(progress.sent_bytes as u64);
}
