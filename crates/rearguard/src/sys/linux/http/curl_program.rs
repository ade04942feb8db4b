//! The `curl` program, where libcurl isn't.

use std::os::fd::{AsRawFd, OwnedFd};

use rearguard_crashpath::{syscall, time};

use super::super::proc_text::words;
use super::super::{memfd, process};
use super::retry_after;
use crate::heap::{PutBytes, PutText, add, copied, owned};
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_MS_MAX};
use crate::sys::words::{Answer, Post};
use crate::text::{joined, number, push_number, push_padded, push_signed};

/// How much of the program's output is read: headers and the beginning of the body.
const OUTPUT_BYTES_MAX: usize = ANSWER_BYTES_MAX + 16 * 1024;

/// How long the program may overrun its own time-out before it is ended, in milliseconds.
const OVERRUN_MS: u64 = 1_000;

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
    let output = read_output(&read_end, deadline_ns);
    if output.is_none() {
        let _ = syscall::kill(pid, libc::SIGKILL);
    }
    match (wait(pid), output) {
        (Some(0), Some(output)) => parse(&output),
        (Some(NOT_FOUND), _) => Answer::NoBackEnd,
        (_, None) => Answer::Failed(owned("curl did not end in time")),
        (code, Some(_)) => {
            let mut reason = owned("curl ended with status ");
            push_signed(&mut reason, i64::from(code.unwrap_or(-1)));
            Answer::Failed(reason)
        }
    }
}

/// The arguments, each with a NUL at its end. As one text they take a fraction of what a list of them would.
fn arguments(post: &Post<'_>) -> String {
    let seconds = |milliseconds: u64| {
        let mut text = String::new();
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
    let mut pointers: Vec<*mut libc::c_char> = Vec::new();
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

/// Reads to the end of the output, keeping its beginning; `None` at the deadline.
fn read_output(from: &OwnedFd, deadline_ns: u64) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        let left_ms = deadline_ns.saturating_sub(time::monotonic_ns()) / 1_000_000;
        if left_ms == 0 {
            return None;
        }
        let mut entry = [libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        if !matches!(syscall::poll(&mut entry, left_ms as u32), Ok(count) if count > 0) {
            continue;
        }
        // SAFETY: pointer and length are those of a living array.
        let count = unsafe { libc::read(from.as_raw_fd(), piece.as_mut_ptr().cast(), piece.len()) };
        match usize::try_from(count) {
            Ok(0) => return Some(output),
            Ok(count) => {
                let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
                output.put(piece.get(..count.min(room)).unwrap_or_default());
            }
            Err(_) if process::last_errno() == libc::EINTR => {}
            Err(_) => return Some(output),
        }
    }
}

/// Reaps the program, whose output has ended or which has been killed.
fn wait(pid: i32) -> Option<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer refers to a living number.
        let done = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if done == pid {
            return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
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
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = match end {
            Some(end) => {
                (rest.get(..end).unwrap_or_default(), rest.get(end + 4..).unwrap_or_default())
            }
            None => (rest, &[][..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let status = lines
            .next()
            .and_then(|line| words(line).nth(1))
            .and_then(|status| u16::try_from(number(status, 10)?).ok());
        answer = status.map(|status| (status, body, lines.find_map(retry_after)));
        rest = body;
    }
    match answer {
        Some((status, body, retry_after_s)) => Answer::Response {
            status,
            body: copied(body.get(..ANSWER_BYTES_MAX.min(body.len())).unwrap_or_default()),
            retry_after_s,
        },
        None => Answer::Failed(owned("curl gave no answer of the server's")),
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
            user_agent: "us/1",
            timeout_ms: 15_042,
        };
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
            ["--header", "Expect:"],
            ["--data-binary", "@-"],
            ["--url", "https://x/y?z=1"],
        ] {
            assert!(list.windows(2).any(|window| window == pair), "{pair:?}");
        }
        assert_eq!(list.len(), 28);
        assert!(arguments.ends_with('\0'));
    }

    // Goal: the answer behind a redirect and an interim answer counts, and nonsense is a failure.
    #[test]
    fn answers_are_parsed() {
        let output = b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nlater";
        assert_eq!(
            parse(output),
            Answer::Response { status: 503, body: b"later".to_vec(), retry_after_s: Some(7) }
        );
        assert!(matches!(parse(b"nonsense"), Answer::Failed(_)));
        assert!(matches!(parse(b"HTTP/1.1"), Answer::Failed(_)));
        assert!(matches!(parse(b""), Answer::Failed(_)));
    }
}
