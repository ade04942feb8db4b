//! The collector itself, spoken to byte by byte: what it keeps, what it objects to, how it answers and how it doesn't.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rearguard_cli::collector::{Answer, Collector, Script, Submission, Violation};

const WAIT: Duration = Duration::from_secs(10);
const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const KIND: &str = "Content-Type: multipart/form-data; boundary=B";

/// A form as it should be, with annotations and a minidump.
fn form() -> Vec<u8> {
    let mut form = String::new();
    for (name, value) in
        [("prod", "app"), ("ver", "1"), ("guid", "g"), ("ptype", "worker"), ("a", "1"), ("b", "2")]
    {
        form +=
            &format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    form += &format!(
        "--B\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"{ID}.dmp\"\r\n\
         Content-Type: application/octet-stream\r\n\r\nMDMP\r\n\0\r\n--B--\r\n"
    );
    form.into_bytes()
}

fn post(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request =
        format!("POST /submit HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n").into_bytes();
    request.extend_from_slice(head.as_bytes());
    request.extend_from_slice(b"\r\n\r\n");
    request.extend_from_slice(body);
    request
}

/// Sends bytes and reads until the collector closes.
fn exchange(collector: &Collector, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(collector.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    // The collector may have answered and closed before everything is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn only(collector: &Collector) -> Submission {
    let mut came = collector.wait_for(1, WAIT).unwrap();
    assert_eq!(came.len(), 1);
    came.remove(0)
}

/// What one request shows, against a collector that accepts everything.
fn judged(request: &[u8]) -> (Submission, String) {
    let collector = Collector::start(Script::default()).unwrap();
    let answer = exchange(&collector, request);
    (only(&collector), answer)
}

/// Goal: a good report is kept whole, breaks no rule, and gets an id.
#[test]
fn a_good_report_is_kept() {
    let (submission, answer) = judged(&post(KIND, &form()));
    assert_eq!(submission.violations, []);
    assert_eq!(submission.field("prod"), Some("app"));
    assert_eq!(submission.report_id(), Some(ID));
    assert_eq!(submission.minidump().unwrap().bytes, b"MDMP\r\n\0");
    assert_eq!(submission.raw, form());
    assert_eq!(submission.fields().len(), 6);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(submission.answer.starts_with("CrashID=bp-"), "{}", submission.answer);
    assert!(answer.ends_with(&submission.answer), "{answer}");
}

/// Goal: a compressed body is unpacked, unless the script plays a server that doesn't know gzip.
#[test]
fn gzip_is_unpacked_or_refused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&form()).unwrap();
    let packed = encoder.finish().unwrap();
    let request = post(&format!("{KIND}\r\nContent-Encoding: gzip"), &packed);
    let (submission, _) = judged(&request);
    assert_eq!(submission.violations, []);
    assert_eq!(submission.body_bytes, packed.len());
    assert_eq!(submission.raw, packed, "the raw body is the packed one");
    assert_eq!(submission.report_id(), Some(ID));

    let collector = Collector::start(Script::default().without_gzip()).unwrap();
    assert!(exchange(&collector, &request).starts_with("HTTP/1.1 415 "));
    assert!(exchange(&collector, &post(KIND, &form())).starts_with("HTTP/1.1 200 "));
    let numbers: Vec<_> = collector.submissions().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [0, 1], "the refusal has used up an answer");
}

