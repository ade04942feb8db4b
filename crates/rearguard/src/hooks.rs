//! What a guard does with reports only where the application asks for it.
//!
//! Each is reached by a pointer that the builder sets, so that a program which doesn't ask for it doesn't carry it either.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::error::Error;
use crate::heap::{List, Text, owned};
use crate::limits::ANSWER_BYTES_MAX;
use crate::metadata::Metadata;
use crate::store::{Report, Store};
use crate::sys::dumper::Extras;
use crate::sys::words::{Answer, Post};
use crate::upload::Parcel;
use crate::{attachments, signature};

/// Sends a report in the library's place: through the application's own HTTP stack, into a queue, to a file.
///
/// It is called in a guard, a process that has run nothing of the application but what stands before [`Rearguard::start`](crate::Rearguard::start) in `main`, and that has 15 s for it.
pub trait Transport: Sync {
    /// Sends one report, and says what came of it.
    fn send(&self, request: &Request<'_>) -> Response;
}

/// One report, ready to be sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The collector, as the builder was told.
    pub url: &'a str,
    /// The value of the header `Content-Type`, with the boundary of the multipart body.
    pub content_type: &'a str,
    /// The body, `multipart/form-data` (RFC 7578).
    pub body: &'a [u8],
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What came of a [`Transport`]'s attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A server answered. Any 2xx is success; 3xx, 407, 408, 425, 429 and 5xx are tried again; every other status is a refusal.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body, most often an id; its first 4096 bytes are kept.
        body: Vec<u8>,
        /// The header `Retry-After`, as it came; empty for none.
        retry_after: String,
    },
    /// There was no answer, and why; it is tried again.
    Failed(String),
}

/// A file by its name.
type Named<N> = (N, List<u8>);

/// What is done about files that go with a report.
pub(crate) struct Attach {
    /// Reads the application's: their names and contents.
    pub(crate) read: fn(&[List<u8>]) -> List<Named<Text>>,
    /// Reads them again from a report that was stored with them.
    pub(crate) stored: fn(&Store, &Report) -> List<Named<&'static str>>,
}

pub(crate) static ATTACH: Attach = Attach { read: attachments::read, stored: Store::attachments };

/// What is done about crashes that are the same.
pub(crate) struct SameCrash {
    /// By what they are known, of version and role of a program: see [`signature`].
    pub(crate) of_minidump: fn([&str; 2], &[u8]) -> Option<u64>,
    pub(crate) of_panic: fn([&str; 2], &str) -> u64,
    /// How they are counted: see the store's repeats.
    pub(crate) count: fn(&Store, u64) -> Option<&'static str>,
    pub(crate) lead: fn(&Store, u64, &Report),
    pub(crate) repeats: fn(&Store, &Report) -> u64,
}

pub(crate) static SAME_CRASH: SameCrash = SameCrash {
    of_minidump: signature::of_minidump,
    of_panic: signature::of_panic,
    count: Store::count_repeat,
    lead: Store::lead,
    repeats: Store::repeats,
};

