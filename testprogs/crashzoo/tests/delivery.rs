//! The way of a report to its collector: what is sent, what an answer means, and that nobody waits for it.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use common::{PATIENCE, Report, Scene};
use rearguard_cli::collector::{Answer, Collector, Script, Submission};

/// A collector with this script, what a crash brought it, and what became of the report.
struct Delivered {
    scene: Scene,
    report: Report,
    submissions: Vec<Submission>,
}

impl Delivered {
    /// Crashes once for a collector that answers by this script.
    fn by(script: Script) -> Delivered {
        let collector = Collector::start(script).expect("a collector");
        let scene = Scene::new();
        scene.run_lives(&["--wait-ready", "--collector", &collector.url(), "null-write"], 2);
        let report = scene.report();
        Delivered { report, submissions: collector.submissions(), scene }
    }

    fn always(answer: Answer) -> Delivered {
        Delivered::by(Script::always(answer))
    }
}

/// Checks that a report waits for another try, and gives the reason.
fn waits(report: &Report) -> String {
    assert_eq!(report.stage, "pending", "{:#}", report.json);
    assert_eq!(report.json["delivery"]["state"], "pending", "{:#}", report.json);
    assert!(report.dump.is_some(), "nothing is lost: {:#}", report.json);
    report.json["delivery"]["reason"].as_str().expect("a reason").to_owned()
}

/// Checks that a server has the report, and gives its status and answer.
fn is_uploaded(report: &Report) -> (u64, String) {
    assert_eq!(report.stage, "completed", "{:#}", report.json);
    let delivery = &report.json["delivery"];
    assert_eq!(delivery["state"], "uploaded", "{delivery:#}");
    let answer = delivery["answer"].as_str().expect("an answer").to_owned();
    (delivery["status"].as_u64().expect("a status"), answer)
}

// Goal: one POST brings everything that collectors of the field ask for, in their form, and the very bytes of the stored dump; the server's answer is kept.
#[test]
fn a_report_arrives_whole() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let url = collector.url();
    let ended = scene.run(&[
        "--wait-ready",
        "--collector",
        &url,
        "--annotate",
        "zebra=last",
        "--annotate",
        "a \"quoted\" %key=value with\r\n--boundary",
        "--annotate",
        "middle=ünïcode",
        "--log",
        "a line of the log",
        "null-write",
    ]);
    let submissions = collector.submissions();
    assert_eq!(submissions.len(), 1, "one crash, one POST: {submissions:#?}");
    let sent = &submissions[0];
    let report = scene.report();
    let id = report.json["id"].as_str().expect("an id");
    assert_eq!(sent.violations, [], "{sent:#?}");
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/submit"));
    assert!(sent.header("Content-Length").is_some());
    let installation = fs::read_to_string(scene.store().join("installation")).expect("an id");
    let fields = sent.fields();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("prod", "crashzoo"),
            ("ver", "0.1.0"),
            ("guid", installation.as_str()),
            ("ptype", "main"),
            ("a %22quoted%22 %25key", "value with\r\n--boundary"),
            ("middle", "ünïcode"),
            ("zebra", "last"),
        ]
    );
    assert_eq!(sent.report_id(), Some(id));
    let stored = fs::read(report.dump.as_ref().expect("a dump")).expect("its bytes");
    assert!(sent.minidump().expect("a dump").bytes == stored, "the dump arrives as it is stored");
    let metadata = sent.file("rearguard_metadata").expect("the metadata");
    assert_eq!(metadata.file_name.as_deref(), Some(format!("{id}.json").as_str()));
    assert_eq!(metadata.content_type.as_deref(), Some("application/json"));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.bytes).expect("JSON");
    for key in ["id", "exit", "crash", "timeline", "decision", "annotations", "log"] {
        assert_eq!(metadata[key], report.json[key], "{key}");
    }
    assert_eq!(metadata["log"], "a line of the log\n");
    assert_eq!(metadata["crash"]["thread"].as_u64(), Some(u64::from(ended.pid)));
    assert_eq!(is_uploaded(&report), (200, sent.answer.trim().to_owned()));
}

