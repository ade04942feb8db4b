//! One POST by WinHTTP: the system's proxy, the system's trust store, no TLS of ours. The library is loaded when it is needed.

use core::ffi::c_void;

use rearguard_crashpath::time;

use super::handles::last_error;
use super::libraries::Library;
use super::proxy::{self, Proxy};
use super::wide;
use crate::heap::List;
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_MS_MAX, STALL_S_MAX};
use crate::sys::words::{Answer, Post, WITHDRAWN};

type Handle = *mut c_void;

/// How much of a report is given to the library at once, in bytes; in between the user's word is asked for.
const PIECE_BYTES: usize = 16 << 10;

/// How often a report is sent again for a proxy or a server that asks first who sends; more would be a loop.
const RESENDS_MAX: usize = 3;

/// The functions of winhttp.dll that one POST needs.
struct WinHttp {
    open: unsafe extern "system" fn(*const u16, u32, *const u16, *const u16, u32) -> Handle,
    set_timeouts: unsafe extern "system" fn(Handle, i32, i32, i32, i32) -> i32,
    connect: unsafe extern "system" fn(Handle, *const u16, u16, u32) -> Handle,
    open_request: unsafe extern "system" fn(
        Handle,
        *const u16,
        *const u16,
        *const u16,
        *const u16,
        *const *const u16,
        u32,
    ) -> Handle,
    send: unsafe extern "system" fn(Handle, *const u16, u32, *const c_void, u32, u32, usize) -> i32,
    write: unsafe extern "system" fn(Handle, *const c_void, u32, *mut u32) -> i32,
    receive: unsafe extern "system" fn(Handle, *mut c_void) -> i32,
    query:
        unsafe extern "system" fn(Handle, u32, *const u16, *mut c_void, *mut u32, *mut u32) -> i32,
    read: unsafe extern "system" fn(Handle, *mut c_void, u32, *mut u32) -> i32,
    close: unsafe extern "system" fn(Handle) -> i32,
    set_option: unsafe extern "system" fn(Handle, u32, *const c_void, u32) -> i32,
}

impl WinHttp {
    fn load() -> Option<WinHttp> {
        let library = Library::load("winhttp.dll")?;
        // SAFETY: the field has the function's type, as for all that follow.
        let open = unsafe { library.function(c"WinHttpOpen") }?;
        // SAFETY: as above.
        let set_timeouts = unsafe { library.function(c"WinHttpSetTimeouts") }?;
        // SAFETY: as above.
        let connect = unsafe { library.function(c"WinHttpConnect") }?;
        // SAFETY: as above.
        let open_request = unsafe { library.function(c"WinHttpOpenRequest") }?;
        // SAFETY: as above.
        let send = unsafe { library.function(c"WinHttpSendRequest") }?;
        // SAFETY: as above.
        let write = unsafe { library.function(c"WinHttpWriteData") }?;
        // SAFETY: as above.
        let receive = unsafe { library.function(c"WinHttpReceiveResponse") }?;
        // SAFETY: as above.
        let query = unsafe { library.function(c"WinHttpQueryHeaders") }?;
        // SAFETY: as above.
        let read = unsafe { library.function(c"WinHttpReadData") }?;
        // SAFETY: as above.
        let close = unsafe { library.function(c"WinHttpCloseHandle") }?;
        // SAFETY: as above.
        let set_option = unsafe { library.function(c"WinHttpSetOption") }?;
        Some(WinHttp {
            open,
            set_timeouts,
            connect,
            open_request,
            send,
            write,
            receive,
            query,
            read,
            close,
            set_option,
        })
    }
}

/// A handle of WinHTTP's; it is closed with this value.
struct Owned<'a> {
    http: &'a WinHttp,
    handle: Handle,
}

impl Owned<'_> {
    fn of(http: &WinHttp, handle: Handle) -> Option<Owned<'_>> {
        (!handle.is_null()).then_some(Owned { http, handle })
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { (self.http.close)(self.handle) };
    }
}

