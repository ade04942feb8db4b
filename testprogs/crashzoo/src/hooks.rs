//! What this application's guards do with reports by code of its own, as the variable `ZOO_HOOKS` lists it.
//!
//! By a variable, because a guard has it too, while the command line is the worker's alone.

use std::fs::OpenOptions;
use std::io::Write;

use rearguard::{Rearguard, Request, Response, Transport};

/// Adds what the variable lists.
pub(crate) fn add_to(mut builder: Rearguard) -> Rearguard {
    let list = std::env::var("ZOO_HOOKS").unwrap_or_default();
    for hook in list.split(',') {
        builder = match hook {
            "attach" => builder.attachment("none"),
            "same-crash" => builder.same_crash_window(std::time::Duration::ZERO),
            "redact" => builder.redact_user(),
            "open-files" => builder.open_files(),
            "indirect-memory" => builder.indirect_memory(16 * 1024),
            "scrub-stacks" => builder.scrub_stacks(),
            "query" => builder.collector_query(),
            "scrub-panics" => builder.scrub(|_, _| panic!("as it was asked to")),
            "transport-panics" => builder.transport(&Panics),
            "scrub" => builder.scrub(scrub),
            "transport" => builder.transport(&ToFile),
            _ => builder,
        };
    }
    builder
}

fn scrub(key: &str, text: &mut String) {
    match key {
        "secret" => text.clear(),
        "log" | "panic" => *text = text.replace("SECRET", "..."),
        _ => {}
    }
}

/// Never sends anything.
struct Panics;

impl Transport for Panics {
    fn send(&self, _request: &Request<'_>) -> Response {
        panic!("as it was asked to")
    }
}

/// Appends each request to a file, and says what the file's extension says.
struct ToFile;

impl Transport for ToFile {
    fn send(&self, request: &Request<'_>) -> Response {
        let Some(path) = std::env::var_os("ZOO_SENT") else {
            return Response::Failed(String::from("ZOO_SENT isn't set"));
        };
        let head = format!("{}\n{}\n", request.url, request.content_type);
        let written =
            OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| {
                file.write_all(head.as_bytes())?;
                file.write_all(request.body)
            });
        match written {
            Ok(()) => Response::Answered {
                status: 200,
                body: b"written".to_vec(),
                retry_after: String::new(),
            },
            Err(error) => Response::Failed(error.to_string()),
        }
    }
}