// Goal: the metadata carry neither environment nor command line.
#[test]
fn nothing_private_is_sent() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let mut command = scene.zoo(&["--wait-ready", "--collector", &collector.url()]);
    command.args(["--recovery", "argument-of-no-concern", "null-write"]);
    command.env("TOKEN", "variable-of-no-concern");
    scene.run_command(&mut command);
    let submissions = collector.submissions();
    let metadata = &submissions[0].file("rearguard_metadata").expect("metadata").bytes;
    let text = String::from_utf8_lossy(metadata);
    assert!(!text.contains("of-no-concern"), "{text}");
}

// Goal: any 2xx is success, and what the server says is kept: an id, or that it threw the report away.
#[test]
fn every_2xx_is_success() {
    let created = Delivered::always(Answer::created());
    let (status, answer) = is_uploaded(&created.report);
    assert_eq!(status, 201);
    assert!(answer.starts_with("CrashID=bp-"), "{answer}");
    let discarded = Delivered::always(Answer::discard("rule-7"));
    let delivery = &discarded.report.json["delivery"];
    assert_eq!(
        (&delivery["state"], &delivery["answer"]),
        (&"discarded".into(), &"Discarded=rule-7".into())
    );
    assert_eq!(discarded.report.stage, "completed");
    let empty = Delivered::always(Answer::status(204));
    assert_eq!(is_uploaded(&empty.report), (204, String::new()));
    // A server that says much is believed in the beginning of it.
    let long = Delivered::always(Answer::status(200).body("x".repeat(100_000)));
    let (_, answer) = is_uploaded(&long.report);
    assert!(!answer.is_empty() && answer.len() <= 4096, "{} bytes", answer.len());
}

// Goal: a server that is busy or broken leaves the report where it is, tried once, and the report says why; what the server asks for is kept too.
#[test]
fn a_busy_server_gets_it_later() {
    for status in [408, 425, 429, 500, 502] {
        let delivered = Delivered::always(Answer::status(status).body("later"));
        assert_eq!(waits(&delivered.report), format!("the server answered {status}"));
        assert_eq!(delivered.submissions.len(), 1, "one try in one guard's life");
    }
    let busy = Delivered::always(Answer::status(503).header("Retry-After", "120"));
    let reason = waits(&busy.report);
    assert_eq!(reason, "the server answered 503; it wants to be left alone for 120 s");
    let capped = Delivered::always(Answer::status(429).header("Retry-After", "99999999"));
    let reason = waits(&capped.report);
    assert_eq!(reason, "the server answered 429; it wants to be left alone for 86400 s");
}

// Goal: a collector that isn't there, or hangs up in the middle, loses nothing.
#[test]
fn a_server_that_is_gone_gets_it_later() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").port()
    };
    let scene = Scene::new();
    let url = format!("http://127.0.0.1:{port}/");
    scene.run(&["--wait-ready", "--collector", &url, "null-write"]);
    assert!(!waits(&scene.report()).is_empty());
    for bytes in [0, 10] {
        let delivered = Delivered::always(Answer::cut_off(bytes));
        assert!(!waits(&delivered.report).is_empty());
        assert_eq!(delivered.submissions.len(), 1, "{bytes}");
    }
}

// Goal: a server that never answers keeps the guard for 15 s and no longer, and loses nothing.
#[test]
fn a_silent_server_gets_it_later() {
    let collector = Collector::start(Script::always(Answer::never())).expect("a collector");
    let scene = Scene::new();
    let began = std::time::Instant::now();
    scene.run(&["--wait-ready", "--collector", &collector.url(), "null-write"]);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(14) && took < Duration::from_secs(25), "{took:?}");
    assert!(!waits(&scene.report()).is_empty());
    assert_eq!(collector.submissions().len(), 1);
}

