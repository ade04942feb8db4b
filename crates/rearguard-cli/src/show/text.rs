//! A story in words: what happened, the thread that crashed, the others, and what the report holds besides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ptr;
use std::time::SystemTime;

use bytesize::ByteSize;

use super::{Extent, Story};
use crate::analysis::{Analysis, Frame, Origin, Thread};
use crate::reports::metadata::Metadata;
use crate::terminal::{Look, Style, cut, harmless};

/// Frames of a thread that is not the crashed one, unless everything is asked for.
const OTHER_FRAMES_MAX: usize = 6;

/// Frames of the crashed thread: an overflow has a hundred thousand, of which the first and the last tell all.
const CRASHED_FRAMES_MAX: usize = 60;

/// Frames of the runtime that are left out; fewer are shown.
const RUNTIME_FRAMES_MIN: usize = 3;

/// Frames of one place in a row that are told by their number.
const SAME_FRAMES_MIN: usize = 4;

/// Lines of the log's end, unless everything is asked for.
const LOG_LINES_MAX: usize = 20;

/// Bytes of a line of source that are shown; longer ones were made by programs.
const SOURCE_LINE_MAX: usize = 400;

/// Bytes of a source file that are read.
const SOURCE_BYTES_MAX: u64 = 16 << 20;

/// A line of a stack.
enum Row {
    Frame(usize),
    /// The frame before, so many times more.
    Same(usize),
}

/// The text under construction.
struct Page {
    out: String,
    look: Look,
    extent: Extent,
    /// When the program's file was written, if it is here.
    built: Option<SystemTime>,
}

pub(super) fn of(story: &Story, extent: Extent, look: Look) -> String {
    let built = story.analysis.as_ref().and_then(built);
    let mut page = Page { out: String::new(), look, extent, built };
    page.headline(story);
    if let Some(analysis) = &story.analysis {
        page.crash(analysis);
        page.others(analysis);
    }
    if let Some(metadata) = &story.metadata {
        page.report(metadata, story.stage.unwrap_or_default());
    }
    page.annotations(story);
    if let Some(analysis) = &story.analysis {
        page.list("What the minidump's writer could not do", &analysis.soft_errors);
        page.modules(analysis);
    }
    page.out
}

pub(super) fn crash(analysis: &Analysis, look: Look) -> String {
    let extent = Extent::default();
    let mut page = Page { out: String::new(), look, extent, built: built(analysis) };
    page.crash(analysis);
    page.out
}

/// When the main executable was written.
fn built(analysis: &Analysis) -> Option<SystemTime> {
    modified(&analysis.modules.first()?.path)
}

