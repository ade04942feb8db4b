//! The tool as its users call it: on reports of a real crash, on bad input, and on minidumps of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rearguard_cli::collector::{Collector, Script};
use serde_json::Value;

use crate::desk::{Desk, PATIENCE, refused};

/// The line of a source file that holds a text.
fn line_of(file: &str, text: &str) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = fs::read_to_string(path).unwrap();
    source.lines().position(|line| line.contains(text)).unwrap() as u64 + 1
}

/// Goal: a real crash is shown with its function, file, line and the source itself; as text, as JSON, by beginning and by file.
#[test]
fn a_crash_is_shown_to_the_line() {
    let (desk, id) = Desk::crashed();
    let line = line_of("src/demo/bug.rs", "lines.write_volatile(0)");
    let shown = desk.ask(&["show", "latest"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    for expected in [
        "ended: SIGSEGV at 0x18",
        "SIGSEGV / SEGV_MAPERR at 0x18: it read from or wrote to 0x18, 24 bytes from null",
        &format!("src/demo/bug.rs:{line}"),
        &format!("{line} |     unsafe {{ lines.write_volatile(0) }};"),
        "rearguard::demo::bug::save",
        "frames of the runtime, --everything shows them",
        "Timeline, in milliseconds",
        "started again, as process",
        "report: uploaded",
        "saving letter.txt",
        "document = letter.txt",
    ] {
        assert!(shown.out.contains(expected), "{expected} is missing in\n{}", shown.out);
    }
    let marked: Vec<&str> = shown.out.lines().filter(|line| line.starts_with('>')).collect();
    assert!(
        matches!(marked[..], [line] if line.ends_with("rearguard::demo::bug::mark_as_saved")),
        "{marked:?}"
    );
    assert!(!shown.out.contains('\x1b'), "colours go to a terminal only");
    let json: Value = serde_json::from_str(&desk.ask(&["show", &id[..6], "--json"]).out).unwrap();
    let frames = json["minidump"]["threads"][0]["frames"].as_array().unwrap();
    let own = frames.iter().find(|frame| frame["own"] == true).unwrap();
    assert_eq!((own["line"].as_u64(), own["inlined"].as_bool()), (Some(line), Some(false)));
    assert_eq!((&json["schema"], &json["id"]), (&Value::from(1), &Value::from(id.as_str())));

    let path = desk.ask(&["open", &id]).out;
    let of_file = desk.tool(&["show", path.trim_end(), "--everything"]);
    assert!(
        of_file.out.contains("mark_as_saved") && of_file.out.contains("lines from "),
        "{}",
        of_file.out
    );

    let list = desk.ask(&["list", "--frames", "always"]).out;
    assert!(list.contains(&id[..8]) && list.contains("mark_as_saved (bug.rs:"), "{list}");
}

/// Goal: a local file that was built anew since is never used, and the reader is told.
#[test]
fn another_build_is_not_used() {
    let desk = Desk::new();
    let collector = Collector::start(Script::default()).unwrap();
    // The program is a copy, in whose place another program of the same name comes.
    let copy = desk.path("rearguard");
    fs::copy(env!("CARGO_BIN_EXE_rearguard"), &copy).unwrap();
    let store = desk.store();
    Command::new(&copy)
        .args(["demo-worker", store.to_str().unwrap(), &collector.url()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    collector.wait_for(1, PATIENCE).unwrap();
    let good = desk.ask(&["show", "latest"]).out;
    assert!(good.contains("mark_as_saved"), "{good}");
    fs::remove_file(&copy).unwrap();
    fs::copy("/bin/sh", &copy).unwrap();
    let bad = desk.ask(&["show", "latest"]).out;
    assert!(!bad.contains("mark_as_saved") && bad.contains("is another build"), "{bad}");
    // The right build in a directory that is named is found by its identity.
    let symbols = desk.path("symbols");
    fs::create_dir(&symbols).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_rearguard"), symbols.join("rearguard")).unwrap();
    let found = desk.ask(&["show", "latest", "--symbols", symbols.to_str().unwrap()]).out;
    assert!(found.contains("mark_as_saved"), "{found}");
}

/// Goal: a report goes through one file to another machine, and nothing that isn't a report comes in.
#[test]
fn a_report_is_exported_and_imported() {
    let (desk, id) = Desk::crashed();
    let archive = desk.path("crash.tar.gz");
    let archive = archive.to_str().unwrap();
    let exported = desk.ask(&["export", &id, archive]);
    assert_eq!(exported.code, 0);
    assert!(exported.out.starts_with(&format!("{archive}: report {id}, ")), "{}", exported.out);
    refused(&desk.ask(&["export", &id, archive]), 1, "it is there already");
    let imported = desk.tool(&["import", archive]);
    assert_eq!((imported.code, imported.out.trim_end()), (0, id.as_str()), "{}", imported.err);
    let shown = desk.tool(&["show", "latest"]);
    assert!(shown.out.contains("mark_as_saved"), "{}{}", shown.out, shown.err);
    refused(&desk.tool(&["import", archive]), 1, "is there already");
    // Nor does it come a second time where it came from.
    refused(&desk.ask(&["import", archive]), 1, "is there already");
    assert_eq!(desk.ask(&["show", &id]).code, 0);
    // Its directory is a name for it as well.
    let directory = fs::read_dir(desk.store().join("completed")).unwrap().next().unwrap();
    let directory = directory.unwrap().path();
    let shown = desk.tool(&["show", directory.to_str().unwrap()]);
    assert!(shown.code == 0 && shown.out.contains(&id), "{}{}", shown.out, shown.err);
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"no archive"), ("cut", &fs::read(archive).unwrap()[..400])]
    {
        fs::write(desk.path(name), bytes).unwrap();
        refused(&desk.tool(&["import", name]), 4, name);
    }
    let left =
        fs::read_dir(desk.path("state/rearguard-imported/crashes/completed")).unwrap().count();
    assert_eq!(left, 1, "what was refused leaves nothing");
}

/// Goal: whatever is asked wrongly is one line and the documented status, never a panic.
#[test]
fn bad_input_is_one_line() {
    let desk = Desk::new();
    assert!(desk.tool(&["list"]).out.starts_with("There are no reports in "));
    refused(&desk.tool(&["show", "latest"]), 3, "there is no report yet");
    refused(&desk.tool(&["show", "abcd"]), 3, "no report has an id that begins so");
    refused(&desk.tool(&["show", "./nowhere.dmp"]), 4, "nowhere.dmp");
    refused(&desk.tool(&["import", "nowhere.tar.gz"]), 4, "nowhere.tar.gz");
    refused(&desk.tool(&["show", "."]), 4, "not a file");
    refused(&desk.tool(&["list", "--store", "nowhere"]), 4, "no store of reports");
    refused(&desk.tool(&["list", "--app", "nobody"]), 3, "nobody");
    assert_eq!(desk.tool(&["nonsense"]).code, 2);
    for (name, bytes) in [
        ("empty.dmp", &b""[..]),
        ("text.dmp", b"no minidump"),
        ("head.dmp", b"MDMP\x93\xa7\0\0\xff\xff\xff\xff\x20\0\0\0"),
        ("zeros.dmp", &[0; 4096]),
    ] {
        fs::write(desk.path(name), bytes).unwrap();
        refused(&desk.tool(&["show", &format!("./{name}")]), 4, name);
    }
}

/// Goal: a minidump that was cut or damaged anywhere costs one line at most, and never a panic or a hang.
#[test]
fn damaged_minidumps_are_survived() {
    let (desk, id) = Desk::crashed();
    let good = fs::read(desk.ask(&["open", &id]).out.trim_end()).unwrap();
    let damaged = desk.path("damaged.dmp");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..40 {
        let mut bytes = good.clone();
        if round % 2 == 0 {
            bytes.truncate(random(good.len()));
        }
        for _ in 0..random(30) {
            let at = random(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random(256) as u8;
            }
        }
        fs::write(&damaged, bytes).unwrap();
        let said = desk.tool(&["show", "./damaged.dmp"]);
        assert!(matches!(said.code, 0 | 4), "round {round}: {} {}", said.code, said.err);
        assert!(said.err.lines().count() <= 1, "round {round}: {}", said.err);
    }
}

/// Goal: what is left of a minidump that was cut is shown, and that it was cut is told.
#[test]
fn a_cut_minidump_is_told() {
    let (desk, id) = Desk::crashed();
    let mut bytes = fs::read(desk.ask(&["open", &id]).out.trim_end()).unwrap();
    bytes.truncate(bytes.len() - 100);
    fs::write(desk.path("cut.dmp"), bytes).unwrap();
    let said = desk.tool(&["show", "./cut.dmp"]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.out.contains("mark_as_saved"), "{}", said.out);
    assert!(
        said.err.contains("the minidump was cut: ") && said.err.lines().count() == 1,
        "{}",
        said.err
    );
}

/// Goal: a report whose parts can't be read is a line of the list, and doesn't hide the others.
#[test]
fn unreadable_reports_are_told() {
    let desk = Desk::new();
    let name = "20261128T202001.182629Z-d34f2513-0c3a-46d5-bb2a-9e29d70816da";
    let report = desk.store().join("pending").join(name);
    fs::create_dir_all(&report).unwrap();
    fs::write(report.join("d34f2513-0c3a-46d5-bb2a-9e29d70816da.json"), "{").unwrap();
    let list = desk.ask(&["list"]);
    assert_eq!(list.code, 0);
    assert!(list.out.contains("d34f2513") && list.out.contains("unreadable"), "{}", list.out);
    refused(&desk.ask(&["show", "d34f"]), 4, "d34f2513-0c3a-46d5-bb2a-9e29d70816da.json");
}

/// Goal: a beginning that several ids share is told with their number.
#[test]
fn an_ambiguous_beginning_is_told() {
    let desk = Desk::new();
    for id in ["d34f2513-0c3a-46d5-bb2a-9e29d70816da", "d34f0000-0c3a-46d5-bb2a-9e29d70816da"] {
        let report = desk.store().join("pending").join(format!("20261128T202001.182629Z-{id}"));
        fs::create_dir_all(&report).unwrap();
        fs::write(report.join(format!("{id}.json")), "{}").unwrap();
    }
    refused(&desk.ask(&["show", "d34f"]), 3, "the beginning of 2 ids");
    assert_eq!(desk.ask(&["show", "d34f2"]).code, 0);
}

/// Goal: a reader that leaves early is no failure, as with every other tool in a pipe.
#[test]
fn a_closed_pipe_is_no_failure() {
    let desk = Desk::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = desk.command(&["list"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// Goal: each thing that can stand in the way is told with what to do, and what is the user's own is put right where that is asked for.
#[test]
fn the_doctor_looks_and_mends() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let pending = desk.store().join("pending");
    fs::create_dir_all(&pending).unwrap();
    fs::set_permissions(desk.store(), fs::Permissions::from_mode(0o755)).unwrap();
    let mode = || fs::metadata(desk.store()).unwrap().permissions().mode() & 0o777;
    let before = desk.ask(&["doctor"]);
    for expected in [
        "tracing: ",
        "system call filter: ",
        "core dumps: ",
        "sending: ",
        "guards: ",
        "free space: ",
        "is open to others",
        "rearguard doctor --fix",
    ] {
        assert!(before.out.contains(expected), "{expected} is missing in\n{}", before.out);
    }
    assert_eq!(mode(), 0o755, "nothing is changed unasked");
    let after = desk.ask(&["doctor", "--fix"]);
    assert!(after.out.contains("is yours alone now"), "{}", after.out);
    assert_eq!(mode(), 0o700);
    assert!(desk.ask(&["doctor"]).out.contains("is yours alone"));
    // The state of one machine is another's failure, but it is one line then.
    assert!(matches!(after.code, 0 | 1) && after.err.lines().count() <= 1, "{}", after.err);
    fs::create_dir_all(desk.store().join("aside/rubbish")).unwrap();
    assert!(desk.ask(&["doctor"]).out.contains("put aside: 1 in "));
}

/// Goal: completions and man pages know every command.
#[test]
fn completions_and_man_pages_are_made() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.tool(&["completions", shell]);
        assert!(
            script.code == 0 && script.out.contains("doctor") && script.out.contains("export"),
            "{shell}"
        );
    }
    assert_eq!(desk.tool(&["man", "pages"]).code, 0);
    for page in ["rearguard.1", "rearguard-show.1", "rearguard-doctor.1"] {
        let text = fs::read_to_string(desk.path("pages").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}

/// Goal: functions, files and lines are those that binutils finds by itself, through inlining, for every frame of the program's.
#[test]
fn lines_are_those_of_addr2line() {
    let (desk, id) = Desk::crashed();
    let frames = readers::shown(&desk.ask(&["show", &id, "--json"]).out, "rearguard").unwrap();
    assert!(frames.iter().filter(|frame| frame.line > 0).count() >= 6, "{frames:#?}");
    let program = Path::new(env!("CARGO_BIN_EXE_rearguard"));
    assert_eq!(readers::unlike_binutils("addr2line", program, 0, &frames).unwrap(), [""; 0]);
}

/// A release build of the program that dies within inlined functions: where the runner has put it, or built now.
fn inlines() -> PathBuf {
    if let Some(directory) = std::env::var_os("REARGUARD_BIN_DIR") {
        return Path::new(&directory).join("inlines");
    }
    let target = Path::new(env!("CARGO_BIN_EXE_rearguard")).ancestors().nth(2).unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--release", "-p", "inlines", "--target-dir"]).arg(target);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    assert!(build.status().unwrap().success(), "building inlines");
    target.join("release/inlines")
}

/// Goal: of a stack that has overflowed both ends are shown: the recursion, told once with its number, and who began it, up to `main`.
#[test]
fn an_overflow_is_shown_with_both_ends() {
    let program = inlines();
    let desk = Desk::new();
    let died = Command::new(&program).arg(desk.store()).arg("deep").output().unwrap();
    assert_eq!(died.status.code(), None, "{died:?}");
    let shown: Value = serde_json::from_str(&desk.ask(&["show", "latest", "--json"]).out).unwrap();
    let thread = &shown["minidump"]["threads"][0];
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let line = |file: &str, mark: &str| {
        let source = fs::read_to_string(workspace.join("testprogs/inlines/src").join(file));
        source.unwrap().lines().position(|line| line.contains(mark)).unwrap() as u64 + 1
    };
    let frames = |member: &str| -> Vec<(String, u64)> {
        let own = thread[member].as_array().unwrap().iter().filter(|frame| frame["own"] == true);
        own.map(|frame| {
            (frame["function"].as_str().unwrap().to_owned(), frame["line"].as_u64().unwrap())
        })
        .collect()
    };
    let dig = ("inlines::fault::dig".to_owned(), line("fault.rs", "// every dig"));
    let near = frames("frames");
    assert!(near.len() > 50 && near[1..].iter().all(|frame| *frame == dig), "{near:?}");
    assert!(thread["gap_bytes"].as_u64().unwrap() > 1 << 20, "{thread:#}");
    let far = frames("far_frames");
    let [before @ .., deep, main] = &far[..] else { panic!("{far:?}") };
    assert!(before.len() > 3 && before.iter().all(|frame| *frame == dig), "{far:?}");
    assert_eq!(*deep, ("inlines::fault::deep".to_owned(), line("fault.rs", "// deep 0: ")));
    assert_eq!(*main, ("inlines::main".to_owned(), line("main.rs", "// deep 1: ")));
    let text = desk.ask(&["show", "latest"]).out;
    assert!(text.contains("MiB of the stack aren't in the minidump"), "{text}");
    assert_eq!(text.matches(" times more the same …").count(), 2, "{text}");
}

/// Goal: a release build with line tables alone is shown by function, file and line of the real fault and of each inlined caller, in Rust and in C++; as its sources are marked, and as binutils finds.
#[test]
fn a_release_build_is_shown_through_inlining() {
    use std::os::unix::process::ExitStatusExt;
    let program = inlines();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let sources = workspace.join("testprogs/inlines/src");
    // Without a compiler for C++ the program has one way only, which is then told by whoever runs the tests.
    let has_compiler = Command::new("c++").arg("--version").output().is_ok();
    let ways = [("rust", "write<i16>"), ("cpp", "press::Page::print(long)")];
    for (way, function) in ways.into_iter().take(if has_compiler { 2 } else { 1 }) {
        let desk = Desk::new();
        // A front ends when its report is written.
        let died = Command::new(&program).arg(desk.store()).arg(way).output().unwrap();
        assert_eq!(died.status.signal(), Some(11), "{way}: {died:?}");
        let json = desk.ask(&["show", "latest", "--json"]);
        let frames = readers::shown(&json.out, "inlines").unwrap();
        assert_eq!(readers::unlike_marks(&sources, way, &frames).unwrap(), [""; 0]);
        assert_eq!(readers::unlike_binutils("addr2line", &program, 0, &frames).unwrap(), [""; 0]);
        // The same in text: the place of the fault is marked, with its line of the source.
        let text = desk.ask(&["show", "latest"]).out;
        let place = text.lines().skip_while(|line| !line.starts_with('>')).take(3);
        let place: Vec<&str> = place.collect();
        let fault = frames.iter().find(|frame| frame.function == function).unwrap();
        let at = format!("       at {}:{}", fault.file, fault.line);
        assert!(place[0].ends_with(&format!(" {function} [inlined]")), "{way}: {text}");
        assert_eq!(place[1], at, "{way}: {text}");
        assert!(place[2].contains(&format!("// {way} 0: ")), "{way}: {text}");
    }
}
