//! Names and lines from the debug information of the files that a dump names.

use std::collections::BTreeMap;

use addr2line::Loader;

use crate::Frame;

/// The files that were opened so far; a file that can't be read gives no names.
#[derive(Default)]
pub(crate) struct Symbols(BTreeMap<String, Option<Loader>>);

impl Symbols {
    /// What is at an address of a file, from the innermost inlined function to the one that has the code.
    pub(crate) fn frames(&mut self, path: &str, address: u64) -> Vec<Frame> {
        let loader = self.0.entry(path.to_owned()).or_insert_with(|| Loader::new(path).ok());
        let found = loader.as_ref().map(|loader| frames(loader, address)).unwrap_or_default();
        if found.is_empty() { vec![Frame { address, ..Frame::default() }] } else { found }
    }
}

fn frames(loader: &Loader, address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    if let Ok(mut found) = loader.find_frames(address) {
        while let Ok(Some(frame)) = found.next() {
            let function = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let location = frame.location.as_ref();
            frames.push(Frame {
                address,
                function: function.map(|name| without_hash(&name).to_owned()).unwrap_or_default(),
                file: location.and_then(|at| at.file).unwrap_or_default().to_owned(),
                line: location.and_then(|at| at.line).unwrap_or_default(),
                is_inlined: true,
            });
        }
    }
    if frames.is_empty()
        && let Some(name) = loader.find_symbol(address)
    {
        let name = addr2line::demangle_auto(name.into(), None);
        let function = without_hash(&name).to_owned();
        frames.push(Frame { address, function, ..Frame::default() });
    }
    if let Some(last) = frames.last_mut() {
        last.is_inlined = false;
    }
    frames
}

/// The name of a function without the hash that the compiler's older scheme adds.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((front, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            front
        }
        _ => name,
    }
}
