//! `rearguard list`: the reports on this machine, a line each, the newest first.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::analysis::{Frame, SymbolPlaces, analyse};
use crate::failure::Failure;
use crate::reports::metadata::Metadata;
use crate::reports::{Entry, Where, entries};
use crate::terminal::{Look, Style, cut, harmless, show};

/// The layout's number in the JSON; it changes when a reader has to.
const SCHEMA: u32 = 1;

/// Characters of an id that are shown; twice as many reports as a store keeps have different ones.
const ID_CHARS: usize = 8;

/// Reports whose stacks are looked into, so that a table of many costs no minute; the newest are.
const FRAMES_MAX: usize = 20;

/// Columns below which the place in the code has no use for a column.
const PLACE_COLUMNS_MIN: usize = 32;

/// A line of the table.
struct Line {
    entry: Entry,
    /// What can't be read is a line all the same.
    metadata: Result<Metadata, Failure>,
    bytes: u64,
    frame: Option<Frame>,
}

/// Lists what is meant: at most `limit`, or all; `with_frames` looks into the newest minidumps for the place in the program's own code.
pub(crate) fn run(
    place: &Where,
    limit: Option<usize>,
    with_frames: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let all = entries(place)?;
    let count = limit.unwrap_or(all.len()).min(all.len());
    let left_out = all.len() - count;
    let lines: Vec<Line> = all
        .into_iter()
        .take(count)
        .enumerate()
        .map(|(at, entry)| line(entry, with_frames && at < FRAMES_MAX))
        .collect();
    let text = if as_json {
        in_json(&lines, left_out)
    } else {
        in_words(&lines, left_out, Look::of_stdout())
    };
    show(&text).map_err(|error| Failure::from(format!("standard output: {error}")))
}

fn line(entry: Entry, with_frame: bool) -> Line {
    let metadata = entry.metadata();
    let dump = entry.dump();
    let bytes =
        dump.as_deref().and_then(|path| path.metadata().ok()).map_or(0, |metadata| metadata.len());
    let frame = dump.filter(|_| with_frame).and_then(|path| own_frame(&path));
    Line { entry, metadata, bytes, frame }
}

fn own_frame(dump: &Path) -> Option<Frame> {
    let analysis = analyse(dump, &SymbolPlaces::default()).ok()?;
    analysis.own_frame().cloned()
}

/// Where a frame is, as short as it can be said.
pub(crate) fn place_of(frame: &Frame) -> String {
    let offset = || format!("{}+{:#x}", frame.module.as_deref().unwrap_or("?"), frame.offset);
    let name = frame.function.clone().unwrap_or_else(offset);
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => {
            let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
            format!("{name} ({file}:{line})")
        }
        _ => name,
    }
}

fn in_words(lines: &[Line], left_out: usize, look: Look) -> String {
    if lines.is_empty() {
        return "There are no reports.\n".to_owned();
    }
    let head = ["ID", "WHEN", "APPLICATION", "END", "STATE", "SIZE", "WHERE"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(lines.iter().map(row));
    // The last column takes what the others leave.
    let widths: Vec<usize> = (0..6)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let left = look.width.saturating_sub(widths.iter().map(|width| width + 2).sum());
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let mut shown = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width - cell.chars().count();
            let _ = write!(shown, "{cell}{:padding$}  ", "");
        }
        if left >= PLACE_COLUMNS_MIN {
            shown.push_str(&cut(&row[6], left));
        }
        let shown = cut(shown.trim_end(), look.width);
        let _ = match at {
            0 => writeln!(text, "{}", look.paint(Style::Head, &shown)),
            _ => writeln!(text, "{shown}"),
        };
        // A narrow terminal has the place on a line of its own.
        if at > 0 && left < PLACE_COLUMNS_MIN && !row[6].is_empty() {
            let place = cut(&row[6], look.width.saturating_sub(ID_CHARS + 2));
            let _ = writeln!(text, "{:ID_CHARS$}  {}", "", look.paint(Style::Faint, &place));
        }
    }
    if left_out > 0 {
        let _ = writeln!(
            text,
            "{}",
            look.paint(
                Style::Faint,
                &format!("{left_out} older ones are left out; --all shows them")
            )
        );
    }
    text
}

fn row(line: &Line) -> [String; 7] {
    let id = line.entry.id.chars().take(ID_CHARS).collect();
    let size =
        if line.bytes == 0 { "-".to_owned() } else { format!("{} KiB", line.bytes.div_ceil(1024)) };
    let metadata = match &line.metadata {
        Ok(metadata) => metadata,
        Err(failure) => {
            return [
                id,
                "-".to_owned(),
                "-".to_owned(),
                "unreadable".to_owned(),
                line.entry.stage.to_owned(),
                size,
                harmless(&failure.to_string()),
            ];
        }
    };
    let text = |path: &[&str]| harmless(metadata.text(path).unwrap_or("-"));
    let version = format!("{} {}", text(&["application"]), text(&["version"]));
    let role = metadata.text(&["role"]).filter(|role| *role != "main");
    let application =
        role.map_or_else(|| version.clone(), |role| format!("{version} ({})", harmless(role)));
    let place = line
        .frame
        .as_ref()
        .map(place_of)
        .or_else(|| metadata.text(&["panic", "location"]).map(str::to_owned));
    [
        id,
        when(metadata),
        application,
        harmless(&metadata.end()),
        state(metadata),
        size,
        harmless(&place.unwrap_or_default()),
    ]
}

/// The time to the minute, in UTC as the report has it.
fn when(metadata: &Metadata) -> String {
    let time = metadata.text(&["time"]).unwrap_or("-");
    harmless(&time.get(..16).unwrap_or(time).replace('T', " "))
}

/// Where it is on its way, and how often it was tried.
pub(crate) fn state(metadata: &Metadata) -> String {
    let state = harmless(metadata.text(&["delivery", "state"]).unwrap_or("-"));
    match metadata.number(&["delivery", "tries"]) {
        Some(tries) if tries > 0 && state == "pending" => format!("{state}, {tries} tries"),
        _ => state,
    }
}

fn in_json(lines: &[Line], left_out: usize) -> String {
    let reports: Vec<Value> = lines
        .iter()
        .map(|line| {
            let (metadata, error) = match &line.metadata {
                Ok(metadata) => (metadata.value().clone(), Value::Null),
                Err(failure) => (Value::Null, Value::from(failure.to_string())),
            };
            json!({
                "id": line.entry.id,
                "stage": line.entry.stage,
                "directory": line.entry.directory,
                "minidump_bytes": line.bytes,
                "own_frame": line.frame.as_ref().map(place_of),
                "metadata": metadata,
                "error": error,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "schema": SCHEMA, "reports": reports, "left_out": left_out }))
}
