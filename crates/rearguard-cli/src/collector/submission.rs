//! What a collector was sent, and what was wrong with it.

use std::fmt;

/// One request, read as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// The place of this request among all of this collector's, from 1.
    pub number: usize,
    /// `POST`, if all is well.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All headers in their order, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The size of the body on the wire, before anything was unpacked.
    pub body_bytes: usize,
    /// The body on the wire, for readers that trust no reader of ours.
    pub raw: Vec<u8>,
    /// The parts of the form, in their order.
    pub parts: Vec<Part>,
    /// Every rule of the upload format that the request breaks.
    pub violations: Vec<Violation>,
    /// The status of the answer that the script has for it; `None` where that is no whole answer.
    pub status: Option<u16>,
    /// The body of the answer, which a client keeps as the server's id.
    pub answer: String,
}

/// One part of the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The file's name; `None` for a plain field.
    pub file_name: Option<String>,
    /// The part's own content type.
    pub content_type: Option<String>,
    /// The value, or the file.
    pub bytes: Vec<u8>,
}

/// The field that carries the minidump.
pub(super) const MINIDUMP: &str = "upload_file_minidump";

/// The fields that come before the application's annotations, in this order.
const FIXED_FIELDS: [&str; 4] = ["prod", "ver", "guid", "ptype"];

impl Submission {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The text of a plain field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let part = self.parts.iter().find(|part| part.file_name.is_none() && part.name == name)?;
        std::str::from_utf8(&part.bytes).ok()
    }

    /// All plain fields, in their order.
    /// A value that isn't UTF-8 is shown with replacement characters.
    pub fn fields(&self) -> Vec<(String, String)> {
        let plain = self.parts.iter().filter(|part| part.file_name.is_none());
        plain
            .map(|part| (part.name.clone(), String::from_utf8_lossy(&part.bytes).into_owned()))
            .collect()
    }

    /// A file, by its field's name.
    pub fn file(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.file_name.is_some() && part.name == name)
    }

    /// All files, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.file_name.is_some())
    }

    /// The minidump's part.
    /// Reports of ends without a crash have none.
    pub fn minidump(&self) -> Option<&Part> {
        self.file(MINIDUMP)
    }

    /// The report's UUID, which is the minidump's file name without its ending.
    pub fn report_id(&self) -> Option<&str> {
        self.minidump()?.file_name.as_deref()?.strip_suffix(".dmp")
    }

    /// Notes what the parts show, once they are read.
    pub(super) fn check_parts(&mut self) {
        for name in FIXED_FIELDS {
            if self.field(name).is_none() {
                self.violations.push(Violation::FieldMissing(name));
            }
        }
        let names: Vec<String> = self.fields().into_iter().map(|(name, _)| name).collect();
        let (fixed, rest) = names.split_at(names.len().min(FIXED_FIELDS.len()));
        let in_place = fixed.iter().all(|name| FIXED_FIELDS.contains(&name.as_str()));
        if !in_place || !rest.is_sorted() {
            self.violations.push(Violation::FieldsOutOfOrder);
        }
        let mut seen = names.clone();
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            self.violations.push(Violation::FieldTwice(pair[0].clone()));
        }
        let dump = self.minidump().map(minidump_violations).unwrap_or_default();
        self.violations.extend(dump);
        let paths = self.files().filter_map(|part| part.file_name.as_deref());
        let bad: Vec<_> =
            paths.filter(|name| name.contains(['/', '\\'])).map(str::to_owned).collect();
        self.violations.extend(bad.into_iter().map(Violation::FileNameIsPath));
    }
}

fn minidump_violations(part: &Part) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = part.file_name.as_deref().unwrap_or_default();
    if !name.strip_suffix(".dmp").is_some_and(is_uuid) {
        found.push(Violation::MinidumpName(name.to_owned()));
    }
    if part.content_type.as_deref() != Some("application/octet-stream") {
        found.push(Violation::MinidumpType(part.content_type.clone().unwrap_or_default()));
    }
    if !part.bytes.starts_with(b"MDMP") {
        found.push(Violation::NotAMinidump);
    }
    found
}

