//! One connection: reads a request, keeps it, answers as the script says.
//!
//! Every read is bounded in size and time; whatever is missing or wrong becomes a violation of the submission.

use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::script::{Answer, Body, Reply, Response};
use super::{AcceptorsCopy, Shared, Submission, Violation, multipart};

/// Heads of reporters have a dozen lines; this is what servers of the field allow.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// As above.
const HEADERS_MAX: usize = 100;
/// More than the largest minidump of any test; a larger body gets 413.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same for what a compressed body unpacks to, so that a small one can't take all memory.
const UNPACKED_BYTES_MAX: u64 = BODY_BYTES_MAX as u64;
/// A client that is silent for so long is taken for dead.
const READ_WAIT: Duration = Duration::from_secs(30);
/// How long the client's remaining bytes are swallowed after an early answer, so that a reset doesn't overtake it.
const LINGER_WAIT: Duration = Duration::from_secs(5);

/// The head of a response whose length nobody knows.
const ENDLESS_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";

/// What was read of a request.
struct Request {
    submission: Submission,
    /// What came after the head in the same packets.
    rest: Vec<u8>,
}

/// The whole life of a connection.
pub(super) fn serve(mut stream: TcpStream, copy: &AcceptorsCopy, shared: &Shared) {
    // Without its limits the connection would be served wrongly, so it isn't served at all.
    if stream.set_read_timeout(Some(READ_WAIT)).is_err()
        || stream.set_write_timeout(Some(READ_WAIT)).is_err()
    {
        return;
    }
    let Some(mut request) = read_head(&mut stream) else { return };
    let refusal = refuse_by_head(&mut request.submission, shared.script.accepts_gzip());
    let answer = match refusal {
        Some(status) => Answer::status(status).before_body(),
        None => {
            let number = shared.next_number();
            request.submission.number = number;
            shared.script.answer(number).clone()
        }
    };
    if !answer.before_body {
        read_body(&mut stream, &mut request);
    }
    let bytes = render(&answer, &mut request.submission);
    shared.keep(request.submission);
    if shared.pause(answer.delay) {
        reply(&mut stream, copy, &answer, &bytes, shared);
    }
    // While the acceptor has its copy of the descriptor, dropping ours leaves the connection open.
    copy.shut_down();
}

/// `None` when the client left without a word, as our own wake-up connection does.
fn read_head(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let submission = parse_head(&bytes).unwrap_or_else(|why| bad_head(&why));
            return Some(Request { submission, rest });
        }
        if bytes.len() > HEAD_BYTES_MAX {
            let submission = bad_head("it is too long");
            return Some(Request { submission, rest: Vec::new() });
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) if bytes.is_empty() => return None,
            Ok(0) => {
                let submission = bad_head("it has no end");
                return Some(Request { submission, rest: Vec::new() });
            }
            Err(error) => {
                let submission = bad_head(&error.to_string());
                return Some(Request { submission, rest: Vec::new() });
            }
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

fn bad_head(why: &str) -> Submission {
    Submission { violations: vec![Violation::BadHead(why.to_owned())], ..Submission::default() }
}

fn parse_head(bytes: &[u8]) -> Result<Submission, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    head.parse(bytes).map_err(|error| error.to_string())?;
    let pair = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
    };
    Ok(Submission {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(pair).collect(),
        ..Submission::default()
    })
}

/// What a server of the field refuses before it reads the body.
fn refuse_by_head(submission: &mut Submission, accepts_gzip: bool) -> Option<u16> {
    if !submission.violations.is_empty() {
        return Some(400);
    }
    if submission.method != "POST" {
        submission.violations.push(Violation::NotPost(submission.method.clone()));
        return Some(405);
    }
    if let Some(coding) = submission.header("Transfer-Encoding") {
        let violation = Violation::TransferEncoding(coding.to_owned());
        submission.violations.push(violation);
        return Some(411);
    }
    if submission.header("Content-Length").is_none() {
        submission.violations.push(Violation::NoContentLength);
        return Some(411);
    }
    match announced_bytes(submission) {
        None => {
            submission.violations.push(Violation::BadContentLength);
            Some(400)
        }
        Some(bytes) if bytes > BODY_BYTES_MAX as u64 => {
            submission.violations.push(Violation::TooLarge(bytes));
            Some(413)
        }
        Some(_) => (!accepts_gzip && is_gzip(submission)).then_some(415),
    }
}

/// The single, valid `Content-Length`.
fn announced_bytes(submission: &Submission) -> Option<u64> {
    let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("Content-Length");
    let mut lengths = submission.headers.iter().filter(named);
    let (_, first) = lengths.next()?;
    let plain = first.bytes().all(|byte| byte.is_ascii_digit());
    if lengths.next().is_some() || !plain { None } else { first.parse().ok() }
}

