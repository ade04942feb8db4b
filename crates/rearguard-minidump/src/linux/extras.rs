//! What goes into a dump by choice: the functions behind [`Extras`](crate::Extras).
//!
//! The rest of the crate calls them through the pointers of a request alone, so that the linker leaves out what no request names.

mod files;
mod indirect;
mod linker;
mod scrub;
mod strings;

use super::copy::Copied;
use super::memory::TargetMemory;
use super::{Place, Target};
use crate::heap::List;
use crate::registers::Registers;
use crate::request::CrashContext;
use crate::snapshot::Snapshot;

/// What reads more of a running target.
pub(crate) type Beside = extern "C" fn(&Place<'_>, &mut Snapshot);

/// What reads more out of the memory of a running target, as many items as that.
pub(crate) type InMemory = extern "C" fn(&mut TargetMemory<'_>, &Target, &mut Snapshot, usize);

/// What reads memory of the held target that the crash and the registers of the stopped threads point to, at most so many bytes.
pub(crate) type Indirect =
    extern "C" fn(Option<&CrashContext<'_>>, &List<Registers>, &mut Copied, &mut TargetMemory<'_>, &Target, usize);

/// What overwrites words of memory that was read.
pub(crate) type Scrub = extern "C" fn(&mut Copied, &mut Snapshot, &Target);

pub(crate) const OPEN_FILES: Beside = files::read;
pub(crate) const LINKER: InMemory = linker::add;
pub(crate) const COMMAND_LINE: Beside = strings::command_line;
pub(crate) const ENVIRONMENT: Beside = strings::environment;
pub(crate) const INDIRECT: Indirect = indirect::read;
pub(crate) const SCRUB: Scrub = scrub::scrub;
