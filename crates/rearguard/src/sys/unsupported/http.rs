//! One POST: there is nothing to send it with.

/// What is to be sent, and for how long at most.
#[expect(dead_code, reason = "nothing is sent, so nothing is read")]
pub(crate) struct Post<'a> {
    pub(crate) url: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) user_agent: &'a str,
    pub(crate) timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "delivery has an arm for each, and only one is told here")]
pub(crate) enum Answer {
    /// The server answered; the body is cut at the limit.
    Response {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: Vec<u8>,
        /// `Retry-After` in seconds, where it was a number.
        retry_after_s: Option<u64>,
    },
    /// There was no answer; the reason is for a person.
    Failed(String),
    /// This system has nothing to send with.
    NoBackEnd,
}

/// Sends nothing, and says so.
pub(crate) fn post(_post: &Post<'_>) -> Answer {
    Answer::NoBackEnd
}
