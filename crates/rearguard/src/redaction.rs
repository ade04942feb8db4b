//! Making the user unknown: in every path below the home directory its last part, which most often is a person's name, becomes underscores.
//!
//! The length stays, so that a minidump, with its module names, maps and stacks, stays what it is.

use crate::sys::process;

/// Replaces the user's name in paths, whatever it stands in: text, JSON, or a minidump with its UTF-16.
pub(crate) fn redact(bytes: &mut [u8]) {
    if let Some(home) = process::home() {
        hide(bytes, &home);
    }
}

/// Replaces the last part of `home` wherever the whole of it stands.
fn hide(bytes: &mut [u8], home: &[u8]) {
    let is_separator = |byte: &u8| matches!(*byte, b'/' | b'\\');
    let end = home.len() - home.iter().rev().take_while(|byte| is_separator(byte)).count();
    let home = home.get(..end).unwrap_or_default();
    let name_at = home.iter().rposition(is_separator).map_or(0, |at| at + 1);
    // A home like / or /root is nobody's name, and would be found everywhere.
    if name_at < 2 || name_at == home.len() {
        return;
    }
    let hidden = home.len() - name_at;
    replace(bytes, home, hidden, 1);
    if home.contains(&b'\\') {
        // As JSON has it.
        let mut escaped = Vec::new();
        for byte in home {
            let is_escaped = *byte == b'\\';
            escaped.extend_from_slice(if is_escaped {
                b"\\\\"
            } else {
                core::slice::from_ref(byte)
            });
        }
        replace(bytes, &escaped, hidden, 1);
    }
    // As a minidump has the names of modules.
    let (Ok(home), Some(Ok(name))) =
        (core::str::from_utf8(home), home.get(name_at..).map(core::str::from_utf8))
    else {
        return;
    };
    let wide: Vec<u8> = home.encode_utf16().flat_map(u16::to_le_bytes).collect();
    replace(bytes, &wide, name.encode_utf16().count() * 2, 2);
}

/// Replaces the last `hidden` bytes of each `pattern` that isn't the beginning of a longer name; a character has `width` bytes.
fn replace(bytes: &mut [u8], pattern: &[u8], hidden: usize, width: usize) {
    let Some(first) = pattern.first() else { return };
    let mut at = 0;
    while let Some(found) =
        bytes.get(at..).and_then(|rest| rest.iter().position(|byte| byte == first))
    {
        at += found;
        let end = at + pattern.len();
        let is_here = bytes.get(at..end) == Some(pattern);
        // A dot or a dash goes on with a name only if something follows it.
        let at_end = |ahead: usize| bytes.get(end + ahead * width).copied().unwrap_or(b' ');
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let goes_on =
            is_letter(at_end(0)) || matches!(at_end(0), b'-' | b'.') && is_letter(at_end(1));
        if is_here && !goes_on {
            for character in bytes.get_mut(end - hidden..end).unwrap_or_default().chunks_mut(width)
            {
                if let Some(low) = character.first_mut() {
                    *low = b'_';
                }
                if let Some(high) = character.get_mut(1) {
                    *high = 0;
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str, home: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        hide(&mut bytes, home.as_bytes());
        String::from_utf8(bytes).expect("it stays text")
    }

    // Goal: the name is gone from every path of the user's, and from nothing else.
    #[test]
    fn names_are_hidden_in_paths() {
        assert_eq!(hidden("/home/ann/x /home/anna/y", "/home/ann"), "/home/___/x /home/anna/y");
        assert_eq!(hidden("see /home/ann", "/home/ann/"), "see /home/___");
        assert_eq!(hidden("C:\\Users\\ann\\x", "C:\\Users\\ann"), "C:\\Users\\___\\x");
        assert_eq!(
            hidden("\"C:\\\\Users\\\\ann\\\\x\"", "C:\\Users\\ann"),
            "\"C:\\\\Users\\\\___\\\\x\""
        );
        assert_eq!(
            hidden("no /home/ann. /home/ann.old", "/home/ann"),
            "no /home/___. /home/ann.old"
        );
        assert_eq!(hidden("/root/x ann", "/root"), "/root/x ann");
        assert_eq!(hidden("/", "/"), "/");
        assert_eq!(hidden("", "/home/ann"), "");
        assert_eq!(hidden("/home/jürgen/x", "/home/jürgen"), "/home/_______/x");
        for (text, home, expected) in [
            ("/home/ann/lib", "/home/ann", "/home/___/lib"),
            ("C:\\Users\\Jürgen\\a.dll", "C:\\Users\\Jürgen", "C:\\Users\\______\\a.dll"),
        ] {
            let mut wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            hide(&mut wide, home.as_bytes());
            let units: Vec<u16> =
                wide.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            assert_eq!(String::from_utf16(&units).expect("it stays text"), expected);
        }
    }
}