/// Where a URL points.
struct Target {
    host: String,
    port: u16,
    path: String,
    is_secure: bool,
}

/// Takes a URL apart. The builder has checked that it is `http` or `https` with a host.
fn target(url: &str) -> Option<Target> {
    let (is_secure, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    // What stands in front of an @ is a name and a password, which WinHTTP doesn't take from here.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => {
            authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        }
    };
    let port = match port {
        Some(port) if !port.is_empty() => port.parse().ok()?,
        Some(_) | None if is_secure => 443,
        Some(_) | None => 80,
    };
    let mut whole = String::new();
    if !path.starts_with('/') {
        whole.push('/');
    }
    whole.push_str(path);
    Some(Target { host: host.to_owned(), port, path: whole, is_secure })
}

/// Nothing: the system's own library compresses no requests, and one that is brought along would cost more than it saves.
pub(crate) fn compress(_body: &[u8]) -> Option<List<u8>> {
    None
}

/// Why nothing is sent where there is nothing to send it with.
pub(crate) const NO_BACK_END: &str = "winhttp.dll was not found";

/// Sends one POST. Each step has what is left of the time-out.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    let Some(http) = WinHttp::load() else { return Answer::NoBackEnd };
    send(&http, post).unwrap_or_else(|reason| Answer::Failed(reason.into()))
}

fn failed(step: &str) -> String {
    let mut reason = String::from(step);
    reason.push_str(" failed with error ");
    reason.push_str(&last_error().to_string());
    reason
}

/// What is left of a time-out.
#[derive(Clone, Copy)]
struct Deadline(u64);

impl Deadline {
    fn after(timeout_ms: u64) -> Deadline {
        Deadline(time::monotonic_ns().saturating_add(timeout_ms.saturating_mul(1_000_000)))
    }

    fn is_over(self) -> bool {
        time::monotonic_ns() >= self.0
    }

    /// Gives it to each further step of a session or a request.
    fn tell(self, owned: &Owned<'_>) {
        let left_ms = self.0.saturating_sub(time::monotonic_ns()) / 1_000_000;
        // Zero would mean no limit.
        let left_ms = i32::try_from(left_ms).unwrap_or(i32::MAX).max(1);
        let within = |limit_ms: u64| left_ms.min(i32::try_from(limit_ms).unwrap_or(i32::MAX));
        let (connect_ms, stall_ms) = (within(CONNECT_MS_MAX), within(STALL_S_MAX * 1_000));
        // SAFETY: the handle is ours.
        unsafe {
            (owned.http.set_timeouts)(owned.handle, connect_ms, connect_ms, stall_ms, stall_ms)
        };
    }
}

/// Opens a session with the proxy that leads to the target.
fn open<'a>(http: &'a WinHttp, post: &Post<'_>, target: &Target) -> Result<Owned<'a>, String> {
    /// `WINHTTP_ACCESS_TYPE_AUTOMATIC_PROXY`, and what older systems have.
    const OF_THE_SYSTEM: [u32; 2] = [4, 0];
    /// `WINHTTP_ACCESS_TYPE_NAMED_PROXY`.
    const NAMED: u32 = 3;
    let agent = wide::literal(post.user_agent);
    let open = |access: u32, proxy: *const u16| {
        // SAFETY: the names end with zeros, or there is none; no host is excepted.
        let session = unsafe { (http.open)(agent.as_ptr(), access, proxy, core::ptr::null(), 0) };
        Owned::of(http, session)
    };
    let variable = |name: &str| std::env::var(name).ok();
    let session = match proxy::choose(target.is_secure, &target.host, &variable) {
        Proxy::OfTheSystem => {
            OF_THE_SYSTEM.into_iter().find_map(|access| open(access, core::ptr::null()))
        }
        Proxy::Named(proxy) => open(NAMED, wide::literal(&proxy).as_ptr()),
        // Past it nothing is sent: whoever named it wants no other way.
        Proxy::OfAnotherKind => {
            return Err("only an HTTP proxy can be used on this system".to_owned());
        }
    };
    session.ok_or_else(|| failed("WinHttpOpen"))
}

