//! Other people's readers of minidumps, side by side.
//!
//! Our tests keep the dumps that they read ([`save`]), some with what the dumped program knew of itself (its *truth*).
//! Later the program of this crate has them read by readers that share no code with the writer, nor with each other: the `minidump` crate ([`record_of`]), lldb and PyPI's `minidump`.
//! Each makes the same kind of record; [`disagreements`] compares two of them, and [`untruths`] a record and the truth.
//! [`Processed`] is what `minidump-processor` makes of a dump, which tests ask for at once.
//! [`shown`] is what our own tool shows of one; [`unlike_binutils`] and [`unlike_marks`] hold it against binutils and the sources.
//!
//! Nothing here may know anything of our writer: no constant, no type, no crate of ours.

mod compare;
mod lines;
mod processed;
mod record;
mod save;
mod symbols;

pub use compare::{Reader, disagreements, untruths};
pub use lines::{shown, unlike_binutils, unlike_marks};
pub use processed::{Frame, Processed};
pub use record::{plan_of, record_of, sum};
pub use save::{DIRECTORY, SAVED_MAX, save, truth_of};
