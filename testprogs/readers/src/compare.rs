//! Compares records.

use std::collections::BTreeMap;

use serde_json::Value;

/// Who made a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The `minidump` crate, which tells all that a record can have.
    Minidump,
    /// lldb.
    Lldb,
    /// PyPI's `minidump`.
    Pypi,
}

/// A part of every record that a reader can't tell, since it has no code for it.
struct Gap {
    reader: Reader,
    /// Parts of the path; `*` stands for any.
    path: &'static [&'static str],
    reason: &'static str,
}

const GAPS: [Gap; 8] = [
    Gap {
        reader: Reader::Lldb,
        path: &["threads", "*", "name"],
        reason: "lldb 14 asks no minidump for names of threads",
    },
    Gap {
        reader: Reader::Lldb,
        path: &["threads", "*", "registers", "vector"],
        reason: "lldb 14 takes no register of the floating-point unit out of an x86_64 minidump",
    },
    Gap {
        reader: Reader::Lldb,
        path: &["exception", "si_code"],
        reason: "lldb 14 makes the number of the signal of it and shows nothing else",
    },
    Gap {
        reader: Reader::Lldb,
        path: &["exception", "address"],
        reason: "lldb 14 makes the number of the signal of it and shows nothing else",
    },
    Gap {
        reader: Reader::Lldb,
        path: &["modules", "*", "size"],
        reason: "where lldb finds the file, it is the file that it shows, not the dump's size of it",
    },
    Gap {
        reader: Reader::Pypi,
        path: &["threads", "*", "name"],
        reason: "the package has no code for the stream of names",
    },
    Gap {
        reader: Reader::Pypi,
        path: &["modules", "*", "build_id"],
        reason: "the package doesn't read what a module's record points to",
    },
    Gap {
        reader: Reader::Pypi,
        path: &["threads", "*", "registers", "arm64"],
        reason: "the package has no code for contexts of aarch64",
    },
];

/// What a reader shows where the dump says nothing.
struct Invention {
    reader: Reader,
    path: &'static [&'static str],
    /// `*` stands for any.
    value: &'static str,
    reason: &'static str,
}

const INVENTIONS: [Invention; 2] = [
    Invention {
        reader: Reader::Lldb,
        path: &["threads", "*", "registers", "*"],
        value: "0x0",
        reason: "lldb 14 takes the parts of a context that its flags deny for zeros",
    },
    Invention {
        reader: Reader::Lldb,
        path: &["modules", "*", "build_id"],
        value: "*",
        reason: "where a dump has no build id, lldb shows that of the file which it finds by the path",
    },
];

impl Invention {
    fn holds(&self, reader: Reader, path: &[String], value: &str) -> bool {
        debug_assert!(!self.reason.is_empty());
        self.reader == reader
            && (self.value == "*" || self.value == value)
            && is_at(self.path, path)
    }
}

impl Gap {
    fn holds(&self, reader: Reader, path: &[String]) -> bool {
        debug_assert!(!self.reason.is_empty());
        self.reader == reader && is_at(self.path, path)
    }
}

/// Whether the path is one of those that the pattern means.
fn is_at(pattern: &[&str], path: &[String]) -> bool {
    pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(wanted, part)| match *wanted {
            "*" => true,
            "vector" => is_vector(part),
            "arm64" => is_arm64(part),
            wanted => wanted == part,
        })
}

/// Whether the register is one of the x86_64's floating-point unit.
fn is_vector(register: &str) -> bool {
    ["xmm", "st"].iter().any(|prefix| is_numbered(register, prefix))
        || ["fctrl", "fstat", "ftag", "mxcsr"].contains(&register)
}

/// Whether the register is one that only aarch64 has.
fn is_arm64(register: &str) -> bool {
    ["x", "v"].iter().any(|prefix| is_numbered(register, prefix))
        || ["fp", "lr", "sp", "pc", "cpsr"].contains(&register)
}

