//! What an application can do wrong at the builder: every error names the field and the reason, and nothing is started.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod app;
mod common;

use std::time::Duration;

use common::Scene;
use rearguard::{Rearguard, RestartPolicy, RestartWhen};

/// The message of a builder that is refused. `start()` goes no further than the check, so this process stays what it is.
fn refused(builder: Rearguard) -> String {
    let error = builder.start().expect_err("a bad value is refused");
    assert!(error.is_setting(), "the program itself must change: {error}");
    assert_eq!(error.os_code(), None, "{error}");
    error.to_string()
}

fn good() -> Rearguard {
    Rearguard::new("app", "1.0")
}

fn policy() -> RestartPolicy {
    RestartPolicy::new(RestartWhen::OnCrash)
}

// Goal: a name or version that can't be a directory and a form field is refused, whatever is wrong with it, by field, value and reason.
#[test]
fn names_and_versions() {
    for (bad, reason) in [
        (String::new(), "empty"),
        ("x".repeat(65), "longer than 64 bytes"),
        ("é".repeat(33), "longer than 64 bytes"),
        ("a/b".to_owned(), "path separator"),
        ("a\\b".to_owned(), "path separator"),
        ("..".to_owned(), "dot"),
        (".hidden".to_owned(), "dot"),
        ("a\0b".to_owned(), "control character"),
        ("a\nb".to_owned(), "control character"),
        ("a\x7fb".to_owned(), "control character"),
    ] {
        for (field, builder) in [
            ("name", Rearguard::new(bad.clone(), "1.0")),
            ("version", Rearguard::new("app", bad.clone())),
        ] {
            let message = refused(builder);
            assert!(message.contains(&format!("`{field}`")), "{bad:?}: {message}");
            assert!(message.contains(reason), "{bad:?}: {message}");
            assert!(bad.is_empty() || message.contains(&bad), "{bad:?}: {message}");
        }
    }
}

// Goal: a collector that no report could ever reach is refused when the program starts, not when it crashes.
#[test]
fn collectors() {
    for (bad, reason) in [
        (String::new(), "neither https:// nor http://"),
        ("crashes.example.com".to_owned(), "neither https:// nor http://"),
        ("ftp://crashes.example.com".to_owned(), "neither https:// nor http://"),
        ("file:///etc/passwd".to_owned(), "neither https:// nor http://"),
        ("https://".to_owned(), "no host"),
        ("http:///submit".to_owned(), "no host"),
        ("https://crashes example.com".to_owned(), "space or a control character"),
        ("https://crashes.example.com/\r\nX: y".to_owned(), "space or a control character"),
        (format!("https://{}", "x".repeat(2048)), "longer than 2048 bytes"),
    ] {
        let message = refused(good().collector(bad.clone()));
        assert!(message.contains("`collector`"), "{bad}: {message}");
        assert!(message.contains(reason), "{bad}: {message}");
    }
}

// Goal: times and sizes out of their range are refused by their field, at both ends.
#[test]
fn times_and_places() {
    let hour = Duration::from_secs(3_600);
    let week = 7 * 24 * hour;
    let ms = Duration::from_millis(1);
    for (builder, field, reason) in [
        (good().dump_wait(Duration::ZERO), "dump_wait", "between 1 ms and 60 s"),
        (good().dump_wait(Duration::from_micros(999)), "dump_wait", "between 1 ms and 60 s"),
        (good().dump_wait(Duration::from_millis(60_001)), "dump_wait", "between 1 ms and 60 s"),
        (good().dump_wait(Duration::MAX), "dump_wait", "between 1 ms and 60 s"),
        (good().store(""), "store", "empty"),
        (good().restart(policy().intensity(0, week)), "intensity", "between 1 and 16 crashes"),
        (good().restart(policy().intensity(17, week)), "intensity", "between 1 and 16 crashes"),
        (good().restart(policy().intensity(1, Duration::ZERO)), "intensity", "one week"),
        (good().restart(policy().intensity(1, week + ms)), "intensity", "one week"),
        (good().restart(policy().in_a_row(0, hour)), "in_a_row", "at least one life"),
        (good().restart(policy().first_delay(hour + ms)), "first_delay", "one hour"),
        (good().restart(policy().backoff(ms, hour + ms)), "backoff", "one hour"),
        (good().restart(policy().backoff(2 * ms, ms)), "backoff", "longer than the maximum"),
        (good().restart(policy().jitter_percent(51)), "jitter_percent", "more than 50"),
        (good().restart(policy().uptime_reset(week + ms)), "uptime_reset", "one week"),
        (good().restart(policy().uptime_reset(ms)), "uptime_reset", "minimum uptime"),
    ] {
        let message = refused(builder);
        assert!(message.contains(&format!("`{field}`")), "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    }
}

/// The application of this file's tests; does nothing among the tests.
#[test]
fn application() {
    let Some(mode) = app::mode() else { return };
    assert_eq!(mode, "twice");
    let wait = Duration::from_secs(30);
    // A refused setting uses nothing up.
    let refused = app::builder().dump_wait(Duration::ZERO).start();
    app::say(&format!("{:?}", refused.err().map(|error| error.is_setting())));
    let handle = app::builder().wait_ready(wait).start().expect("the first start");
    app::say(&handle.health().to_string());
    let second = app::builder().start().expect_err("the second start is refused");
    app::say(&format!("{second}; {}", second.is_setting()));
    app::say(&handle.health().to_string());
    std::process::exit(0);
}

// Goal: a second start in one process is an error that says so, is no fault of a setting, and leaves the first as it is.
#[test]
fn a_second_start_is_refused() {
    let scene = Scene::new();
    let ended = scene.run_command(&mut app::command(&scene, "twice"));
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let well = "guarded, armed, reports are kept";
    let again = "starting the guard: it was started before in this process; false";
    assert_eq!(app::said(&scene), ["Some(true)", well, again, well]);
}

// Goal: what the builder refuses ends the program that insists on it with its own status and one line; nothing is left behind.
#[test]
fn a_program_is_told_in_one_line() {
    let scene = Scene::new();
    let ended = scene.run(&["--intensity", "0", "null-write"]);
    assert_eq!(ended.code(), Some(78), "{ended:?}");
    let expected = "crashzoo: rearguard refused to start: setting `intensity`: it must be between 1 and 16 crashes\n";
    assert_eq!(ended.stderr, expected);
    assert!(!scene.store().exists(), "nothing is made for a program that can't start");
}