/// Whether a text is a UUID in its usual form, in lower case.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    lengths == [8, 4, 4, 4, 12] && groups.concat().bytes().all(hex)
}

/// A rule of the upload format that a request breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The head isn't HTTP/1.
    BadHead(String),
    /// The method isn't POST.
    NotPost(String),
    /// No `Content-Length`: Antenna and Relay refuse that.
    NoContentLength,
    /// Two lengths, or one that is no number.
    BadContentLength,
    /// `Transfer-Encoding` instead of a length.
    TransferEncoding(String),
    /// The body is larger than a collector takes.
    TooLarge(u64),
    /// The connection ended before the body did.
    BodyCutOff {
        /// The bytes that came.
        got: usize,
        /// The bytes that were announced.
        announced: usize,
    },
    /// Bytes after the announced end of the body.
    TrailingBytes,
    /// A content coding that no collector takes.
    ContentEncoding(String),
    /// A gzip body that can't be unpacked.
    BadGzip(String),
    /// The content type isn't `multipart/form-data` with a boundary.
    NotMultipart(String),
    /// The form can't be read.
    BadMultipart(String),
    /// The body has no final boundary.
    NoFinalBoundary,
    /// The final boundary doesn't end with CR LF, which Backtrace answers with 400.
    FinalBoundaryWithoutCrlf,
    /// A part's header has an unescaped quote, CR or LF in a name.
    UnescapedName(String),
    /// One of the fields that every report has isn't there.
    FieldMissing(&'static str),
    /// The fixed fields come first, then the annotations, sorted.
    FieldsOutOfOrder,
    /// A field that is there twice.
    FieldTwice(String),
    /// The minidump's file name isn't `<uuid>.dmp`.
    MinidumpName(String),
    /// The minidump's type isn't `application/octet-stream`.
    MinidumpType(String),
    /// The minidump's file doesn't begin as one.
    NotAMinidump,
    /// A file's name is a path, which shows more of the machine than it should.
    FileNameIsPath(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::BadHead(why) => write!(f, "the request's head can't be read: {why}"),
            Violation::NotPost(method) => write!(f, "the method is {method}, not POST"),
            Violation::NoContentLength => f.write_str("there is no Content-Length"),
            Violation::BadContentLength => f.write_str("the Content-Length is no single number"),
            Violation::TransferEncoding(coding) => write!(f, "the body is sent {coding}"),
            Violation::TooLarge(bytes) => write!(f, "the body of {bytes} bytes is too large"),
            Violation::BodyCutOff { got, announced } => {
                write!(f, "the body ended after {got} of {announced} bytes")
            }
            Violation::TrailingBytes => f.write_str("the body goes on after its announced end"),
            Violation::ContentEncoding(coding) => {
                write!(f, "the content coding {coding} is unknown")
            }
            Violation::BadGzip(why) => write!(f, "the gzip body can't be unpacked: {why}"),
            Violation::NotMultipart(kind) => write!(f, "the content type '{kind}' is no form"),
            Violation::BadMultipart(why) => write!(f, "the form can't be read: {why}"),
            Violation::NoFinalBoundary => f.write_str("the final boundary is missing"),
            Violation::FinalBoundaryWithoutCrlf => {
                f.write_str("the final boundary doesn't end with CR LF")
            }
            Violation::UnescapedName(head) => write!(f, "a name isn't escaped in '{head}'"),
            Violation::FieldMissing(name) => write!(f, "the field {name} is missing"),
            Violation::FieldsOutOfOrder => f.write_str("the fields are out of order"),
            Violation::FieldTwice(name) => write!(f, "the field {name} is there twice"),
            Violation::MinidumpName(name) => {
                write!(f, "the minidump's name '{name}' is no <uuid>.dmp")
            }
            Violation::MinidumpType(kind) => write!(f, "the minidump's type is '{kind}'"),
            Violation::NotAMinidump => f.write_str("the minidump doesn't begin as one"),
            Violation::FileNameIsPath(name) => write!(f, "the file name '{name}' is a path"),
        }
    }
}