/// Goal: what servers of the field refuse is refused and named.
#[test]
fn bad_requests_are_refused() {
    let (submission, answer) = judged(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(submission.violations, [Violation::NoContentLength]);
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");

    let (submission, answer) =
        judged(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(submission.violations, [Violation::TransferEncoding("chunked".to_owned())]);
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");

    let (submission, answer) = judged(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(submission.violations, [Violation::NotPost("GET".to_owned())]);
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");

    let (submission, answer) = judged(b"nonsense\r\n\r\n");
    assert!(matches!(submission.violations[..], [Violation::BadHead(_)]), "{submission:?}");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    let (submission, _) = judged(&post("Content-Length: 5", b""));
    assert_eq!(submission.violations, [Violation::BadContentLength]);
}

/// Goal: a form that breaks rules is named for each.
#[test]
fn bad_forms_are_named() {
    let text = String::from_utf8(form()).unwrap();
    let judge = |text: &str| judged(&post(KIND, text.as_bytes())).0.violations;
    assert_eq!(judge(text.trim_end()), [Violation::FinalBoundaryWithoutCrlf]);
    let swapped = text.replace("\"a\"", "\"c\"");
    assert_eq!(judge(&swapped), [Violation::FieldsOutOfOrder]);
    assert_eq!(judge(&text.replace("\"a\"", "\"b\"")), [Violation::FieldTwice("b".to_owned())]);
    assert_eq!(judge(&text.replace("\"a\"", "\"100%41\"")), [], "an escaped name is good");
    let missing = judge(&text.replace("\"guid\"", "\"gid\""));
    assert_eq!(missing, [Violation::FieldMissing("guid"), Violation::FieldsOutOfOrder]);
    let named = judge(&text.replace(ID, "core"));
    assert_eq!(named, [Violation::MinidumpName("core.dmp".to_owned())]);
    assert_eq!(judge(&text.replace("MDMP", "PMDM")), [Violation::NotAMinidump]);
}

/// Goal: a body that ends early is kept as what it is.
#[test]
fn a_cut_off_body_is_named() {
    let collector = Collector::start(Script::default()).unwrap();
    let mut stream = TcpStream::connect(collector.address()).unwrap();
    let request = post(KIND, &form());
    stream.write_all(&request[..request.len() - 10]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let submission = only(&collector);
    let announced = form().len();
    assert_eq!(submission.violations, [Violation::BodyCutOff { got: announced - 10, announced }]);
    assert_eq!(submission.parts, []);
    assert_eq!(submission.raw, form()[..announced - 10]);
}

/// Goal: the script's answers come in its order, each as it says.
#[test]
fn the_script_is_followed() {
    let script = Script::first([
        Answer::status(429).header("Retry-After", "7").body("later"),
        Answer::created(),
        Answer::redirect("http://elsewhere/"),
        Answer::cut_off(20),
        Answer::cut_off(0),
        Answer::discard("rule"),
    ]);
    let collector = Collector::start(script.then(Answer::status(500))).unwrap();
    let ask = || exchange(&collector, &post(KIND, &form()));
    let busy = ask();
    assert!(busy.starts_with("HTTP/1.1 429 ") && busy.contains("\r\nRetry-After: 7\r\n"), "{busy}");
    assert!(busy.ends_with("\r\n\r\nlater"), "{busy}");
    assert!(ask().starts_with("HTTP/1.1 201 "));
    let elsewhere = ask();
    assert!(elsewhere.contains("\r\nLocation: http://elsewhere/\r\n"), "{elsewhere}");
    assert_eq!(ask(), "HTTP/1.1 200 OK\r\nCon");
    assert_eq!(ask(), "");
    assert!(ask().ends_with("Discarded=rule"));
    assert!(ask().starts_with("HTTP/1.1 500 "));
    assert!(ask().starts_with("HTTP/1.1 500 "));
    let statuses: Vec<_> = collector.submissions().iter().map(|one| one.status).collect();
    let expected = [Some(429), Some(201), Some(307), None, None, Some(200), Some(500), Some(500)];
    assert_eq!(statuses, expected);
}

/// Sends a good report, and leaves the answer to be read.
fn begin(collector: &Collector) -> TcpStream {
    let mut stream = TcpStream::connect(collector.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&post(KIND, &form())).unwrap();
    stream
}

/// Goal: a redirect has the status that the script asks for.
#[test]
fn a_redirect_has_its_status() {
    for status in [301, 302, 303, 307, 308] {
        let script = Script::always(Answer::redirect_by(status, "/elsewhere"));
        let collector = Collector::start(script).unwrap();
        let answer = exchange(&collector, &post(KIND, &form()));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nLocation: /elsewhere\r\n"), "{answer}");
        assert_eq!(only(&collector).status, Some(status));
    }
}

/// Goal: a dripping answer is a whole one, byte by byte; it ends with its client or with the collector.
#[test]
fn a_dripping_answer_is_slow() {
    let interval = Duration::from_millis(1);
    let hour = Duration::from_secs(3600);
    let script = Script::first([Answer::drip(interval)]).then(Answer::drip(hour));
    let collector = Collector::start(script).unwrap();
    let start = Instant::now();
    let answer = exchange(&collector, &post(KIND, &form()));
    let pauses = u32::try_from(answer.len()).unwrap() - 1;
    assert!(start.elapsed() >= interval * pauses, "{:?}", start.elapsed());
    let submission = only(&collector);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&submission.answer),
        "{answer}"
    );
    assert!(submission.answer.starts_with("CrashID=bp-"), "{}", submission.answer);
    assert_eq!(submission.status, Some(200));

    let mut stream = begin(&collector);
    let mut first = [0; 100];
    assert_eq!(stream.read(&mut first).unwrap(), 1, "each byte comes by itself");
    let start = Instant::now();
    drop(collector);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(stream.read(&mut first).unwrap(), 0);
}

/// Goal: an endless answer has no length and no end; it ends with its client or with the collector, whether that reads or not.
#[test]
fn an_endless_answer_ends_with_either_side() {
    let collector = Collector::start(Script::always(Answer::endless())).unwrap();
    let mut stream = begin(&collector);
    let mut answer = vec![0; 4 * 1024 * 1024];
    stream.read_exact(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\nconnection: close"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    let submission = only(&collector);
    assert_eq!((submission.status, submission.answer.as_str()), (None, ""));
    drop(stream);

    let deaf = begin(&collector);
    collector.wait_for(2, WAIT).unwrap();
    let start = Instant::now();
    drop(collector);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(deaf);
}

/// Goal: a reset comes as one, not as an end of file, after the request was read, and the collector goes on.
#[test]
fn a_reset_is_a_reset() {
    let script = Script::first([Answer::reset(), Answer::reset().after(Duration::from_millis(50))]);
    let collector = Collector::start(script).unwrap();
    for number in [1, 2] {
        let mut stream = begin(&collector);
        let problem = stream.read(&mut [0]).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::ConnectionReset, "{number}: {problem}");
    }
    let came = collector.submissions();
    assert_eq!(came.len(), 2);
    assert!(came.iter().all(|one| one.violations.is_empty() && one.status.is_none()), "{came:?}");
    assert!(exchange(&collector, &post(KIND, &form())).starts_with("HTTP/1.1 200 "));
}

/// Goal: an answer before the body reaches a client that is still sending a large one.
#[test]
fn an_early_answer_arrives() {
    let script = Script::always(Answer::status(413).before_body());
    let collector = Collector::start(script).unwrap();
    let answer = exchange(&collector, &post(KIND, &vec![b'x'; 8 * 1024 * 1024]));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(only(&collector).parts, []);
}

/// Goal: a client that asks for leave gets it before it has sent its body.
#[test]
fn expect_continue_is_answered() {
    let collector = Collector::start(Script::default()).unwrap();
    let request = post(&format!("{KIND}\r\nExpect: 100-continue"), &form());
    let (head, body) = request.split_at(request.len() - form().len());
    let mut stream = TcpStream::connect(collector.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(head).unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body).unwrap();
    assert_eq!(only(&collector).violations, []);
}

/// Goal: delays are kept, and the end of the collector ends delays, silences and half-sent requests at once.
#[test]
fn the_end_ends_everything() {
    let delay = Duration::from_millis(50);
    let script = Script::first([Answer::accept().after(delay), Answer::never()])
        .then(Answer::accept().after(Duration::from_secs(3600)));
    let collector = Collector::start(script).unwrap();
    let begin = Instant::now();
    assert!(exchange(&collector, &post(KIND, &form())).starts_with("HTTP/1.1 200 "));
    assert!(begin.elapsed() >= delay);

    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(collector.address()).unwrap();
        stream.write_all(&post(KIND, &form())).unwrap();
        waiting.push(stream);
    }
    let mut half = TcpStream::connect(collector.address()).unwrap();
    half.write_all(b"POST / HT").unwrap();
    waiting.push(half);
    collector.wait_for(3, WAIT).unwrap();
    let begin = Instant::now();
    drop(collector);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    for mut stream in waiting {
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut answer = Vec::new();
        // An end of file or a reset: either way the connection is over.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
}

/// Goal: waiting has an end, and says what came; submissions can be taken out one by one.
#[test]
fn waiting_has_an_end() {
    let collector = Collector::start(Script::default()).unwrap();
    exchange(&collector, &post(KIND, &form()));
    let problem = collector.wait_for(2, Duration::from_millis(10)).unwrap_err();
    assert_eq!((problem.wanted, problem.came.len()), (2, 1));
    assert!(problem.to_string().starts_with("1 of 2 reports"), "{problem}");
    collector.expect_no_more(1, Duration::from_millis(10)).unwrap();
    assert_eq!(collector.expect_no_more(0, WAIT).unwrap_err().came.len(), 1);
    assert!(collector.take(WAIT).is_some());
    assert!(collector.take(Duration::ZERO).is_none());
}