// Goal: what a server refuses is not sent again, and status and answer are kept for the user.
#[test]
fn a_refusal_is_final() {
    for status in [400, 403, 404, 413] {
        let delivered = Delivered::always(Answer::status(status).body("not this one\n"));
        let report = &delivered.report;
        assert_eq!(report.stage, "completed", "{status}: {:#}", report.json);
        let delivery = &report.json["delivery"];
        assert_eq!(delivery["state"], "refused", "{status}: {delivery:#}");
        assert_eq!(delivery["status"].as_u64(), Some(u64::from(status)), "{delivery:#}");
        assert_eq!(delivery["answer"], "not this one", "{status}: {delivery:#}");
        assert!(report.dump.is_some(), "the user still has it");
    }
    // Before it has read the report, as for one that is too large.
    let early = Delivered::always(Answer::status(413).before_body());
    assert_eq!(early.report.json["delivery"]["status"].as_u64(), Some(413));
}

// Goal: a redirect is followed with the whole report.
#[test]
fn a_redirect_is_followed() {
    let there = Collector::start(Script::default()).expect("a collector");
    let delivered = Delivered::always(Answer::redirect(&there.url()));
    assert_eq!(delivered.submissions.len(), 1);
    let arrived = there.submissions();
    assert_eq!(arrived.len(), 1, "{arrived:#?}");
    assert_eq!(arrived[0].violations, []);
    let stored = fs::read(delivered.report.dump.as_ref().expect("a dump")).expect("its bytes");
    assert!(arrived[0].minidump().expect("a dump").bytes == stored);
    assert_eq!(is_uploaded(&delivered.report).0, 200);
}

// Goal: a redirect that never ends is no loop of ours.
#[test]
fn an_endless_redirect_is_left() {
    let delivered = Delivered::always(Answer::redirect("/submit"));
    assert!(!waits(&delivered.report).is_empty());
    assert!(delivered.submissions.len() <= 6, "{}", delivered.submissions.len());
}

// Goal: without consent nothing is sent, and the report says why it stays.
#[test]
fn nothing_is_sent_unasked() {
    let scene = Scene::new();
    scene.run(&["--wait-ready", "null-write"]);
    assert_eq!(waits(&scene.report()), "no collector is set");
    assert!(!scene.store().join("installation").exists(), "no identity before the first delivery");
}

// Goal: an end that is the user's own business is never sent, though there is a collector; a panic is, without a dump.
#[test]
fn only_faults_are_sent() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let url = collector.url();
    for way in ["exit-3", "sigkill", "none"] {
        let scene = Scene::new();
        scene.run(&["--wait-ready", "--collector", &url, way]);
        assert_eq!(collector.submissions().len(), 0, "{way}");
    }
    let scene = Scene::new();
    scene.run(&["--wait-ready", "--collector", &url, "panic"]);
    let submissions = collector.submissions();
    assert_eq!(submissions.len(), 1);
    assert_eq!(submissions[0].violations, []);
    assert!(submissions[0].minidump().is_none());
    let metadata = &submissions[0].file("rearguard_metadata").expect("metadata").bytes;
    let metadata: serde_json::Value = serde_json::from_slice(metadata).expect("JSON");
    assert_eq!(metadata["panic"]["message"], "crashzoo panics as it was asked to");
    assert_eq!(is_uploaded(&scene.report()).0, 200);
}

// Goal: neither the crashed worker nor the next one waits for a delivery.
#[test]
fn nobody_waits_for_the_delivery() {
    let slow = Duration::from_secs(3);
    let delivered = Delivered::always(Answer::accept().after(slow));
    let report = &delivered.report;
    let seen = report.moment("crash_seen");
    let limit_ns = u64::try_from(slow.as_nanos()).expect("a short time") / 2;
    assert!(report.moment("worker_released") - seen < limit_ns, "{:#}", report.json);
    assert!(report.moment("full_exit") - seen < limit_ns, "{:#}", report.json);
    let next = &delivered.scene.events("main")[1];
    assert!(next.t_ns - seen < limit_ns, "{:#?}", delivered.scene.trace());
    assert_eq!(is_uploaded(report).0, 200);
}

/// A directory of libraries that can't be loaded, under the names that are looked for.
fn broken_libraries(scene: &Scene) -> PathBuf {
    let directory = scene.path("broken");
    fs::create_dir(&directory).expect("a directory");
    for name in ["libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4"] {
        fs::write(directory.join(name), b"no library").expect("a file");
    }
    directory
}

