//! Holds the sentences of ARCHITECTURE.md that a program can check.
//!
//! Each check reads the sources as text, collects everything that is wrong, and fails with the whole list.
//! Each check is itself tested on a few lines that break its rule, so that none can go blind unnoticed.
//! A rule that has to give way is changed here, in the open, together with its sentence in ARCHITECTURE.md.

#![expect(clippy::expect_used, reason = "a check that can't read the tree is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which crate of the workspace may use which other one.
const CRATE_EDGES: [(&str, &[&str]); 11] = [
    ("rearguard-crashpath", &[]),
    ("rearguard-minidump", &[]),
    ("rearguard", &["rearguard-crashpath", "rearguard-minidump"]),
    ("rearguard-cli", &["rearguard"]),
    ("crashzoo", &["rearguard"]),
    ("badguard", &["crashzoo", "rearguard"]),
    ("inlines", &["rearguard"]),
    ("winhost", &[]),
    ("readers", &[]),
    ("size-programs", &["rearguard", "rearguard-minidump"]),
    ("xtask", &[]),
];

/// What tests may use beyond that: an edge that no shipped program has.
const TEST_CRATE_EDGES: [(&str, &[&str]); 4] = [
    // The readers know nothing of ours; our tests let them read.
    ("rearguard-minidump", &["readers"]),
    ("rearguard-cli", &["readers"]),
    // The end-to-end suite receives reports with the tool's collector.
    ("crashzoo", &["rearguard-cli", "rearguard-minidump", "badguard", "readers"]),
    ("badguard", &["rearguard-cli", "rearguard-minidump"]),
];

/// Which module of the library may use which other one; `lib` may use all, and nobody may use `lib`.
///
/// `guard` and `worker` are in nobody's row: they are two processes and meet in the black box only.
/// The names that several modules share stand below them: configuration, limits, errors, encodings.
const MODULE_EDGES: [(&str, &[&str]); 28] = [
    (
        "worker",
        &[
            "config",
            "error",
            "evidence",
            "heap",
            "launch",
            "limits",
            "report_id",
            "reporting",
            "role",
            "settings",
            "store",
            "sys",
            "text",
        ],
    ),
    (
        "guard",
        &[
            "config",
            "delivery",
            "error",
            "evidence",
            "fail_spots",
            "heap",
            "hooks",
            "json",
            "launch",
            "limits",
            "metadata",
            "report_id",
            "reporting",
            "role",
            "store",
            "supervisor",
            "sys",
            "text",
        ],
    ),
    // Sans-IO: it knows the words of the configuration and nothing else.
    ("supervisor", &["config"]),
    (
        "delivery",
        &[
            "fail_spots",
            "heap",
            "hooks",
            "launch",
            "limits",
            "metadata",
            "report_id",
            "store",
            "sys",
            "text",
            "upload",
        ],
    ),
    // A person's way to send: nobody's but the public face's.
    (
        "sending",
        &[
            "delivery", "error", "heap", "hooks", "launch", "limits", "metadata", "settings",
            "store", "sys",
        ],
    ),
    (
        "store",
        &[
            "config",
            "error",
            "fail_spots",
            "heap",
            "limits",
            "order",
            "report_id",
            "reporting",
            "sys",
            "text",
            "wire",
        ],
    ),
    ("upload", &["heap", "hooks", "limits", "report_id", "sys", "text"]),
    // It names what it points to: the one place where a program says what it carries.
    (
        "hooks",
        &[
            "attachments",
            "error",
            "heap",
            "limits",
            "metadata",
            "signature",
            "store",
            "sys",
            "upload",
        ],
    ),
    ("attachments", &["heap", "hooks", "limits", "sys", "text"]),
    ("redaction", &["sys"]),
    ("signature", &[]),
    ("reporting", &["config", "limits"]),
    ("fail_spots", &["sys"]),
    // Of `sys` the words alone, and the names of signals: a crash as every port tells it.
    ("metadata", &["config", "evidence", "heap", "json", "limits", "report_id", "sys", "text"]),
    ("evidence", &["config", "heap", "limits", "order", "sys", "wire"]),
    // The record's text is made here, its memory in `sys`; what it says about the process comes from `sys`.
    ("launch", &["config", "error", "heap", "limits", "reporting", "settings", "sys", "wire"]),
    // The callback's argument is a type of `sys`, and it knows what a port has.
    ("settings", &["config", "error", "heap", "hooks", "limits", "reporting", "sys"]),
    ("sys", &["config", "error", "heap", "launch", "limits", "role", "text", "wire"]),
    ("role", &["heap", "limits", "text"]),
    ("wire", &["heap", "limits"]),
    ("report_id", &["heap", "limits", "text"]),
    ("json", &["heap", "limits", "text"]),
    ("order", &[]),
    ("text", &["heap"]),
    ("config", &[]),
    ("error", &["heap", "text"]),
    ("limits", &[]),
    ("heap", &[]),
];

/// Where the code may ask for which system it is compiled.
const CFG_OS_PLACES: [&str; 5] = [
    "crates/rearguard/src/sys/mod.rs",
    "testprogs/crashzoo/src/sys/mod.rs",
    // Windows alone.
    "testprogs/winhost/src/main.rs",
    "crates/rearguard-crashpath/",
    "crates/rearguard-minidump/",
];