/// The pointers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hooks {
    /// The files that go with a report.
    pub(crate) attach: Option<&'static Attach>,
    /// The same crash, many times.
    pub(crate) same_crash: Option<&'static SameCrash>,
    /// Makes the user unknown in what is about to be stored.
    pub(crate) redact: Option<fn(&mut [u8])>,
    /// The application's own word on each text, and what calls it.
    pub(crate) scrub: Option<(CallScrub, Scrub)>,
    /// Puts product, version and installation into the collector's URL.
    pub(crate) in_query: Option<fn(&Parcel<'_>) -> Text>,
    /// Sends in the library's place.
    pub(crate) post: Option<fn(&Post<'_>) -> Answer>,
    /// What goes into minidumps by choice.
    pub(crate) extras: Extras,
}

/// The application's function for texts: the field's name, and its value.
pub(crate) type Scrub = fn(&str, &mut String);

/// What calls it for all texts of a report.
type CallScrub = fn(Scrub, &mut Metadata);

/// The application's transport.
static TRANSPORT: OnceLock<&'static dyn Transport> = OnceLock::new();

/// Lets the application's transport send; the first that comes stays.
pub(crate) fn use_transport(transport: &'static dyn Transport) {
    let _ = TRANSPORT.set(transport);
}

/// Lets the application's function see each text that the application has made.
pub(crate) fn scrub(scrub: Scrub, metadata: &mut Metadata) {
    for (key, value) in &mut metadata.annotations {
        scrub_one(scrub, key, value.as_mut_string());
    }
    scrub_one(scrub, "log", metadata.log.as_mut_string());
    if let Some(panic) = &mut metadata.panic {
        scrub_one(scrub, "panic", panic.message.as_mut_string());
    }
}

/// A panic of the application's costs the text, and no guard unwinds into the application's `main`.
fn scrub_one(scrub: Scrub, key: &str, text: &mut String) {
    let mut scrubbed = core::mem::take(text);
    let called = AssertUnwindSafe(|| {
        scrub(key, &mut scrubbed);
        scrubbed
    });
    *text = catch_unwind(called).unwrap_or_else(|_| String::from("(the scrubbing panicked)"));
}

/// Sends by the application's transport. A panic of its is a failure like any other.
pub(crate) fn post(post: &Post<'_>) -> Answer {
    let Some(transport) = TRANSPORT.get() else { return Answer::NoBackEnd };
    let Post { url, content_type, body, timeout_ms, .. } = *post;
    let request = Request { url, content_type, body, timeout_ms };
    match catch_unwind(AssertUnwindSafe(|| transport.send(&request))) {
        Ok(Response::Answered { status, mut body, retry_after }) => {
            body.truncate(ANSWER_BYTES_MAX);
            let retry_after = retry_after.into_bytes().into();
            Answer::Response { status, body: body.into(), retry_after }
        }
        Ok(Response::Failed(reason)) => Answer::Failed(reason.into()),
        Err(_) => Answer::Failed(owned("the application's transport panicked")),
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooks")
    }
}

impl Hooks {
    /// A bit for each that is set.
    fn bits(&self) -> u32 {
        u32::from(self.attach.is_some())
            | u32::from(self.same_crash.is_some()) << 1
            | u32::from(self.redact.is_some()) << 2
            | u32::from(self.scrub.is_some()) << 3
            | u32::from(self.in_query.is_some()) << 4
            | u32::from(self.post.is_some()) << 5
            | self.extras.bits << 6
    }
}

/// What refuses hooks at a start.
pub(crate) type Check = fn(&Hooks) -> Result<(), Error>;

/// Refuses hooks that a guard of this process would lack: it would have ended where it was asked for its role without them.
pub(crate) fn check(hooks: &Hooks) -> Result<(), Error> {
    if hooks.bits() & !get().bits() == 0 {
        return Ok(());
    }
    let reason =
        "it was called without what this builder gives the guard; call the builder's method";
    Err(Error::setting("run_guard_if_asked", reason))
}

static OF_THIS_PROCESS: OnceLock<Hooks> = OnceLock::new();

/// Gives this process its hooks; the first that come stay.
pub(crate) fn set(hooks: Hooks) {
    let _ = OF_THIS_PROCESS.set(hooks);
}

/// Those of this process; none before they are set.
pub(crate) fn get() -> Hooks {
    OF_THIS_PROCESS.get().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a guard that would lack what the builder gives it is refused at the start, by an error that says what to call.
    #[test]
    fn hooks_that_come_too_late_are_refused() {
        set(Hooks::default());
        assert!(check(&Hooks::default()).is_ok());
        let late = Hooks { redact: Some(|_| ()), ..Hooks::default() };
        let refused = check(&late).expect_err("it must be refused").to_string();
        assert!(refused.contains("`run_guard_if_asked`"), "{refused}");
    }
}
