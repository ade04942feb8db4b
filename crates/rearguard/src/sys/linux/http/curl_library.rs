//! libcurl, loaded in a guard, or where somebody sends by hand, and only when there is something to send.
//!
//! The names and numbers are libcurl's stable ABI (curl/curl.h); it is soname 4 since 2006.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use super::super::strings::CText;
use super::library::Library;
use super::{NO_ANSWER, retry_after};
use crate::heap::{List, PutBytes, Text, copied, lossy, owned};
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_MS_MAX, STALL_S_MAX};
use crate::sys::words::{Answer, Post, WITHDRAWN};
use crate::text::joined;

const LIBRARIES: [&CStr; 3] = [c"libcurl.so.4", c"libcurl-gnutls.so.4", c"libcurl-nss.so.4"];

const OPT_URL: c_int = 10_002;
const OPT_POST: c_int = 47;
const OPT_POSTFIELDSIZE_LARGE: c_int = 30_120;
const OPT_HTTPHEADER: c_int = 10_023;
const OPT_USERAGENT: c_int = 10_018;
const OPT_WRITEFUNCTION: c_int = 20_011;
const OPT_WRITEDATA: c_int = 10_001;
const OPT_READFUNCTION: c_int = 20_012;
const OPT_READDATA: c_int = 10_009;
const OPT_SEEKFUNCTION: c_int = 20_167;
const OPT_SEEKDATA: c_int = 10_168;
const OPT_CAINFO: c_int = 10_065;
const OPT_LOW_SPEED_LIMIT: c_int = 19;
const OPT_LOW_SPEED_TIME: c_int = 20;
const OPT_HEADERFUNCTION: c_int = 20_079;
const OPT_HEADERDATA: c_int = 10_029;
const OPT_TIMEOUT_MS: c_int = 155;
const OPT_CONNECTTIMEOUT_MS: c_int = 156;
const OPT_NOSIGNAL: c_int = 99;
const OPT_FOLLOWLOCATION: c_int = 52;
const OPT_MAXREDIRS: c_int = 68;
const OPT_POSTREDIR: c_int = 161;
const OPT_PROTOCOLS: c_int = 181;
const OPT_REDIR_PROTOCOLS: c_int = 182;
const PROTOCOL_HTTP: c_long = 1;
const PROTOCOL_HTTPS: c_long = 2;
const INFO_RESPONSE_CODE: c_int = 0x20_0002;
/// How many redirects are followed; a collector needs one, a loop is cut here.
const REDIRECTS_MAX: c_long = 5;
/// `CURL_REDIR_POST_ALL`: a redirected POST stays one.
const REDIR_POST_ALL: c_long = 7;

/// `CURL_READFUNC_ABORT`, and what the transfer ends with then.
const READ_ABORT: usize = 0x1000_0000;
const ABORTED_BY_CALLBACK: c_int = 42;
/// `CURLE_WRITE_ERROR`: we have ended it, since we had enough.
const ENOUGH: c_int = 23;

type Easy = *mut c_void;
type Lines = *mut c_void;
type Callback = unsafe extern "C" fn(*mut c_char, usize, usize, *mut c_void) -> usize;
type Seek = unsafe extern "C" fn(*mut c_void, i64, c_int) -> c_int;

/// The functions that are used.
struct Curl {
    init: unsafe extern "C" fn() -> Easy,
    setopt: unsafe extern "C" fn(Easy, c_int, ...) -> c_int,
    perform: unsafe extern "C" fn(Easy) -> c_int,
    getinfo: unsafe extern "C" fn(Easy, c_int, ...) -> c_int,
    cleanup: unsafe extern "C" fn(Easy),
    append: unsafe extern "C" fn(Lines, *const c_char) -> Lines,
    free_all: unsafe extern "C" fn(Lines),
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
}

#[expect(
    clippy::missing_transmute_annotations,
    reason = "each type stands once, at the field that the symbol goes to"
)]
/// Loads the library.
fn load() -> Option<Curl> {
    let library = LIBRARIES.iter().find_map(|name| Library::load(name))?;
    /// Gives a symbol its type.
    macro_rules! typed {
        ($name:expr) => {{
            let address = library.symbol($name)?;
            // SAFETY: libcurl's ABI gives this name the field's type.
            unsafe { core::mem::transmute(address) }
        }};
    }
    Some(Curl {
        init: typed!(c"curl_easy_init"),
        setopt: typed!(c"curl_easy_setopt"),
        perform: typed!(c"curl_easy_perform"),
        getinfo: typed!(c"curl_easy_getinfo"),
        cleanup: typed!(c"curl_easy_cleanup"),
        append: typed!(c"curl_slist_append"),
        free_all: typed!(c"curl_slist_free_all"),
        strerror: typed!(c"curl_easy_strerror"),
    })
}