fn send(http: &WinHttp, post: &Post<'_>) -> Result<Answer, String> {
    /// `WINHTTP_FLAG_SECURE`.
    const SECURE: u32 = 0x0080_0000;
    /// `WINHTTP_OPTION_REDIRECT_POLICY`, `..._NEVER`: a report isn't sent to where nobody has agreed to.
    const REDIRECT_POLICY: u32 = 88;
    /// `WINHTTP_QUERY_STATUS_CODE`.
    const STATUS_CODE: u32 = 19;
    if !post.certificates.is_empty() {
        return Err("a file of certificates can't be used on this system".to_owned());
    }
    if !(post.may_send)(0, post.body.len()) {
        return Err(WITHDRAWN.to_owned());
    }
    let deadline = Deadline::after(post.timeout_ms);
    let target = target(post.url).ok_or("the collector's URL can't be taken apart")?;
    let session = open(http, post, &target)?;
    deadline.tell(&session);
    let host = wide::literal(&target.host);
    // SAFETY: the host ends with a zero.
    let connection = unsafe { (http.connect)(session.handle, host.as_ptr(), target.port, 0) };
    let connection = Owned::of(http, connection).ok_or_else(|| failed("WinHttpConnect"))?;
    let (method, path) = (wide::literal("POST"), wide::literal(&target.path));
    let flags = if target.is_secure { SECURE } else { 0 };
    // SAFETY: the strings end with zeros; no version, referrer or types are given.
    let request = unsafe {
        (http.open_request)(
            connection.handle,
            method.as_ptr(),
            path.as_ptr(),
            core::ptr::null(),
            core::ptr::null(),
            core::ptr::null(),
            flags,
        )
    };
    let request = Owned::of(http, request).ok_or_else(|| failed("WinHttpOpenRequest"))?;
    let never = 0_u32;
    // SAFETY: the option takes one number.
    unsafe { (http.set_option)(request.handle, REDIRECT_POLICY, (&raw const never).cast(), 4) };
    exchange(&request, post, deadline)?;
    let status = query_number(&request, STATUS_CODE).ok_or_else(|| failed("the status"))?;
    let status = u16::try_from(status).unwrap_or(0);
    let retry_after = query_retry_after(&request);
    Ok(Answer::Response { status, body: read_body(&request, deadline), retry_after })
}

/// Sends the report and waits for the beginning of an answer to all of it.
fn exchange(request: &Owned<'_>, post: &Post<'_>, deadline: Deadline) -> Result<(), String> {
    /// `ERROR_WINHTTP_RESEND_REQUEST`.
    const ASKED_AGAIN: u32 = 12_032;
    for _ in 0..=RESENDS_MAX {
        send_all(request, post, deadline)?;
        deadline.tell(request);
        // SAFETY: the request was sent.
        if unsafe { (request.http.receive)(request.handle, core::ptr::null_mut()) } != 0 {
            return Ok(());
        }
        if last_error() != ASKED_AGAIN || deadline.is_over() {
            return Err(failed("waiting for the answer"));
        }
    }
    Err("the report was asked for too often".to_owned())
}

