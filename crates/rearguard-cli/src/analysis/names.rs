//! Functions' names, as their programmers wrote them.

use symbolic_common::{Language, Name, NameMangling};
use symbolic_demangle::{Demangle, DemangleOptions};

/// A name from a table of symbols, in whatever way it is encoded there.
pub(super) fn demangled(name: String) -> String {
    more(addr2line::demangle_auto(name.into(), None).into_owned())
}

/// The same where Rust's and C++'s ways are dealt with already.
pub(super) fn more(name: String) -> String {
    let language = match name.as_bytes() {
        [b'?', ..] => Language::Cpp,
        // Swift 4 and 5, with the underscore of some systems before; and older ones.
        [b'$', b's' | b'S', ..] | [b'_', b'$', b's' | b'S', ..] | [b'_', b'T', ..] => {
            Language::Swift
        }
        _ => return name,
    };
    let encoded = Name::new(&name, NameMangling::Mangled, language);
    encoded.demangle(DemangleOptions::name_only()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each language's names are read, and what is none of them stays as it is.
    #[test]
    fn names_are_read() {
        for (encoded, name) in [
            ("?write@Page@document@@QEAAXH@Z", "document::Page::write"),
            ("_ZN8document4Page5writeEi", "document::Page::write(int)"),
            ("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
            ("main", "main"),
            ("?", "?"),
            ("$s", "$s"),
        ] {
            assert_eq!(demangled(encoded.to_owned()), name, "{encoded}");
        }
    }

    #[cfg(feature = "swift")]
    #[test]
    fn swift_names_are_read() {
        let name = demangled("$s8document4PageV5write3inkySi_tF".to_owned());
        assert_eq!(name, "Page.write");
    }
}