/// Where `unsafe` may stand.
const UNSAFE_PLACES: [&str; 7] = [
    "crates/rearguard/src/sys/",
    "crates/rearguard-crashpath/",
    "crates/rearguard-minidump/",
    "testprogs/",
    // The demo's bug, and the tool's own system calls.
    "crates/rearguard-cli/src/demo/bug.rs",
    "crates/rearguard-cli/src/sys.rs",
    // Programs that tests of the tool look at.
    "crates/rearguard-cli/tests/data/",
];

/// What the library does without, and why.
/// The sizes are what one use adds to a small stripped program.
const BANNED_IN_LIBRARY: [(&str, &str); 14] = [
    ("println!", "the application's standard streams are its own"),
    ("eprintln!", "the application's standard streams are its own"),
    ("print!", "the application's standard streams are its own"),
    ("eprint!", "the application's standard streams are its own"),
    ("Command", "size budget: 38 to 46 KB, and it inherits what a guard must not"),
    ("HashMap", "size budget: 13 KB; a short list is searched as fast"),
    ("HashSet", "size budget: 13 KB; a short list is searched as fast"),
    ("thread::spawn", "size budget: 19 KB; a guard has one thread"),
    ("thread::Builder", "size budget: 19 KB; a guard has one thread"),
    ("thread::scope", "size budget: 19 KB; a guard has one thread"),
    ("thread::sleep", "every wait is on an event with a deadline"),
    ("mpsc", "size budget: 22 KB"),
    ("Instant", "size budget: 11 KB; sys has the monotonic clock that the timeline is in"),
    ("SystemTime", "size budget: 11 KB; sys has the clock"),
];

/// By this other name it is what the library gives an application that starts a role of its own, which pays for it.
const ROLE_COMMAND: &str = "Command as RoleCommand;";

/// What the supervisor doesn't know, beside other modules: clocks, IO, processes.
const BANNED_IN_SUPERVISOR: [&str; 14] = [
    "Instant",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "std::os",
    "libc",
    "rearguard_crashpath",
    "rearguard_minidump",
    "println!",
    "eprintln!",
];

/// Things with a name that another process could connect to, squat or find.
const BANNED_NAMES: [&str; 8] = [
    "UnixListener",
    "UnixStream",
    "UnixDatagram",
    "sockaddr_un",
    "shm_open",
    "mkfifo",
    "mq_open",
    "TcpListener",
];

// The tree as text.

/// One source file, in the forms that checks ask for; all have the same lines.
struct Source {
    path: String,
    raw: String,
    /// Without comments, without what is in literals, without tests.
    shipped: String,
    /// Only the tests, without comments and without what is in literals.
    tests: String,
}

impl Source {
    fn new(path: &str, raw: &str) -> Source {
        let code = without_comments_and_literals(raw);
        let all_test = path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || code.contains("#![cfg(test)]");
        let (shipped, tests) = if all_test { (blank(&code), code) } else { split_off_tests(&code) };
        Source { path: path.to_owned(), raw: raw.to_owned(), shipped, tests }
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// All files that the checks look at.
struct Tree {
    sources: Vec<Source>,
    /// Manifests and documents, by path.
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// The workspace that this test belongs to.
    fn of_workspace() -> Tree {
        // Cargo sets the variable when it runs a test, so a copied tree is checked where it lies.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.ancestors().nth(2).expect("a crate lies two levels deep").to_owned();
        let mut files = Vec::new();
        for directory in ["crates", "testprogs", "xtask", "examples", "bench", "fuzz"] {
            walk(&root.join(directory), &mut files);
        }
        for name in ["Cargo.toml", "HAZARDS.md"] {
            if root.join(name).is_file() {
                files.push(root.join(name));
            }
        }
        let read: Vec<(String, String)> = files
            .iter()
            .map(|file| {
                let path = file.strip_prefix(&root).expect("it was found below the root");
                let text = fs::read_to_string(file)
                    .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                (path.to_string_lossy().into_owned(), text)
            })
            .collect();
        assert!(read.len() > 20, "found only {} files below {}", read.len(), root.display());
        Tree::of(read.iter().map(|(path, text)| (path.as_str(), text.as_str())))
    }

    fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tree {
        let mut tree = Tree { sources: Vec::new(), texts: BTreeMap::new() };
        for (path, text) in files {
            if path.ends_with(".rs") {
                tree.sources.push(Source::new(path, text));
            } else {
                tree.texts.insert(path.to_owned(), text.to_owned());
            }
        }
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        all.filter(|(path, _)| path.ends_with("Cargo.toml"))
    }

    fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    fn under<'a>(&'a self, places: &'a [&str]) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(|source| source.is_under(places))
    }
}

/// Every Rust file and manifest below `directory`.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let hidden = name.starts_with('.');
        if path.is_dir() {
            if name != "target" && !hidden {
                walk(&path, found);
            }
        } else if !hidden && (name.ends_with(".rs") || name == "Cargo.toml") {
            found.push(path);
        }
    }
}

// Reading Rust as far as the checks need it.

