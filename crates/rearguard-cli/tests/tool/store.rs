//! What the tool does with reports of a store: sends them when it is told, and removes them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rearguard_cli::collector::{Answer, Collector, Script};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::desk::{Desk, Said, refused};

impl Desk {
    /// A crash whose report the collector answers so; returns the report once that is noted.
    fn crash_answered(&self, answer: Answer, noted: &str) -> Value {
        let collector = Collector::start(Script::always(answer)).unwrap();
        self.crash_for(&collector.url(), noted)
    }

    fn crash_for(&self, url: &str, noted: &str) -> Value {
        let store = self.store();
        let command = &mut self.command(&["demo-worker", store.to_str().unwrap(), url]);
        assert!(command.output().unwrap().status.code().is_none(), "it dies of a signal");
        self.wait_for(|report| report["metadata"]["delivery"].to_string().contains(noted))
    }

    fn upload(&self, which: &str, collector: &Collector) -> Said {
        self.ask(&["upload", which, "--collector", &collector.url()])
    }

    /// A report that nothing wrote but this test.
    fn put(&self, stage: &str, time: &str, number: u32, bytes: usize) -> PathBuf {
        let id = format!("{number:08}-0000-4000-8000-000000000000");
        let directory = self.store().join(stage).join(format!("{time}-{id}"));
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(self.store().join("pending")).unwrap();
        fs::write(directory.join(format!("{id}.dmp")), vec![0; bytes - 2]).unwrap();
        fs::write(directory.join(format!("{id}.json")), "{}").unwrap();
        directory
    }
}

fn id(report: &Value) -> &str {
    report["id"].as_str().unwrap()
}

/// Goal: what no server took is sent when it is asked for, whole and once, whenever its next try would be due.
#[test]
fn what_waits_is_sent_at_once() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(503), "answered 503");
    assert_eq!(report["stage"], "pending");
    let collector = Collector::start(Script::default()).unwrap();
    let said = desk.upload("--pending", &collector);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out.starts_with(&format!("{}  uploaded: 200 ", &id(&report)[..8])),
        "{}",
        said.out
    );
    let [submission] = &collector.submissions()[..] else { panic!("one request") };
    assert!(submission.violations.is_empty(), "{:?}", submission.violations);
    assert_eq!(submission.report_id(), Some(id(&report)));
    assert_eq!(submission.field("prod"), Some("rearguard-demo"));
    assert!(submission.minidump().is_some_and(|dump| dump.bytes.starts_with(b"MDMP")));
    let after = desk.wait_for(|report| report["stage"] == "completed");
    let delivery = &after["metadata"]["delivery"];
    // The try was a person's, and not one of those that a guard has.
    assert_eq!((&delivery["state"], &delivery["tries"]), (&"uploaded".into(), &1.into()));
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 2, "{delivery}");
    let said = desk.upload("--pending", &collector);
    assert_eq!(said.code, 0);
    assert!(said.out.starts_with("Nothing waits in "), "{}", said.out);
    let said = desk.upload("latest", &collector);
    assert!(said.out.contains("not sent: a server has it already"), "{}", said.out);
    assert_eq!(
        (said.code, said.err.as_str()),
        (1, "rearguard: 1 of 1 reports were not delivered\n")
    );
    assert_eq!(collector.submissions().len(), 1);
}

/// Goal: one that a server had refused is sent when it is asked for, and so is one that came from another machine.
#[test]
fn a_refused_report_is_sent_elsewhere() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(400), "refused");
    let archive = desk.path("crash.tar.gz");
    assert_eq!(desk.ask(&["export", id(&report), archive.to_str().unwrap()]).code, 0);
    let collector = Collector::start(Script::first([Answer::status(503)])).unwrap();
    let said = desk.upload(id(&report), &collector);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("skipped: the server answered 503"), "{}", said.out);
    // No guard tries it, and it doesn't say that one would.
    let after = desk.wait_for(|report| report["stage"] == "completed");
    assert_eq!(after["metadata"]["delivery"]["state"], "skipped");
    assert_eq!(desk.upload(id(&report), &collector).code, 0);
    let other = Desk::new();
    assert_eq!(other.tool(&["import", archive.to_str().unwrap()]).code, 0);
    let said = other.tool(&["upload", "latest", "--collector", &collector.url()]);
    assert!(said.code == 0 && said.out.contains("uploaded: 200"), "{} {}", said.out, said.err);
    let ids: Vec<_> =
        collector.submissions().iter().map(|each| each.report_id().map(str::to_owned)).collect();
    assert_eq!(ids, vec![Some(id(&report).to_owned()); 3]);
}

