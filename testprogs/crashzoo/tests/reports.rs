//! What becomes of reports in the store: schedule and limits, consent, identity, repeats, attachments, and what the store doesn't know.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::{PATIENCE, Report, Scene};
use rearguard_cli::collector::{Answer, Collector, Script};
use serde_json::Value;

/// A crash whose next life ends well.
const CRASH: [&str; 2] = ["--wait-ready", "null-write"];
/// A life that ends well, and whose guard has looked into the store.
const QUIET: [&str; 2] = ["--wait-ready", "none"];

/// Runs the zoo for a collector until everybody is gone.
fn run(scene: &Scene, collector: &Collector, arguments: &[&str]) {
    run_with(scene, collector, arguments, &[]);
}

fn run_with(
    scene: &Scene,
    collector: &Collector,
    arguments: &[&str],
    environment: &[(&str, &str)],
) {
    let mut command = scene.zoo(&["--collector", &collector.url()]);
    command.args(arguments).envs(environment.iter().copied());
    scene.run_command(&mut command);
}

fn state(report: &Report) -> &str {
    report.json["delivery"]["state"].as_str().expect("a state")
}

fn reason(report: &Report) -> &str {
    report.json["delivery"]["reason"].as_str().expect("a reason")
}

/// Replaces a number of a report's delivery, as time would.
fn age(report: &Report, member: &str, value: u64) {
    let path = report.directory.join(format!("{}.json", report.json["id"].as_str().expect("id")));
    let text = fs::read_to_string(&path).expect("metadata");
    let old = format!("\"{member}\": {}", report.json["delivery"][member]);
    assert!(text.contains(&old), "{text}");
    fs::write(&path, text.replace(&old, &format!("\"{member}\": {value}"))).expect("written");
}