/// The same text with blanks in place of comments and of what stands in literals.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (kept, len) = if rest.starts_with(b"//") {
            (0, rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()))
        } else if rest.starts_with(b"/*") {
            (0, block_comment_len(rest))
        } else if let Some((opening, len)) = raw_string(bytes, at) {
            (opening, len)
        } else if rest[0] == b'"' {
            (1, string_len(rest))
        } else if rest[0] == b'\'' {
            (1, char_len(rest))
        } else {
            (1, 1)
        };
        for (offset, byte) in rest[..len].iter().enumerate() {
            let shown =
                if *byte == b'\n' || (offset < kept && byte.is_ascii()) { *byte } else { b' ' };
            out.push(shown);
        }
        at += len;
    }
    String::from_utf8(out).expect("only ASCII was kept")
}

fn block_comment_len(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The lengths of a raw string's opening and of the whole, if one begins here.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    if at > 0 && is_word_byte(bytes[at - 1]) {
        return None;
    }
    let rest = &bytes[at..];
    let prefix = match rest {
        [b'r', ..] => 1,
        [b'b' | b'c', b'r', ..] => 2,
        _ => return None,
    };
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let opening = prefix + hashes + 1;
    if rest.get(opening - 1) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(1 + hashes, b'#');
    let end = rest[opening..].windows(closing.len()).position(|window| window == closing);
    Some((opening, end.map_or(rest.len(), |end| opening + end + closing.len())))
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a character literal, or 1 for the quote of a lifetime.
fn char_len(rest: &[u8]) -> usize {
    let body = match rest.get(1) {
        Some(b'\\') => 2,
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    let from = (1 + body).min(rest.len());
    let end = rest[from..].iter().take(9).position(|byte| *byte == b'\'');
    match end {
        Some(0) => from + 1,
        Some(end) if rest.get(1) == Some(&b'\\') => from + end + 1,
        _ => 1,
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// What is shipped and what is test, both with all lines.
fn split_off_tests(code: &str) -> (String, String) {
    let mut shipped = code.as_bytes().to_vec();
    let mut tests = blank(code).into_bytes();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (start, _) in code.match_indices(mark) {
            let end = end_of_item(code.as_bytes(), start + mark.len());
            for at in start..end {
                tests[at] = code.as_bytes()[at];
                if shipped[at] != b'\n' {
                    shipped[at] = b' ';
                }
            }
        }
    }
    let text = |bytes| String::from_utf8(bytes).expect("the code was made ASCII");
    (text(shipped), text(tests))
}

/// Behind the item that begins after an attribute: its closing brace, or its semicolon.
fn end_of_item(code: &[u8], from: usize) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            // The attribute's own closing brackets may come first.
            b')' | b']' => depth = (depth - 1).max(0),
            b'}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where `word` stands in `code`, not as a part of a longer word.
fn word_offsets<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let end = at + word.len();
        let before = *at > 0 && is_word_byte(bytes[at - 1]) && is_word_byte(bytes[*at]);
        let after = end < bytes.len() && is_word_byte(bytes[end]) && is_word_byte(bytes[end - 1]);
        !before && !after
    })
}

/// What stands between the brackets that open at `at`.
fn bracketed(code: &str, at: usize) -> &str {
    let mut depth = 0_i32;
    for (offset, byte) in code.as_bytes()[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return &code[at + 1..at + offset];
                }
            }
            _ => {}
        }
    }
    &code[at..]
}

fn leading_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.bytes().position(|byte| !is_word_byte(byte)).unwrap_or(text.len());
    &text[..end]
}

/// The first words of the parts of a braced list, of whatever depth inside.
fn list_heads(list: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let mut depth = 0_i32;
    let mut start = 0;
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                heads.push(leading_word(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.push(leading_word(&list[start..]));
    heads.retain(|head| !head.is_empty());
    heads
}

// Reading manifests as far as the checks need it.

/// One line of a manifest that names a dependency.
struct Dependency<'a> {
    name: &'a str,
    line: usize,
    for_tests: bool,
    is_explained: bool,
}

fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut section = None;
    let mut before = "";
    for (index, line) in manifest.lines().enumerate() {
        let is_explained = before.starts_with('#');
        let mut add = |name, for_tests| {
            found.push(Dependency { name, line: index + 1, for_tests, is_explained });
        };
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end().trim_end_matches(']');
            let for_tests = header.contains("dev-dependencies");
            section = header.ends_with("dependencies").then_some(for_tests);
            if let Some((_, name)) = header.rsplit_once("dependencies.") {
                add(name, for_tests);
            }
        } else if let Some(for_tests) = section
            && line.starts_with(|first: char| first.is_ascii_alphanumeric())
        {
            let end = line.find([' ', '=', '.']).unwrap_or(line.len());
            add(&line[..end], for_tests);
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    found
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1)
}

// The checks. Each returns everything that it finds, as `file:line: why`.

type Check = fn(&Tree) -> Vec<String>;

fn row<'a>(table: &[(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(from, _)| *from == name).map(|(_, to)| *to)
}

