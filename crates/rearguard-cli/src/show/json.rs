//! A story for programs. TOOL.md describes the members.

use serde_json::{Value, json};

use super::Story;
use crate::analysis::{Analysis, Frame};

/// The layout's number; it changes when a reader has to.
const SCHEMA: u32 = 1;

pub(super) fn of(story: &Story) -> String {
    let whole = json!({
        "schema": SCHEMA,
        "id": story.id,
        "metadata": story.metadata.as_ref().map(|metadata| metadata.value().clone()),
        "minidump": story.analysis.as_ref().map(analysis),
        "problem": story.problem.as_ref().map(ToString::to_string),
    });
    format!("{whole:#}\n")
}

fn analysis(analysis: &Analysis) -> Value {
    json!({
        "system": analysis.system,
        "processor": analysis.processor,
        "process": analysis.process,
        "crash": analysis.crash.as_ref().map(|crash| json!({
            "reason": crash.reason,
            "words": crash.words,
            "address": format!("{:#x}", crash.address),
            "thread": crash.thread,
        })),
        "threads": analysis.threads.iter().map(|thread| json!({
            "id": thread.id,
            "name": thread.name,
            "crashed": thread.is_crashed,
            "frames": frames(&thread.frames),
            "gap_bytes": thread.far_end.as_ref().map(|far| far.gap_bytes),
            "far_frames": thread.far_end.as_ref().map(|far| frames(&far.frames)),
        })).collect::<Vec<Value>>(),
        "threads_left_out": analysis.threads_left_out,
        "modules": analysis.modules.iter().map(|module| json!({
            "path": module.path,
            "base": format!("{:#x}", module.base),
            "size": module.size,
            "id": module.id,
            "symbols": module.symbols.to_string(),
        })).collect::<Vec<Value>>(),
        "annotations": analysis.annotations.iter().cloned().map(|(key, value)| (key, Value::from(value))).collect::<serde_json::Map<String, Value>>(),
        "soft_errors": analysis.soft_errors,
    })
}

fn frames(frames: &[Frame]) -> Vec<Value> {
    frames.iter().map(frame).collect()
}

fn frame(frame: &Frame) -> Value {
    json!({
        "instruction": format!("{:#x}", frame.instruction),
        "module": frame.module,
        "offset": format!("{:#x}", frame.offset),
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "inlined": frame.is_inlined,
        "own": frame.is_own,
        "guess": frame.is_guess,
    })
}
