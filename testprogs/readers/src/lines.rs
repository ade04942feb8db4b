//! What our tool shows of a stack, held against binutils and against the sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Frame;

/// The frames of one module on the crashed thread, as `rearguard show --json` tells them; their addresses are offsets in the module.
///
/// # Errors
///
/// It isn't that JSON.
pub fn shown(json: &str, module: &str) -> Result<Vec<Frame>, String> {
    let json: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let thread = &json["minidump"]["threads"][0];
    let frames = thread["frames"].as_array().filter(|_| thread["crashed"] == true);
    let frames = frames.ok_or("the first thread isn't the crashed one")?;
    frames.iter().filter(|frame| frame["module"] == module).map(frame_of).collect()
}

fn frame_of(shown: &Value) -> Result<Frame, String> {
    let text = |member: &str| shown[member].as_str().unwrap_or_default();
    let digits = text("offset").trim_start_matches("0x");
    Ok(Frame {
        address: u64::from_str_radix(digits, 16).map_err(|error| format!("{shown}: {error}"))?,
        function: text("function").to_owned(),
        file: text("file").to_owned(),
        line: shown["line"].as_u64().and_then(|line| line.try_into().ok()).unwrap_or_default(),
        is_inlined: shown["inlined"] == true,
    })
}

/// How frames differ from what binutils find by themselves, a line each.
///
/// `first` is the address that the program gives to what is mapped first of it.
///
/// # Errors
///
/// binutils can't be asked.
pub fn unlike_binutils(
    addr2line: &str,
    program: &Path,
    first: u64,
    frames: &[Frame],
) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for group in frames.chunk_by(|left, right| left.address == right.address) {
        let address = format!("{:#x}", first + group[0].address);
        let output = Command::new(addr2line)
            .args(["-f", "-i", "-C", "-e"])
            .arg(program)
            .arg(&address)
            .output()
            .map_err(|error| format!("{addr2line}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Vec<&str> = text.lines().collect();
        let is_alike = told.len() == group.len() * 2
            && told.chunks(2).zip(group).enumerate().all(|(at, (pair, frame))| {
                is_place(pair[1], frame)
                    && is_name(pair[0], at, group)
                    && frame.is_inlined == (at + 1 < group.len())
            });
        if !is_alike {
            lines.push(format!("{address}: {group:#?}, but binutils tell {told:#?}"));
        }
    }
    Ok(lines)
}

/// Whether binutils' `file:line` is that of a frame. Their paths are put together otherwise.
fn is_place(told: &str, frame: &Frame) -> bool {
    let told = told.split(" (discriminator").next().unwrap_or_default();
    match told.rsplit_once(':').map(|(file, line)| (file, line.parse().unwrap_or(0))) {
        // Code without a line is the linker's, to some file of which they give it.
        None | Some((_, 0)) => frame.line == 0,
        Some((file, line)) => {
            line == frame.line && Path::new(file).file_name() == Path::new(&frame.file).file_name()
        }
    }
}

/// Whether binutils' name is that of a frame among those at its address.
fn is_name(told: &str, at: usize, group: &[Frame]) -> bool {
    let is = |frame: &Frame| {
        let (theirs, ours) = (base_name(told), base_name(&frame.function));
        let is_unknown = told == "??" || theirs.is_empty() || ours.is_empty();
        told == frame.function || theirs == ours || is_unknown
    };
    // The innermost has the name in the table of symbols, which knows nothing of inlining, where its own has no path.
    is(&group[at]) || (at == 0 && group.last().is_some_and(is))
}

/// A name without its path and without what binutils leave out of Rust's generics.
fn base_name(name: &str) -> &str {
    let name = name.split(['<', '{']).next().unwrap_or_default();
    name.rsplit("::").find(|part| !part.is_empty()).unwrap_or_default()
}

/// How the frames of a program's own sources differ from the marks in them, a line each.
///
/// A line with the mark `// way 0: function` is where the innermost frame of that way is, 1 is the frame of its caller, and so on.
///
/// # Errors
///
/// A source can't be read.
pub fn unlike_marks(directory: &Path, way: &str, frames: &[Frame]) -> Result<Vec<String>, String> {
    let expected = marks(directory, way)?;
    let own = |frame: &&Frame| Path::new(&frame.file).starts_with(directory);
    let seen: Vec<&Frame> = frames.iter().filter(own).collect();
    let mut lines = Vec::new();
    for at in 0..seen.len().max(expected.len()) {
        let (mark, frame) = (expected.get(at), seen.get(at));
        let is_alike = mark.zip(frame).is_some_and(|(mark, frame)| {
            // What it is generic over is told or not, as the debug information has it.
            // Older symbols have no numbers for closures.
            let function = frame.function.replace("{{closure}}", "{closure#0}");
            let rest = function.strip_prefix(mark.function.as_str());
            let is_name = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('<'));
            is_name && Path::new(&frame.file) == mark.file && frame.line == mark.line
        });
        if !is_alike {
            lines.push(format!("{way} {at}: marked {mark:?}, shown {frame:?}"));
        }
    }
    if expected.is_empty() {
        lines.push(format!("{way}: nothing is marked"));
    }
    Ok(lines)
}