// Goal: a report that a server didn't take is sent by the next start of the program, but not before it is due.
#[test]
fn the_next_start_sends_what_is_due() {
    let collector = Collector::start(Script::first([Answer::status(500)])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    let report = scene.report();
    assert_eq!(reason(&report), "the server answered 500");
    run(&scene, &collector, &QUIET);
    assert_eq!(collector.submissions().len(), 1, "it isn't due: {:#}", scene.report().json);
    age(&report, "next_try_s", 1);
    run(&scene, &collector, &QUIET);
    let report = scene.report();
    assert_eq!(state(&report), "uploaded", "{:#}", report.json);
    assert_eq!(report.json["delivery"]["tries"], 2);
    assert_eq!(report.json["delivery"]["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(collector.submissions()[1].report_id(), report.json["id"].as_str());
}

// Goal: a wait that no server can have asked for, as after the clock was set back a day and more, is none.
#[test]
fn a_clock_that_was_set_back_delays_nothing() {
    let collector = Collector::start(Script::first([Answer::status(503)])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    let now_s = std::time::UNIX_EPOCH.elapsed().expect("it is later").as_secs();
    age(&scene.report(), "next_try_s", now_s + 2 * 86_400);
    run(&scene, &collector, &QUIET);
    assert_eq!(state(&scene.report()), "uploaded");
}

// Goal: a program that begins while a report waits for a slow server doesn't wait for it, nor does its end.
#[test]
fn the_start_waits_for_no_delivery() {
    let slow = Answer::accept().after(Duration::from_secs(2));
    let collector = Collector::start(Script::first([slow])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &["--consent", "denied", "--wait-ready", "null-write"]);
    let mut command = scene.zoo(&["--collector", &collector.url(), "--wait-ready", "--after"]);
    command.args(["500", "none"]);
    scene.finish(command.spawn().expect("the zoo starts"));
    assert_eq!(reason(&scene.report()), "it is being sent", "{:#}", scene.report().json);
    scene.settle();
    assert_eq!(state(&scene.report()), "uploaded", "{:#}", scene.report().json);
}

// Goal: a report that a server didn't take holds up no other, and loses nothing.
#[test]
fn one_failure_blocks_nobody() {
    let collector = Collector::start(Script::first([Answer::status(500)])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    run(&scene, &collector, &["--wait-ready", "abort"]);
    let reports = scene.reports();
    let states: Vec<_> = reports.iter().map(state).collect();
    assert_eq!(states, ["pending", "uploaded"]);
    assert!(reports.iter().all(|report| report.dump.is_some()), "{reports:#?}");
}

// Goal: the proxy of the usual variable is taken, and what it must not be taken for isn't.
#[test]
fn a_proxy_of_the_environment_is_taken() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let proxy = format!("http://{}", collector.address());
    let mut command = scene.zoo(&["--collector", "http://elsewhere.invalid/submit"]);
    command.args(CRASH).env("http_proxy", &proxy).env_remove("no_proxy").env_remove("NO_PROXY");
    scene.run_command(&mut command);
    let submissions = collector.submissions();
    assert_eq!(submissions.len(), 1);
    assert_eq!(submissions[0].target, "http://elsewhere.invalid/submit");
    run_with(
        &scene,
        &collector,
        &CRASH,
        &[("http_proxy", "http://127.0.0.1:9"), ("no_proxy", "*")],
    );
    assert_eq!(collector.submissions().len(), 2);
}

// Goal: what a server asks for holds for the whole store: nobody else bothers it meanwhile.
#[test]
fn a_server_is_left_alone_by_all() {
    let busy = Answer::status(503).header("Retry-After", "600");
    let collector = Collector::start(Script::first([busy])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    run(&scene, &collector, &["--wait-ready", "abort"]);
    assert_eq!(collector.submissions().len(), 1);
    let reports = scene.reports();
    assert_eq!(reason(&reports[1]), "the server wants to be left alone", "{:#}", reports[1].json);
    assert_eq!(reports[1].json["delivery"]["tries"], 0);
}

// Goal: a limit on uploads delays what is more, and drops nothing.
#[test]
fn a_limit_delays_and_drops_nothing() {
    for uploads in ["2:100", "100:2"] {
        let collector = Collector::start(Script::default()).expect("a collector");
        let scene = Scene::new();
        for _ in 0..4 {
            run(&scene, &collector, &["--uploads", uploads, "--wait-ready", "null-write"]);
        }
        let states: Vec<_> =
            scene.reports().iter().map(|report| state(report).to_owned()).collect();
        assert_eq!(states, ["uploaded", "uploaded", "pending", "pending"], "{uploads}");
        assert_eq!(reason(&scene.reports()[2]), "enough was sent for now");
        // The next hour's and day's guards have other numbers.
        fs::remove_file(scene.store().join("schedule")).expect("it is there");
        run(&scene, &collector, &["--uploads", uploads, "--wait-ready", "none"]);
        assert!(scene.reports().iter().all(|report| state(report) == "uploaded"), "{uploads}");
        assert_eq!(collector.submissions().len(), 4, "{uploads}");
    }
}

// Goal: six tries, or seven days, are the end; the user still has the report, and is told why.
#[test]
fn tries_end_and_the_report_stays() {
    let collector = Collector::start(Script::always(Answer::status(500))).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    for tries in 2..=6 {
        age(&scene.report(), "next_try_s", 1);
        run(&scene, &collector, &QUIET);
        assert_eq!(scene.report().json["delivery"]["tries"], tries, "{:#}", scene.report().json);
        assert_eq!(collector.submissions().len(), tries);
    }
    age(&scene.report(), "next_try_s", 1);
    run(&scene, &collector, &QUIET);
    let report = scene.report();
    assert_eq!((report.stage.as_str(), state(&report)), ("completed", "skipped"));
    assert_eq!(reason(&report), "it was tried often enough");
    assert_eq!(report.json["delivery"]["attempts"].as_array().map(Vec::len), Some(6));
    assert!(report.dump.is_some());
    assert_eq!(collector.submissions().len(), 6);
    // A report of last month.
    let scene = Scene::new();
    run(&scene, &collector, &["--consent", "denied", "--wait-ready", "null-write"]);
    let report = scene.report();
    let name = report.directory.file_name().expect("a name").to_str().expect("it is text");
    let old = report.directory.with_file_name(format!("20200101{}", &name[8..]));
    fs::rename(&report.directory, old).expect("renamed");
    run(&scene, &collector, &QUIET);
    assert_eq!(reason(&scene.report()), "it is too old to be sent");
    assert_eq!(collector.submissions().len(), 6);
}

// Goal: nothing leaves before the user was asked; a yes sends what waits at once, by the guard of the very life in which it was given, and is remembered; so is a no.
#[test]
fn consent_is_asked_for_and_remembered() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let ask = |rest: &[&str]| {
        run(&scene, &collector, &[&["--consent", "ask", "--wait-ready"], rest].concat());
    };
    ask(&["null-write"]);
    ask(&["none"]);
    assert_eq!(reason(&scene.report()), "the user has not said yes");
    assert_eq!(collector.submissions().len(), 0);
    assert!(!scene.store().join("installation").exists(), "no identity before the first delivery");
    ask(&["--answer", "yes", "--after", "200", "none"]);
    assert_eq!(state(&scene.report()), "uploaded");
    ask(&["null-write"]);
    assert_eq!(collector.submissions().len(), 2, "the answer is remembered");
    ask(&["--answer", "no", "none"]);
    ask(&["null-write"]);
    run(&scene, &collector, &CRASH);
    assert_eq!(collector.submissions().len(), 2, "and so is a no, whatever the program says");
    ask(&["--answer", "yes", "none"]);
    ask(&["none"]);
    assert_eq!(collector.submissions().len(), 4, "nothing was lost meanwhile");
}

// Goal: a variable of the user's turns sending off for what happens in one run.
#[test]
fn a_variable_forbids_to_send() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    run_with(&scene, &collector, &CRASH, &[("CRASHZOO_NO_CRASH_UPLOAD", "1")]);
    let report = scene.report();
    assert_eq!((state(&report), report.stage.as_str()), ("skipped", "completed"));
    assert_eq!(reason(&report), "the user's variable forbids it");
    run(&scene, &collector, &QUIET);
    assert_eq!(collector.submissions().len(), 0, "nor later: what that run did is not sent");
}

/// Sets an option of a socket, which those that it accepts inherit.
#[expect(unsafe_code, reason = "the standard library sets no such options")]
fn set(socket: &std::net::TcpListener, level: i32, option: i32, value: i32) {
    let pointer = (&raw const value).cast();
    let length = size_of::<i32>() as libc::socklen_t;
    let socket = std::os::fd::AsRawFd::as_raw_fd(socket);
    // SAFETY: pointer and length are those of a living number.
    let done = unsafe { libc::setsockopt(socket, level, option, pointer, length) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

// Goal: a no in the middle of a transfer stops it.
#[test]
fn a_no_stops_what_is_being_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    // The systems between the two hold little, so the sender waits for the reader (tcp(7), socket(7)).
    set(&listener, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 536);
    set(&listener, libc::SOL_SOCKET, libc::SO_RCVBUF, 4096);
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let scene = Scene::new();
    // Large and hard to compress, so that it doesn't fit into what the system takes at once.
    let log = scene.path("noise");
    let mut noise = 1_u64;
    let bytes: Vec<u8> = (0..250_000)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .collect();
    let mut arguments = vec!["--wait-ready", "--collector", &url];
    let files: Vec<String> = (0..4).map(|number| format!("{}{number}", log.display())).collect();
    for file in &files {
        fs::write(file, &bytes).expect("a file");
        arguments.extend(["--attach", file]);
    }
    arguments.push("null-write");
    let mut command = scene.zoo(&arguments);
    command.env("ZOO_HOOKS", "attach");
    let child = command.spawn().expect("the zoo starts");
    let (mut connection, _) = listener.accept().expect("a connection");
    connection.set_read_timeout(Some(PATIENCE)).expect("it can be");
    let mut first = [0; 1024];
    let count = std::io::Read::read(&mut connection, &mut first).expect("a request");
    assert!(count > 0);
    fs::write(scene.store().join("consent-withdrawn"), b"").expect("a word");
    let mut rest = Vec::new();
    // It ends by the sender's end, in the middle of the body.
    let ended = std::io::Read::read_to_end(&mut connection, &mut rest);
    scene.finish(child);
    scene.settle();
    let head = String::from_utf8_lossy(&first);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.expect("a length").trim().parse().expect("a number");
    assert!(
        length > 900_000 && count + rest.len() < length,
        "{ended:?}: {} of {length}",
        rest.len()
    );
    let report = scene.report();
    assert_eq!(reason(&report), "the consent was withdrawn", "{:#}", report.json);
    assert_eq!(report.stage, "pending");
}

// Goal: an installation has an id of its own if the application wants one, another when the user asks for it, and none otherwise.
#[test]
fn an_installation_is_known_as_it_likes() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let guid = |at: usize| {
        let fields = collector.submissions()[at].fields();
        fields.into_iter().find(|(name, _)| name == "guid").map(|(_, value)| value)
    };
    run(&scene, &collector, &CRASH);
    run(&scene, &collector, &CRASH);
    assert_eq!(guid(0), guid(1));
    assert!(guid(0).is_some_and(|id| id.len() == 36));
    run(&scene, &collector, &["--new-installation-id", "--wait-ready", "null-write"]);
    assert_ne!(guid(2), guid(1));
    run(&scene, &collector, &["--no-installation-id", "--wait-ready", "null-write"]);
    assert_eq!(guid(3), None);
    // One that a guard was killed over is made anew.
    fs::write(scene.store().join("installation"), b"").expect("written");
    run(&scene, &collector, &CRASH);
    assert!(guid(4).is_some_and(|id| id.len() == 36));
}

// Goal: the same crash many times costs one report, one upload, and a count; another place, or another window, has its own.
#[test]
fn a_loop_costs_one_report() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let lives = 101;
    let mut command = scene.zoo(&["--collector", &collector.url(), "--same-crash-s", "86400"]);
    command.args(["--lives", "100", "--wait-ready", "null-write"]).env("ZOO_HOOKS", "same-crash");
    scene.live_through(command, lives);
    let report = scene.report();
    assert_eq!(collector.submissions().len(), 1);
    let id = report.json["id"].as_str().expect("an id").to_owned();
    let count = |report: &Report| {
        let name = format!("{}.repeats", report.json["id"].as_str().expect("an id"));
        fs::metadata(report.directory.join(name)).map_or(0, |file| file.len())
    };
    assert_eq!(count(&report), 99);
    let told: BTreeSet<_> =
        scene.events("main").into_iter().filter_map(|life| life.last_report).collect();
    assert_eq!(told, BTreeSet::from([id]), "each next life is told the report that there is");
    let again = |window: &str, way: &str| {
        let mut command = scene.zoo(&["--same-crash-s", window, "--wait-ready", way]);
        command.env("ZOO_HOOKS", "same-crash");
        scene.run_command(&mut command);
        scene.reports().len()
    };
    assert_eq!(again("86400", "null-call"), 2, "another place");
    assert_eq!(again("86400", "panic"), 3, "a panic");
    assert_eq!(again("86400", "panic"), 3, "the same panic");
    assert_eq!(again("86400", "null-write"), 3);
    assert_eq!(count(&scene.reports()[0]), 100);
    // With other things done before it, and on another thread.
    let mut command = scene.zoo(&["--same-crash-s", "86400", "--thread", "std", "--heap", "8"]);
    command.args(["--log", "a line", "--wait-ready", "null-write"]).env("ZOO_HOOKS", "same-crash");
    scene.run_command(&mut command);
    assert_eq!((scene.reports().len(), count(&scene.reports()[0])), (3, 101));
    let leaders = |year: &str| {
        let leaders = scene.store().join("repeats");
        for entry in fs::read_dir(&leaders).expect("leaders").flatten() {
            let name = fs::read_to_string(entry.path()).expect("a name");
            fs::write(entry.path(), [year, &name[4..]].concat()).expect("written");
        }
    };
    // What the clock says is the future was before it was set back.
    leaders("2999");
    assert_eq!(again("86400", "null-write"), 4, "a leader of the future leads no more");
    leaders("2001");
    assert_eq!(again("86400", "null-write"), 5, "and none beyond the window");
}

/// The file of a submission with this name, as text.
fn sent_file(collector: &Collector, name: &str) -> Option<String> {
    let submissions = collector.submissions();
    let file = submissions.last()?.file(name)?;
    Some(String::from_utf8_lossy(&file.bytes).into_owned())
}

// Goal: the application's logs go with the report, as they were at the crash: the end of what is long, and what was rotated; what isn't there or isn't a file costs nothing.
#[test]
fn logs_go_with_the_report() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let logs = scene.path("logs");
    fs::create_dir(&logs).expect("a directory");
    fs::write(logs.join("app.log"), "now").expect("a file");
    fs::write(logs.join("app.log.1"), "before").expect("a file");
    fs::write(logs.join("long"), ["x".repeat(300_000).as_str(), "the end"].concat()).expect("it");
    let odd = "odd \"name\"; filename=x\r\n.log";
    fs::write(logs.join(odd), "odd").expect("a file");
    let pipe = std::ffi::CString::new(logs.join("pipe").to_str().expect("text")).expect("no NUL");
    make_pipe(&pipe);
    let mut arguments = vec!["--wait-ready".to_owned()];
    for name in ["app.log", "long", odd, "pipe", "missing", "."] {
        arguments.extend(["--attach".to_owned(), logs.join(name).display().to_string()]);
    }
    arguments.push("null-write".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run_with(&scene, &collector, &arguments, &[("ZOO_HOOKS", "attach")]);
    assert_eq!(collector.submissions()[0].violations, []);
    assert_eq!(sent_file(&collector, "app.log").as_deref(), Some("now"));
    assert_eq!(sent_file(&collector, "app.log.1").as_deref(), Some("before"));
    let long = sent_file(&collector, "long").expect("the end of it");
    assert!(long.len() == 256 << 10 && long.ends_with("the end"), "{}", long.len());
    assert_eq!(sent_file(&collector, "odd _name_; filename=x__.log").as_deref(), Some("odd"));
    assert!(sent_file(&collector, "pipe").is_none());
    let report = scene.report();
    assert_eq!(fs::read_to_string(report.directory.join("app.log")).expect("kept"), "now");
}

#[expect(unsafe_code, reason = "the standard library makes no named pipe")]
fn make_pipe(path: &std::ffi::CStr) {
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a pipe");
}

// Goal: what an application chooses is in its minidumps, and nothing of it otherwise.
#[test]
fn an_application_chooses_what_goes_into_its_minidumps() {
    /// MINIDUMP_HANDLE_DATA_STREAM.
    const HANDLE_DATA: u32 = 12;
    /// MD_LINUX_DSO_DEBUG: the linker's list.
    const DSO_DEBUG: u32 = 0x4767_000a;
    /// What scrubbing puts in place of a word.
    const DEFACED: [u8; 8] = 0x0def_aced_0def_aced_u64.to_le_bytes();
    let crash = |hooks: &str| {
        let scene = Scene::new();
        let mut command = scene.zoo(&["--restart", "never", "null-write"]);
        scene.run_command(command.env("ZOO_HOOKS", hooks));
        let dump = scene.report().minidump();
        let regions = dump.get_memory().expect("memory").iter().count();
        let is_scrubbed = dump
            .get_memory()
            .expect("memory")
            .iter()
            .any(|region| region.bytes().chunks(8).any(|word| word == DEFACED));
        assert!(dump.get_raw_stream(DSO_DEBUG).is_ok(), "the linker's list is in every dump");
        (dump.get_raw_stream(HANDLE_DATA).is_ok(), regions, is_scrubbed)
    };
    let (has_files, few, is_scrubbed) = crash("");
    assert!(!has_files && !is_scrubbed);
    let (has_files, regions, is_scrubbed) = crash("open-files");
    assert!(has_files && !is_scrubbed);
    // The keeper's stack is one region, and there only if that thread waits when it is looked at.
    assert!(regions.abs_diff(few) <= 1, "{regions}, {few}");
    let (has_files, more, is_scrubbed) = crash("indirect-memory,scrub-stacks");
    assert!(!has_files && more > few + 8 && is_scrubbed, "{more}, {few}, {is_scrubbed}");
}

// Goal: with `redact_user` the user's name is in no path of a report: not in the metadata, not in the minidump's modules, maps and stacks, not in a log.
#[test]
fn the_users_name_is_redacted() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let home = scene.path("home/annabell");
    fs::create_dir_all(&home).expect("a home");
    let program = home.join("crashzoo");
    fs::copy(common::program("crashzoo"), &program).expect("a copy");
    let log = home.join("app.log");
    fs::write(&log, format!("opened {}/x", home.display())).expect("a log");
    let crash = |hooks: &str| {
        let mut command = scene.silent(&program);
        command.arg("--store").arg(scene.store()).arg("--trace").arg(scene.trace_path());
        command.args(["--collector", &collector.url(), "--wait-ready", "--attach"]).arg(&log);
        command.args(["--annotate", &format!("path={}/y", home.display()), "null-write"]);
        command.env("HOME", &home).env("ZOO_HOOKS", hooks);
        scene.run_command(&mut command);
        let submissions = collector.submissions();
        submissions.last().expect("a report").clone()
    };
    let wide: Vec<u8> = "annabell".bytes().flat_map(|byte| [byte, 0]).collect();
    let holds = |bytes: &[u8], name: &[u8]| bytes.windows(name.len()).any(|part| part == name);
    let open = crash("attach");
    let dump = &open.minidump().expect("a dump").bytes;
    assert!(holds(dump, b"annabell") && holds(dump, &wide), "there is something to redact");
    let redacted = crash("attach,redact");
    assert_eq!(redacted.violations, []);
    for file in ["rearguard_metadata", "upload_file_minidump", "app.log"] {
        let bytes = &redacted.file(file).expect("it is there").bytes;
        assert!(!holds(bytes, b"annabell") && !holds(bytes, &wide), "{file}");
    }
    assert!(
        String::from_utf8_lossy(&redacted.file("app.log").expect("a log").bytes)
            .contains("home/________/x")
    );
    let fields = redacted.fields();
    assert!(fields.iter().all(|(_, value)| !value.contains("annabell")), "{fields:?}");
    // It is still a minidump.
    let report = scene.reports().pop().expect("a report");
    assert_eq!(report.exception().0, libc::SIGSEGV);
}

// Goal: the application's own word on texts is heard before anything is stored.
#[test]
fn texts_are_scrubbed() {
    let scene = Scene::new();
    let scrubbed = |way: &str| {
        let mut command = scene.zoo(&["--wait-ready", "--annotate", "secret=token"]);
        command.args(["--annotate", "open=value", "--log", "a SECRET b", way]);
        command.env("ZOO_HOOKS", "scrub");
        scene.run_command(&mut command);
        scene.reports().pop().expect("a report")
    };
    let report = scrubbed("null-write");
    let text = report.json.to_string();
    assert!(!text.contains("token") && !text.contains("SECRET"), "{text}");
    assert_eq!(report.json["annotations"]["open"], "value");
    assert_eq!(report.json["log"], "a ... b\n");
    let report = scrubbed("panic");
    assert!(!report.json.to_string().contains("SECRET"));
}

// Goal: an application's code that panics in a guard costs a text or a try, and nothing else.
#[test]
fn panics_of_hooks_cost_little() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    run_with(&scene, &collector, &CRASH, &[("ZOO_HOOKS", "scrub-panics")]);
    let report = scene.report();
    assert_eq!(state(&report), "uploaded", "{:#}", report.json);
    assert_eq!(report.json["log"], "(the scrubbing panicked)");
    assert_eq!(scene.events("main").len(), 2, "it was restarted, and only once");
    let scene = Scene::new();
    run_with(&scene, &collector, &CRASH, &[("ZOO_HOOKS", "transport-panics")]);
    assert_eq!(reason(&scene.report()), "the application's transport panicked");
    assert_eq!(scene.events("main").len(), 2);
}

