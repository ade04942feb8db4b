//! Writing JSON (RFC 8259). Reading it is for the tools at the desk.

use crate::heap::{List, PutText, Text, owned, text_of};
use crate::text::{push_hexadecimal, push_number, push_signed};

/// Builds one JSON value; the caller opens and closes in the right order.
pub(crate) struct Json {
    text: Text,
    /// Whether a comma is due before the next item.
    comma: bool,
    /// How many objects are open.
    depth: usize,
}

impl Json {
    #[inline(always)]
    pub(crate) fn new() -> Json {
        Json { text: text_of(4096), comma: false, depth: 0 }
    }

    fn separate(&mut self) {
        if self.comma {
            self.text.put_char(',');
        }
        self.comma = true;
    }

    /// Begins a line, indented for a person.
    fn line(&mut self) {
        self.text.put_char('\n');
        for _ in 0..self.depth {
            self.text.put("  ");
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.line();
        self.string(key);
        self.text.put(": ");
    }

    /// Opens the outermost object.
    pub(crate) fn open(&mut self) {
        self.text.put_char('{');
        self.comma = false;
        self.depth += 1;
    }

    /// Opens an object under a key.
    pub(crate) fn object(&mut self, key: &str) {
        self.key(key);
        self.open();
    }

    /// Closes an object.
    pub(crate) fn close(&mut self) {
        self.depth -= 1;
        self.line();
        self.text.put_char('}');
        self.comma = true;
    }

    /// A value under a key that is JSON already.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text.put(value);
    }

    /// A list of texts under a key.
    pub(crate) fn texts<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a str>) {
        self.key(key);
        self.text.put_char('[');
        self.comma = false;
        for value in values {
            if self.comma {
                self.text.put(", ");
            }
            self.comma = true;
            self.string(value);
        }
        self.text.put_char(']');
        self.comma = true;
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    #[inline(always)]
    pub(crate) fn optional_text(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        push_number(&mut self.text, value);
    }

    pub(crate) fn signed(&mut self, key: &str, value: i64) {
        self.key(key);
        push_signed(&mut self.text, value);
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.text.put(if value { "true" } else { "false" });
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.key(key);
        self.text.put("null");
    }

    fn string(&mut self, value: &str) {
        put_quoted(&mut self.text, value);
    }

    #[inline(always)]
    pub(crate) fn finish(mut self) -> List<u8> {
        self.text.put_char('\n');
        self.text.into_bytes()
    }
}

/// Appends a text as a string of JSON.
#[inline(never)]
pub(crate) fn put_quoted(text: &mut Text, value: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.put_char('"');
    for character in value.chars() {
        match character {
            '"' => text.put("\\\""),
            '\\' => text.put("\\\\"),
            '\n' => text.put("\\n"),
            '\r' => text.put("\\r"),
            '\t' => text.put("\\t"),
            control if control < ' ' => {
                let code = control as usize;
                text.put("\\u00");
                text.put_char(char::from(DIGITS[code >> 4 & 15]));
                text.put_char(char::from(DIGITS[code & 15]));
            }
            other => text.put_char(other),
        }
    }
    text.put_char('"');
}

/// `0x` and the digits.
pub(crate) fn hexadecimal(value: u64) -> Text {
    let mut text = owned("0x");
    push_hexadecimal(&mut text, value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: whatever a text holds, the result is JSON that other people's parser reads back as the same text.
    #[test]
    fn texts_survive() {
        let hostile = "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}\u{2028}é😀";
        let mut json = Json::new();
        json.open();
        json.text(hostile, hostile);
        json.object("inner");
        json.number("n", u64::MAX);
        json.null("none");
        json.close();
        json.texts("list", ["x", hostile].into_iter());
        json.bool("b", true);
        json.close();
        let value: serde_json::Value = serde_json::from_slice(&json.finish()).expect("it is JSON");
        assert_eq!(value[hostile], hostile);
        assert_eq!(value["inner"]["n"], u64::MAX);
        assert_eq!(value["list"][1], hostile);
        assert_eq!(value["b"], true);
    }

    #[test]
    fn hexadecimals() {
        assert_eq!(hexadecimal(0), "0x0");
        assert_eq!(hexadecimal(0x1_0000), "0x10000");
        assert_eq!(hexadecimal(u64::MAX), "0xffffffffffffffff");
    }
}
