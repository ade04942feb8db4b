//! What a collector answers, and when.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The answers of a collector, one request after the other.
#[derive(Clone, Debug)]
pub struct Script {
    answers: Vec<Answer>,
    afterwards: Answer,
    gzip: bool,
}

impl Script {
    /// Every request gets the same answer.
    pub fn always(answer: Answer) -> Script {
        Script { answers: Vec::new(), afterwards: answer, gzip: true }
    }

    /// The first requests get these answers, one each; all further ones are accepted.
    pub fn first(answers: impl IntoIterator<Item = Answer>) -> Script {
        Script { answers: answers.into_iter().collect(), ..Script::default() }
    }

    /// The answer to all requests that have none of their own.
    #[must_use]
    pub fn then(mut self, answer: Answer) -> Script {
        self.afterwards = answer;
        self
    }

    /// Compressed bodies get 415, as from collectors that don't know them.
    /// They use up no answer of the script.
    #[must_use]
    pub fn without_gzip(mut self) -> Script {
        self.gzip = false;
        self
    }

    /// The answer to the request of this number, from 1.
    pub(super) fn answer(&self, number: usize) -> &Answer {
        self.answers.get(number.wrapping_sub(1)).unwrap_or(&self.afterwards)
    }

    pub(super) fn accepts_gzip(&self) -> bool {
        self.gzip
    }
}

impl Default for Script {
    /// Everything is accepted.
    fn default() -> Script {
        Script::always(Answer::accept())
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) reply: Reply,
    pub(super) delay: Duration,
    pub(super) before_body: bool,
}

/// What becomes of the connection.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A whole response.
    Response(Response),
    /// This many bytes of a response, then the end of the connection.
    CutOff(Response, usize),
    /// A whole response, byte by byte, with this pause between two of them.
    Drip(Response, Duration),
    /// A response whose body goes on until the client or the collector ends it.
    Endless,
    /// A reset of the connection instead of any byte.
    Reset,
    /// The connection stays open and silent until the client or the collector ends it.
    Silence,
}

#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Text(String),
    /// `CrashID=bp-<uuid>`, a new one for each request.
    CrashId,
}

impl Answer {
    /// 200 and `CrashID=bp-<uuid>`, as from Antenna and its relatives.
    pub fn accept() -> Answer {
        Answer::from_response(200, Body::CrashId)
    }

    /// 201 and `CrashID=bp-<uuid>`: a success that some clients take for a failure.
    pub fn created() -> Answer {
        Answer::from_response(201, Body::CrashId)
    }

    /// 200 and `Discarded=<rule>`: taken, thrown away, and not to be sent again.
    pub fn discard(rule: &str) -> Answer {
        Answer::status(200).body(format!("Discarded={rule}"))
    }

    /// Any status, with an empty body.
    pub fn status(status: u16) -> Answer {
        Answer::from_response(status, Body::Text(String::new()))
    }

    /// 307 to another address.
    pub fn redirect(to: &str) -> Answer {
        Answer::redirect_by(307, to)
    }

    /// Any status, with another address: what a client makes of its method and body depends on the number.
    pub fn redirect_by(status: u16, to: &str) -> Answer {
        Answer::status(status).header("Location", to)
    }

    /// The end of the connection after this many bytes of an accepting response; 0 for no byte at all.
    pub fn cut_off(bytes: usize) -> Answer {
        Answer::from_reply(Reply::CutOff(Response::new(200, Body::CrashId), bytes))
    }

    /// 200 and `CrashID=bp-<uuid>`, every byte sent by itself, with this pause between two of them.
    /// No single wait of a client is long, all of them together are.
    pub fn drip(interval: Duration) -> Answer {
        Answer::from_reply(Reply::Drip(Response::new(200, Body::CrashId), interval))
    }

    /// 200 without a length, and a body that goes on until the client or the collector closes the connection.
    pub fn endless() -> Answer {
        Answer::from_reply(Reply::Endless)
    }

    /// A reset of the connection, once the request is read.
    pub fn reset() -> Answer {
        Answer::from_reply(Reply::Reset)
    }

    /// No answer, and no end of the connection either.
    pub fn never() -> Answer {
        Answer::from_reply(Reply::Silence)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        if let Some(response) = self.response() {
            response.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Answer {
        if let Some(response) = self.response() {
            response.body = Body::Text(text.into());
        }
        self
    }

    /// Waits before the answer begins.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    /// Answers as soon as the head is read, as a server does that refuses large bodies.
    /// The submission has no parts.
    #[must_use]
    pub fn before_body(mut self) -> Answer {
        self.before_body = true;
        self
    }

    fn response(&mut self) -> Option<&mut Response> {
        match &mut self.reply {
            Reply::Response(response) | Reply::CutOff(response, _) | Reply::Drip(response, _) => {
                Some(response)
            }
            Reply::Endless | Reply::Reset | Reply::Silence => None,
        }
    }

    fn from_response(status: u16, body: Body) -> Answer {
        Answer::from_reply(Reply::Response(Response::new(status, body)))
    }

    fn from_reply(reply: Reply) -> Answer {
        Answer { reply, delay: Duration::ZERO, before_body: false }
    }
}

impl Response {
    fn new(status: u16, body: Body) -> Response {
        Response { status, headers: Vec::new(), body }
    }
}

impl Body {
    /// The text for one request.
    pub(super) fn render(&self) -> String {
        match self {
            Body::Text(text) => text.clone(),
            Body::CrashId => format!("CrashID=bp-{}\n", random_uuid()),
        }
    }
}

/// A version 4 UUID. std's hasher keys are the only randomness that it needs to be unique on one machine.
fn random_uuid() -> String {
    let high = RandomState::new().build_hasher().finish();
    let low = RandomState::new().build_hasher().finish();
    let bits = (u128::from(high) << 64) | u128::from(low);
    let bits = (bits & !(0xf << 76) | (4 << 76)) & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::submission::is_uuid;

    /// Goal: ids have the form of a version 4 UUID and differ.
    #[test]
    fn ids_are_uuids() {
        let first = random_uuid();
        assert!(is_uuid(&first), "{first}");
        assert_eq!(&first[14..15], "4", "{first}");
        assert!("89ab".contains(&first[19..20]), "{first}");
        assert_ne!(first, random_uuid());
    }

    /// Goal: answers are used one each, then the last word holds.
    #[test]
    fn answers_come_in_order() {
        let script =
            Script::first([Answer::status(500), Answer::never()]).then(Answer::status(400));
        let status = |number| match &script.answer(number).reply {
            Reply::Response(response) => response.status,
            Reply::CutOff(..)
            | Reply::Drip(..)
            | Reply::Endless
            | Reply::Reset
            | Reply::Silence => 0,
        };
        assert_eq!([1, 2, 3, 4].map(status), [500, 0, 400, 400]);
    }
}
