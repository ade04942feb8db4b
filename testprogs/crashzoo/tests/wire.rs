//! What is on the wire, held against a reader that is nobody of ours.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;

use std::convert::Infallible;
use std::future::ready;
use std::io::Read;

use common::Scene;
use futures_util::FutureExt;
use futures_util::stream::once;
use multer::Multipart;
use multer::bytes::Bytes;
use rearguard_cli::collector::{Collector, Script, Submission};

/// A part of a form, as multer sees it.
#[derive(Debug)]
struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    bytes: Vec<u8>,
}

/// The form as it was before it was compressed, if it was.
fn unpacked(sent: &Submission) -> Vec<u8> {
    match sent.header("Content-Encoding") {
        None => sent.raw.clone(),
        Some("gzip") => {
            let mut form = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(sent.raw.as_slice());
            decoder.read_to_end(&mut form).expect("a gzip body");
            form
        }
        Some(other) => panic!("the content coding {other}"),
    }
}

/// All parts of a form, in their order.
fn parts(form: &[u8], boundary: &str) -> Vec<Part> {
    let bytes = Bytes::copy_from_slice(form);
    let mut form = Multipart::new(once(ready(Ok::<_, Infallible>(bytes))), boundary);
    let read = async {
        let mut parts = Vec::new();
        while let Some(field) = form.next_field().await.expect("a form") {
            parts.push(Part {
                name: field.name().expect("a name").to_owned(),
                file_name: field.file_name().map(str::to_owned),
                content_type: field.content_type().map(ToString::to_string),
                bytes: field.bytes().await.expect("a part that ends").to_vec(),
            });
        }
        parts
    };
    // The whole form is there already, so nothing ever has to be waited for.
    read.now_or_never().expect("a form that ends")
}

// Goal: a reader that isn't ours finds every part in its place, whatever names and values an application has, and nothing that a value pretends to be; length and end are what collectors insist on.
#[test]
fn another_reader_finds_the_same_form() {
    // As the application says it, and as it is sent; sorted both ways.
    let names = [
        ("a \"quoted\" %key", "a %22quoted%22 %25key"),
        ("carriage\rreturn", "carriage%0Dreturn"),
        ("empty", "empty"),
        ("head\r\n\r\nbody", "head%0D%0A%0D%0Abody"),
        ("line\nfeed", "line%0Afeed"),
        ("percent%41", "percent%2541"),
        ("ünïcode", "ünïcode"),
    ];
    let values = [
        "a \"quoted\" 100%41; name=\"prod\"",
        "\r\n--",
        "",
        "x\r\n--rearguard-0f8fad5b-d9cb-469f-a165-70867728950e--\r\n",
        "x\r\n--boundary\r\nContent-Disposition: form-data; name=\"forged\"\r\n\r\nx",
        "\r\n\r\n",
        "ünïcode ☂\n",
    ];
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let url = collector.url();
    let mut arguments = vec!["--wait-ready", "--collector", &url];
    let pairs: Vec<String> =
        names.iter().zip(values).map(|((name, _), value)| format!("{name}={value}")).collect();
    // The last comes first, so that the order on the wire isn't that of the application.
    for pair in pairs.iter().rev() {
        arguments.extend(["--annotate", pair]);
    }
    arguments.push("null-write");
    scene.run_lives(&arguments, 2);
    let submissions = collector.submissions();
    assert_eq!(submissions.len(), 1, "one crash, one POST: {submissions:#?}");
    let sent = &submissions[0];
    assert_eq!(sent.violations, []);
    let length = sent.header("Content-Length").map(str::to_owned);
    assert_eq!(length, Some(sent.raw.len().to_string()), "the length is that of what is sent");

    let form = unpacked(sent);
    let kind = sent.header("Content-Type").expect("a content type");
    let boundary = multer::parse_boundary(kind).expect("a boundary");
    let begin = format!("--{boundary}\r\n");
    let end = format!("\r\n--{boundary}--\r\n");
    assert!(form.starts_with(begin.as_bytes()), "nothing comes before the first part");
    assert!(form.ends_with(end.as_bytes()), "the final boundary ends as every other line");
    let mut parts = parts(&form, &boundary);
    let id = scene.report().json["id"].as_str().expect("an id").to_owned();

    let files = parts.split_off(parts.len() - 2);
    let [metadata, dump] = files.as_slice() else { panic!("two files: {files:?}") };
    let head = |part: &Part| {
        let file_name = part.file_name.clone().unwrap_or_default();
        (part.name.clone(), file_name, part.content_type.clone().unwrap_or_default())
    };
    let expected = |name: &str, ending: &str, kind: &str| {
        (name.to_owned(), format!("{id}{ending}"), kind.to_owned())
    };
    assert_eq!(head(metadata), expected("rearguard_metadata", ".json", "application/json"));
    let octets = "application/octet-stream";
    assert_eq!(head(dump), expected("upload_file_minidump", ".dmp", octets));
    assert!(dump.bytes.starts_with(b"MDMP"), "the dump begins as one");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.bytes).expect("JSON");
    for ((name, _), value) in names.iter().zip(values) {
        assert_eq!(metadata["annotations"][name], value, "{name:?}");
    }

    let plain = parts.iter().all(|part| part.file_name.is_none() && part.content_type.is_none());
    assert!(plain, "a field is no file: {parts:#?}");
    let installation = scene.store().join("installation");
    let installation = std::fs::read_to_string(installation).expect("an id");
    let fixed =
        [("prod", "crashzoo"), ("ver", "0.1.0"), ("guid", &installation), ("ptype", "main")];
    let annotations = names.iter().zip(values).map(|((_, name), value)| (*name, value));
    let fields: Vec<_> = fixed.into_iter().chain(annotations).collect();
    let found: Vec<_> = parts
        .iter()
        .map(|part| (part.name.as_str(), std::str::from_utf8(&part.bytes).expect("text")))
        .collect();
    assert_eq!(found, fields);
}
