//! `rearguard doctor`: what on this machine can keep a crash from being captured, kept or sent, and what to do about each.
//!
//! Each check reads one thing and says one thing; `machine` has those about the system, `stores` those about the reports.
//! Nothing is changed but with `--fix`, and then only what is the user's own.

mod machine;
mod stores;

use std::fmt::Write as _;

use crate::failure::{Failure, Kind};
use crate::reports::Where;
use crate::terminal::{Look, Style, show};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Good,
    /// Something is less than it could be.
    Weak,
    /// Crashes are lost, or their reports are.
    Bad,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at.
    pub(crate) subject: &'static str,
    pub(crate) found: String,
    /// What to do, where there is anything.
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn good(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { level: Level::Good, subject, found: found.into(), advice: None }
    }

    pub(crate) fn weak(
        subject: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Weak, subject, found: found.into(), advice: Some(advice.into()) }
    }

    pub(crate) fn bad(
        subject: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Bad, ..Finding::weak(subject, found, advice) }
    }
}

/// Checks everything; a failure where anything is bad.
pub(crate) fn run(place: &Where, fix: bool) -> Result<(), Failure> {
    let mut findings = machine::all();
    findings.extend(stores::all(place, fix)?);
    let text = in_words(&findings, Look::of_stdout());
    show(&text)?;
    let bad = findings.iter().filter(|finding| finding.level == Level::Bad).count();
    match bad {
        0 => Ok(()),
        1 => Err(Failure::new(Kind::Failed, "one thing stands in the way of reports")),
        _ => Err(Failure::new(Kind::Failed, format!("{bad} things stand in the way of reports"))),
    }
}

fn in_words(findings: &[Finding], look: Look) -> String {
    let mut text = String::new();
    for Finding { level, subject, found, advice } in findings {
        let (mark, style) = match level {
            Level::Good => ("ok  ", Style::Faint),
            Level::Weak => ("weak", Style::Strong),
            Level::Bad => ("BAD ", Style::Bad),
        };
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}  {subject}: {found}", look.paint(style, mark));
        if let Some(advice) = advice {
            let _ = writeln!(text, "      {advice}");
        }
    }
    text
}