/// The real curl program, whose own library the broken ones must not hide.
fn curl_program(scene: &Scene) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let real =
        std::env::split_paths(&path).map(|place| place.join("curl")).find(|p| p.is_file())?;
    let bin = scene.path("bin");
    fs::create_dir(&bin).expect("a directory");
    let wrapper = format!(
        "#!/bin/sh\nunset LD_LIBRARY_PATH\necho used >>'{}'\nexec '{}' \"$@\"\n",
        scene.path("curl-used").display(),
        real.display()
    );
    let program = bin.join("curl");
    fs::write(&program, wrapper).expect("a program");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("rights");
    Some(bin)
}

/// Crashes for a collector where libcurl can't be loaded and programs are looked for in this directory alone.
fn without_the_library(scene: &Scene, path: &PathBuf, collector: &Collector) -> Report {
    let mut command = scene.zoo(&[
        "--wait-ready",
        "--collector",
        &collector.url(),
        "--annotate",
        "k=v",
        "null-write",
    ]);
    command.env("LD_LIBRARY_PATH", broken_libraries(scene)).env("PATH", path);
    scene.live_through(command, 2);
    scene.report()
}

// Goal: where there is no libcurl, the curl program does the same: the same body, the same meaning of answers.
#[test]
fn the_curl_program_stands_in() {
    for (answer, state) in [
        (Answer::created(), "uploaded"),
        (Answer::status(400).body("no"), "refused"),
        (Answer::status(503).header("Retry-After", "7"), "pending"),
        (Answer::cut_off(0), "pending"),
    ] {
        let collector = Collector::start(Script::always(answer)).expect("a collector");
        let scene = Scene::new();
        let Some(bin) = curl_program(&scene) else {
            println!("not run: there is no curl program");
            return;
        };
        let report = without_the_library(&scene, &bin, &collector);
        assert!(scene.path("curl-used").exists(), "{:#}", report.json);
        let delivery = &report.json["delivery"];
        assert_eq!(delivery["state"], state, "{delivery:#}");
        let submissions = collector.submissions();
        assert_eq!(submissions.len(), 1, "{delivery:#}");
        assert_eq!(submissions[0].violations, [], "{delivery:#}");
        let stored = fs::read(report.dump.as_ref().expect("a dump")).expect("its bytes");
        assert!(submissions[0].minidump().expect("a dump").bytes == stored);
        match state {
            "uploaded" => {
                assert_eq!(is_uploaded(&report), (201, submissions[0].answer.trim().into()))
            }
            "refused" => assert_eq!(delivery["answer"], "no"),
            _ => assert!(!waits(&report).is_empty()),
        }
        if delivery["reason"].as_str().is_some_and(|reason| reason.contains("503")) {
            assert!(waits(&report).ends_with("left alone for 7 s"), "{delivery:#}");
        }
    }
}

// Goal: the curl program follows redirects with the whole report too.
#[test]
fn the_curl_program_follows_redirects() {
    let there = Collector::start(Script::default()).expect("a collector");
    let here =
        Collector::start(Script::always(Answer::redirect(&there.url()))).expect("a collector");
    let scene = Scene::new();
    let Some(bin) = curl_program(&scene) else {
        println!("not run: there is no curl program");
        return;
    };
    let report = without_the_library(&scene, &bin, &here);
    assert_eq!(is_uploaded(&report).0, 200);
    let arrived = there.submissions();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].violations, []);
}

// Goal: where there is neither, the report waits and says so, and nothing else suffers.
#[test]
fn with_nothing_to_send_it_waits() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let empty = scene.path("empty");
    fs::create_dir(&empty).expect("a directory");
    let report = without_the_library(&scene, &empty, &collector);
    assert_eq!(waits(&report), "neither libcurl nor the curl program was found");
    assert_eq!(collector.submissions().len(), 0);
    // A name that can't be run is no program.
    let scene = Scene::new();
    let dangling = scene.path("dangling");
    fs::create_dir(&dangling).expect("a directory");
    symlink("/nowhere/curl", dangling.join("curl")).expect("a link");
    assert!(!waits(&without_the_library(&scene, &dangling, &collector)).is_empty());
}