/// Goal: where the user has said no nothing leaves the machine, whoever asks.
#[test]
fn a_no_is_a_no() {
    let desk = Desk::new();
    desk.crash_answered(Answer::status(503), "answered 503");
    let collector = Collector::start(Script::default()).unwrap();
    fs::write(desk.store().join("consent-withdrawn"), "").unwrap();
    refused(&desk.upload("latest", &collector), 1, "has withdrawn the consent");
    refused(&desk.upload("--pending", &collector), 1, "has withdrawn the consent");
    let desk = Desk::new();
    let store = desk.store();
    let mut command = desk.command(&["demo-worker", store.to_str().unwrap(), &collector.url()]);
    command.env("REARGUARD_DEMO_NO_CRASH_UPLOAD", "1").output().unwrap();
    desk.wait_for(|report| report["stage"] == "completed");
    let said = desk.upload("latest", &collector);
    assert!(said.out.contains("not sent: the user's variable forbids it"), "{}", said.out);
    assert_eq!(said.code, 1);
    assert!(collector.submissions().is_empty());
}

/// Goal: no server, a certificate that isn't there, a URL that is none, a report that another process has in hand: each is told, and the report stays.
#[test]
fn what_cannot_be_sent_is_told() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(503), "answered 503");
    // Nobody listens there.
    let said = desk.ask(&["upload", "latest", "--collector", "http://127.0.0.1:9/"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("pending: "), "{}", said.out);
    refused(&desk.ask(&["upload", "latest", "--collector", "ftp://x/"]), 2, "collector");
    let arguments = ["upload", "latest", "--collector", "http://x/", "--certificates", "none.pem"];
    refused(&desk.ask(&arguments), 2, "none.pem: no such file");
    let collector = Collector::start(Script::default()).unwrap();
    refused(&desk.upload("ffffffff-0000", &collector), 3, "no report has an id");
    let directory = File::open(report["directory"].as_str().unwrap()).unwrap();
    flock(directory.as_fd(), FlockOperation::LockExclusive).unwrap();
    let said = desk.upload("latest", &collector);
    assert!(said.out.contains("not sent: another process has it in hand"), "{}", said.out);
    drop(directory);
    assert_eq!(desk.upload("latest", &collector).code, 0);
}

/// Goal: a server that takes its time has the time that is asked for and no more.
#[test]
fn a_slow_server_has_its_time() {
    let desk = Desk::new();
    desk.crash_answered(Answer::status(503), "answered 503");
    // It never stands still, so nothing but the time that was asked for ends it.
    let slow = Collector::start(Script::always(Answer::drip(Duration::from_millis(20)))).unwrap();
    let said = desk.ask(&["upload", "latest", "--collector", &slow.url(), "--wait", "300ms"]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("pending: Timeout"), "{}", said.out);
}

/// Goal: what lies with a report goes with it, and how often its crash was repeated isn't forgotten.
#[test]
fn a_report_is_sent_whole() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(503), "answered 503");
    let directory = Path::new(report["directory"].as_str().unwrap());
    fs::write(directory.join("app.log"), "the end of a log").unwrap();
    fs::write(directory.join(format!("{}.repeats", id(&report))), "xxx").unwrap();
    let collector = Collector::start(Script::default()).unwrap();
    assert_eq!(desk.upload("--pending", &collector).code, 0);
    let [submission] = &collector.submissions()[..] else { panic!("one request") };
    assert_eq!(submission.file("app.log").unwrap().bytes, b"the end of a log");
    let after = desk.wait_for(|report| report["stage"] == "completed");
    assert_eq!(after["metadata"]["delivery"]["repeats"], 3);
}

/// Goal: a link in the place of a minidump leads nowhere: what it points to is neither sent nor shown.
#[test]
fn a_link_is_no_minidump() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(503), "answered 503");
    let dump =
        Path::new(report["directory"].as_str().unwrap()).join(format!("{}.dmp", id(&report)));
    fs::remove_file(&dump).unwrap();
    fs::write(desk.path("secret"), "a secret").unwrap();
    std::os::unix::fs::symlink(desk.path("secret"), &dump).unwrap();
    let collector = Collector::start(Script::default()).unwrap();
    assert_eq!(desk.upload("--pending", &collector).code, 0);
    let [submission] = &collector.submissions()[..] else { panic!("one request") };
    assert!(submission.minidump().is_none());
    assert!(submission.files().all(|file| file.bytes != b"a secret"));
    assert_eq!(desk.ask(&["open", "latest"]).code, 3);
}

/// Goal: a store that may not be looked into is told, and is not taken for an empty one.
#[test]
fn a_store_without_rights_is_told() {
    let desk = Desk::new();
    desk.put("pending", "20200101T000000.000000Z", 1, 10);
    fs::set_permissions(desk.store(), fs::Permissions::from_mode(0o0)).unwrap();
    // The administrator may look into everything.
    if fs::read_dir(desk.store()).is_err() {
        for arguments in [&["list"][..], &["prune", "--keep", "1"], &["doctor"]] {
            let said = desk.ask(arguments);
            assert!(said.code == 4 && said.err.contains("Permission denied"), "{}", said.err);
        }
    }
    fs::set_permissions(desk.store(), fs::Permissions::from_mode(0o700)).unwrap();
    let doctor = desk.ask(&["doctor"]);
    assert!(doctor.out.contains("1 report waits; the newest"), "{}", doctor.out);
    fs::write(desk.store().join("consent-withdrawn"), "").unwrap();
    assert!(desk.ask(&["doctor"]).out.contains("has withdrawn the consent"));
}