fn crate_direction(tree: &Tree) -> Vec<String> {
    let own: BTreeSet<&str> = CRATE_EDGES.iter().map(|(name, _)| *name).collect();
    let mut found = Vec::new();
    for (path, manifest) in tree.manifests() {
        // The peers' workspaces, and the root, which has no package.
        let Some(name) = package_name(manifest) else { continue };
        if path.starts_with("bench/") || path.starts_with("fuzz/") {
            continue;
        }
        let Some(allowed) = row(&CRATE_EDGES, name) else {
            found.push(format!("{path}:1: the crate {name} has no row in CRATE_EDGES"));
            continue;
        };
        let for_tests = row(&TEST_CRATE_EDGES, name).unwrap_or_default();
        for dependency in dependencies(manifest) {
            let target = dependency.name;
            let fine = !own.contains(target)
                || allowed.contains(&target)
                || (dependency.for_tests && for_tests.contains(&target));
            if !fine {
                found.push(format!("{path}:{}: {name} may not use {target}", dependency.line));
            }
        }
    }
    found
}

fn dependencies_have_reasons(tree: &Tree) -> Vec<String> {
    let own: BTreeSet<&str> = tree.manifests().filter_map(|(_, text)| package_name(text)).collect();
    let mut found = Vec::new();
    for (path, manifest) in tree.manifests() {
        for dependency in dependencies(manifest) {
            if !dependency.is_explained && !own.contains(dependency.name) {
                let name = dependency.name;
                found.push(format!(
                    "{path}:{}: {name} has no comment above it that says why it is here",
                    dependency.line
                ));
            }
        }
    }
    found
}

const LIBRARY: &str = "crates/rearguard/src/";

/// The module of the library that a file belongs to, and how deep the file lies in it.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix(LIBRARY)?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let depth = inside.split('/').count();
    Some((inside.split('/').next()?, depth))
}

/// What `lib.rs` makes known under its own name, and the module that it comes from.
fn reexports(lib: &str) -> BTreeMap<&str, &str> {
    let mut names = BTreeMap::new();
    for (at, _) in lib.match_indices("pub use ") {
        let statement = lib[at + 8..].split(';').next().unwrap_or_default();
        let module = leading_word(statement);
        let words = statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.skip(1).filter(|word| !word.is_empty()) {
            names.insert(word, module);
        }
    }
    names
}

/// The words that follow a path to the crate's root: `crate::word`, or enough times `super::`.
fn root_references(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut take = |at: usize, behind: &'_ str, start: usize| {
        let heads = match behind.trim_start().strip_prefix('{') {
            Some(_) => list_heads(bracketed(code, start + behind.find('{').unwrap_or(0))),
            None => vec![leading_word(behind)],
        };
        for head in heads {
            let offset = head.as_ptr() as usize - code.as_ptr() as usize;
            found.push((at, &code[offset..offset + head.len()]));
        }
    };
    for at in word_offsets(code, "crate") {
        if let Some(behind) = code[at + 5..].strip_prefix("::") {
            take(at, behind, at + 7);
        }
    }
    for at in word_offsets(code, "super") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut end = at;
        let mut ups = 0;
        while code[end..].starts_with("super::") {
            end += "super::".len();
            ups += 1;
        }
        if ups >= depth && ups > 0 {
            take(at, &code[end..], end);
        }
    }
    found
}

fn module_direction(tree: &Tree) -> Vec<String> {
    let lib = tree.source("crates/rearguard/src/lib.rs").map_or("", |lib| lib.shipped.as_str());
    let reexports = reexports(lib);
    let modules: BTreeSet<&str> = tree
        .sources
        .iter()
        .filter_map(|source| module_of(&source.path))
        .map(|(name, _)| name)
        .collect();
    let mut found = Vec::new();
    for source in tree.under(&[LIBRARY]) {
        let Some((module, depth)) = module_of(&source.path) else { continue };
        if module == "lib" {
            continue;
        }
        let path = &source.path;
        let Some(allowed) = row(&MODULE_EDGES, module) else {
            found.push(format!("{path}:1: the module {module} has no row in MODULE_EDGES"));
            continue;
        };
        for (at, word) in root_references(&source.shipped, depth) {
            let line = line_of(&source.shipped, at);
            let is_module = modules.contains(word) || row(&MODULE_EDGES, word).is_some();
            let target =
                if is_module { word } else { reexports.get(word).copied().unwrap_or("lib") };
            if target != module && !allowed.contains(&target) {
                let what = if target == word { String::new() } else { format!(" ({word})") };
                found.push(format!("{path}:{line}: {module} may not use {target}{what}"));
            }
        }
    }
    found
}

fn cfg_os_in_its_places(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&["crates/", "testprogs/", "xtask/", "examples/"]) {
        if source.is_under(&CFG_OS_PLACES) {
            continue;
        }
        for code in [&source.shipped, &source.tests] {
            for keyword in ["cfg(", "cfg!(", "cfg_attr("] {
                for at in word_offsets(code, keyword) {
                    let condition = bracketed(code, at + keyword.len() - 1);
                    let condition = condition.split("#[").next().unwrap_or_default();
                    for word in ["target_os", "target_family", "target_env", "unix", "windows"] {
                        // Inside a port only the C library may make a difference.
                        if word == "target_env" && source.is_under(&["crates/rearguard/src/sys/"]) {
                            continue;
                        }
                        if word_offsets(condition, word).next().is_some() {
                            found.push(format!(
                                "{}:{}: {keyword}{word} belongs under sys/, in crashpath or in minidump",
                                source.path,
                                line_of(code, at)
                            ));
                        }
                    }
                }
            }
        }
    }
    found
}

