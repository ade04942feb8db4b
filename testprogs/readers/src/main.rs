//! `readers plan DIRECTORY` and `readers compare DIRECTORY`: the two ends of a comparison.
//!
//! `plan` reads all dumps of a directory with the `minidump` crate and writes `plan.json`: for each dump the pieces of memory to sum up, the paths of the files, and whether the stack is wanted.
//! In between whoever calls starts the scripts beside this source under lldb and Python, which write `lldb.json` and `pypi.json`.
//! `compare` reads all dumps again, with `minidump-processor` too, and holds everything against it, the truth included; it prints what differs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use readers::{Frame, Processed, Reader, disagreements, plan_of, record_of, truth_of, untruths};
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["plan", directory] => plan(Path::new(directory)),
        ["compare", directory] => compare(Path::new(directory)),
        _ => Err("usage: readers plan|compare DIRECTORY".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("readers: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// All dumps of a directory, by name; none is an error.
fn dumps(directory: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let wrong = |error| format!("{}: {error}", directory.display());
    let mut dumps = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "dmp") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            dumps.insert(name, path);
        }
    }
    if dumps.is_empty() { Err("there is no dump to read".to_owned()) } else { Ok(dumps) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn json_of(path: &Path) -> Result<Value, String> {
    let bytes = read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// What the dumped program knew of itself, if it told.
fn truth(dump: &Path) -> Result<Option<Value>, String> {
    let path = truth_of(dump);
    if path.exists() { json_of(&path).map(Some) } else { Ok(None) }
}

fn plan(directory: &Path) -> Result<(), String> {
    let mut plan = Map::new();
    for (name, path) in dumps(directory)? {
        // What can't be read here is told by `compare`, beside what the others say of it.
        let record = record_of(&read(&path)?).unwrap_or_default();
        let wants_frames = truth(&path)?.is_some_and(|truth| truth["frames"].is_array());
        let modules = record["modules"].as_object();
        let paths: Value =
            modules.into_iter().flatten().map(|(_, at)| at["path"].clone()).collect();
        let wanted = json!({ "memory": plan_of(&record), "paths": paths, "frames": wants_frames });
        plan.insert(name, wanted);
    }
    let path = directory.join("plan.json");
    fs::write(&path, Value::from(plan).to_string())
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn compare(directory: &Path) -> Result<(), String> {
    let lldb = json_of(&directory.join("lldb.json"))?;
    let pypi = json_of(&directory.join("pypi.json"))?;
    let dumps = dumps(directory)?;
    let (mut count, mut truths, mut differing) = (0, 0, 0);
    for (name, path) in &dumps {
        let truth = truth(path)?;
        count += 1;
        truths += usize::from(truth.is_some());
        let lines = compare_one(path, &lldb[name], &pypi[name], truth)?;
        differing += usize::from(!lines.is_empty());
        for line in lines {
            println!("  {name}: {line}");
        }
    }
    println!("  {count} dumps read by each of the readers, {truths} of them with the truth");
    match differing {
        0 => Ok(()),
        differing => Err(format!("the readers don't agree about {differing} dumps")),
    }
}

fn compare_one(
    path: &Path,
    lldb: &Value,
    pypi: &Value,
    truth: Option<Value>,
) -> Result<Vec<String>, String> {
    let bytes = read(path)?;
    let record = match record_of(&bytes) {
        Ok(record) => record,
        Err(error) => return Ok(vec![format!("minidump can't read it: {error}")]),
    };
    let mut lines = match Processed::of(&bytes) {
        Ok(processed) => processed.disagreements(&record),
        Err(error) => vec![format!("minidump-processor can't read it: {error}")],
    };
    let mut lldb = lldb.clone();
    let lldb_frames = taken(&mut lldb, "frames");
    lines.extend(disagreements(&record, &lldb, Reader::Lldb));
    lines.extend(disagreements(&record, pypi, Reader::Pypi));
    if let Some(mut truth) = truth {
        let expected = taken(&mut truth, "frames")
            .map(|frames| Stack { frames, root: taken(&mut truth, "root").unwrap_or_default() });
        lines.extend(untruths(&truth, &record, Reader::Minidump));
        lines.extend(untruths(&truth, &lldb, Reader::Lldb));
        lines.extend(untruths(&truth, pypi, Reader::Pypi));
        if let Some(expected) = expected {
            let processed = Processed::with_files(&bytes)?;
            let seen: Value = processed.crash_frames().iter().map(frame_value).collect();
            lines.extend(expected.disagreements("minidump-processor", &seen));
            lines.extend(expected.disagreements("lldb", &lldb_frames.unwrap_or_default()));
        }
    }
    Ok(lines)
}

fn taken(record: &mut Value, field: &str) -> Option<Value> {
    record.as_object_mut().and_then(|fields| fields.remove(field))
}

fn frame_value(frame: &Frame) -> Value {
    let file = Path::new(&frame.file).file_name().unwrap_or_default().to_string_lossy();
    json!([frame.function, file, frame.line, frame.is_inlined])
}

/// The stack that the truth tells.
struct Stack {
    /// The frames of the program's own code from the innermost, each a list of function, file, line and whether it is inlined; below them a reader may have more.
    frames: Value,
    /// A part of the name of the function that the thread began with, as far as the program has its name.
    root: Value,
}

impl Stack {
    /// How a reader's stack differs from this one, a line each.
    fn disagreements(&self, reader: &str, seen: &Value) -> Vec<String> {
        let empty = Vec::new();
        let [seen, expected] =
            [seen, &self.frames].map(|frames| frames.as_array().unwrap_or(&empty));
        let root = self.root.as_str().unwrap_or_default();
        let begin = seen.iter().position(|frame| Some(frame) == expected.first());
        let rest = begin.and_then(|begin| seen[begin..].strip_prefix(expected.as_slice()));
        let is_root = |frame: &Value| frame[0].as_str().is_some_and(|name| name.contains(root));
        if !expected.is_empty() && rest.is_some_and(|rest| rest.iter().any(is_root)) {
            return Vec::new();
        }
        let mut lines =
            vec![format!("the stack for {reader} isn't the expected one, down to {root}:")];
        lines.extend(expected.iter().map(|frame| format!("  expected {frame}")));
        lines.extend(seen.iter().map(|frame| format!("  seen {frame}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a stack that lacks a frame, has another line, or ends early isn't the expected one.
    #[test]
    fn a_stack_is_compared_frame_by_frame() {
        let frame = |name: &str, line: u32| json!([name, "a.rs", line, false]);
        let expected =
            Stack { frames: json!([frame("b", 1), frame("a", 2)]), root: json!("start") };
        let whole =
            [frame("x", 9), frame("b", 1), frame("a", 2), frame("y", 8), frame("a_start_b", 7)];
        assert_eq!(expected.disagreements("me", &json!(whole)), [""; 0]);
        for lacking in 1..whole.len() {
            let mut frames = whole.to_vec();
            frames.remove(lacking);
            let is_between = lacking == 3;
            assert_eq!(
                expected.disagreements("me", &json!(frames)).is_empty(),
                is_between,
                "{lacking}"
            );
        }
        let mut other_line = whole.to_vec();
        other_line[2] = frame("a", 3);
        assert!(!expected.disagreements("me", &json!(other_line)).is_empty());
        assert!(!expected.disagreements("me", &json!([])).is_empty());
    }
}
