//! Reads the form in a request's body.
//!
//! Twice: `multer` says what the parts are, as the field's servers would read them, and a look at the bytes says whether the form keeps the rules that lenient readers forgive.

use std::convert::Infallible;
use std::future::ready;

use futures_util::FutureExt;
use futures_util::stream::once;
use multer::Multipart;
use multer::bytes::Bytes;

use super::submission::{Part, Violation};

/// More parts than any report has; the rest is an error.
const PARTS_MAX: usize = 1024;

/// The parts of the form, as far as they could be read, and what is wrong with it.
pub(super) fn read(content_type: &str, body: &[u8]) -> (Vec<Part>, Vec<Violation>) {
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return (Vec::new(), vec![Violation::NotMultipart(content_type.to_owned())]);
    };
    let mut violations = look_at_bytes(body, &boundary);
    let mut parts = Vec::new();
    // The whole body is there already, so nothing ever has to be waited for.
    match read_parts(body, &boundary, &mut parts).now_or_never() {
        Some(Ok(())) => {}
        Some(Err(why)) => violations.push(Violation::BadMultipart(why)),
        None => violations.push(Violation::BadMultipart("it has no end".to_owned())),
    }
    (parts, violations)
}

async fn read_parts(body: &[u8], boundary: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    let bytes = Bytes::copy_from_slice(body);
    let mut form = Multipart::new(once(ready(Ok::<_, Infallible>(bytes))), boundary);
    while let Some(field) = form.next_field().await.map_err(|error| error.to_string())? {
        if parts.len() == PARTS_MAX {
            return Err(format!("more than {PARTS_MAX} parts"));
        }
        let mut part = Part {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(ToString::to_string),
            bytes: Vec::new(),
        };
        part.bytes = field.bytes().await.map_err(|error| error.to_string())?.to_vec();
        parts.push(part);
    }
    Ok(())
}

/// The rules that show in the bytes only.
fn look_at_bytes(body: &[u8], boundary: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let last = format!("\r\n--{boundary}--");
    if body.ends_with(last.as_bytes()) {
        violations.push(Violation::FinalBoundaryWithoutCrlf);
    } else if !body.ends_with(format!("{last}\r\n").as_bytes()) {
        violations.push(Violation::NoFinalBoundary);
    }
    for head in part_heads(body, boundary) {
        if !names_are_escaped(head) {
            let shown = String::from_utf8_lossy(head).escape_debug().to_string();
            violations.push(Violation::UnescapedName(shown));
        }
    }
    violations
}

/// The header block of each part.
fn part_heads<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let start = format!("--{boundary}\r\n");
    let mut heads = Vec::new();
    let mut rest = body;
    while let Some(at) = find(rest, start.as_bytes()) {
        rest = rest.get(at + start.len()..).unwrap_or_default();
        let end = find(rest, b"\r\n\r\n").unwrap_or(rest.len());
        heads.push(rest.get(..end).unwrap_or_default());
    }
    heads
}

/// Each line is a header, and each quoted name is closed where it should be.
fn names_are_escaped(head: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(head) else { return false };
    text.split("\r\n").all(|line| {
        let quotes = line.matches('"').count();
        let closed = line
            .split('"')
            .skip(2)
            .step_by(2)
            .all(|after| after.is_empty() || after.starts_with(';'));
        line.contains(": ") && !line.contains(['\r', '\n']) && quotes % 2 == 0 && closed
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=B";

    fn form(text: &str) -> (Vec<Part>, Vec<Violation>) {
        read(KIND, text.as_bytes())
    }

    /// Goal: a form that keeps the rules is read whole, names and bytes.
    #[test]
    fn a_good_form_is_read() {
        let (parts, violations) = form(
            "--B\r\nContent-Disposition: form-data; name=\"prod\"\r\n\r\nx\r\n\
             --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n\r\n1\r\n\r\n--B--\r\n",
        );
        assert_eq!(violations, []);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), parts[0].bytes.as_slice()), ("prod", b"x".as_slice()));
        assert_eq!(parts[1].file_name.as_deref(), Some("a.bin"));
        assert_eq!(parts[1].bytes, b"\r\n1\r\n");
    }

    /// Goal: each broken rule is named.
    #[test]
    fn broken_rules_are_named() {
        let head = "--B\r\nContent-Disposition: form-data; name=\"prod\"\r\n\r\nx\r\n";
        let (_, violations) = form(&format!("{head}--B--"));
        assert!(violations.contains(&Violation::FinalBoundaryWithoutCrlf), "{violations:?}");
        let (_, violations) = form(head);
        assert!(violations.contains(&Violation::NoFinalBoundary), "{violations:?}");
        let (_, violations) =
            form("--B\r\nContent-Disposition: form-data; name=\"a\"b\"\r\n\r\nx\r\n--B--\r\n");
        assert!(matches!(violations[0], Violation::UnescapedName(_)), "{violations:?}");
        let (_, violations) = read("text/plain", b"");
        assert_eq!(violations, [Violation::NotMultipart("text/plain".to_owned())]);
    }
}