// Goal: what an application annotates is no word of ours: a report that is done stays done, whatever it is called.
#[test]
fn annotations_are_no_states() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let spot = ["--fail-spot", "delivery-noted:kill@0", "--annotate", "state=pending"];
    run(&scene, &collector, &[&spot[..], &CRASH].concat());
    run(&scene, &collector, &QUIET);
    assert_eq!(collector.submissions().len(), 1);
    assert_eq!(scene.report().stage, "completed");
}

// Goal: what a killed guard has left in `new/` becomes durable by the next start, whether or not anything may be sent, so that the store's limits hold it.
#[test]
fn a_killed_guards_report_is_looked_after() {
    let scene = Scene::new();
    let kill = ["--restart", "never", "--fail-spot", "synced:kill*"];
    scene.run(&[&kill[..], &CRASH].concat());
    assert_eq!(scene.report().stage, "new");
    scene.run(&QUIET);
    assert_eq!(scene.report().stage, "pending");
}

// Goal: a store that is removed while the program runs is made anew at the crash.
#[test]
fn a_store_that_is_removed_comes_back() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let mut command = scene.zoo(&["--collector", &collector.url(), "--wait-ready"]);
    let child = command.args(["--after", "600", "null-write"]).spawn().expect("the zoo starts");
    scene.await_event("guarded", 1);
    fs::remove_dir_all(scene.store()).expect("it is there");
    scene.finish(child);
    scene.settle();
    let report = scene.report();
    assert_eq!(state(&report), "uploaded", "{:#}", report.json);
    assert!(report.dump.is_some());
}

