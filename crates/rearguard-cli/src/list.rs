//! `rearguard list`: the reports on this machine, a line each, the newest first.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::analysis::{Depth, Frame, SymbolPlaces, analyse, file_name};
use crate::failure::Failure;
use crate::reports::metadata::Metadata;
use crate::reports::{Entry, ID_CHARS, Where, entries};
use crate::terminal::{Look, Style, cut, harmless, show};

/// The layout's number in the JSON; it changes when a reader has to.
const SCHEMA: u32 = 1;

/// How long the minidumps of a table are looked into where nobody has asked for it: a list is there at once.
const FRAMES_MAX: Duration = Duration::from_millis(100);

/// Whether minidumps are looked into for the place in the program's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Frames {
    /// As many of the newest as take no time to speak of.
    Auto,
    /// All that are listed.
    Always,
    /// None.
    Never,
}

/// Characters of an application's name and version, and of how it ended: one long name mustn't cost all others their columns.
const CELL_CHARS_MAX: usize = 32;

/// Columns of the table that are always there: id, time, application, end.
const COLUMNS_MIN: usize = 4;

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

/// Lists what is meant: at most `limit`, or all.
pub(crate) fn run(
    place: &Where,
    limit: Option<usize>,
    frames: Frames,
    as_json: bool,
) -> Result<(), Failure> {
    let all = entries(place)?;
    let count = limit.unwrap_or(all.len()).min(all.len());
    let left_out = all.len() - count;
    let mut lines = read(&all[..count]);
    let begin = Instant::now();
    for line in &mut lines {
        let is_wanted = match frames {
            Frames::Always => true,
            Frames::Never => false,
            Frames::Auto => begin.elapsed() < FRAMES_MAX,
        };
        if is_wanted && line.bytes > 0 {
            line.frame = line.entry.dump().and_then(|path| own_frame(&path));
        }
    }
    let text = if as_json {
        in_json(&lines, left_out)
    } else {
        in_words(&lines, left_out, &place.words(), Look::of_stdout())
    };
    show(&text)
}

/// Reads the metadata of all, on as many processors as there are: ten thousand take one a third of a second.
fn read(entries: &[Entry]) -> Vec<Line> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = entries.len().div_ceil(processors).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = entries
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(line).collect::<Vec<Line>>()))
            .collect();
        // A thread that panicked leaves its lines out, and has said so.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn line(entry: &Entry) -> Line {
    let bytes = entry.dump_path().metadata().map_or(0, |metadata| metadata.len());
    Line { metadata: entry.metadata(), entry: entry.clone(), bytes, frame: None }
}

fn own_frame(dump: &Path) -> Option<Frame> {
    let analysis = analyse(dump, &SymbolPlaces::default(), Depth::Crash).ok()?;
    analysis.own_frame().cloned()
}

/// Where a frame is, as short as it can be said.
pub(crate) fn place_of(frame: &Frame) -> String {
    let offset = || format!("{}+{:#x}", frame.module.as_deref().unwrap_or("?"), frame.offset);
    let name = frame.function.clone().unwrap_or_else(offset);
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => {
            format!("{name} ({}:{line})", file_name(file))
        }
        _ => name,
    }
}

