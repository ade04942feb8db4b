//! The files on this machine that a dump's modules were mapped from, and those with their debug information.
//!
//! A file is used only where its identity is the dump's: a build id, or on Windows the time stamp and size of the image.
//! A program that was built anew since would give wrong lines, and nothing would show it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use minidump::{MinidumpModule, Module};
use object::{Object, ObjectSection, ReadCache};

use super::{SymbolPlaces, file_name, pdb};

/// Where distributions put debug information by build id; a fuzzer that read the C library's each time would do nothing else.
const DEBUG_DIRECTORY: &str = if cfg!(fuzzing) { "/nowhere" } else { "/usr/lib/debug" };

/// Both headers of an image lie within its first page, as its loader wants it.
const BEGINNING_BYTES: u64 = 4096;

/// What was found for one module.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The file that was mapped, by its identity.
    pub(super) binary: Option<PathBuf>,
    /// The file with its debug information, which may be the same.
    pub(super) debug: Option<PathBuf>,
    /// The PDB file.
    pub(super) pdb: Option<PathBuf>,
    /// A file that has the name and another identity.
    pub(super) other: Option<PathBuf>,
    pub(super) has_identity: bool,
}

/// Looks for a module's files: where it was mapped from, then in the named directories.
pub(super) fn look_for(module: &MinidumpModule, places: &SymbolPlaces) -> Found {
    let mut found = by_code(module, places);
    found.pdb = pdb_of(module, places, found.binary.as_deref());
    found
}

/// The PDB file of an image: in the named directories, as it is or in the layout of symbol servers, else beside the image.
fn pdb_of(
    module: &MinidumpModule,
    places: &SymbolPlaces,
    binary: Option<&Path>,
) -> Option<PathBuf> {
    let path = module.debug_file()?;
    let wanted = module.debug_identifier()?.breakpad().to_string();
    let name = file_name(&path).to_owned();
    if !ends_with(&name, ".pdb") {
        return None;
    }
    let served = served_path(&name, &wanted);
    let named = places
        .directories
        .iter()
        .flat_map(|directory| [directory.join(&name), directory.join(&served)]);
    let beside = binary.and_then(Path::parent).map(|directory| directory.join(&name));
    named.chain(beside).find(|path| pdb::identity(path).as_ref() == Some(&wanted))
}

/// Whether a file's name has an ending, in whatever case.
pub(super) fn ends_with(name: &str, ending: &str) -> bool {
    name.to_ascii_lowercase().ends_with(ending)
}

/// Where a symbol server has a file: below its name and its identity.
pub(super) fn served_path(name: &str, id: &str) -> PathBuf {
    [name, id, name].iter().collect()
}

/// Time stamp and size of an image as the tools of symbol servers write them, and as others do: the first eight digits in capitals, or in lower case.
pub(super) fn stamps(id: &str) -> [String; 2] {
    let (stamp, size) = id.split_at_checked(8).unwrap_or((id, ""));
    [format!("{}{size}", stamp.to_ascii_uppercase()), id.to_owned()]
}

/// What is found by the identity of the code.
fn by_code(module: &MinidumpModule, places: &SymbolPlaces) -> Found {
    let Some(wanted) = module.code_identifier().map(|id| id.to_string().to_ascii_lowercase())
    else {
        return Found::default();
    };
    let mut found = Found { has_identity: true, ..Found::default() };
    let path = module.code_file().into_owned();
    let name = file_name(&path).to_owned();
    let mapped = PathBuf::from(&path);
    let served = stamps(&wanted).map(|id| served_path(&name, &id));
    let by_id = by_build_id(&wanted, "");
    let named = places.directories.iter().flat_map(|directory| {
        let by_id = by_id.as_ref().map(|by_id| directory.join(by_id));
        let served = served.iter().map(|served| directory.join(served));
        std::iter::once(directory.join(&name)).chain(served).chain(by_id).collect::<Vec<_>>()
    });
    for candidate in std::iter::once(mapped).filter(|path| path.is_absolute()).chain(named) {
        match identity(&candidate) {
            Some(Identity { id, has_lines }) if id == wanted => {
                if has_lines {
                    found.debug.get_or_insert_with(|| candidate.clone());
                }
                found.binary.get_or_insert(candidate);
            }
            Some(_) => found.other = Some(candidate),
            None => {}
        }
    }
    if found.debug.is_none() {
        let candidates = separate(&path, &name, &wanted, places);
        found.debug = candidates
            .into_iter()
            .find(|path| identity(path).is_some_and(|file| file.id == wanted && file.has_lines));
    }
    found
}

/// Where debug information may be that isn't in the file itself.
fn separate(path: &str, name: &str, id: &str, places: &SymbolPlaces) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(by_id) = by_build_id(id, ".debug") {
        candidates.extend(places.directories.iter().map(|directory| directory.join(&by_id)));
        candidates.push(Path::new(DEBUG_DIRECTORY).join(by_id));
    }
    let debug_name = format!("{name}.debug");
    candidates.extend(places.directories.iter().map(|directory| directory.join(&debug_name)));
    if let Some(directory) = Path::new(path).parent().filter(|directory| directory.is_absolute()) {
        candidates.push(directory.join(&debug_name));
        candidates.push(directory.join(".debug").join(&debug_name));
        let below = directory.strip_prefix("/").unwrap_or(directory);
        candidates.push(Path::new(DEBUG_DIRECTORY).join(below).join(&debug_name));
    }
    candidates
}

/// Where files are by their build ids, as GDB's manual has it.
pub(super) fn by_build_id(id: &str, ending: &str) -> Option<PathBuf> {
    let (first, rest) = id.split_at_checked(2)?;
    Some(PathBuf::from(format!(".build-id/{first}/{rest}{ending}")))
}

/// Who a file is, in the words of [`Identity::id`].
#[cfg(feature = "servers")]
pub(super) fn identity_of(path: &Path) -> Option<String> {
    identity(path).map(|identity| identity.id)
}

struct Identity {
    /// In lower case: the build id in hexadecimal, or time stamp and size of a Windows image.
    id: String,
    has_lines: bool,
}

/// Who a file is; `None` where it is none, or no executable that tells.
fn identity(path: &Path) -> Option<Identity> {
    let cache = ReadCache::new(open(path)?);
    let object = object::File::parse(&cache).ok()?;
    let id = match object.build_id() {
        Ok(Some(id)) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => image_id(&beginning(path)?)?,
    };
    let has_lines = object.section_by_name(".debug_info").is_some_and(|section| section.size() > 0);
    Some(Identity { id, has_lines })
}

/// Opens what is a file, and no device or pipe.
pub(super) fn open(path: &Path) -> Option<File> {
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    File::open(path).ok()
}

/// The first bytes of a file, which hold the headers of a Windows image.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(BEGINNING_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Time stamp and size of a Windows image, as symbol servers name it.
fn image_id(bytes: &[u8]) -> Option<String> {
    let number = |at: usize| {
        bytes.get(at..at.checked_add(4)?)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
    };
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let header = usize::try_from(number(0x3c)?).ok()?;
    if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    // IMAGE_FILE_HEADER.TimeDateStamp, and IMAGE_OPTIONAL_HEADER.SizeOfImage, which both widths have at the same place.
    let (stamp, size) = (number(header.checked_add(8)?)?, number(header.checked_add(24 + 56)?)?);
    Some(format!("{stamp:08x}{size:x}"))
}