/// What the callbacks take from and fill.
struct Transfer<'a> {
    post: &'a Post<'a>,
    /// How much of the body libcurl has taken.
    taken: usize,
    body: List<u8>,
    retry_after: List<u8>,
    /// Whether the last line of a head was there: libcurl takes a connection that ends before it for an answer.
    is_headed: bool,
}

/// The memory that libcurl hands to a callback.
///
/// # Safety
///
/// `data` must be valid for `size * count` bytes, as libcurl promises.
unsafe fn given<'a>(data: *mut c_char, size: usize, count: usize) -> &'a [u8] {
    let Some(bytes) = size.checked_mul(count).filter(|bytes| *bytes > 0) else { return &[] };
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(data.cast(), bytes) }
}

/// Hands on what comes next of the body, as long as that may be sent.
unsafe extern "C" fn give_body(
    to: *mut c_char,
    size: usize,
    count: usize,
    transfer: *mut c_void,
) -> usize {
    // SAFETY: `transfer` is the value that was set with OPT_READDATA, which outlives the transfer.
    let transfer = unsafe { &mut *transfer.cast::<Transfer<'_>>() };
    if !(transfer.post.may_send)(transfer.taken, transfer.post.body.len()) {
        return READ_ABORT;
    }
    let rest = transfer.post.body.get(transfer.taken..).unwrap_or_default();
    let count = rest.len().min(size.saturating_mul(count));
    // SAFETY: libcurl's memory has room for as much as it asks for, and is not ours.
    unsafe { core::ptr::copy_nonoverlapping(rest.as_ptr(), to.cast(), count) };
    transfer.taken += count;
    count
}

/// Begins anew, as for a redirect.
unsafe extern "C" fn seek_body(transfer: *mut c_void, offset: i64, _origin: c_int) -> c_int {
    // SAFETY: as above.
    let transfer = unsafe { &mut *transfer.cast::<Transfer<'_>>() };
    transfer.taken = usize::try_from(offset).unwrap_or(0);
    0
}

/// Keeps the beginning of the body, and ends the transfer when there is enough: a server may talk without end.
unsafe extern "C" fn receive_body(
    data: *mut c_char,
    size: usize,
    count: usize,
    transfer: *mut c_void,
) -> usize {
    // SAFETY: libcurl's promise.
    let data = unsafe { given(data, size, count) };
    // SAFETY: as above.
    let transfer = unsafe { &mut *transfer.cast::<Transfer<'_>>() };
    let room = ANSWER_BYTES_MAX.saturating_sub(transfer.body.len());
    let kept = room.min(data.len());
    transfer.body.put(data.get(..kept).unwrap_or_default());
    kept
}

/// Looks for `Retry-After`, and for the empty line at the end.
unsafe extern "C" fn receive_header(
    data: *mut c_char,
    size: usize,
    count: usize,
    transfer: *mut c_void,
) -> usize {
    // SAFETY: libcurl's promise.
    let data = unsafe { given(data, size, count) };
    // SAFETY: as above.
    let transfer = unsafe { &mut *transfer.cast::<Transfer<'_>>() };
    if let Some(value) = retry_after(data) {
        transfer.retry_after = copied(value);
    }
    // Another head follows an interim one and a redirect; what comes behind a body, its trailers, is none.
    transfer.is_headed =
        !data.starts_with(b"HTTP/") && (transfer.is_headed || data.trim_ascii().is_empty());
    data.len()
}

pub(super) fn post(post: &Post<'_>) -> Answer {
    let Some(curl) = load() else { return Answer::NoBackEnd };
    // SAFETY: a guard has one thread that sends, and who sends by hand holds a lock. An application that uses libcurl itself has made libcurl's global initialisation before, or a libcurl since 7.84, which makes it safely.
    let easy = unsafe { (curl.init)() };
    if easy.is_null() {
        return Answer::NoBackEnd;
    }
    let answer = transfer(&curl, easy, post);
    // SAFETY: the handle is libcurl's and is used no more.
    unsafe { (curl.cleanup)(easy) };
    answer
}

fn transfer(curl: &Curl, easy: Easy, post: &Post<'_>) -> Answer {
    let content_type = joined(&["Content-Type: ", post.content_type]);
    // Without this line libcurl asks before it sends and waits a second for servers that don't answer that.
    let lines = [content_type.as_str(), "Expect:", "Content-Encoding: gzip"];
    let mut headers: Lines = core::ptr::null_mut();
    for line in lines.into_iter().take(if post.is_compressed { 3 } else { 2 }) {
        let line = CText::new(line.as_bytes());
        // SAFETY: list and line are valid; libcurl copies the line.
        headers = unsafe { (curl.append)(headers, line.as_c_str().as_ptr()) };
    }
    // The callbacks write through this pointer alone, and nobody looks before the transfer is over.
    let mut transfer =
        Transfer { post, taken: 0, body: List::new(), retry_after: List::new(), is_headed: false };
    let with = &raw mut transfer;
    let performed = set_up(curl, easy, post, headers, with).map(|()| perform(curl, easy));
    let answer = match performed {
        None => Answer::NoBackEnd,
        Some(Err(reason)) => Answer::Failed(reason),
        Some(Ok(_)) if !transfer.is_headed => Answer::Failed(owned(NO_ANSWER)),
        Some(Ok(status)) => {
            Answer::Response { status, body: transfer.body, retry_after: transfer.retry_after }
        }
    };
    // SAFETY: the list is libcurl's, and the transfer that used it is over.
    unsafe { (curl.free_all)(headers) };
    answer
}

/// Sets every option; `None` when the library doesn't know one that matters.
fn set_up(
    curl: &Curl,
    easy: Easy,
    post: &Post<'_>,
    headers: Lines,
    transfer: *mut Transfer<'_>,
) -> Option<()> {
    // libcurl copies strings, so these may go when this function ends.
    let url = CText::new(post.url.as_bytes());
    let agent = CText::new(post.user_agent.as_bytes());
    let number = |option: c_int, value: c_long| {
        // SAFETY: the option takes a long.
        (unsafe { (curl.setopt)(easy, option, value) } == 0).then_some(())
    };
    let pointer = |option: c_int, value: *const c_void| {
        // SAFETY: the option takes a pointer, which libcurl copies from or which outlives the transfer.
        (unsafe { (curl.setopt)(easy, option, value) } == 0).then_some(())
    };
    let callback = |option: c_int, value: Callback| {
        // SAFETY: the option takes a function of this type.
        (unsafe { (curl.setopt)(easy, option, value) } == 0).then_some(())
    };
    pointer(OPT_URL, url.as_c_str().as_ptr().cast())?;
    pointer(OPT_USERAGENT, agent.as_c_str().as_ptr().cast())?;
    number(OPT_POST, 1)?;
    // SAFETY: the option takes a curl_off_t, 64 bits wide.
    (unsafe { (curl.setopt)(easy, OPT_POSTFIELDSIZE_LARGE, post.body.len() as i64) } == 0)
        .then_some(())?;
    pointer(OPT_HTTPHEADER, headers)?;
    number(OPT_NOSIGNAL, 1)?;
    number(OPT_TIMEOUT_MS, post.timeout_ms as c_long)?;
    number(OPT_CONNECTTIMEOUT_MS, CONNECT_MS_MAX.min(post.timeout_ms) as c_long)?;
    number(OPT_LOW_SPEED_LIMIT, 1)?;
    number(OPT_LOW_SPEED_TIME, STALL_S_MAX as c_long)?;
    if !post.certificates.is_empty() {
        let path = CText::new(post.certificates);
        pointer(OPT_CAINFO, path.as_c_str().as_ptr().cast())?;
    }
    number(OPT_FOLLOWLOCATION, 1)?;
    number(OPT_MAXREDIRS, REDIRECTS_MAX)?;
    number(OPT_POSTREDIR, REDIR_POST_ALL)?;
    let redirects = if post.url.starts_with("https://") {
        PROTOCOL_HTTPS
    } else {
        PROTOCOL_HTTP | PROTOCOL_HTTPS
    };
    number(OPT_PROTOCOLS, PROTOCOL_HTTP | PROTOCOL_HTTPS)?;
    number(OPT_REDIR_PROTOCOLS, redirects)?;
    let with = transfer.cast_const().cast();
    // SAFETY: the option takes a function of this type.
    (unsafe { (curl.setopt)(easy, OPT_SEEKFUNCTION, seek_body as Seek) } == 0).then_some(())?;
    pointer(OPT_SEEKDATA, with)?;
    for (option, function, data) in [
        (OPT_READFUNCTION, give_body as Callback, OPT_READDATA),
        (OPT_WRITEFUNCTION, receive_body, OPT_WRITEDATA),
        (OPT_HEADERFUNCTION, receive_header, OPT_HEADERDATA),
    ] {
        callback(option, function)?;
        pointer(data, with)?;
    }
    Some(())
}

/// Sends, and gives the HTTP status or why there is none.
fn perform(curl: &Curl, easy: Easy) -> Result<u16, Text> {
    // SAFETY: the handle is set up, and everything that it points to is alive.
    let code = unsafe { (curl.perform)(easy) };
    if code == ABORTED_BY_CALLBACK {
        return Err(owned(WITHDRAWN));
    }
    if code != 0 && code != ENOUGH {
        // SAFETY: libcurl returns a static text for every code.
        let text = unsafe { (curl.strerror)(code) };
        // SAFETY: the text is NUL-terminated.
        let text = unsafe { CStr::from_ptr(text) };
        return Err(lossy(text.to_bytes()));
    }
    let mut status: c_long = 0;
    // SAFETY: the information is a long.
    unsafe { (curl.getinfo)(easy, INFO_RESPONSE_CODE, &raw mut status) };
    Ok(u16::try_from(status).unwrap_or(0))
}
