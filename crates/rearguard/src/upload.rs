//! Delivery of one report: the body of the POST, and what the answer means.

use crate::heap::{List, PutBytes, PutText, Text, lossy, owned};
use crate::hooks::Hooks;
use crate::limits::RETRY_AFTER_S_MAX;
use crate::report_id::days_since_1970;
use crate::sys::http;
use crate::sys::process;
use crate::sys::words::{Answer, Post};
use crate::text::{joined, number, push_number};

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
    pub(crate) fields: &'a [(Text, Text)],
    pub(crate) dump: Option<&'a [u8]>,
    pub(crate) metadata: &'a [u8],
    /// Files by their names.
    pub(crate) attachments: &'a [(&'static str, List<u8>)],
    /// The file of certificates that the server's must be signed by; empty for the system's.
    pub(crate) certificates: &'a [u8],
    pub(crate) hooks: Hooks,
    /// Asked before anything is sent, and while it is.
    pub(crate) may_send: &'a dyn Fn(usize, usize) -> bool,
    /// Until when it may take, by the monotonic clock.
    pub(crate) deadline_ns: u64,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A server has it.
    Accepted {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        answer: Text,
    },
    /// It is to be tried again.
    Retry {
        /// For a person.
        reason: Text,
        /// How long the server wants to be left alone, in seconds.
        after_s: Option<u64>,
    },
    /// The server doesn't want it, now or later.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        answer: Text,
    },
}

/// Sends a report by one POST, or by two, where a server doesn't know compressed ones. Blocks until the parcel's deadline at most.
pub(crate) fn deliver(parcel: &Parcel<'_>) -> Outcome {
    let boundary = boundary();
    let body = body(parcel, &boundary);
    let content_type = joined(&["multipart/form-data; boundary=", &boundary]);
    let url = match parcel.hooks.in_query {
        Some(in_query) => in_query(parcel),
        None => owned(parcel.url),
    };
    // Never zero: to some that means no limit.
    let left_ms = || {
        let left_ns = parcel.deadline_ns.saturating_sub(process::monotonic_ns());
        (left_ns / 1_000_000).max(1)
    };
    let send = parcel.hooks.post.unwrap_or(http::post);
    let post = |body: &[u8], is_compressed: bool| {
        outcome(send(&Post {
            url: &url,
            content_type: &content_type,
            body,
            is_compressed,
            user_agent: concat!("rearguard/", env!("CARGO_PKG_VERSION")),
            certificates: parcel.certificates,
            may_send: parcel.may_send,
            timeout_ms: left_ms(),
        }))
    };
    if parcel.hooks.post.is_none()
        && let Some(compressed) = http::compress(&body)
    {
        let outcome = post(&compressed, true);
        compressed.give_back();
        if !matches!(outcome, Outcome::Refused { status: 415, .. }) {
            body.give_back();
            return outcome;
        }
    }
    let outcome = post(&body, false);
    body.give_back();
    outcome
}

/// What an answer means: 2xx is success; a server that is busy, late, broken or elsewhere is tried again; anything else is a refusal.
fn outcome(answer: Answer) -> Outcome {
    crate::heap::with_frame_pointer();
    match answer {
        Answer::Response { status, body, retry_after } => {
            let answer = lossy(body.trim_ascii());
            match status {
                200..=299 => Outcome::Accepted { status, answer },
                300..=399 | 407 | 408 | 425 | 429 | 500..=599 => {
                    let mut reason = owned("the server answered ");
                    push_number(&mut reason, u64::from(status));
                    let now_s = process::real_ns() / 1_000_000_000;
                    let after_s = retry_after_s(&retry_after, now_s);
                    Outcome::Retry { reason, after_s: after_s.map(|s| s.min(RETRY_AFTER_S_MAX)) }
                }
                _ => Outcome::Refused { status, answer },
            }
        }
        Answer::Failed(reason) => Outcome::Retry { reason, after_s: None },
        Answer::NoBackEnd => Outcome::Retry { reason: owned(http::NO_BACK_END), after_s: None },
    }
}

/// How long a server wants to be left alone: `Retry-After` is a number of seconds, or a date (RFC 9110, 10.2.3 and 5.6.7).
fn retry_after_s(text: &[u8], now_s: u64) -> Option<u64> {
    if let Some(seconds) = number(text, 10) {
        return Some(seconds);
    }
    // Sun, 06 Nov 1994 08:49:37 GMT
    let mut numbers = [0_u64; 5];
    let mut places = numbers.iter_mut();
    let mut place = None;
    for byte in text.get(5..)? {
        if !byte.is_ascii_digit() {
            place = None;
        } else {
            if place.is_none() {
                place = places.next();
            }
            let number = place.as_mut()?;
            **number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        }
    }
    let months = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.chunks(3).position(|month| text.get(8..11) == Some(month))?;
    let [day, year, hour, minute, second] = numbers;
    let days = days_since_1970(year, month as u64 + 1, day)?;
    let seconds = ((days * 24 + hour % 24) * 60 + minute % 60) * 60 + second % 61;
    Some(seconds.saturating_sub(now_s))
}

/// A text that occurs in no report: 128 random bits.
fn boundary() -> Text {
    let mut random = [0; 16];
    process::random(&mut random);
    joined(&["rearguard-", &crate::report_id::uuid_text(random)])
}

