//! Delivery of one report: the body of the POST, and what the answer means.

use crate::heap::{PutBytes, PutText, lossy, owned};
use crate::limits::RETRY_AFTER_S_MAX;
use crate::sys::http;
use crate::sys::process;
use crate::sys::words::{Answer, Post};
use crate::text::{joined, push_number};

/// What is delivered.
pub(crate) struct Parcel<'a> {
    pub(crate) url: &'a str,
    pub(crate) product: &'a str,
    pub(crate) version: &'a str,
    pub(crate) uuid: &'a str,
    /// Which installation it was; random, and no person's name.
    pub(crate) installation: &'a str,
    /// Which kind of process it was.
    pub(crate) process_type: &'a str,
    /// Form fields after the fixed ones, sorted.
    pub(crate) fields: &'a [(String, String)],
    pub(crate) dump: Option<&'a [u8]>,
    pub(crate) metadata: &'a [u8],
    pub(crate) timeout_ms: u64,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A server has it.
    Accepted {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        answer: String,
    },
    /// It is to be tried again.
    Retry {
        /// For a person.
        reason: String,
        /// How long the server wants to be left alone, in seconds.
        after_s: Option<u64>,
    },
    /// The server doesn't want it, now or later.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        answer: String,
    },
}

/// Sends a report by one POST. Blocks for at most the parcel's time-out.
pub(crate) fn deliver(parcel: &Parcel<'_>) -> Outcome {
    let boundary = boundary();
    let body = body(parcel, &boundary);
    let content_type = joined(&["multipart/form-data; boundary=", &boundary]);
    let answer = http::post(&Post {
        url: parcel.url,
        content_type: &content_type,
        body: &body,
        user_agent: concat!("rearguard/", env!("CARGO_PKG_VERSION")),
        timeout_ms: parcel.timeout_ms,
    });
    outcome(answer)
}

/// What an answer means: 2xx is success; a server that is busy, late or broken is tried again; anything else is a refusal.
fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Response { status, body, retry_after_s } => {
            let answer = lossy(body.trim_ascii());
            match status {
                200..=299 => Outcome::Accepted { status, answer },
                408 | 425 | 429 | 500..=599 => {
                    let mut reason = owned("the server answered ");
                    push_number(&mut reason, u64::from(status));
                    let after_s = retry_after_s.map(|seconds| seconds.min(RETRY_AFTER_S_MAX));
                    Outcome::Retry { reason, after_s }
                }
                _ => Outcome::Refused { status, answer },
            }
        }
        Answer::Failed(reason) => Outcome::Retry { reason, after_s: None },
        Answer::NoBackEnd => Outcome::Retry {
            reason: owned("neither libcurl nor the curl program was found"),
            after_s: None,
        },
    }
}

/// A text that occurs in no report: 128 random bits.
fn boundary() -> String {
    let mut random = [0; 16];
    process::random(&mut random);
    joined(&["rearguard-", &crate::report_id::uuid_text(random)])
}

/// The multipart body (RFC 7578), whole: its length goes into the header, which some collectors insist on.
fn body(parcel: &Parcel<'_>, boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in [
        ("prod", parcel.product),
        ("ver", parcel.version),
        ("guid", parcel.installation),
        ("ptype", parcel.process_type),
    ] {
        field(&mut body, boundary, name, value);
    }
    for (name, value) in parcel.fields {
        field(&mut body, boundary, name, value);
    }
    let name = joined(&[parcel.uuid, ".json"]);
    file(&mut body, boundary, ("rearguard_metadata", &name, "application/json"), parcel.metadata);
    if let Some(dump) = parcel.dump {
        let name = joined(&[parcel.uuid, ".dmp"]);
        let header = ("upload_file_minidump", name.as_str(), "application/octet-stream");
        file(&mut body, boundary, header, dump);
    }
    body.put(b"--");
    body.put(boundary.as_bytes());
    // The last line ends like every other; a collector answered 400 without.
    body.put(b"--\r\n");
    body
}

fn field(body: &mut Vec<u8>, boundary: &str, name: &str, value: &str) {
    head(body, boundary, name);
    body.put(b"\"\r\n\r\n");
    body.put(value.as_bytes());
    body.put(b"\r\n");
}

fn file(
    body: &mut Vec<u8>,
    boundary: &str,
    (name, file_name, content_type): (&str, &str, &str),
    content: &[u8],
) {
    head(body, boundary, name);
    body.put(b"\"; filename=\"");
    body.put(escaped(file_name).as_bytes());
    body.put(b"\"\r\nContent-Type: ");
    body.put(content_type.as_bytes());
    body.put(b"\r\n\r\n");
    body.put(content);
    body.put(b"\r\n");
}

fn head(body: &mut Vec<u8>, boundary: &str, name: &str) {
    body.put(b"--");
    body.put(boundary.as_bytes());
    body.put(b"\r\nContent-Disposition: form-data; name=\"");
    body.put(escaped(name).as_bytes());
}

/// Escapes what would end a quoted name early.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        match character {
            '\r' => text.put("%0D"),
            '\n' => text.put("%0A"),
            '"' => text.put("%22"),
            '%' => text.put("%25"),
            other => text.put_char(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16) -> Outcome {
        outcome(Answer::Response {
            status,
            body: b" CrashID=x\n".to_vec(),
            retry_after_s: Some(1 << 40),
        })
    }

    // Goal: every status has the meaning that the field's collectors give it.
    #[test]
    fn statuses() {
        for status in [200, 201, 204] {
            assert_eq!(response(status), Outcome::Accepted { status, answer: "CrashID=x".into() });
        }
        for status in [408, 425, 429, 500, 502, 503] {
            let Outcome::Retry { after_s, .. } = response(status) else {
                panic!("{status} is tried again");
            };
            assert_eq!(after_s, Some(RETRY_AFTER_S_MAX));
        }
        for status in [301, 400, 403, 404, 413, 415] {
            assert!(matches!(response(status), Outcome::Refused { .. }), "{status}");
        }
    }

    // Goal: no field name or value can break out of its part.
    #[test]
    fn hostile_names_are_escaped() {
        let parcel = Parcel {
            url: "http://x",
            product: "p",
            version: "1",
            uuid: "u",
            installation: "i",
            process_type: "worker",
            fields: &[("a\"\r\nb%".into(), "v\r\n--".into())],
            dump: Some(b"MDMP"),
            metadata: b"{}",
            timeout_ms: 1,
        };
        let body = String::from_utf8(body(&parcel, "B")).expect("it is text here");
        assert!(body.contains("name=\"a%22%0D%0Ab%25\"\r\n\r\nv\r\n--\r\n--B\r\n"));
        assert!(body.contains(
            "filename=\"u.dmp\"\r\nContent-Type: application/octet-stream\r\n\r\nMDMP\r\n"
        ));
        assert!(body.ends_with("\r\n--B--\r\n"));
    }
}
