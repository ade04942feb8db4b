//! The `curl` program, where libcurl isn't.

use std::os::fd::{AsRawFd, OwnedFd};

use rearguard_crashpath::{syscall, time};

use super::super::proc_text::words;
use super::super::{memfd, process};
use super::{NO_ANSWER, retry_after};
use crate::heap::{List, PutBytes, PutText, Text, add, copied, lossy, owned};
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_MS_MAX, CONSENT_ASKED_MS};
use crate::sys::words::{Answer, Post, WITHDRAWN};
use crate::text::{find, joined, number, push_number, push_padded, push_signed};

/// How much of the program's output is read: headers and the beginning of the body.
const OUTPUT_BYTES_MAX: usize = ANSWER_BYTES_MAX + 16 * 1024;

/// How long the program may overrun its own time-out before it is ended, in milliseconds.
const OVERRUN_MS: u64 = 1_000;

/// `limits::STALL_S_MAX`, as a text.
const STALL_S_MAX: &str = "10";

/// The exit status of a shell, and of `posix_spawnp` in some C libraries, for a program that isn't there.
const NOT_FOUND: i32 = 127;

pub(super) fn post(post: &Post<'_>) -> Answer {
    let Ok(body) = memfd::sealed(c"rearguard-upload", post.body) else {
        return Answer::Failed(owned("no memory for the upload"));
    };
    let mut ends = [-1; 2];
    // SAFETY: the pointer refers to two living numbers.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Answer::Failed(owned("no descriptor for the upload"));
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let read_end = unsafe { memfd::take(ends[0]) };
    // SAFETY: as above.
    let write_end = unsafe { memfd::take(ends[1]) };
    let Some(pid) = start(&arguments(post), &body, &write_end) else { return Answer::NoBackEnd };
    drop(write_end);
    let deadline_ns = time::monotonic_ns() + (post.timeout_ms + OVERRUN_MS) * 1_000_000;
    let output = read_output(&read_end, deadline_ns, post.may_send);
    let has_enough = output.as_ref().is_some_and(|output| output.len() >= OUTPUT_BYTES_MAX);
    if output.is_none() || has_enough {
        let _ = syscall::kill(pid, libc::SIGKILL);
    }
    match (wait(pid), output) {
        (_, Some(output)) if has_enough => parse(&output),
        // Of an end that nobody could tell, as where the application waits for any child, the answer tells.
        (Some(0) | None, Some(output)) => parse(&output),
        (Some(NOT_FOUND), _) => Answer::NoBackEnd,
        (_, None) if !(post.may_send)(0, 0) => Answer::Failed(owned(WITHDRAWN)),
        (_, None) => Answer::Failed(owned("curl did not end in time")),
        (code, Some(_)) => {
            let mut reason = owned("curl ended with status ");
            push_signed(&mut reason, i64::from(code.unwrap_or(-1)));
            Answer::Failed(reason)
        }
    }
}

/// The arguments, each with a NUL at its end. As one text they take a fraction of what a list of them would.
fn arguments(post: &Post<'_>) -> Text {
    let seconds = |milliseconds: u64| {
        let mut text = Text::new();
        push_number(&mut text, milliseconds / 1000);
        text.put_char('.');
        push_padded(&mut text, milliseconds % 1000, 3);
        text
    };
    joined(&[
        // `--disable` has to be the first: no file of the user's changes how a report is sent.
        "curl\0--disable\0--silent\0--include\0--location\0--max-redirs\x005\0",
        "--post301\0--post302\0--post303\0--proto\0=http,https\0--proto-redir\0",
        if post.url.starts_with("https://") { "=https" } else { "=http,https" },
        "\0--max-time\0",
        &seconds(post.timeout_ms),
        "\0--connect-timeout\0",
        &seconds(CONNECT_MS_MAX.min(post.timeout_ms)),
        "\0--user-agent\0",
        post.user_agent,
        "\0--header\0Content-Type: ",
        post.content_type,
        if post.is_compressed { "\0--header\0Content-Encoding: gzip" } else { "" },
        if post.certificates.is_empty() { "" } else { "\0--cacert\0" },
        &lossy(post.certificates),
        "\0--speed-limit\x001\0--speed-time\0",
        STALL_S_MAX,
        "\0--header\0Expect:\0--data-binary\0@-\0--url\0",
        post.url,
        "\0",
    ])
}

/// Starts the program with the body as its input; a privileged process doesn't look for it along a path of its caller's.
fn start(arguments: &str, body: &OwnedFd, output: &OwnedFd) -> Option<i32> {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let mut pointers: List<*mut libc::c_char> = List::new();
    for argument in arguments.as_bytes().split_inclusive(|byte| *byte == 0) {
        add(&mut pointers, argument.as_ptr().cast_mut().cast());
    }
    add(&mut pointers, core::ptr::null_mut());
    let mut actions = core::mem::MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    // SAFETY: the pointer refers to room for the structure.
    unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) };
    for (from, to) in [(body.as_raw_fd(), 0), (output.as_raw_fd(), 1)] {
        // SAFETY: the structure was initialised.
        unsafe { libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), from, to) };
    }
    let mut pid = 0;
    let privileged = process::is_privileged();
    let program = if privileged { c"/usr/bin/curl" } else { c"curl" };
    let spawn = if privileged { libc::posix_spawn } else { libc::posix_spawnp };
    // SAFETY: the C library keeps this array for the life of the process.
    let environment = unsafe { environ };
    // SAFETY: all arrays are null-terminated, all strings NUL-terminated, and alive.
    let failed = unsafe {
        spawn(
            &raw mut pid,
            program.as_ptr(),
            actions.as_ptr(),
            core::ptr::null(),
            pointers.as_ptr(),
            environment,
        )
    };
    // SAFETY: the structure was initialised and is used no more.
    unsafe { libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr()) };
    (failed == 0).then_some(pid)
}

