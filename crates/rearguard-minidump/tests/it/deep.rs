//! A crash at the bottom of a chain of calls, of which some were inlined.
//!
//! Each call has a line of its own with a mark, by which the test finds what each reader of the stack must say.

use std::hint::black_box;

use serde_json::{Value, json};

use crate::calls;

const SOURCE: &str = include_str!("deep.rs");

/// From the outermost to the innermost, and whether the compiler has to inline it.
const CHAIN: [(&str, bool); 7] = [
    ("outermost", false),
    ("second", true),
    ("third", true),
    ("fourth", false),
    ("fifth", false),
    ("sixth", true),
    ("innermost", true),
];

pub(crate) fn crash() {
    outermost(black_box(1));
}

#[inline(never)]
fn outermost(number: u64) -> u64 {
    let frame = black_box([number; 8]);
    second(frame[1] + 1) + black_box(frame)[2] // call of second
}

#[inline(always)]
fn second(number: u64) -> u64 {
    let number = black_box(number);
    third(number + 1) + 1 // call of third
}

#[inline(always)]
fn third(number: u64) -> u64 {
    let number = black_box(number);
    fourth(number + 1) + 1 // call of fourth
}

#[inline(never)]
fn fourth(number: u64) -> u64 {
    let frame = black_box([number; 32]);
    fifth(frame[3] + 1) + black_box(frame)[4] // call of fifth
}

#[inline(never)]
fn fifth(number: u64) -> u64 {
    let number = black_box(number);
    sixth(number + 1) + 1 // call of sixth
}

#[inline(always)]
fn sixth(number: u64) -> u64 {
    let number = black_box(number);
    innermost(number + 1) + 1 // call of innermost
}

#[inline(always)]
fn innermost(number: u64) -> u64 {
    let number = black_box(number);
    calls::write_to(number as usize); // call of the crash
    number
}

/// The frames that a reader of this program's debug information must see, from the innermost: function, file, line, whether it is inlined.
pub(crate) fn frames() -> Value {
    let mut frames = Vec::new();
    let mut call = "the crash";
    for (function, is_inlined) in CHAIN.iter().rev() {
        let mark = format!("// call of {call}");
        let line = SOURCE.lines().position(|line| line.ends_with(&mark)).unwrap() + 1;
        frames.push(json!([format!("it::deep::{function}"), "deep.rs", line, is_inlined]));
        call = function;
    }
    frames.into()
}
