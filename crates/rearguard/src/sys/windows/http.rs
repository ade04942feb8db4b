//! One POST by WinHTTP: the system's proxy, the system's trust store, no TLS of ours. The library is loaded when it is needed.

use core::ffi::c_void;

use rearguard_crashpath::time;

use super::handles::last_error;
use super::libraries::Library;
use super::wide;
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_MS_MAX};
use crate::sys::words::{Answer, Post};

type Handle = *mut c_void;

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
    host: Vec<u16>,
    port: u16,
    path: Vec<u16>,
    secure: bool,
}

/// Takes a URL apart. The builder has checked that it is `http` or `https` with a host.
fn target(url: &str) -> Option<Target> {
    let (secure, rest) = match url.strip_prefix("https://") {
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
        Some(_) | None if secure => 443,
        Some(_) | None => 80,
    };
    let mut whole = String::new();
    if !path.starts_with('/') {
        whole.push('/');
    }
    whole.push_str(path);
    Some(Target { host: wide::literal(host), port, path: wide::literal(&whole), secure })
}

/// Sends one POST. Each step has what is left of the time-out.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    let Some(http) = WinHttp::load() else { return Answer::NoBackEnd };
    send(&http, post).unwrap_or_else(Answer::Failed)
}

fn failed(step: &str) -> String {
    let mut reason = String::from(step);
    reason.push_str(" failed with error ");
    reason.push_str(&last_error().to_string());
    reason
}

fn send(http: &WinHttp, post: &Post<'_>) -> Result<Answer, String> {
    /// `WINHTTP_ACCESS_TYPE_AUTOMATIC_PROXY`, and what older systems have.
    const ACCESS: [u32; 2] = [4, 0];
    /// `WINHTTP_FLAG_SECURE`.
    const SECURE: u32 = 0x0080_0000;
    /// `WINHTTP_OPTION_REDIRECT_POLICY`, `..._NEVER`: a report isn't sent to where nobody has agreed to.
    const REDIRECT_POLICY: u32 = 88;
    let deadline_ns =
        time::monotonic_ns().saturating_add(post.timeout_ms.saturating_mul(1_000_000));
    let target = target(post.url).ok_or("the collector's URL can't be taken apart")?;
    let agent = wide::literal(post.user_agent);
    let null = core::ptr::null();
    let session = ACCESS
        .into_iter()
        // SAFETY: the name ends with a zero, and no proxy is named.
        .find_map(|access| {
            Owned::of(http, unsafe { (http.open)(agent.as_ptr(), access, null, null, 0) })
        })
        .ok_or_else(|| failed("WinHttpOpen"))?;
    let left = || {
        let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()) / 1_000_000;
        // Zero would mean no limit.
        i32::try_from(left_ms).unwrap_or(i32::MAX).max(1)
    };
    let connect_ms = left().min(i32::try_from(CONNECT_MS_MAX).unwrap_or(i32::MAX));
    // SAFETY: the handle is ours.
    unsafe { (http.set_timeouts)(session.handle, connect_ms, connect_ms, left(), left()) };
    // SAFETY: the host ends with a zero.
    let connection =
        unsafe { (http.connect)(session.handle, target.host.as_ptr(), target.port, 0) };
    let connection = Owned::of(http, connection).ok_or_else(|| failed("WinHttpConnect"))?;
    let method = wide::literal("POST");
    let flags = if target.secure { SECURE } else { 0 };
    // SAFETY: the strings end with zeros; no version, referrer or types are given.
    let request = unsafe {
        (http.open_request)(
            connection.handle,
            method.as_ptr(),
            target.path.as_ptr(),
            null,
            null,
            core::ptr::null(),
            flags,
        )
    };
    let request = Owned::of(http, request).ok_or_else(|| failed("WinHttpOpenRequest"))?;
    let never = 0_u32;
    // SAFETY: the option takes one number.
    unsafe { (http.set_option)(request.handle, REDIRECT_POLICY, (&raw const never).cast(), 4) };
    let mut headers = String::from("Content-Type: ");
    headers.push_str(post.content_type);
    let headers = wide::literal(&headers);
    let length = u32::try_from(post.body.len()).map_err(|_| "the report is too large")?;
    // SAFETY: headers end with a zero, and the body lives through the call.
    let sent = unsafe {
        (http.send)(
            request.handle,
            headers.as_ptr(),
            u32::MAX,
            post.body.as_ptr().cast(),
            length,
            length,
            0,
        )
    };
    if sent == 0 {
        return Err(failed("sending"));
    }
    // SAFETY: the request was sent.
    if unsafe { (http.receive)(request.handle, core::ptr::null_mut()) } == 0 {
        return Err(failed("waiting for the answer"));
    }
    /// `WINHTTP_QUERY_STATUS_CODE` and `WINHTTP_QUERY_RETRY_AFTER`, as numbers.
    const AS_NUMBER: u32 = 0x2000_0000;
    let status = query_number(&request, 19 | AS_NUMBER).ok_or_else(|| failed("the status"))?;
    let retry_after_s = query_number(&request, 36 | AS_NUMBER).map(u64::from);
    let body = read_body(&request, deadline_ns);
    Ok(Answer::Response { status: u16::try_from(status).unwrap_or(0), body, retry_after_s })
}

fn query_number(request: &Owned<'_>, what: u32) -> Option<u32> {
    let (mut value, mut size) = (0_u32, 4_u32);
    // SAFETY: the place has the size that is told.
    let done = unsafe {
        (request.http.query)(
            request.handle,
            what,
            core::ptr::null(),
            (&raw mut value).cast(),
            &raw mut size,
            core::ptr::null_mut(),
        )
    };
    (done != 0).then_some(value)
}

/// Reads the beginning of the answer; what doesn't come in time isn't waited for.
fn read_body(request: &Owned<'_>, deadline_ns: u64) -> Vec<u8> {
    let mut body = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while filled < body.len() && time::monotonic_ns() < deadline_ns {
        let Some(room) = body.get_mut(filled..) else { break };
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
    body
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
            assert_eq!(target.host, wide::literal(host));
            assert_eq!((target.port, target.path), (port, wide::literal(path)));
        }
        assert!(target("ftp://h/").is_none());
        assert!(target("http://h:x/").is_none());
    }
}