fn is_numbered(register: &str, prefix: &str) -> bool {
    let number = register.strip_prefix(prefix);
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

/// How a reader's record differs from that of the `minidump` crate, a line each.
pub fn disagreements(reference: &Value, record: &Value, reader: Reader) -> Vec<String> {
    let mut lines = contradictions("minidump", reference, record, reader);
    let reference = leaves(reference);
    for (path, value) in leaves(record) {
        let is_invented = || INVENTIONS.iter().any(|one| one.holds(reader, &path, &value));
        if !reference.contains_key(&path) && !is_invented() {
            let path = path.join("/");
            lines.push(format!("{path}: nothing for minidump, {value} for {reader:?}"));
        }
    }
    lines
}

/// How a reader's record differs from the truth, a line each. The truth may be a part of it.
pub fn untruths(truth: &Value, record: &Value, reader: Reader) -> Vec<String> {
    contradictions("the truth", truth, record, reader)
}

/// What is another value in a reader's record, or is missing there without being a known gap.
fn contradictions(teller: &str, expected: &Value, record: &Value, reader: Reader) -> Vec<String> {
    let seen = leaves(record);
    let mut lines = Vec::new();
    for (path, value) in leaves(expected) {
        let is_gap = || GAPS.iter().any(|gap| gap.holds(reader, &path));
        match seen.get(&path) {
            Some(seen) if *seen == value => {}
            None if is_gap() => {}
            seen => {
                let seen = seen.map_or("nothing", String::as_str);
                let path = path.join("/");
                lines.push(format!("{path}: {value} for {teller}, {seen} for {reader:?}"));
            }
        }
    }
    lines
}

fn leaves(record: &Value) -> BTreeMap<Vec<String>, String> {
    let mut leaves = BTreeMap::new();
    flatten(record, &mut Vec::new(), &mut leaves);
    leaves
}

/// The values of a record with their paths. An object is a value too, so that an empty one isn't the same as none.
fn flatten(value: &Value, path: &mut Vec<String>, leaves: &mut BTreeMap<Vec<String>, String>) {
    match value {
        Value::Object(fields) => {
            leaves.insert(path.clone(), "an object".to_owned());
            for (name, field) in fields {
                path.push(name.clone());
                flatten(field, path, leaves);
                path.pop();
            }
        }
        Value::String(text) => {
            leaves.insert(path.clone(), text.clone());
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            leaves.insert(path.clone(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: what differs, what is missing and what is too much is told, and a gap excuses its own part alone.
    #[test]
    fn each_difference_is_told() {
        let reference = json!({
            "threads": { "0x1": { "name": "a", "registers": { "rax": "0x1", "xmm0": "0x2", "st1": "0x0" } } },
            "exception": null,
        });
        assert_eq!(disagreements(&reference, &reference, Reader::Pypi), [""; 0]);
        let seen = json!({
            "threads": { "0x1": { "registers": { "rax": "0x1" } }, "0x2": {} },
            "exception": null,
        });
        assert_eq!(
            disagreements(&reference, &seen, Reader::Lldb),
            ["threads/0x2: nothing for minidump, an object for Lldb"]
        );
        assert_eq!(
            disagreements(&reference, &seen, Reader::Pypi),
            [
                "threads/0x1/registers/st1: 0x0 for minidump, nothing for Pypi",
                "threads/0x1/registers/xmm0: 0x2 for minidump, nothing for Pypi",
                "threads/0x2: nothing for minidump, an object for Pypi",
            ]
        );
        let truth = json!({ "threads": { "0x1": { "name": "b" } }, "pid": "0x7" });
        assert_eq!(
            untruths(&truth, &reference, Reader::Minidump),
            [
                "pid: 0x7 for the truth, nothing for Minidump",
                "threads/0x1/name: b for the truth, a for Minidump",
            ]
        );
        let told = json!({ "exception": null, "threads": { "0x1": { "name": "a" } } });
        assert_eq!(untruths(&told, &reference, Reader::Minidump), [""; 0]);
        // A gap is for what isn't told, not for what is told wrongly.
        let wrong = json!({ "threads": { "0x1": { "name": "b" } } });
        let lines = disagreements(&reference, &wrong, Reader::Lldb);
        assert!(lines.iter().any(|line| line.contains("/name: a for minidump")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("/registers: an object")), "{lines:?}");
    }
}
