//! What a server's answer means: a report is sent to every kind of server, and what becomes of it is held against DELIVERY.md.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::net::TcpListener;
use std::time::Duration;

use common::Scene;
use rearguard_cli::collector::{Answer, Collector, Script};
use tls::TlsFront;

/// The table of the document: the server, the report's state, whether it is tried again.
fn documented() -> Vec<(&'static str, &'static str, bool)> {
    let document = include_str!("../../../DELIVERY.md");
    let (_, table) = document.split_once("| the server | the report | tries left |").expect("it");
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0], cells[1], cells[2] == "yes")
        })
        .collect()
}

/// A server of one kind, for as long as it lives.
struct Server {
    url: String,
    arguments: Vec<String>,
    collectors: Vec<Collector>,
    _front: Option<TlsFront>,
}

impl Server {
    fn of(script: Script) -> Server {
        let collector = Collector::start(script).expect("a collector");
        Server {
            url: collector.url(),
            arguments: Vec::new(),
            collectors: vec![collector],
            _front: None,
        }
    }

    fn always(answer: Answer) -> Server {
        Server::of(Script::always(answer))
    }

    /// Behind TLS with a certificate for this name; its authority is told to the program or not.
    fn behind_tls(script: Script, name: &str, told_in: Option<&Scene>) -> Server {
        let mut server = Server::of(script);
        let front = TlsFront::start(server.collectors[0].address(), &[name]);
        if let Some(scene) = told_in {
            let path = scene.path("authority.pem");
            front.write_ca(&path);
            server.arguments =
                vec!["--certificates".into(), path.to_str().expect("it is text").into()];
        }
        server.url = front.url();
        server._front = Some(front);
        server
    }

    fn of_kind(kind: &str, scene: &Scene) -> Server {
        if let Some(status) = kind.strip_prefix("answers ").and_then(|rest| rest.parse().ok()) {
            return Server::always(Answer::status(status));
        }
        match kind {
            "answers 200 and `Discarded=`" => Server::always(Answer::discard("a rule")),
            "answers 200, and its body never ends" => Server::always(Answer::endless()),
            "redirects by 302 to one that answers 200" => {
                let there = Collector::start(Script::default()).expect("a collector");
                let mut server = Server::always(Answer::redirect_by(302, &there.url()));
                server.collectors.push(there);
                server
            }
            "redirects by 302 in a circle" => Server::always(Answer::redirect_by(302, "/submit")),
            "redirects by 302 from HTTPS to plain HTTP" => {
                let there = Collector::start(Script::default()).expect("a collector");
                let script = Script::always(Answer::redirect_by(302, &there.url()));
                let mut server = Server::behind_tls(script, "localhost", Some(scene));
                server.collectors.push(there);
                server
            }
            "answers 413 before it has read the body" => {
                Server::always(Answer::status(413).before_body())
            }
            "answers 415 to what is compressed" => Server::of(Script::default().without_gzip()),
            "answers 429 with Retry-After in seconds" => {
                Server::always(Answer::status(429).header("Retry-After", "120"))
            }
            "answers 429 with Retry-After as a date" => {
                let date = "Fri, 31 Dec 2100 23:59:59 GMT";
                Server::always(Answer::status(429).header("Retry-After", date))
            }
            "answers nothing" => Server::always(Answer::never()),
            "answers by half" => Server::always(Answer::cut_off(30)),
            "answers a byte a second" => Server::always(Answer::drip(Duration::from_secs(1))),
            "resets the connection" => Server::always(Answer::reset()),
            "isn't there" => {
                let port = {
                    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                    listener.local_addr().expect("its address").port()
                };
                Server {
                    url: format!("http://127.0.0.1:{port}/"),
                    arguments: Vec::new(),
                    collectors: Vec::new(),
                    _front: None,
                }
            }
            "has a certificate that nobody trusts" => {
                Server::behind_tls(Script::default(), "localhost", None)
            }
            "has a certificate for another name" => {
                Server::behind_tls(Script::default(), "elsewhere.invalid", Some(scene))
            }
            "has a certificate of one's own" => {
                Server::behind_tls(Script::default(), "localhost", Some(scene))
            }
            other => panic!("no such server: {other}"),
        }
    }
}

/// Sends one report to a server of this kind, and checks what becomes of it.
fn check(kind: &str, state: &str, is_tried_again: bool) {
    let scene = Scene::new();
    let server = Server::of_kind(kind, &scene);
    let mut arguments = vec!["--wait-ready", "--collector", &server.url];
    arguments.extend(server.arguments.iter().map(String::as_str));
    arguments.push("null-write");
    let began_s = seconds_now();
    scene.run_lives(&arguments, 2);
    let report = scene.report();
    let delivery = &report.json["delivery"];
    let told = format!("{kind}: {delivery:#}");
    assert_eq!(delivery["state"], state, "{told}");
    let stage = if is_tried_again { "pending" } else { "completed" };
    assert_eq!(report.stage, stage, "{told}");
    assert!(report.dump.is_some(), "nothing is lost: {told}");
    assert_eq!(delivery["tries"], 1, "{told}");
    let attempts = delivery["attempts"].as_array().expect("a list");
    assert_eq!(attempts.len(), 1, "{told}");
    assert!(attempts[0].as_str().is_some_and(|line| line.contains(state)), "{told}");
    let next_s = delivery["next_try_s"].as_u64().expect("a moment");
    let wait_s = next_s.saturating_sub(began_s);
    match kind {
        _ if !is_tried_again => assert_eq!(next_s, 0, "{told}"),
        "answers 429 with Retry-After as a date" => {
            assert!((86_400..86_460).contains(&wait_s), "{told}");
            assert!(told.contains("left alone for 86400 s"), "{told}");
        }
        _ => assert!((900..960).contains(&wait_s), "{told}"),
    }
    let submissions: usize =
        server.collectors.iter().map(|collector| collector.submissions().len()).sum();
    let expected = match kind {
        "isn't there"
        | "has a certificate that nobody trusts"
        | "has a certificate for another name" => 0,
        "redirects by 302 to one that answers 200"
        | "answers 415"
        | "answers 415 to what is compressed" => 2,
        "redirects by 302 in a circle" => 6,
        _ => 1,
    };
    assert_eq!(submissions, expected, "{told}");
}

fn seconds_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("it is later").as_secs()
}

// Goal: every answer of the document has the outcome that the document gives it.
#[test]
fn every_answer_has_its_outcome() {
    let table = documented();
    assert!(table.len() >= 30, "{table:?}");
    std::thread::scope(|scope| {
        for (kind, state, is_tried_again) in &table {
            std::thread::Builder::new()
                .name((*kind).to_owned())
                .spawn_scoped(scope, || check(kind, state, *is_tried_again))
                .expect("a thread");
        }
    });
}