fn modified(path: &str) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn is_newer(file: &str, than: SystemTime) -> bool {
    modified(file).is_some_and(|time| time > than)
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn head(&mut self, text: &str) {
        self.out.push('\n');
        let head = self.look.paint(Style::Head, text);
        self.line(&head);
    }

    fn headline(&mut self, story: &Story) {
        if let Some(metadata) = &story.metadata {
            let text = |path: &[&str]| harmless(metadata.text(path).unwrap_or("?"));
            let what = format!(
                "{} {} ended: {}",
                text(&["application"]),
                text(&["version"]),
                harmless(&metadata.end())
            );
            let head = self.look.paint(Style::Strong, &what);
            self.line(&head);
            let id = story.id.as_deref().unwrap_or_default();
            self.line(&format!(
                "report {id}, {}, process {}, {}",
                text(&["time"]),
                metadata.number(&["worker_pid"]).unwrap_or(0),
                text(&["system"])
            ));
            if let Some(message) = metadata.text(&["panic", "message"]) {
                let place = metadata.text(&["panic", "location"]).unwrap_or("an unknown place");
                let thread = metadata.text(&["panic", "thread"]).unwrap_or("unnamed");
                self.line(&format!(
                    "panic on thread {} at {}: {}",
                    harmless(thread),
                    harmless(place),
                    harmless(message)
                ));
            }
            if let Some(problem) = &story.problem
                && story.analysis.is_none()
            {
                self.line(&format!("its minidump can't be read: {problem}"));
            } else if story.analysis.is_none() {
                let reason = metadata
                    .text(&["minidump_error"])
                    .map_or_else(String::new, |reason| format!(": {}", harmless(reason)));
                self.line(&format!("there is no minidump{reason}"));
            }
        } else if let Some(analysis) = &story.analysis {
            let process =
                analysis.process.map_or_else(String::new, |pid| format!(" of process {pid}"));
            self.line(&format!(
                "minidump{process}, {}, {}",
                harmless(&analysis.system),
                analysis.processor
            ));
        }
    }

    fn crash(&mut self, analysis: &Analysis) {
        let Some(crash) = &analysis.crash else {
            self.line("no crash: the process was alive");
            return;
        };
        let reason = self
            .look
            .paint(Style::Bad, &format!("{} at {:#x}", harmless(&crash.reason), crash.address));
        self.line(&format!("{reason}: {}", crash.words));
        let Some(thread) = analysis.crashed() else {
            self.line(&format!("thread {}, which crashed, is not in the minidump", crash.thread));
            return;
        };
        self.head(&format!("Thread {}{}, which crashed", thread.id, name(thread)));
        let own = analysis.own_frame();
        self.frames(&thread.frames, CRASHED_FRAMES_MAX, own);
        if let Some(far) = &thread.far_end {
            let gap = ByteSize(far.gap_bytes);
            self.line(&format!(
                "       … {gap} of the stack aren't in the minidump; where it began: …"
            ));
            self.frames(&far.frames, CRASHED_FRAMES_MAX, None);
        }
    }

    /// Frames with numbers; beyond the limit the last third of them are those at the far end.
    fn frames(&mut self, frames: &[Frame], limit: usize, own: Option<&Frame>) {
        if frames.is_empty() {
            self.line("   no frame could be found");
        }
        let limit = if self.extent.everything { usize::MAX } else { limit };
        // What called the program's own code is the runtime, the same in every program.
        let own_end =
            frames.iter().rposition(|frame| frame.is_own).map_or(frames.len(), |at| at + 1);
        let shown = if self.extent.everything || frames.len() - own_end < RUNTIME_FRAMES_MIN {
            frames.len()
        } else {
            own_end
        };
        let rows = self.rows(&frames[..shown]);
        let count = rows.len();
        let (first, last) = if count > limit { (limit - limit / 3, limit / 3) } else { (count, 0) };
        for (index, row) in rows.iter().enumerate() {
            if index >= first && index < count - last {
                if index == first {
                    let more = count - first - last;
                    self.line(&format!("       … {more} more, --everything shows them …"));
                }
                continue;
            }
            match row {
                Row::Frame(at) => {
                    self.frame(*at, &frames[*at], own.is_some_and(|own| ptr::eq(own, &frames[*at])))
                }
                Row::Same(times) => {
                    let remark = format!("       … and {times} times more the same …");
                    let remark = self.look.paint(Style::Faint, &remark);
                    self.line(&remark);
                }
            }
        }
        if shown < frames.len() {
            let remark = format!(
                "       … {} frames of the runtime, --everything shows them …",
                frames.len() - shown
            );
            let remark = self.look.paint(Style::Faint, &remark);
            self.line(&remark);
        }
    }

    /// The rows for some frames: a function that called itself again and again is told with how often, unless everything is asked for.
    fn rows(&self, frames: &[Frame]) -> Vec<Row> {
        let is_same = |one: &Frame, other: &Frame| {
            one.function.is_some()
                && (&one.function, &one.file, one.line)
                    == (&other.function, &other.file, other.line)
        };
        let mut rows = Vec::new();
        let mut at = 0;
        while let Some(frame) = frames.get(at) {
            let run = frames[at..].iter().take_while(|other| is_same(frame, other)).count().max(1);
            rows.push(Row::Frame(at));
            if run < SAME_FRAMES_MIN || self.extent.everything {
                rows.extend((at + 1..at + run).map(Row::Frame));
            } else {
                rows.push(Row::Same(run - 1));
            }
            at += run;
        }
        rows
    }

    fn frame(&mut self, at: usize, frame: &Frame, is_the_one: bool) {
        let module = frame.module.as_deref().map_or_else(
            || format!("{:#x}", frame.instruction),
            |module| format!("{}+{:#x}", harmless(module), frame.offset),
        );
        let function = frame.function.as_deref().map_or_else(|| module.clone(), harmless);
        let remark = match (frame.is_inlined, frame.is_guess) {
            (true, _) => " [inlined]",
            (false, true) => " [a guess]",
            (false, false) => "",
        };
        let function = self.fitting(&function, remark);
        let function =
            if is_the_one { self.look.paint(Style::Strong, &function) } else { function };
        let mark = if is_the_one { ">" } else { " " };
        let remark = self.look.paint(Style::Faint, remark);
        self.line(&format!("{mark} {at:>3}  {function}{remark}"));
        if let (Some(file), Some(line)) = (&frame.file, frame.line) {
            let place = format!("{}:{line}", harmless(short(file)));
            let place = self.look.paint(Style::Faint, &place);
            self.line(&format!("       at {place}"));
            if is_the_one && let Some(source) = source_line(file, line) {
                self.line(&format!("       {line} | {}", harmless(&source)));
                if self.built.is_some_and(|built| is_newer(file, built)) {
                    let remark =
                        "       (the file is newer than the program, so this may be another line)";
                    let remark = self.look.paint(Style::Faint, remark);
                    self.line(&remark);
                }
            }
        } else if frame.function.is_some() && frame.module.is_some() {
            let place = self.look.paint(Style::Faint, &module);
            self.line(&format!("       in {place}"));
        }
    }

    /// A function's name, cut to the terminal's width unless everything is asked for.
    fn fitting(&self, function: &str, remark: &str) -> String {
        if self.extent.everything {
            return function.to_owned();
        }
        cut(function, self.look.width.saturating_sub(8 + remark.len()).max(24))
    }

    /// The other threads; those with the same stack are told once.
    fn others(&mut self, analysis: &Analysis) {
        let mut stacks: BTreeMap<Vec<(Option<&str>, u64)>, Vec<&Thread>> = BTreeMap::new();
        for thread in analysis.threads.iter().filter(|thread| !thread.is_crashed) {
            // Two threads in the same function are the same story, wherever in it they are.
            let key = thread
                .frames
                .iter()
                .map(|frame| (frame.function.as_deref().or(frame.module.as_deref()), frame.offset))
                .collect();
            stacks.entry(key).or_default().push(thread);
        }
        let mut groups: Vec<Vec<&Thread>> = stacks.into_values().collect();
        groups.sort_by_key(|group| {
            (std::cmp::Reverse(group.len()), group.first().map_or(0, |thread| thread.id))
        });
        for group in groups {
            let Some(first) = group.first() else { continue };
            let more = match group.len() {
                1 => String::new(),
                count => format!(", and {} more with the same stack", count - 1),
            };
            if !self.extent.everything && is_keeper(first) {
                let remark =
                    format!("\nThread {}{} is rearguard's own, and waits", first.id, name(first));
                let remark = self.look.paint(Style::Faint, &remark);
                self.line(&remark);
                continue;
            }
            self.head(&format!("Thread {}{}{more}", first.id, name(first)));
            self.frames(&first.frames, OTHER_FRAMES_MAX, None);
        }
        if analysis.threads_left_out > 0 {
            self.line(&format!("\n{} more threads are in the minidump", analysis.threads_left_out));
        }
    }

    fn report(&mut self, metadata: &Metadata, stage: &str) {
        let timeline = metadata.timeline();
        if timeline.len() > 1 {
            self.head("Timeline, in milliseconds");
            for (after_ms, words) in timeline {
                self.line(&format!("  {after_ms:>10.3}  {words}"));
            }
        }
        self.head("Afterwards");
        let decided = metadata.flag(&["decision", "restart"]).unwrap_or(false);
        let reason =
            harmless(metadata.text(&["decision", "reason"]).unwrap_or("no reason is known"));
        let next = metadata.number(&["decision", "next_pid"]);
        match (decided, next) {
            (true, Some(pid)) => {
                self.line(&format!("  started again, as process {pid} ({reason})"))
            }
            (true, None) => self.line(&format!("  to be started again ({reason})")),
            (false, _) => self.line(&format!("  not started again ({reason})")),
        }
        self.line(&format!("  report: {}", crate::list::state(metadata, stage)));
        for member in ["reason", "answer"] {
            if let Some(text) = metadata.text(&["delivery", member]) {
                self.line(&format!("    {}", harmless(text.trim_end())));
            }
        }
        for attempt in metadata.texts(&["delivery", "attempts"]) {
            self.line(&format!("    {}", harmless(attempt)));
        }
        self.log(metadata);
        let errors: Vec<String> =
            metadata.texts(&["soft_errors"]).into_iter().map(str::to_owned).collect();
        self.list("What the guard could not do", &errors);
    }

    fn log(&mut self, metadata: &Metadata) {
        let Some(log) = metadata.text(&["log"]) else { return };
        let lines: Vec<&str> = log.lines().collect();
        let first =
            if self.extent.everything { 0 } else { lines.len().saturating_sub(LOG_LINES_MAX) };
        self.head("The end of the log");
        if first > 0 {
            self.line(&format!("  … {first} lines before, --everything shows them …"));
        }
        for line in &lines[first..] {
            self.line(&format!("  {}", harmless(line)));
        }
    }

    /// Those of the metadata, else those of the minidump.
    fn annotations(&mut self, story: &Story) {
        let of_report = story.metadata.as_ref().map(Metadata::annotations).unwrap_or_default();
        let of_dump = story.analysis.iter().flat_map(|analysis| &analysis.annotations);
        let of_dump = of_dump.map(|(key, value)| (key.as_str(), value.as_str()));
        let all: Vec<(&str, &str)> =
            if of_report.is_empty() { of_dump.collect() } else { of_report };
        if all.is_empty() {
            return;
        }
        self.head("Annotations");
        for (key, value) in all {
            self.line(&format!("  {} = {}", harmless(key), harmless(value)));
        }
    }

    fn list(&mut self, head: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.head(head);
        for line in lines {
            self.line(&format!("  {}", harmless(line)));
        }
    }

    fn modules(&mut self, analysis: &Analysis) {
        if self.extent.everything {
            self.head("Modules");
            for module in &analysis.modules {
                self.line(&format!("  {:#x}  {}", module.base, harmless(&module.path)));
                self.line(&format!(
                    "      build {}; {}",
                    module.id.as_deref().unwrap_or("unknown"),
                    harmless(&module.symbols.to_string())
                ));
            }
            return;
        }
        // What explains missing names is worth a line of its own.
        let Some(module) = analysis.modules.first() else { return };
        let path = harmless(&module.path);
        let remark = match &module.symbols {
            Origin::Lines(_) | Origin::Breakpad => return,
            Origin::None(reason) => format!("\nNo symbols for {path}: {}", harmless(reason)),
            Origin::Names(_) => format!(
                "\nNo lines for {path}: it was stripped, and no debug information of this build is here"
            ),
        };
        let remark = self.look.paint(Style::Faint, &remark);
        self.line(&remark);
    }
}

