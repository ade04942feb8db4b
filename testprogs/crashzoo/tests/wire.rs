//! What is on the wire, held against readers that are nobody of ours: the form, and the TLS of the tests' own front.

#![allow(clippy::expect_used, reason = "a report without what is expected is a failed test")]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::convert::Infallible;
use std::future::ready;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scene};
use futures_util::FutureExt;
use futures_util::stream::once;
use multer::Multipart;
use multer::bytes::Bytes;
use rearguard_cli::collector::{Answer, Collector, Script, Submission};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tls::TlsFront;

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

/// A TLS connection to a front, by a client that trusts this authority alone and asks for `localhost`.
fn connect(
    front: &TlsFront,
    authority: &Path,
    version: &'static SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("the provider knows it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect(front.address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    StreamOwned::new(session, stream)
}

/// A request that no collector mistakes for another.
fn request(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST /submit HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

// Goal: the tests' own TLS front hands on what it is given and what is answered, in both versions of TLS and without loss, and whoever trusts another authority or wants another name tells it nothing.
#[test]
fn a_front_hands_on_what_it_is_given() {
    let collector = Collector::start(Script::default()).expect("a collector");
    let scene = Scene::new();
    let front = TlsFront::start(collector.address(), &["localhost"]);
    let authority = scene.path("ca.pem");
    front.write_ca(&authority);
    assert_eq!(front.url(), format!("https://localhost:{}/submit", front.address().port()));
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for (number, version) in [&rustls::version::TLS12, &rustls::version::TLS13].iter().enumerate() {
        let mut stream = connect(&front, &authority, version);
        stream.write_all(&request(&body)).expect("the front takes it");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer that ends as TLS does");
        let sent = &collector.submissions()[number];
        assert!(sent.raw == body, "{} of {} bytes", sent.raw.len(), body.len());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&sent.answer), "{answer}");
    }

    let strangers = TlsFront::start(collector.address(), &["elsewhere.invalid"]);
    let their_authority = scene.path("their-ca.pem");
    strangers.write_ca(&their_authority);
    for (front, authority) in [(&strangers, &their_authority), (&front, &their_authority)] {
        let mut stream = connect(front, authority, &rustls::version::TLS13);
        let problem = stream.write_all(&request(&body)).expect_err("nobody to be trusted");
        assert_eq!(problem.kind(), io::ErrorKind::InvalidData, "{problem}");
    }
    assert_eq!(collector.submissions().len(), 2);
}

// Goal: the end of a front is the end of its connections, whatever they wait for.
#[test]
fn the_end_of_a_front_ends_everything() {
    let script = Script::first([Answer::never()]).then(Answer::endless());
    let collector = Collector::start(script).expect("a collector");
    let scene = Scene::new();
    let front = TlsFront::start(collector.address(), &["localhost"]);
    let authority = scene.path("ca.pem");
    front.write_ca(&authority);
    let mut waiting = TcpStream::connect(front.address()).expect("a connection");
    let mut streams = Vec::new();
    for number in [1, 2] {
        let mut stream = connect(&front, &authority, &rustls::version::TLS13);
        stream.write_all(&request(b"")).expect("the front takes it");
        collector.wait_for(number, PATIENCE).expect("it is handed on");
        streams.push(stream);
    }
    streams[1].read_exact(&mut vec![0; 1024 * 1024]).expect("a long answer");
    let start = Instant::now();
    drop(front);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    waiting.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(waiting.read(&mut [0]).expect("the end"), 0, "no handshake any more");
    for mut stream in streams {
        let problem =
            stream.read_to_end(&mut Vec::new()).expect_err("an end that nobody announced");
        assert_ne!(problem.kind(), io::ErrorKind::WouldBlock, "{problem}");
    }
}