// Goal: files that would hold whoever opens them don't.
#[test]
fn pipes_in_the_store_hold_nobody() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &QUIET);
    for name in ["schedule", "usage", "installation"] {
        let path = scene.store().join(name);
        let _ = fs::remove_file(&path);
        let path = std::ffi::CString::new(path.to_str().expect("text")).expect("no NUL");
        make_pipe(&path);
    }
    run(&scene, &collector, &CRASH);
    assert_eq!(state(&scene.report()), "uploaded", "{:#}", scene.report().json);
}

// Goal: an application can send by its own means, and a server of Crashpad's kind finds what it looks for in the URL.
#[test]
fn other_ways_to_send() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    run_with(&scene, &collector, &CRASH, &[("ZOO_HOOKS", "query")]);
    let target = &collector.submissions()[0].target;
    let id = fs::read_to_string(scene.store().join("installation")).expect("an id");
    assert_eq!(*target, format!("/submit?product=crashzoo&version=0.1.0&guid={id}"));
    let sent = scene.path("sent");
    let environment = [("ZOO_HOOKS", "transport"), ("ZOO_SENT", sent.to_str().expect("text"))];
    run_with(&scene, &collector, &CRASH, &environment);
    assert_eq!(collector.submissions().len(), 1, "not over our own way");
    let sent = fs::read(&sent).expect("a request");
    let text = String::from_utf8_lossy(&sent);
    assert!(text.starts_with(&format!("{}\nmultipart/form-data; boundary=", collector.url())));
    assert!(text.contains("upload_file_minidump") && text.ends_with("--\r\n"));
    let report = scene.reports().pop().expect("a report");
    assert_eq!(report.json["delivery"]["answer"], "written");
    // One that fails is tried again like any other.
    run_with(&scene, &collector, &CRASH, &[("ZOO_HOOKS", "transport")]);
    let report = scene.reports().pop().expect("a report");
    assert_eq!(reason(&report), "ZOO_SENT isn't set");
}