/// Sends head and body, in pieces for as long as the user lets it.
fn send_all(request: &Owned<'_>, post: &Post<'_>, deadline: Deadline) -> Result<(), String> {
    let mut headers = String::from("Content-Type: ");
    headers.push_str(post.content_type);
    if post.is_compressed {
        headers.push_str("\r\nContent-Encoding: gzip");
    }
    let headers = wide::literal(&headers);
    let length = u32::try_from(post.body.len()).map_err(|_| "the report is too large")?;
    deadline.tell(request);
    // SAFETY: the headers end with a zero; the body comes later.
    let sent = unsafe {
        (request.http.send)(
            request.handle,
            headers.as_ptr(),
            u32::MAX,
            core::ptr::null(),
            0,
            length,
            0,
        )
    };
    if sent == 0 {
        return Err(failed("sending"));
    }
    for (index, piece) in post.body.chunks(PIECE_BYTES).enumerate() {
        if !(post.may_send)(index * PIECE_BYTES, post.body.len()) {
            return Err(WITHDRAWN.to_owned());
        }
        if deadline.is_over() {
            return Err("sending took too long".to_owned());
        }
        let mut written = 0;
        // SAFETY: pointer and length are those of a living slice, and the answer goes into a living place.
        let done = unsafe {
            (request.http.write)(
                request.handle,
                piece.as_ptr().cast(),
                piece.len() as u32,
                &raw mut written,
            )
        };
        if done == 0 {
            return Err(failed("sending"));
        }
        // The library sends all of a piece, or fails.
        if written as usize != piece.len() {
            return Err("sending broke off".to_owned());
        }
    }
    Ok(())
}

fn query_number(request: &Owned<'_>, what: u32) -> Option<u32> {
    /// `WINHTTP_QUERY_FLAG_NUMBER`.
    const AS_NUMBER: u32 = 0x2000_0000;
    let (mut value, mut size) = (0_u32, 4_u32);
    // SAFETY: the place has the size that is told.
    let done = unsafe {
        (request.http.query)(
            request.handle,
            what | AS_NUMBER,
            core::ptr::null(),
            (&raw mut value).cast(),
            &raw mut size,
            core::ptr::null_mut(),
        )
    };
    (done != 0).then_some(value)
}

/// `Retry-After` as it came; empty where there is none, or one that is longer than a date can be.
fn query_retry_after(request: &Owned<'_>) -> List<u8> {
    /// `WINHTTP_QUERY_RETRY_AFTER`.
    const RETRY_AFTER: u32 = 36;
    let mut value = [0_u16; 64];
    let mut size = size_of_val(&value) as u32;
    // SAFETY: the place has the size that is told.
    let done = unsafe {
        (request.http.query)(
            request.handle,
            RETRY_AFTER,
            core::ptr::null(),
            value.as_mut_ptr().cast(),
            &raw mut size,
            core::ptr::null_mut(),
        )
    };
    let units = if done == 0 { 0 } else { size as usize / size_of::<u16>() };
    wide::to_bytes(value.get(..units).unwrap_or_default())
}

/// Reads the beginning of the answer; what doesn't come in time isn't waited for.
fn read_body(request: &Owned<'_>, deadline: Deadline) -> List<u8> {
    let mut body = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while filled < body.len() && !deadline.is_over() {
        let Some(room) = body.get_mut(filled..) else { break };
        deadline.tell(request);
        let mut read = 0;
        // SAFETY: pointer and length are those of a living slice.
        let done = unsafe {
            (request.http.read)(
                request.handle,
                room.as_mut_ptr().cast(),
                room.len() as u32,
                &raw mut read,
            )
        };
        if done == 0 || read == 0 {
            break;
        }
        filled += (read as usize).min(room.len());
    }
    body.truncate(filled);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: every form of a collector's URL leads to the right host, port and path.
    #[test]
    fn urls() {
        for (url, host, port, path) in [
            ("http://localhost:8080/submit?a=b", "localhost", 8080, "/submit?a=b"),
            ("https://example.org", "example.org", 443, "/"),
            ("http://[::1]:81?x", "::1", 81, "/?x"),
            ("http://u:p@h/#f", "h", 80, "/"),
        ] {
            let target = target(url).expect(url);
            assert_eq!((&*target.host, target.port, &*target.path), (host, port, path));
        }
        assert!(target("ftp://h/").is_none());
        assert!(target("http://h:x/").is_none());
    }
}