/// The multipart body (RFC 7578), whole: its length goes into the header, which some collectors insist on.
fn body(parcel: &Parcel<'_>, boundary: &str) -> List<u8> {
    let mut body = List::new();
    for (name, value) in [
        ("prod", parcel.product),
        ("ver", parcel.version),
        ("guid", parcel.installation),
        ("ptype", parcel.process_type),
    ] {
        // An installation without an identity has no field for it.
        if !value.is_empty() {
            field(&mut body, boundary, name, value);
        }
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
    for (name, content) in parcel.attachments {
        file(&mut body, boundary, (name, name, "application/octet-stream"), content);
    }
    body.put(b"--");
    body.put(boundary.as_bytes());
    // The last line ends like every other; a collector answered 400 without.
    body.put(b"--\r\n");
    body
}

fn field(body: &mut List<u8>, boundary: &str, name: &str, value: &str) {
    head(body, boundary, name);
    body.put(b"\"\r\n\r\n");
    body.put(value.as_bytes());
    body.put(b"\r\n");
}

fn file(
    body: &mut List<u8>,
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

fn head(body: &mut List<u8>, boundary: &str, name: &str) {
    body.put(b"--");
    body.put(boundary.as_bytes());
    body.put(b"\r\nContent-Disposition: form-data; name=\"");
    body.put(escaped(name).as_bytes());
}

/// Adds to a URL's query what Crashpad's servers look for there.
pub(crate) fn in_query(parcel: &Parcel<'_>) -> Text {
    add_to_query(parcel.url, [parcel.product, parcel.version, parcel.installation])
}

fn add_to_query(url: &str, values: [&str; 3]) -> Text {
    let mut whole = owned(url);
    for (name, value) in ["product=", "version=", "guid="].into_iter().zip(values) {
        whole.put_char(if whole.contains('?') { '&' } else { '?' });
        whole.put(name);
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                whole.put_char(char::from(byte));
            } else {
                put_percent(&mut whole, byte);
            }
        }
    }
    whole
}

/// Escapes what would end a quoted name early, or what a header can't hold: by the field's custom with a percent sign and two digits.
fn escaped(name: &str) -> Text {
    let mut text = Text::new();
    for character in name.chars() {
        if matches!(character, '\0'..='\x1f' | '"' | '%' | '\\' | '\x7f') {
            put_percent(&mut text, character as u8);
        } else {
            text.put_char(character);
        }
    }
    text
}

/// Appends a byte as a percent sign and two digits.
fn put_percent(text: &mut Text, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.put_char('%');
    text.put_char(char::from(DIGITS[usize::from(byte >> 4)]));
    text.put_char(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16) -> Outcome {
        outcome(Answer::Response {
            status,
            body: b" CrashID=x\n".to_vec().into(),
            retry_after: b"1099511627776".to_vec().into(),
        })
    }

    // Goal: every status has the meaning that the field's collectors give it.
    #[test]
    fn statuses() {
        for status in [200, 201, 204] {
            assert_eq!(response(status), Outcome::Accepted { status, answer: "CrashID=x".into() });
        }
        for status in [301, 302, 307, 407, 408, 425, 429, 500, 502, 503] {
            let Outcome::Retry { after_s, .. } = response(status) else {
                panic!("{status} is tried again");
            };
            assert_eq!(after_s, Some(RETRY_AFTER_S_MAX));
        }
        for status in [400, 401, 403, 404, 413, 415] {
            assert!(matches!(response(status), Outcome::Refused { .. }), "{status}");
        }
    }

    // Goal: a server's wish is understood in both of its forms, and nonsense is no wish.
    #[test]
    fn wishes_are_understood() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after_s(date, 784_111_777 - 90), Some(90));
        assert_eq!(retry_after_s(date, 784_111_777 + 90), Some(0));
        assert_eq!(retry_after_s(b"120", 0), Some(120));
        for nonsense in [&b""[..], b"soon", b"-1", b"Sun, 06 Xxx 1994 08:49:37 GMT", &date[..10]] {
            assert_eq!(retry_after_s(nonsense, 0), None);
        }
        assert_eq!(retry_after_s(b"Sun, 99 Nov 9999999 08:49:37", 0), None);
    }

    // Goal: an application's own URL is added to, whatever it has already.
    #[test]
    fn queries_are_added() {
        let told = ["a b", "1&2", "é"];
        assert_eq!(
            add_to_query("http://h/x", told),
            "http://h/x?product=a%20b&version=1%262&guid=%C3%A9"
        );
        assert_eq!(
            add_to_query("http://h/x?k=v", told),
            "http://h/x?k=v&product=a%20b&version=1%262&guid=%C3%A9"
        );
    }

    // Goal: no character of a name can end it, or the header that it stands in.
    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a\0\u{1}\t\u{7f}\\\"%é"), "a%00%01%09%7F%5C%22%25é");
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
            attachments: &[("a\".log", b"x".to_vec().into())],
            certificates: b"",
            hooks: Hooks::default(),
            may_send: &|_, _| true,
            deadline_ns: 1,
        };
        let body = Text::from_utf8(body(&parcel, "B")).expect("it is text here");
        assert!(body.contains("name=\"a%22%0D%0Ab%25\"\r\n\r\nv\r\n--\r\n--B\r\n"));
        assert!(body.contains(
            "filename=\"u.dmp\"\r\nContent-Type: application/octet-stream\r\n\r\nMDMP\r\n"
        ));
        assert!(body.contains("name=\"a%22.log\"; filename=\"a%22.log\"\r\n"));
        assert!(body.ends_with("\r\n--B--\r\n"));
    }
}