fn in_words(lines: &[Line], left_out: usize, places: &str, look: Look) -> String {
    if lines.is_empty() {
        return format!("There are no reports in {}.\n", harmless(places));
    }
    let head =
        ["ID", "WHEN (UTC)", "APPLICATION", "END", "STATE", "SIZE", "WHERE"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(lines.iter().map(row));
    let mut widths: Vec<usize> = (0..6)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let taken = |widths: &[usize]| widths.iter().map(|width| width + 2).sum::<usize>();
    // A narrow terminal does without the number of tries, then without the size, then without the state.
    if taken(&widths) > look.width + 2 {
        let mut width = 0;
        for row in &mut rows {
            let state = row[4].split(", ").next().unwrap_or_default().to_owned();
            width = width.max(state.chars().count());
            row[4] = state;
        }
        widths[4] = width;
    }
    while widths.len() > COLUMNS_MIN && taken(&widths) > look.width + 2 {
        widths.pop();
    }
    // The last column takes what the others leave.
    let left = look.width.saturating_sub(taken(&widths));
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
    let id = line.entry.short_id().to_owned();
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
    let bounded = |text: &str| cut(text, CELL_CHARS_MAX);
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
        bounded(&application),
        bounded(&harmless(&metadata.end())),
        state(metadata, line.entry.stage),
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
pub(crate) fn state(metadata: &Metadata, stage: &str) -> String {
    let state = harmless(metadata.text(&["delivery", "state"]).unwrap_or("-"));
    // What lies there is handled: by a server, or by whoever imported it.
    if stage == "completed" && state == "pending" {
        return "kept, and not sent".to_owned();
    }
    match metadata.number(&["delivery", "tries"]) {
        Some(tries) if tries > 0 && state == "pending" => {
            format!("{state}, {tries} {}", if tries == 1 { "try" } else { "tries" })
        }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn report(id: &str, metadata: &str, bytes: u64, frame: Option<Frame>) -> Line {
        let entry = Entry {
            id: id.to_owned(),
            name: String::new(),
            stage: "pending",
            directory: PathBuf::new(),
        };
        Line {
            entry,
            metadata: Metadata::parse(metadata.as_bytes(), Path::new("x.json")),
            bytes,
            frame,
        }
    }

    fn lines() -> Vec<Line> {
        let frame = Frame {
            function: Some("editor::document::save".to_owned()),
            file: Some("/home/ann/editor/src/document.rs".to_owned()),
            line: Some(120),
            ..Frame::default()
        };
        vec![
            report(
                "d34f2513-0c3a",
                r#"{"application":"editor","version":"1.2.0","role":"main","time":"2026-11-28T20:20:01.1Z","exit":{"class":"crash","value":11,"signal":"SIGSEGV"},"crash":{"address":"0x18"},"delivery":{"state":"pending","tries":2}}"#,
                28900,
                Some(frame),
            ),
            report(
                "29372ed0-4c59",
                r#"{"application":"editor","version":"1.2.0","role":"index\u001b[2J","time":"2026-11-27T08:00:59.1Z","exit":{"class":"code","value":101},"panic":{"message":"x","location":"src/index.rs:8:5"},"delivery":{"state":"uploaded"}}"#,
                0,
                None,
            ),
            report("aaaa0000-4c59", "[]", 0, None),
        ]
    }

    /// Goal: the table as a person sees it, on a narrow and on a wide terminal; nothing of a report steers the terminal.
    #[test]
    fn the_table_fits_its_terminal() {
        let look = |width| Look { has_colours: false, width };
        let narrow = "\
ID        WHEN (UTC)        APPLICATION               END              STATE
d34f2513  2026-11-28 20:20  editor 1.2.0              SIGSEGV at 0x18  pending
          editor::document::save (document.rs:120)
29372ed0  2026-11-27 08:00  editor 1.2.0 (index\u{fffd}[2J)  panic            uploaded
          src/index.rs:8:5
aaaa0000  -                 -                         unreadable       pending
          x.json: it is no JSON object
";
        assert_eq!(in_words(&lines(), 0, "", look(80)), narrow);
        let wide = "\
ID        WHEN (UTC)        APPLICATION               END              STATE             SIZE    WHERE
d34f2513  2026-11-28 20:20  editor 1.2.0              SIGSEGV at 0x18  pending, 2 tries  29 KiB  editor::document::save (document.rs:120)
29372ed0  2026-11-27 08:00  editor 1.2.0 (index\u{fffd}[2J)  panic            uploaded          -       src/index.rs:8:5
aaaa0000  -                 -                         unreadable       pending           -       x.json: it is no JSON object
7 older ones are left out; --all shows them
";
        assert_eq!(in_words(&lines(), 7, "", look(200)), wide);
        let coloured = in_words(&lines(), 0, "", Look { has_colours: true, width: 200 });
        assert!(coloured.starts_with("\u{1b}[1;36mID  "), "{coloured:?}");
    }
}