fn is_gzip(submission: &Submission) -> bool {
    submission.header("Content-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
}

/// Reads the body, unpacks it, and takes the form apart.
fn read_body(stream: &mut TcpStream, request: &mut Request) {
    let Request { submission, rest } = request;
    let announced = announced_bytes(submission).and_then(|bytes| usize::try_from(bytes).ok());
    let announced = announced.unwrap_or_default();
    if submission.header("Expect").is_some_and(|word| word.eq_ignore_ascii_case("100-continue")) {
        // A client that doesn't get it goes on by itself, later.
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut body = std::mem::take(rest);
    if body.len() > announced {
        submission.violations.push(Violation::TrailingBytes);
        body.truncate(announced);
    }
    let missing = u64::try_from(announced - body.len()).unwrap_or(u64::MAX);
    // An error here is a body that ends early, which the count shows.
    let _ = Read::by_ref(stream).take(missing).read_to_end(&mut body);
    submission.body_bytes = body.len();
    submission.raw = body;
    if submission.body_bytes < announced {
        let got = submission.body_bytes;
        submission.violations.push(Violation::BodyCutOff { got, announced });
        return;
    }
    let kind = submission.header("Content-Type").unwrap_or_default();
    match unpack(submission).map(|body| multipart::read(kind, &body)) {
        Ok((parts, violations)) => {
            submission.parts = parts;
            submission.violations.extend(violations);
            submission.check_parts();
        }
        Err(violation) => submission.violations.push(violation),
    }
}

fn unpack(submission: &Submission) -> Result<Cow<'_, [u8]>, Violation> {
    match submission.header("Content-Encoding") {
        None => Ok(Cow::Borrowed(&submission.raw)),
        Some(_) if is_gzip(submission) => {
            let mut unpacked = Vec::new();
            let decoder = flate2::read::GzDecoder::new(submission.raw.as_slice());
            decoder
                .take(UNPACKED_BYTES_MAX)
                .read_to_end(&mut unpacked)
                .map_err(|error| Violation::BadGzip(error.to_string()))?;
            Ok(Cow::Owned(unpacked))
        }
        Some(coding) => Err(Violation::ContentEncoding(coding.to_owned())),
    }
}

/// The bytes of the answer, which the submission remembers.
fn render(answer: &Answer, submission: &mut Submission) -> Vec<u8> {
    match &answer.reply {
        Reply::Silence | Reply::Reset => Vec::new(),
        Reply::Endless => ENDLESS_HEAD.to_vec(),
        Reply::Response(response) | Reply::Drip(response, _) => {
            submission.status = Some(response.status);
            submission.answer = response.body.render();
            response_bytes(response, &submission.answer)
        }
        Reply::CutOff(response, bytes) => {
            let mut whole = response_bytes(response, &response.body.render());
            whole.truncate(*bytes);
            whole
        }
    }
}

fn response_bytes(response: &Response, body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
    for (name, value) in &response.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let kind = match response.body {
        Body::CrashId | Body::Text(_) => "text/plain",
    };
    let length = body.len();
    text.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n"));
    text.push_str(&format!("Connection: close\r\n\r\n{body}"));
    text.into_bytes()
}

/// The words beside the number, which no client reads.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        300..=399 => "Elsewhere",
        400..=499 => "Refused",
        500..=599 => "Broken",
        _ => "Answer",
    }
}

fn reply(
    stream: &mut TcpStream,
    copy: &AcceptorsCopy,
    answer: &Answer,
    bytes: &[u8],
    shared: &Shared,
) {
    match &answer.reply {
        Reply::Response(_) => finish(stream, bytes),
        Reply::Drip(_, interval) => {
            if let Some((last, before)) = bytes.split_last()
                && drip(stream, before, *interval, shared)
            {
                finish(stream, std::slice::from_ref(last));
            }
        }
        Reply::Endless => {
            if stream.write_all(bytes).is_ok() {
                flood(stream);
            }
        }
        // Whether the client reads the fragment is its own affair. The end of `serve` cuts it off.
        Reply::CutOff(..) => {
            let _ = stream.write_all(bytes);
        }
        Reply::Reset => prepare_reset(stream, copy),
        // Ends with the client, or with the collector, which shuts the stream down.
        Reply::Silence => swallow(stream, Duration::MAX),
    }
}

/// Sends the end of a response, and stays until the client has seen it.
fn finish(stream: &mut TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        swallow(stream, LINGER_WAIT);
    }
}

/// Sends byte by byte, with a pause after each; whether client and collector are still there.
fn drip(stream: &mut TcpStream, bytes: &[u8], interval: Duration, shared: &Shared) -> bool {
    // Else the kernel would keep bytes back and send them together.
    stream.set_nodelay(true).is_ok()
        && bytes.iter().all(|byte| {
            stream.write_all(std::slice::from_ref(byte)).is_ok() && shared.pause(interval)
        })
}

/// Sends until the client or the collector ends the connection.
fn flood(stream: &mut TcpStream) {
    let chunk = [b'.'; 16 * 1024];
    loop {
        match stream.write(&chunk) {
            Ok(_) => {}
            // A client that doesn't read is still there.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Lets the stream end by a reset when it is dropped.
fn prepare_reset(stream: &TcpStream, copy: &AcceptorsCopy) {
    // A close that has no time to linger is a reset. Without it the client sees an end of file, as after a cut-off.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
    // Only the last descriptor's end closes the connection.
    drop(copy.take());
}

/// Reads until the client has nothing more to say, or the time is over.
fn swallow(stream: &mut TcpStream, wait: Duration) {
    let deadline = Instant::now().checked_add(wait);
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            // Silence on the other side is what an endless wait is about.
            Err(error) if deadline.is_none() && error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