fn unsafe_in_its_places(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&["crates/", "xtask/", "examples/"]) {
        if source.is_under(&UNSAFE_PLACES) {
            continue;
        }
        for code in [&source.shipped, &source.tests] {
            for at in word_offsets(code, "unsafe") {
                let line = line_of(code, at);
                found.push(format!("{}:{line}: unsafe belongs under sys/", source.path));
            }
        }
    }
    found
}

const SUPERVISOR: [&str; 2] =
    ["crates/rearguard/src/supervisor/", "crates/rearguard/src/supervisor.rs"];

fn supervisor_is_pure(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&SUPERVISOR) {
        for word in BANNED_IN_SUPERVISOR {
            for at in word_offsets(&source.shipped, word) {
                let line = line_of(&source.shipped, at);
                found.push(format!("{}:{line}: the supervisor does without {word}", source.path));
            }
        }
    }
    found
}

/// The pattern in front of an arrow, as far as it can be read backwards: up to something that is no part of a catch-all.
fn pattern_before(code: &str, arrow: usize) -> &str {
    let bytes = code.as_bytes();
    let mut start = arrow;
    while start > 0 {
        let byte = bytes[start - 1];
        let part = is_word_byte(byte) || byte.is_ascii_whitespace() || b"(),.|".contains(&byte);
        if !part {
            break;
        }
        start -= 1;
    }
    &code[start..arrow]
}

/// Whether a pattern takes everything: `_`, `(_, _)`, `name`, each also behind a comma of the arm before.
/// `before` is the byte in front of it.
fn is_catch_all(pattern: &str, before: Option<u8>) -> bool {
    let trimmed = pattern.trim();
    // What an arm before it has left stands in front of the last comma outside of brackets.
    let mut depth = 0_i32;
    let mut start = 0;
    for (at, byte) in trimmed.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    // Otherwise it was read from the middle of a longer pattern, or of a condition.
    let begins_an_arm = start > 0 || before.is_none_or(|byte| b"{}]".contains(&byte));
    if depth != 0 || !begins_an_arm {
        return false;
    }
    let own = trimmed[start..].trim();
    let words: Vec<&str> = own
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
        .collect();
    let is_call = own.find('(').is_some_and(|at| at > 0);
    let takes_all = |word: &&str| {
        *word == "_"
            || (!matches!(*word, "true" | "false" | "if")
                && word.starts_with(|first: char| first.is_ascii_lowercase()))
    };
    !own.is_empty() && !is_call && words.iter().all(takes_all)
}

fn supervisor_has_no_wildcard(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&SUPERVISOR) {
        let code = &source.shipped;
        let arrows = code.match_indices("=>").map(|(at, _)| at);
        let guards = word_offsets(code, "_").filter(|at| {
            let behind = code[at + 1..].trim_start();
            behind.starts_with("if ")
        });
        let wild = arrows.filter(|at| {
            let pattern = pattern_before(code, *at);
            let before = code[..at - pattern.len()].bytes().last();
            is_catch_all(pattern, before)
        });
        for at in wild.chain(guards) {
            found.push(format!(
                "{}:{}: an arm for everything hides the next event that is added; name them all",
                source.path,
                line_of(code, at)
            ));
        }
    }
    found
}

fn no_unwrap(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for call in [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("] {
            for (at, _) in source.shipped.match_indices(call) {
                let line = line_of(&source.shipped, at);
                found.push(format!("{}:{line}: {call} outside of tests", source.path));
            }
        }
    }
    found
}

fn library_stays_small(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&[LIBRARY]) {
        for (word, why) in BANNED_IN_LIBRARY {
            for at in word_offsets(&source.shipped, word) {
                if source.shipped.get(at..).is_some_and(|rest| rest.starts_with(ROLE_COMMAND)) {
                    continue;
                }
                let line = line_of(&source.shipped, at);
                found.push(format!("{}:{line}: {word}: {why}", source.path));
            }
        }
    }
    found
}

fn nothing_has_a_name(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&[LIBRARY, "crates/rearguard-crashpath/src/"]) {
        for word in BANNED_NAMES {
            for at in word_offsets(&source.shipped, word) {
                let line = line_of(&source.shipped, at);
                found.push(format!(
                    "{}:{line}: {word}: rearguard's processes meet at nothing that has a name",
                    source.path
                ));
            }
        }
    }
    found
}

const CRASHPATH: &str = "crates/rearguard-crashpath/src/";

fn crash_path_has_no_std(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&[CRASHPATH]) {
        let code = &source.shipped;
        if source.path.ends_with("src/lib.rs") && !code.contains("#![no_std]") {
            found.push(format!("{}:1: the crash path is no_std", source.path));
        }
        for word in ["std::", "alloc::", "extern crate"] {
            for at in word_offsets(code, word) {
                let line = line_of(code, at);
                found.push(format!("{}:{line}: {word} in the crash path", source.path));
            }
        }
        for (at, _) in code.match_indices("libc::") {
            let name = leading_word(&code[at + 6..]);
            let behind = code[at + 6 + name.len()..].trim_start();
            if name.starts_with(|first: char| first.is_ascii_lowercase()) && behind.starts_with('(')
            {
                let line = line_of(code, at);
                found.push(format!(
                    "{}:{line}: {name}() is the C library's, which may hold a lock",
                    source.path
                ));
            }
        }
    }
    found
}

