//! `rearguard show`: one report, or one minidump, as a person or a program wants it.

mod json;
mod text;

use std::path::Path;

use crate::analysis::{Analysis, Depth, SymbolPlaces, analyse};
use crate::failure::Failure;
use crate::reports::Where;
use crate::reports::choose::{Chosen, choose};
use crate::reports::metadata::Metadata;
use crate::terminal::{Look, show};

/// What is known of one crash.
pub(crate) struct Story {
    pub(crate) id: Option<String>,
    /// Where in the store it lies.
    pub(crate) stage: Option<&'static str>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) analysis: Option<Analysis>,
    /// Why there is no analysis, where there should be one.
    pub(crate) problem: Option<Failure>,
}

/// How much of it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// Every thread in full, and the modules.
    pub(crate) everything: bool,
}

pub(crate) fn run(
    word: &str,
    place: &Where,
    symbols: &SymbolPlaces,
    extent: Extent,
    as_json: bool,
) -> Result<(), Failure> {
    let story = read(word, place, symbols)?;
    let text = if as_json { in_json(&story) } else { in_words(&story, extent, Look::of_stdout()) };
    show(&text)?;
    // What can be told is told; that the minidump can't be read is a failure all the same.
    story.problem.map_or(Ok(()), Err)
}

/// All of it, for a person.
pub(crate) fn in_words(story: &Story, extent: Extent, look: Look) -> String {
    text::of(story, extent, look)
}

/// All of it, for a program.
pub(crate) fn in_json(story: &Story) -> String {
    json::of(story)
}

/// The crash alone: its reason and the stack of its thread.
pub(crate) fn crash(analysis: &Analysis) -> String {
    text::crash(analysis, Look::of_stdout())
}

fn read(word: &str, place: &Where, symbols: &SymbolPlaces) -> Result<Story, Failure> {
    match choose(word, place)? {
        Chosen::File(path) => {
            let analysis = analyse(&path, symbols, Depth::Whole)?;
            let problem = cut(&path, &analysis);
            Ok(Story { id: None, stage: None, metadata: None, analysis: Some(analysis), problem })
        }
        Chosen::Report(entry) => {
            let metadata = entry.metadata()?;
            let (mut analysis, mut problem) = (None, None);
            if let Some(path) = entry.dump() {
                match analyse(&path, symbols, Depth::Whole) {
                    Ok(found) => {
                        problem = cut(&path, &found);
                        analysis = Some(found);
                    }
                    Err(failure) => problem = Some(failure),
                }
            }
            let stage = Some(entry.stage);
            Ok(Story { id: Some(entry.id), stage, metadata: Some(metadata), analysis, problem })
        }
    }
}

/// The failure of a file that was cut: what is there is shown all the same.
fn cut(path: &Path, analysis: &Analysis) -> Option<Failure> {
    let missing = analysis.missing_bytes;
    (missing > 0).then(|| {
        let reason = format!("the minidump was cut: {missing} bytes of it are missing");
        Failure::unreadable(path, reason)
    })
}