/// The thread that rearguard keeps in every application, which is the same story in each of them.
fn is_keeper(thread: &Thread) -> bool {
    let is_ours = |frame: &Frame| {
        frame.function.as_deref().is_some_and(|name| name.starts_with("rearguard_crashpath::"))
    };
    // Threads that crashed too wait in code of rearguard's as well, under their own names.
    thread.name.as_deref() == Some("rearguard") && thread.frames.iter().any(is_ours)
}

fn name(thread: &Thread) -> String {
    thread.name.as_deref().map_or_else(String::new, |name| format!(" \"{}\"", harmless(name)))
}

/// A source file without the commit that the compiler puts before those of its own libraries.
fn short(file: &str) -> &str {
    let behind = file.strip_prefix("/rustc/").and_then(|rest| rest.split_once('/'));
    behind.map_or(file, |(_, rest)| rest)
}

/// One line of a source file, where the file is here.
fn source_line(file: &str, line: u32) -> Option<String> {
    let at = usize::try_from(line).ok()?.checked_sub(1)?;
    let path = std::path::Path::new(file);
    // The name may be anybody's choice: what has no length, as what the kernel makes up, isn't read, and nothing is read without end.
    path.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() > 0)?;
    let source = File::open(path).ok()?.take(SOURCE_BYTES_MAX);
    let text = BufReader::new(source).lines().nth(at)?.ok()?;
    let text = text.trim_end();
    (!text.is_empty() && text.len() <= SOURCE_LINE_MAX).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::analysis::{Crash, ModuleView};

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            instruction: 0x5000,
            module: Some("editor".to_owned()),
            offset: 0x1000,
            function: Some(function.to_owned()),
            file: Some("/nowhere/src/document.rs".to_owned()),
            line: Some(line),
            is_own: true,
            ..Frame::default()
        }
    }

    fn thread(id: u32, name: &str, frames: Vec<Frame>) -> Thread {
        Thread { id, name: Some(name.to_owned()), is_crashed: id == 70, frames, far_end: None }
    }

    fn story() -> Story {
        let metadata = r#"{"application":"editor","version":"1.2.0","time":"2026-11-28T20:20:01.1Z","worker_pid":70,"system":"Linux 6.18",
            "exit":{"class":"crash","value":11,"signal":"SIGSEGV"},"crash":{"address":"0x18"},
            "timeline":{"crash_seen":1000000,"dump_finished":2500000},
            "decision":{"restart":true,"reason":"worker crashed","next_pid":71},
            "annotations":{"document":"letter.txt"},"log":"opened\nsaving\u0007","delivery":{"state":"uploaded","answer":"CrashID=1"}}"#;
        let library = |function: &str| Frame {
            file: Some("/rustc/1/library/std/src/rt.rs".to_owned()),
            is_own: false,
            ..frame(function, 1)
        };
        let wait = Frame {
            module: Some("libc.so.6".to_owned()),
            file: None,
            line: None,
            is_own: false,
            ..frame("pthread_cond_wait", 0)
        };
        let crashed = vec![
            Frame { is_inlined: true, ..frame("editor::document::mark_as_saved", 31) },
            frame("editor::document::save", 22),
            library("std::rt::lang_start"),
            library("main"),
            library("_start"),
        ];
        let analysis = Analysis {
            system: "Linux 6.18".to_owned(),
            processor: "amd64".to_owned(),
            process: Some(70),
            crash: Some(Crash {
                reason: "SIGSEGV / SEGV_MAPERR".to_owned(),
                words: "it wrote to 0x18".to_owned(),
                address: 0x18,
                thread: 70,
            }),
            threads: vec![
                thread(70, "main", crashed),
                thread(72, "worker-1", vec![wait.clone()]),
                thread(73, "worker-2", vec![wait]),
            ],
            threads_left_out: 0,
            modules: vec![ModuleView {
                path: "/opt/editor".to_owned(),
                base: 0x4000,
                size: 4096,
                id: None,
                symbols: Origin::None("no file of this build is here".to_owned()),
            }],
            annotations: Vec::new(),
            soft_errors: vec!["stop thread 9: error number 110".to_owned()],
            missing_bytes: 0,
        };
        let metadata = Metadata::parse(metadata.as_bytes(), Path::new("x.json")).unwrap();
        Story {
            id: Some("d34f2513".to_owned()),
            stage: Some("completed"),
            metadata: Some(metadata),
            analysis: Some(analysis),
            problem: None,
        }
    }

    /// Goal: the story as a person sees it: what matters first, equal stacks once, the runtime left out, no control characters.
    #[test]
    fn a_story_is_told_in_order() {
        let look = Look { has_colours: false, width: 80 };
        let expected = "\
editor 1.2.0 ended: SIGSEGV at 0x18
report d34f2513, 2026-11-28T20:20:01.1Z, process 70, Linux 6.18
SIGSEGV / SEGV_MAPERR at 0x18: it wrote to 0x18

Thread 70 \"main\", which crashed
>   0  editor::document::mark_as_saved [inlined]
       at /nowhere/src/document.rs:31
    1  editor::document::save
       at /nowhere/src/document.rs:22
       … 3 frames of the runtime, --everything shows them …

Thread 72 \"worker-1\", and 1 more with the same stack
    0  pthread_cond_wait
       in libc.so.6+0x1000

Timeline, in milliseconds
       0.000  the crash handler has seen the crash
       1.500  the minidump is in the store

Afterwards
  started again, as process 71 (worker crashed)
  report: uploaded
    CrashID=1

The end of the log
  opened
  saving\u{fffd}

Annotations
  document = letter.txt

What the minidump's writer could not do
  stop thread 9: error number 110

No symbols for /opt/editor: no file of this build is here
";
        assert_eq!(of(&story(), Extent::default(), look), expected);
        let everything = of(&story(), Extent { everything: true }, look);
        assert!(
            everything.contains("_start") && everything.contains("0x4000  /opt/editor"),
            "{everything}"
        );
    }

    /// Goal: a line is never longer than a narrow terminal because of a function's name.
    #[test]
    fn long_names_are_cut() {
        let mut story = story();
        if let Some(analysis) = &mut story.analysis {
            analysis.threads[0].frames[0].function = Some("x".repeat(400));
        }
        let text = of(&story, Extent::default(), Look { has_colours: false, width: 80 });
        assert!(text.lines().all(|line| line.chars().count() <= 88), "{text}");
    }
}
