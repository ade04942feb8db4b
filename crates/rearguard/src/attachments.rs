//! Files that go with a report: the application's logs, and what they were called before they were rotated.
//!
//! They are read by the guard while the crashed process waits, before another life can begin its log anew.

use std::path::Path;

use crate::heap::{List, PutBytes, PutText, Text, add, copied, lossy};
use crate::limits::{ATTACHMENT_BYTES_MAX, ATTACHMENT_NAME_BYTES_MAX, ATTACHMENTS_BYTES_MAX};
use crate::sys::{file, process};
use crate::text::push_number;

/// What stands behind the name of a log that was rotated: logrotate's first, and the two older customs.
const ROTATED: [&[u8]; 4] = [b"", b".1", b".0", b".old"];

/// Reads the end of each file that is there, up to the limit of one and of all.
pub(crate) fn read(paths: &[List<u8>]) -> List<(Text, List<u8>)> {
    let mut attachments: List<(Text, List<u8>)> = List::new();
    let mut room = ATTACHMENTS_BYTES_MAX;
    for path in paths {
        for ending in ROTATED {
            let mut whole = copied(path);
            whole.put(ending);
            let path = process::path(&whole);
            let Ok(content) = file::read_end(path, ATTACHMENT_BYTES_MAX.min(room)) else {
                continue;
            };
            let mut content = content;
            room -= content.len();
            if let Some(redact) = crate::hooks::get().redact {
                redact(&mut content);
            }
            let name = name_for(path, &attachments);
            add(&mut attachments, (name, content));
        }
    }
    attachments
}

/// A name for the report's directory and for the collector: the file's own without what neither can hold, and unlike the others.
fn name_for(path: &Path, others: &[(Text, List<u8>)]) -> Text {
    let own = path.file_name().map(|name| lossy(name.as_encoded_bytes())).unwrap_or_default();
    let mut name = Text::new();
    for character in own.chars() {
        if name.len() >= ATTACHMENT_NAME_BYTES_MAX {
            break;
        }
        let is_harmless = !character.is_control() && !"\"/\\:*?<>|".contains(character);
        name.put_char(if is_harmless { character } else { '_' });
    }
    let mut unique = name.clone();
    let mut number = 2;
    while others.iter().any(|(other, _)| other.eq_ignore_ascii_case(&unique)) {
        unique.clear();
        push_number(&mut unique, number);
        unique.put_char('-');
        unique.put(&name);
        number += 1;
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: a name holds nothing that breaks out of a header or a directory, is bounded, and is nobody else's.
    #[test]
    fn names_are_harmless_and_unique() {
        let others = [(Text::from("A.log"), List::new()), (Text::from("2-a.log"), List::new())];
        assert_eq!(name_for(Path::new("/x/a.log"), &others), "3-a.log");
        assert_eq!(name_for(Path::new("/x/a\r\n\"b\u{7f}.log"), &others), "a___b_.log");
        let long = "é".repeat(500);
        let name = name_for(Path::new(&long), &others);
        assert!(name.len() <= ATTACHMENT_NAME_BYTES_MAX + 1 && name.starts_with('é'));
    }
}
