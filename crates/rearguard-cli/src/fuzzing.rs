//! The doors for `fuzz/`: what the tool reads of files that anybody may have made.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::analysis::{Depth, SymbolPlaces, analyse};
use crate::reports::Where;
use crate::reports::metadata::Metadata;
use crate::show::{Extent, Story, in_json, in_words};
use crate::terminal::Look;

/// Takes bytes for a minidump, and shows it.
pub fn minidump(bytes: &[u8]) {
    with_file(bytes, |path| {
        if let Ok(analysis) = analyse(path, &SymbolPlaces::default(), Depth::Whole) {
            shown(Story {
                id: None,
                stage: None,
                metadata: None,
                analysis: Some(analysis),
                problem: None,
            });
        }
    });
}

/// Takes bytes for a report's metadata, and shows them.
pub fn metadata(bytes: &[u8]) {
    if let Ok(metadata) = Metadata::parse(bytes, std::path::Path::new("x.json")) {
        let _ = metadata.end();
        shown(Story {
            id: Some("x".to_owned()),
            stage: Some("pending"),
            metadata: Some(metadata),
            analysis: None,
            problem: None,
        });
    }
}

/// Takes bytes for the inside of an exported report, and imports it into a store that goes with the call.
///
/// What makes it an export is put around it, since no fuzzer finds a checksum.
pub fn archive(inside: &[u8]) {
    let mut export = GzEncoder::new(Vec::new(), Compression::none());
    let Some(bytes) = export.write_all(inside).ok().and_then(|()| export.finish().ok()) else {
        return;
    };
    let Ok(store) = tempfile::tempdir_in("/dev/shm") else { return };
    let place = Where { store: Some(store.path().join("a/b/c/store")), app: None };
    with_file(&bytes, |path| {
        let _ = crate::archive::import(path, &place);
    });
    let count = |path: &str| std::fs::read_dir(store.path().join(path)).map_or(0, Iterator::count);
    assert!(
        ["", "a", "a/b", "a/b/c"].map(count).iter().all(|count| *count <= 1),
        "outside of the store"
    );
}

/// Nothing of a report may steer a terminal, and what is shown as JSON is JSON.
fn shown(story: Story) {
    let look = Look { has_colours: false, width: 80 };
    for everything in [false, true] {
        let text = in_words(&story, Extent { everything }, look);
        assert!(
            !text.contains(|letter: char| letter.is_control() && letter != '\n' && letter != '\t'),
            "{text:?}"
        );
    }
    let json = in_json(&story);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
}

fn with_file(bytes: &[u8], read: impl FnOnce(&std::path::Path)) {
    let Ok(file) = memfd_create("fuzz", MemfdFlags::CLOEXEC) else { return };
    let mut file = std::fs::File::from(file);
    if file.write_all(bytes).is_ok() {
        use std::os::fd::AsRawFd;
        read(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
    }
}