// Goal: what guards had to leave is sent by a later one, which begins with its own report, and nothing is sent twice.
#[test]
fn a_later_guard_sends_what_was_left() {
    let collector = Collector::start(Script::first([Answer::status(500), Answer::status(503)]))
        .expect("a collector");
    let scene = Scene::new();
    let url = collector.url();
    let crash = ["--wait-ready", "--collector", &url, "null-write"];
    scene.run_lives(&crash, 2);
    waits(&scene.report());
    scene.run_lives(&crash, 4);
    assert!(scene.reports().iter().all(|report| !waits(report).is_empty()));
    for report in scene.reports() {
        let id = report.json["id"].as_str().expect("an id");
        let path = report.directory.join(format!("{id}.json"));
        let text = fs::read_to_string(&path).expect("metadata");
        let due = format!("\"next_try_s\": {}", report.json["delivery"]["next_try_s"]);
        fs::write(&path, text.replace(&due, "\"next_try_s\": 1")).expect("written");
    }
    // A panic has no dump, and is as good an occasion.
    scene.run_lives(&["--wait-ready", "--collector", &url, "panic"], 6);
    let reports = scene.reports();
    let states: Vec<u64> = reports.iter().map(|report| is_uploaded(report).0).collect();
    assert_eq!(states, [200, 200, 200]);
    let submissions = collector.submissions();
    assert_eq!(submissions.len(), 5, "two that failed, and one for each report");
    assert!(submissions.iter().all(|sent| sent.violations.is_empty()), "{submissions:#?}");
    let name = |sent: &Submission| {
        let file = sent.file("rearguard_metadata").and_then(|file| file.file_name.clone());
        file.expect("the metadata's name")
    };
    let mut later: Vec<_> = submissions[2..].iter().map(name).collect();
    let id = |report: &Report| report.json["id"].as_str().expect("an id").to_owned();
    let mut all: Vec<_> = reports.iter().map(|report| id(report) + ".json").collect();
    later.sort_unstable();
    all.sort_unstable();
    assert_eq!(later, all);
}

// Goal: a crash loop's reports are all delivered, each once, and giving up doesn't keep the last one.
#[test]
fn a_crash_loop_delivers_every_report() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let url = collector.url();
    let loops = ["--collector", &url, "--lives", "9", "--in-a-row", "4", "null-write"];
    scene.run_lives(&loops, 4);
    let submissions = collector.wait_for(4, PATIENCE).expect("four reports");
    // The last guard notes the answer after the collector has given it.
    scene.settle();
    let reports = scene.reports();
    assert_eq!(reports.len(), 4, "{reports:#?}");
    let mut sent: Vec<_> = submissions.iter().map(|sent| sent.report_id()).collect();
    let mut kept: Vec<_> = reports.iter().map(|report| report.json["id"].as_str()).collect();
    sent.sort_unstable();
    kept.sort_unstable();
    assert_eq!(sent, kept);
    assert!(reports.iter().all(|report| is_uploaded(report).0 == 200));
    assert!(!reports[3].decision().0, "the last one was given up: {:#}", reports[3].json);
}

// Goal: an answer that ends with a trailer, after a body in pieces, is an answer.
#[test]
fn a_trailer_is_no_half_answer() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let scene = Scene::new();
    let mut command = scene.zoo(&["--wait-ready", "--collector", &url, "null-write"]);
    let child = command.spawn().expect("the zoo starts");
    let (connection, _) = listener.accept().expect("a connection");
    connection.set_read_timeout(Some(PATIENCE)).expect("it can be");
    let mut reader = std::io::BufReader::new(&connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).expect("a head");
        if let Some(told) = line.strip_prefix("Content-Length: ") {
            length = told.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::Read::read_exact(&mut reader, &mut vec![0; length]).expect("a body");
    std::io::Write::write_all(&mut &connection, ANSWER).expect("answered");
    scene.finish(child);
    scene.settle();
    assert_eq!(is_uploaded(&scene.report()), (200, "abc".into()));
}