/// Goal: one that its guard had not made durable yet is sent as well, and none has to make room for it: how much is kept is the application's choice.
#[test]
fn what_is_new_is_sent_and_nothing_is_removed() {
    let desk = Desk::new();
    let report = desk.crash_answered(Answer::status(503), "answered 503");
    let pending = PathBuf::from(report["directory"].as_str().unwrap());
    let new = desk.store().join("new").join(pending.file_name().unwrap());
    fs::rename(&pending, &new).unwrap();
    let old: Vec<PathBuf> = (1..20)
        .map(|number| desk.put("completed", "20200101T000000.000000Z", number, 10))
        .collect();
    let collector = Collector::start(Script::default()).unwrap();
    assert_eq!(desk.upload("--pending", &collector).code, 0);
    assert_eq!(collector.submissions().len(), 1);
    assert!(
        !new.exists() && desk.store().join("completed").join(new.file_name().unwrap()).is_dir()
    );
    assert!(old.iter().all(|path| path.is_dir()));
}

/// Goal: the reports of two applications never go to one collector by one call, and after the first that finds no server the others are left alone.
#[test]
fn each_application_has_its_collector() {
    let desk = Desk::new();
    let state = |app: &str| desk.path("state").join(app).join("crashes");
    let put = |app: &str, number| {
        let made = desk.put("pending", "20200101T000000.000000Z", number, 10);
        fs::create_dir_all(state(app).join("pending")).unwrap();
        let place = state(app).join("pending").join(made.file_name().unwrap());
        fs::rename(made, place).unwrap();
    };
    put("one", 1);
    put("two", 2);
    let collector = Collector::start(Script::default()).unwrap();
    let arguments = ["upload", "--pending", "--collector", &collector.url()];
    refused(&desk.tool(&arguments), 2, "reports wait in 2 stores");
    refused(&desk.tool(&["prune", "--keep", "0", "--waiting"]), 2, "there are 2 stores");
    assert!(collector.submissions().is_empty());
    let wrong = ["upload", "--pending", "--collector", "ftp://x/", "--app", "one"];
    refused(&desk.tool(&wrong), 2, "collector");
    refused(
        &desk.tool(&["upload", "--pending", "--collector", "http://x/", "--app", "no"]),
        3,
        "no",
    );
    let desk = Desk::new();
    desk.crash_answered(Answer::status(503), "answered 503");
    desk.crash_answered(Answer::status(503), "answered 503");
    desk.wait_for_count(2);
    let said = desk.ask(&["upload", "--pending", "--collector", "http://127.0.0.1:9/"]);
    assert!(said.code == 1 && said.out.contains("not sent: the one before found"), "{}", said.out);
}

/// Goal: what is beyond a bound goes, the oldest first, and nothing else does; what waits stays unless it is meant.
#[test]
fn reports_beyond_a_bound_are_removed() {
    let desk = Desk::new();
    let old = desk.put("completed", "20200101T000000.000000Z", 1, 1000);
    let waiting = desk.put("pending", "20200102T000000.000000Z", 2, 1000);
    let held = desk.put("completed", "20200103T000000.000000Z", 3, 1000);
    let new = desk.put("completed", "20990101T000000.000000Z", 4, 3000);
    let all = [&old, &waiting, &held, &new];
    let is_there = || all.map(|path| path.is_dir());
    let said = desk.ask(&["prune", "--older-than", "30d", "--dry-run"]);
    assert_eq!((said.code, is_there()), (0, [true; 4]));
    assert_eq!(
        said.out,
        "00000001  completed  1000 B\n00000003  completed  1000 B\n2 of 4 reports would be removed, 2.0 KiB\n"
    );
    let lock = File::open(&held).unwrap();
    flock(lock.as_fd(), FlockOperation::LockExclusive).unwrap();
    let said = desk.ask(&["prune", "--older-than", "30d"]);
    assert_eq!((said.code, is_there()), (1, [false, true, true, true]));
    assert!(said.err.contains("it stays: another process has it in hand"), "{}", said.err);
    drop(lock);
    // The newest has room whatever it has, and what is older than one without room has none either.
    let small = desk.put("completed", "20980101T000000.000000Z", 5, 10);
    assert_eq!(desk.ask(&["prune", "--bytes", "2000B"]).code, 0);
    assert_eq!(is_there(), [false, true, false, true]);
    assert!(!small.is_dir());
    assert_eq!(desk.ask(&["prune", "--older-than", "60y"]).code, 0);
    assert_eq!(is_there(), [false, true, false, true]);
    assert_eq!(desk.ask(&["prune", "--keep", "1", "--waiting"]).code, 0);
    assert_eq!(is_there(), [false, false, false, true]);
    assert_eq!(fs::read_dir(desk.store().join("tmp")).unwrap().count(), 0);
    for arguments in [&["prune"][..], &["prune", "--older-than", "x"], &["prune", "--bytes", "-1"]]
    {
        assert_eq!(desk.ask(arguments).code, 2, "{arguments:?}");
    }
    assert!(new.is_dir());
}
