//! The one error of this crate: opaque, and it always names the operation and the thing.

use std::fmt;
use std::path::Path;

use crate::heap::{PutText, lossy, owned, system_reason};
use crate::text::joined;

/// Why something could not be done.
///
/// It carries what was tried, on what, and the system's reason; where a caller can act differently, an `is_*` method says so.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    object: String,
}

#[derive(Clone, Debug)]
enum Kind {
    Setting(&'static str),
    System(i32),
    Refused(&'static str),
}

impl Error {
    /// A value of the builder that can't be used.
    pub(crate) fn setting(field: &'static str, reason: &'static str) -> Error {
        Error { kind: Kind::Setting(reason), operation: field, object: String::new() }
    }

    /// As [`Error::setting`], with the value that was given.
    pub(crate) fn setting_value(field: &'static str, value: &str, reason: &'static str) -> Error {
        Error { kind: Kind::Setting(reason), operation: field, object: value.to_owned() }
    }

    /// The operating system said no.
    pub(crate) fn system(operation: &'static str, object: &str, code: i32) -> Error {
        Error { kind: Kind::System(code), operation, object: object.to_owned() }
    }

    /// As [`Error::system`], with 0 for what the system gave no number.
    pub(crate) fn file(operation: &'static str, object: &Path, code: i32) -> Error {
        let object = lossy(object.as_os_str().as_encoded_bytes());
        match code {
            0 => Error::refused(operation, &object, "not possible"),
            code => Error::system(operation, &object, code),
        }
    }

    /// A rule of ours says no.
    pub(crate) fn refused(operation: &'static str, object: &str, reason: &'static str) -> Error {
        Error { kind: Kind::Refused(reason), operation, object: object.to_owned() }
    }

    /// The system's error number, where the system gave one.
    #[must_use]
    pub fn os_code(&self) -> Option<i32> {
        match self.kind {
            Kind::System(code) => Some(code),
            Kind::Setting(_) | Kind::Refused(_) => None,
        }
    }

    /// Whether a value given to the builder is at fault, so that the program itself must change.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(self.kind, Kind::Setting(_))
    }
}

impl Error {
    /// What it shows as.
    pub(crate) fn text(&self) -> String {
        let mut text = match self.kind {
            Kind::Setting(_) => joined(&["setting `", self.operation, "`"]),
            Kind::System(_) | Kind::Refused(_) => owned(self.operation),
        };
        if !self.object.is_empty() {
            text.put(" \"");
            text.put(&self.object);
            text.put("\"");
        }
        text.put(": ");
        match self.kind {
            Kind::Setting(reason) | Kind::Refused(reason) => text.put(reason),
            Kind::System(code) => text.put(&system_reason(code)),
        }
        text.into_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

/// As [`fmt::Display`]: a `main` that returns an error shows it in this form.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Error {}
