//! A report's metadata: the JSON that the guard has written, member by member.
//!
//! Whatever is missing, or of another type than DELIVERY.md says, is as if it weren't there.

use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

/// The newest layout that is known; see DELIVERY.md.
const SCHEMA_MAX: u64 = 2;

/// The metadata of one report.
#[derive(Clone, Debug)]
pub(crate) struct Metadata(Value);

impl Metadata {
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Metadata, Failure> {
        match serde_json::from_slice(bytes) {
            Ok(value @ Value::Object(_)) => match value.get("schema").and_then(Value::as_u64) {
                Some(schema) if schema > SCHEMA_MAX => {
                    let reason = format!("its schema {schema} is newer than this tool");
                    Err(Failure::unreadable(path, reason))
                }
                _ => Ok(Metadata(value)),
            },
            Ok(_) => Err(Failure::unreadable(path, "it is no JSON object")),
            Err(error) => Err(Failure::unreadable(path, error)),
        }
    }

    /// Everything, as it is.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// What is at a path of members.
    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.0, |value, member| value.get(member))
    }

    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn number(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    pub(crate) fn flag(&self, path: &[&str]) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, path: &[&str]) -> Vec<&str> {
        let list = self.at(path).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// Keys and texts, in the order of the file.
    pub(crate) fn annotations(&self) -> Vec<(&str, &str)> {
        let members = self.at(&["annotations"]).and_then(Value::as_object);
        let members = members.into_iter().flatten();
        members.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    /// Moments in milliseconds after the first, in the order in which they came.
    pub(crate) fn timeline(&self) -> Vec<(f64, &'static str)> {
        let at = |key| self.at(&["timeline", key]).and_then(Value::as_u64);
        let mut moments: Vec<(u64, &'static str)> =
            MOMENTS.iter().filter_map(|(key, words)| Some((at(key)?, *words))).collect();
        moments.sort_by_key(|(at_ns, _)| *at_ns);
        let begin = moments.first().map_or(0, |(at_ns, _)| *at_ns);
        let after = |at_ns: u64| (at_ns - begin) as f64 / 1e6;
        moments.into_iter().map(|(at_ns, words)| (after(at_ns), words)).collect()
    }

    /// How it ended, in a few words: `SIGSEGV at 0x18`, `exit code 3`, `panic`.
    pub(crate) fn end(&self) -> String {
        let class = self.text(&["exit", "class"]).unwrap_or("unknown");
        let signal =
            self.text(&["exit", "signal"]).or_else(|| self.text(&["crash", "signal_name"]));
        let value = self.number(&["exit", "value"]);
        let has_panicked = self.at(&["panic"]).is_some_and(Value::is_object);
        match (class, signal, value) {
            // By Rust's exit code for it, or by an abort.
            ("code", _, Some(101)) if has_panicked => "panic".to_owned(),
            ("crash", Some("SIGABRT"), _) if has_panicked => "panic".to_owned(),
            ("code", _, Some(code)) if has_panicked => format!("exit code {code} after a panic"),
            ("code", _, Some(code)) => format!("exit code {code}"),
            ("crash", Some(signal), _) => match self.text(&["crash", "address"]) {
                Some(address) if has_address(signal) => format!("{signal} at {address}"),
                _ => signal.to_owned(),
            },
            (class, Some(signal), _) => format!("{class} by {signal}"),
            (class, None, Some(value)) => format!("{class} {value}"),
            (class, None, None) => class.to_owned(),
        }
    }
}

/// Whether the address of a signal is one of memory.
fn has_address(signal: &str) -> bool {
    matches!(signal, "SIGSEGV" | "SIGBUS" | "SIGILL" | "SIGFPE" | "SIGTRAP")
}

/// The moments of the timeline, in words.
pub(crate) const MOMENTS: [(&str, &str); 7] = [
    ("crash_seen", "the crash handler has seen the crash"),
    ("threads_stopped", "the guard has stopped the other threads"),
    ("threads_released", "and let go of them"),
    ("dump_finished", "the minidump is in the store"),
    ("worker_released", "the worker may die"),
    ("full_exit", "the worker's process is gone"),
    ("restarted", "the next worker is started"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Metadata {
        Metadata::parse(text.as_bytes(), Path::new("x.json")).unwrap()
    }

    /// Goal: each way to end has its words, and strange members are as if they weren't there.
    #[test]
    fn ends_have_words() {
        for (text, words) in [
            (
                r#"{"exit":{"class":"crash","value":11,"signal":"SIGSEGV"},"crash":{"address":"0x18"}}"#,
                "SIGSEGV at 0x18",
            ),
            (
                r#"{"exit":{"class":"crash","value":6,"signal":"SIGABRT"},"crash":{"address":"0x0"}}"#,
                "SIGABRT",
            ),
            (r#"{"exit":{"class":"code","value":3}}"#, "exit code 3"),
            (r#"{"exit":{"class":"code","value":101},"panic":{"message":"x"}}"#, "panic"),
            (
                r#"{"exit":{"class":"code","value":3},"panic":{"message":"x"}}"#,
                "exit code 3 after a panic",
            ),
            (r#"{"exit":{"class":"killed","value":9,"signal":"SIGKILL"}}"#, "killed by SIGKILL"),
            (r#"{"exit":[1]}"#, "unknown"),
        ] {
            assert_eq!(metadata(text).end(), words);
        }
    }

    /// Goal: the timeline begins at its first moment, and moments that didn't come are left out.
    #[test]
    fn the_timeline_is_relative() {
        let timeline =
            metadata(r#"{"timeline":{"full_exit":3500000,"crash_seen":1000000,"restarted":null}}"#)
                .timeline();
        let shown: Vec<String> =
            timeline.iter().map(|(ms, words)| format!("{ms} {words}")).collect();
        assert_eq!(
            shown,
            ["0 the crash handler has seen the crash", "2.5 the worker's process is gone"]
        );
    }

    /// Goal: what is no metadata is one clear error.
    #[test]
    fn other_files_are_refused() {
        for text in ["", "[]", "{", "\0"] {
            let failure = Metadata::parse(text.as_bytes(), Path::new("x.json")).unwrap_err();
            assert!(failure.to_string().starts_with("x.json: "), "{failure}");
        }
    }
}