// Goal: what is no report, or can't be read as one, is set aside whole, is told by health, and stands in nobody's way.
#[test]
fn the_unknown_is_set_aside() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &["--consent", "denied", "--wait-ready", "null-write"]);
    run(&scene, &collector, &["--consent", "denied", "--wait-ready", "abort"]);
    let reports = scene.reports();
    let damaged = &reports[0];
    let id = damaged.json["id"].as_str().expect("an id");
    fs::write(damaged.directory.join(format!("{id}.json")), b"{ \"schema\":").expect("written");
    let pending = scene.store().join("pending");
    fs::write(pending.join("notes.txt"), b"mine").expect("a file");
    fs::create_dir(pending.join("holiday")).expect("a directory");
    fs::write(pending.join("holiday/photo"), b"mine too").expect("a file");
    run(&scene, &collector, &QUIET);
    assert_eq!(collector.submissions().len(), 1, "the whole one is sent");
    let aside = scene.store().join("aside");
    assert_eq!(fs::read(aside.join("notes.txt")).expect("kept"), b"mine");
    assert_eq!(fs::read(aside.join("holiday/photo")).expect("kept"), b"mine too");
    let kept = aside.join(damaged.directory.file_name().expect("a name"));
    assert!(kept.join(format!("{id}.dmp")).exists(), "nothing is deleted");
    let mut command = scene.zoo(&["--wait-ready", "--health", "none"]);
    command.args(["--collector", &collector.url()]);
    let ended = scene.finish(command.spawn().expect("the zoo starts"));
    assert!(ended.stderr.contains("3 damaged or foreign entries"), "{}", ended.stderr);
    scene.settle();
}