/// A line that is marked.
#[derive(Debug)]
struct Mark {
    depth: usize,
    function: String,
    file: PathBuf,
    line: u32,
}

/// All marks of a way, the innermost first.
fn marks(directory: &Path, way: &str) -> Result<Vec<Mark>, String> {
    let wrong = |error| format!("{}: {error}", directory.display());
    let mut marks = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        let text = fs::read_to_string(&file).map_err(wrong)?;
        for (line, text) in (1..).zip(text.lines()) {
            let mark = text.rsplit_once("// ").and_then(|(_, mark)| mark.strip_prefix(way));
            let Some((depth, function)) = mark.and_then(|mark| mark.split_once(": ")) else {
                continue;
            };
            let Ok(depth) = depth.trim().parse() else { continue };
            marks.push(Mark { depth, function: function.to_owned(), file: file.clone(), line });
        }
    }
    marks.sort_by_key(|mark| mark.depth);
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, line: u32, is_inlined: bool) -> Frame {
        let (function, file) = (function.to_owned(), file.to_owned());
        Frame { address: 1, function, file, line, is_inlined }
    }

    /// Goal: what binutils say otherwise is no place and no name of ours, and their known gaps are.
    #[test]
    fn places_and_names_are_compared() {
        let one = frame("shop::sell<u8>", "/a/shop.rs", 7, false);
        assert!(is_place("/b/./shop.rs:7 (discriminator 2)", &one));
        for other in ["/a/shop.rs:8", "/a/stop.rs:7", "/a/shop.rs:?", "??:0"] {
            assert!(!is_place(other, &one), "{other}");
        }
        assert!(is_place("crtbegin:?", &frame("main", "", 0, false)));
        let group = [frame("pay<u8>", "/a/shop.rs", 3, true), one];
        assert!(is_name("pay", 0, &group) && is_name("shop::sell", 1, &group));
        assert!(is_name("shop::sell", 0, &group), "the table of symbols");
        assert!(!is_name("pay", 1, &group) && !is_name("steal", 0, &group));
    }

    /// Goal: a frame that is missing, has another line or another name isn't the one that is marked.
    #[test]
    fn marks_are_compared() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shop.rs");
        fs::write(&file, "a // cash 1: shop::sell\n// card 0: no\nb // cash 0: pay\n").unwrap();
        let file = file.to_str().unwrap();
        let good = [
            frame("pay<u8>", file, 3, true),
            frame("std", "/x/std.rs", 9, true),
            frame("shop::sell", file, 1, false),
        ];
        let unlike =
            |frames: &[Frame]| unlike_marks(directory.path(), "cash", frames).unwrap().len();
        assert_eq!(unlike(&good), 0);
        assert_eq!(unlike(&good[1..]), 2);
        assert_eq!(unlike(&good[..2]), 1);
        for wrong in [frame("pay", file, 2, true), frame("payment", file, 3, true)] {
            assert_eq!(unlike(&[&[wrong], &good[1..]].concat()), 1);
        }
        assert!(unlike_marks(directory.path(), "cheque", &[]).unwrap()[0].contains("nothing"));
    }
}