fn every_test_runs(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for code in [&source.shipped, &source.tests] {
            let plain = code.match_indices("#[ignore").map(|(at, _)| at);
            let conditional = word_offsets(code, "cfg_attr(")
                .filter(|at| word_offsets(bracketed(code, at + 8), "ignore").next().is_some());
            for at in plain.chain(conditional) {
                let line = line_of(code, at);
                found.push(format!("{}:{line}: a test that is ignored holds nothing", source.path));
            }
        }
    }
    found
}

fn tests_wait_for_events(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for at in word_offsets(&source.tests, "sleep") {
            if source.tests[at + 5..].starts_with('(') {
                let line = line_of(&source.tests, at);
                found.push(format!(
                    "{}:{line}: a test waits for an event with a deadline; it doesn't sleep",
                    source.path
                ));
            }
        }
    }
    found
}

fn hazards_name_real_tests(tree: &Tree) -> Vec<String> {
    let Some(hazards) = tree.texts.get("HAZARDS.md") else { return Vec::new() };
    let mut found = Vec::new();
    let mut named = 0;
    for (index, line) in hazards.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((path, test)) = quoted.split_once(".rs::") else { continue };
            named += 1;
            let path = format!("{path}.rs");
            let test = test.rsplit("::").next().unwrap_or(test);
            let exists = tree.source(&path).is_some_and(|source| {
                word_offsets(&source.raw, &format!("fn {test}("))
                    .any(|at| source.raw[..at].trim_end().ends_with(']') && is_test(source, at))
            });
            if !exists {
                let line = index + 1;
                found.push(format!("HAZARDS.md:{line}: there is no test {test} in {path}"));
            }
        }
    }
    if named == 0 {
        found.push(
            "HAZARDS.md:1: it names no test in the form `path/to/file.rs::test_name`".to_owned(),
        );
    }
    found
}

/// Whether the function at `at` has the test attribute, in the few lines of attributes above it.
fn is_test(source: &Source, at: usize) -> bool {
    let above = source.raw[..at].lines().rev().skip_while(|line| line.trim().is_empty());
    above
        .take_while(|line| line.trim_start().starts_with('#'))
        .any(|line| line.trim_start().starts_with("#[test]"))
}

fn no_foreign_type_in_public(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.under(&[LIBRARY]) {
        let code = &source.shipped;
        for at in word_offsets(code, "pub") {
            let item = code[at + 3..].strip_prefix(' ').unwrap_or_default();
            // Fields of a structure are looked at one by one, since most of them are private.
            let stops: &[char] = match leading_word(item) {
                "struct" | "enum" | "union" => &['{', ';', '('],
                "fn" | "use" | "const" | "static" | "type" | "trait" | "mod" | "unsafe"
                | "async" | "extern" => &['{', ';', '='],
                _ => &[',', '}', ')'],
            };
            let end = item.find(stops).unwrap_or(item.len());
            if word_offsets(&item[..end], "libc").next().is_some() {
                let line = line_of(code, at);
                found.push(format!("{}:{line}: a type of libc in a public signature", source.path));
            }
        }
    }
    found
}

/// Runs one check over the workspace.
fn hold(check: Check) {
    let found = check(&Tree::of_workspace());
    assert!(found.is_empty(), "{} found:\n{}\n", found.len(), found.join("\n"));
}

/// Goal: `cli → rearguard → {crashpath, minidump}`; nothing points back.
#[test]
fn crates_point_downward() {
    hold(crate_direction);
}

/// Goal: `lib → {worker, guard} → {dump, store, upload} → sys`, `guard → supervisor → config`, and worker and guard never import each other.
#[test]
fn modules_point_downward() {
    hold(module_direction);
}

/// Goal: `cfg(target_os)` lives only where a port is made.
#[test]
fn cfg_os_stays_in_its_places() {
    hold(cfg_os_in_its_places);
}

/// Goal: `unsafe` lives only under `sys/`, in crashpath and in minidump.
#[test]
fn unsafe_stays_in_its_places() {
    hold(unsafe_in_its_places);
}

/// Goal: the supervisor has no clock and no IO.
#[test]
fn the_supervisor_is_pure() {
    hold(supervisor_is_pure);
}

/// Goal: the supervisor has no wildcard arm.
#[test]
fn the_supervisor_names_every_case() {
    hold(supervisor_has_no_wildcard);
}

/// Goal: nothing panics on an assumption outside of tests.
#[test]
fn nothing_unwraps() {
    hold(no_unwrap);
}

/// Goal: the size budget, and the application's streams.
#[test]
fn the_library_stays_small() {
    hold(library_stays_small);
}

/// Goal: no socket path, no named pipe, nothing that others could meet us at.
#[test]
fn there_is_no_name() {
    hold(nothing_has_a_name);
}