/// Makes so many old reports that are done.
fn fill(store: &Path, stage: &str, count: u32, bytes: usize) {
    for number in 0..count {
        let uuid = format!("00000000-0000-4000-8000-{number:012}");
        let name = format!(
            "20260101T{:02}{:02}{:02}.000000Z-{uuid}",
            number / 3600,
            number / 60 % 60,
            number % 60
        );
        let directory = store.join(stage).join(name);
        fs::create_dir_all(&directory).expect("a report");
        fs::write(directory.join(format!("{uuid}.json")), vec![b' '; bytes]).expect("metadata");
    }
}

// Goal: the limits on number, bytes and age are kept when a report enters; the newest stay, what is done goes before what waits, and a store that holds far too much comes down step by step.
#[test]
fn limits_are_kept_at_the_door() {
    let crash = |scene: &Scene, keep: &str| {
        scene.run(&["--keep", keep, "--wait-ready", "null-write"]);
        scene.reports_by_name()
    };
    // Number.
    let scene = Scene::new();
    fill(&scene.store(), "completed", 5, 10);
    fill(&scene.store(), "pending", 3, 10);
    let names = crash(&scene, "6:1000000000:999999999");
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names[0].contains("000000000000") && names[0].starts_with("pending"), "{names:?}");
    // Bytes.
    let scene = Scene::new();
    fill(&scene.store(), "completed", 10, 1_000_000);
    let names = crash(&scene, "100:5000000:999999999");
    assert_eq!(names.len(), 5, "4 of a megabyte and the new one: {names:?}");
    let names = crash(&scene, "100:5000000:999999999");
    assert_eq!(names.len(), 6, "two small ones: {names:?}");
    // Age.
    let scene = Scene::new();
    fill(&scene.store(), "completed", 3, 10);
    fill(&scene.store(), "pending", 3, 10);
    assert_eq!(crash(&scene, "100:1000000000:86400").len(), 1);
    // Far too many.
    let scene = Scene::new();
    fill(&scene.store(), "completed", 50, 10);
    assert_eq!(crash(&scene, "10:1000000000:999999999").len(), 51 - 16);
    assert_eq!(crash(&scene, "10:1000000000:999999999").len(), 52 - 32);
}