/// Reads the output to its end or to as much as is kept of it; `None` at the deadline, and when nothing may be sent any more.
fn read_output(
    from: &OwnedFd,
    deadline_ns: u64,
    may_send: &dyn Fn(usize, usize) -> bool,
) -> Option<List<u8>> {
    let mut output = List::new();
    let mut piece = [0u8; 4096];
    loop {
        let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()) / 1_000_000;
        if left_ms == 0 || !may_send(0, 0) {
            return None;
        }
        let mut entry = [libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        if !matches!(syscall::poll(&mut entry, left_ms.min(CONSENT_ASKED_MS) as u32), Ok(count) if count > 0)
        {
            continue;
        }
        // SAFETY: pointer and length are those of a living array.
        let count = unsafe { libc::read(from.as_raw_fd(), piece.as_mut_ptr().cast(), piece.len()) };
        match usize::try_from(count) {
            Ok(0) => return Some(output),
            Ok(count) => {
                output.put(piece.get(..count).unwrap_or_default());
                if output.len() >= OUTPUT_BYTES_MAX {
                    return Some(output);
                }
            }
            Err(_) if process::last_errno() == libc::EINTR => {}
            Err(_) => return Some(output),
        }
    }
}

/// Reaps the program, whose output has ended or which has been killed: its exit status, -1 for a signal, `None` where somebody else has reaped it.
fn wait(pid: i32) -> Option<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer refers to a living number.
        let done = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if done == pid {
            let is_exit = libc::WIFEXITED(status);
            return Some(if is_exit { libc::WEXITSTATUS(status) } else { -1 });
        }
        if process::last_errno() != libc::EINTR {
            return None;
        }
    }
}

/// Takes the last block of headers, after redirects, and the body behind it.
fn parse(output: &[u8]) -> Answer {
    let mut rest = output;
    let mut answer = None;
    while rest.starts_with(b"HTTP/") {
        // One that has no end was cut off.
        answer = None;
        let Some(end) = find(rest, b"\r\n\r\n") else { break };
        let (head, body) = rest.split_at(end);
        let body = body.get(4..).unwrap_or_default();
        let mut lines = head.split(|byte| *byte == b'\n');
        let status = lines
            .next()
            .and_then(|line| words(line).nth(1))
            .and_then(|status| u16::try_from(number(status, 10)?).ok());
        answer =
            status.map(|status| (status, body, lines.find_map(retry_after).unwrap_or_default()));
        rest = body;
    }
    match answer {
        Some((status, body, retry_after)) => Answer::Response {
            status,
            body: copied(body.get(..ANSWER_BYTES_MAX.min(body.len())).unwrap_or_default()),
            retry_after: copied(retry_after),
        },
        None => Answer::Failed(owned(NO_ANSWER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: the program gets every argument whole, and nothing between them.
    #[test]
    fn arguments_are_whole() {
        let post = Post {
            url: "https://x/y?z=1",
            content_type: "a/b; c=d",
            body: b"",
            is_compressed: true,
            user_agent: "us/1",
            certificates: b"/a ca.pem",
            may_send: &|_, _| true,
            timeout_ms: 15_042,
        };
        assert_eq!(STALL_S_MAX, crate::limits::STALL_S_MAX.to_string());
        let arguments = arguments(&post);
        let list: Vec<&str> = arguments.split_terminator('\0').collect();
        assert_eq!(list[..2], ["curl", "--disable"]);
        for pair in [
            ["--max-redirs", "5"],
            ["--proto", "=http,https"],
            ["--proto-redir", "=https"],
            ["--max-time", "15.042"],
            ["--connect-timeout", "5.000"],
            ["--user-agent", "us/1"],
            ["--header", "Content-Type: a/b; c=d"],
            ["--header", "Content-Encoding: gzip"],
            ["--cacert", "/a ca.pem"],
            ["--speed-limit", "1"],
            ["--speed-time", "10"],
            ["--header", "Expect:"],
            ["--data-binary", "@-"],
            ["--url", "https://x/y?z=1"],
        ] {
            assert!(list.windows(2).any(|window| window == pair), "{pair:?}");
        }
        assert_eq!(list.len(), 36);
        assert!(arguments.ends_with('\0'));
    }

    // Goal: the answer behind a redirect and an interim answer counts, and nonsense is a failure.
    #[test]
    fn answers_are_parsed() {
        let output = b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nlater";
        assert_eq!(
            parse(output),
            Answer::Response { status: 503, body: copied(b"later"), retry_after: copied(b"7") }
        );
        assert!(matches!(parse(b"nonsense"), Answer::Failed(_)));
        assert!(matches!(parse(b"HTTP/1.1"), Answer::Failed(_)));
        assert!(matches!(parse(b"HTTP/1.1 200 OK\r\nServer: x"), Answer::Failed(_)));
        assert!(matches!(parse(b""), Answer::Failed(_)));
    }
}