/// Goal: the crash path has no heap and calls nothing of the C library.
#[test]
fn the_crash_path_has_no_std() {
    hold(crash_path_has_no_std);
}

/// Goal: a test that exists is run.
#[test]
fn no_test_is_ignored() {
    hold(every_test_runs);
}

/// Goal: tests don't depend on how fast a machine is.
#[test]
fn no_test_sleeps() {
    hold(tests_wait_for_events);
}

/// Goal: every hazard is held by a test that exists.
#[test]
fn hazards_are_held() {
    hold(hazards_name_real_tests);
}

/// Goal: no type of a dependency is in a public signature.
#[test]
fn public_signatures_are_our_own() {
    hold(no_foreign_type_in_public);
}

/// Goal: each dependency has its reason beside it.
#[test]
fn dependencies_are_explained() {
    hold(dependencies_have_reasons);
}

/// A check, files that break its rule, and what it has to say about them.
type Breach = (Check, &'static [(&'static str, &'static str)], &'static [&'static str]);

const BREACHES: [Breach; 24] = [
    (
        crate_direction,
        &[(
            "crates/a/Cargo.toml",
            "name = \"rearguard-minidump\"\n[dependencies]\nrearguard.workspace = true\n",
        )],
        &["crates/a/Cargo.toml:3: rearguard-minidump may not use rearguard"],
    ),
    (
        crate_direction,
        &[(
            "crates/a/Cargo.toml",
            "name = \"rearguard\"\n[target.'cfg(unix)'.dependencies.rearguard-cli]\n",
        )],
        &["crates/a/Cargo.toml:2: rearguard may not use rearguard-cli"],
    ),
    (
        crate_direction,
        &[("crates/a/Cargo.toml", "name = \"newcomer\"\n")],
        &["crates/a/Cargo.toml:1: the crate newcomer has no row in CRATE_EDGES"],
    ),
    (
        dependencies_have_reasons,
        &[("Cargo.toml", "[workspace.dependencies]\n# Why.\nlibc = \"0.2\"\nserde = \"1\"\n")],
        &["Cargo.toml:4: serde has no comment above it that says why it is here"],
    ),
    (
        module_direction,
        &[(
            "crates/rearguard/src/guard/mod.rs",
            "use crate::{\n  config::{ExitClass},\n  worker,\n};\n",
        )],
        &["crates/rearguard/src/guard/mod.rs:1: guard may not use worker"],
    ),
    (
        module_direction,
        &[("crates/rearguard/src/worker.rs", "use super::guard::run;\n")],
        &["crates/rearguard/src/worker.rs:1: worker may not use guard"],
    ),
    (
        module_direction,
        &[
            ("crates/rearguard/src/lib.rs", "pub use sys::channel::{CrashInfo, Other};\n"),
            ("crates/rearguard/src/config.rs", "\nfn f() -> crate::CrashInfo {}\n"),
            (
                "crates/rearguard/src/sys/linux/file.rs",
                "use super::super::super::Handle;\nuse super::super::memfd;\n",
            ),
        ],
        &[
            "crates/rearguard/src/config.rs:2: config may not use sys (CrashInfo)",
            "crates/rearguard/src/sys/linux/file.rs:1: sys may not use lib (Handle)",
        ],
    ),
    (
        module_direction,
        &[("crates/rearguard/src/newcomer.rs", "")],
        &["crates/rearguard/src/newcomer.rs:1: the module newcomer has no row in MODULE_EDGES"],
    ),
    (
        cfg_os_in_its_places,
        &[("crates/rearguard/src/store.rs", "#[cfg(all(unix, test))]\nfn f() {}\n")],
        &[
            "crates/rearguard/src/store.rs:1: cfg(unix belongs under sys/, in crashpath or in minidump",
        ],
    ),
    (
        cfg_os_in_its_places,
        &[(
            "crates/rearguard-cli/src/main.rs",
            "fn f() {\n if cfg!(target_os = \"linux\") {}\n}\n",
        )],
        &[
            "crates/rearguard-cli/src/main.rs:2: cfg!(target_os belongs under sys/, in crashpath or in minidump",
        ],
    ),
    (
        unsafe_in_its_places,
        &[(
            "crates/rearguard/src/store.rs",
            "// unsafe\n/* unsafe /* */ unsafe */ const S: &str = \"unsafe \\\" unsafe\";\nconst R: &str = r#\"unsafe \" unsafe\"#;\nconst C: char = '\"';\nfn f<'a>() { unsafe {} }\n",
        )],
        &["crates/rearguard/src/store.rs:5: unsafe belongs under sys/"],
    ),
    (
        supervisor_is_pure,
        &[(
            "crates/rearguard/src/supervisor/mod.rs",
            "use std::time::Instant;\n#[cfg(test)]\nmod t { use std::fs; }\n",
        )],
        &["crates/rearguard/src/supervisor/mod.rs:1: the supervisor does without Instant"],
    ),
    (
        supervisor_has_no_wildcard,
        &[(
            "crates/rearguard/src/supervisor/mod.rs",
            "match s {\n A(_) if !self.stopping => 1,\n B { .. } => 2,\n (C, _) => 3,\n true => 4,\n D | E => 5,\n _ => 6,\n}\n",
        )],
        &[
            "crates/rearguard/src/supervisor/mod.rs:7: an arm for everything hides the next event that is added; name them all",
        ],
    ),
    (
        supervisor_has_no_wildcard,
        &[(
            "crates/rearguard/src/supervisor/mod.rs",
            "match s {\n A => {}\n (_, _) => {}\n}\nmatch t {\n A => 1,\n other => 2 }\nmatch u {\n _ if x => 1,\n}\n",
        )],
        &[
            "crates/rearguard/src/supervisor/mod.rs:3: an arm for everything hides the next event that is added; name them all",
            "crates/rearguard/src/supervisor/mod.rs:7: an arm for everything hides the next event that is added; name them all",
            "crates/rearguard/src/supervisor/mod.rs:9: an arm for everything hides the next event that is added; name them all",
        ],
    ),
    (
        no_unwrap,
        &[(
            "crates/rearguard/src/store.rs",
            "fn f() {\n x.unwrap();\n}\n#[cfg(test)]\nmod tests {\n fn g() { x.unwrap(); }\n}\nfn h() { x.expect(\"\") }\n",
        )],
        &[
            "crates/rearguard/src/store.rs:2: .unwrap() outside of tests",
            "crates/rearguard/src/store.rs:8: .expect( outside of tests",
        ],
    ),
    (
        library_stays_small,
        &[("crates/rearguard/src/store.rs", "//! println!\nuse std::process::{Command};\n")],
        &[
            "crates/rearguard/src/store.rs:2: Command: size budget: 38 to 46 KB, and it inherits what a guard must not",
        ],
    ),
    (
        nothing_has_a_name,
        &[("crates/rearguard/src/sys/linux/channel.rs", "use std::os::unix::net::UnixStream;\n")],
        &[
            "crates/rearguard/src/sys/linux/channel.rs:1: UnixStream: rearguard's processes meet at nothing that has a name",
        ],
    ),
    (
        crash_path_has_no_std,
        &[
            (
                "crates/rearguard-crashpath/src/lib.rs",
                "//! no_std\n#[cfg(test)]\nextern crate std;\n",
            ),
            (
                "crates/rearguard-crashpath/src/time.rs",
                "fn f() { let x = libc::timespec {};\n libc::malloc(1); }\n",
            ),
        ],
        &[
            "crates/rearguard-crashpath/src/lib.rs:1: the crash path is no_std",
            "crates/rearguard-crashpath/src/time.rs:2: malloc() is the C library's, which may hold a lock",
        ],
    ),
    (
        every_test_runs,
        &[(
            "testprogs/a/tests/b.rs",
            "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n#[cfg_attr(miri, ignore)]\nfn g() {}\n",
        )],
        &[
            "testprogs/a/tests/b.rs:2: a test that is ignored holds nothing",
            "testprogs/a/tests/b.rs:4: a test that is ignored holds nothing",
        ],
    ),
    (
        tests_wait_for_events,
        &[(
            "testprogs/a/src/b.rs",
            "fn f() { thread::sleep(d); }\n#[cfg(test)]\nmod tests {\n fn g() { thread::sleep(d); }\n}\n",
        )],
        &["testprogs/a/src/b.rs:4: a test waits for an event with a deadline; it doesn't sleep"],
    ),
    (
        hazards_name_real_tests,
        &[
            (
                "HAZARDS.md",
                "| a | `a/b.rs::f` |\n| b | `a/b.rs::tests::g`, `a/c.rs::f`, `a/b.rs::h` |\n",
            ),
            ("a/b.rs", "#[test]\nfn f() {}\n#[test]\nfn ff() {}\n#[inline]\nfn g() {}\n"),
        ],
        &[
            "HAZARDS.md:2: there is no test g in a/b.rs",
            "HAZARDS.md:2: there is no test f in a/c.rs",
            "HAZARDS.md:2: there is no test h in a/b.rs",
        ],
    ),
    (
        hazards_name_real_tests,
        &[("HAZARDS.md", "# Hazards\n")],
        &["HAZARDS.md:1: it names no test in the form `path/to/file.rs::test_name`"],
    ),
    (
        no_foreign_type_in_public,
        &[(
            "crates/rearguard/src/lib.rs",
            "pub(crate) fn f() -> libc::c_int { 1 }\npub fn g(\n  x: libc::c_int,\n) {}\n",
        )],
        &["crates/rearguard/src/lib.rs:2: a type of libc in a public signature"],
    ),
    (
        no_foreign_type_in_public,
        &[(
            "crates/rearguard/src/lib.rs",
            "pub struct S {\n  a: libc::c_int,\n  pub b: Vec<libc::c_int>,\n}\npub use libc::c_int;\n",
        )],
        &[
            "crates/rearguard/src/lib.rs:3: a type of libc in a public signature",
            "crates/rearguard/src/lib.rs:5: a type of libc in a public signature",
        ],
    ),
];

/// Goal: every check sees what it is there to see, and nothing else.
#[test]
fn checks_see_what_breaks_their_rule() {
    for (number, (check, files, expected)) in BREACHES.iter().enumerate() {
        let found = check(&Tree::of(files.iter().copied()));
        assert_eq!(found, *expected, "breach {number}: {files:?}");
    }
}