// Goal: a store of ten thousand is a store like any other.
#[test]
fn ten_thousand_reports_are_kept() {
    let scene = Scene::new();
    fill(&scene.store(), "completed", 9_999, 10);
    scene.run(&["--keep", "10000:1000000000:999999999", "--wait-ready", "null-write"]);
    assert_eq!(scene.reports_by_name().len(), 10_000);
    scene.run(&["--keep", "10000:1000000000:999999999", "--wait-ready", "null-write"]);
    let names = scene.reports_by_name();
    assert_eq!(names.len(), 10_000);
    assert!(names.iter().all(|name| !name.contains("000000000000")), "the oldest is gone");
}

// Goal: files and directories are the user's alone, whatever the umask.
#[test]
fn the_store_is_private() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let log = scene.path("app.log");
    fs::write(&log, b"x").expect("a log");
    let attach = ["--attach", log.to_str().expect("text"), "--wait-ready", "null-write"];
    run_with(&scene, &collector, &attach, &[("ZOO_HOOKS", "attach")]);
    let mut open = vec![scene.store()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        let mode = metadata.permissions().mode() & 0o777;
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        seen += 1;
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).expect("readable").flatten().map(|entry| entry.path()));
        }
    }
    assert!(seen > 10, "{seen}");
}

// Goal: metadata are JSON whose delivery tells each attempt with its time and what the server said.
#[test]
fn attempts_are_told() {
    let collector = Collector::start(Script::first([Answer::status(500)])).expect("a collector");
    let scene = Scene::new();
    run(&scene, &collector, &CRASH);
    age(&scene.report(), "next_try_s", 1);
    run(&scene, &collector, &QUIET);
    let report = scene.report();
    assert_eq!(report.json["schema"], 2);
    let attempts: Vec<&str> = report.json["delivery"]["attempts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(attempts.len(), 2);
    assert!(attempts[0].ends_with("Z pending: the server answered 500"), "{attempts:?}");
    assert!(attempts[1].contains("Z uploaded: 200 CrashID=bp-"), "{attempts:?}");
}
