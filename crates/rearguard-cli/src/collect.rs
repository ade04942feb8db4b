//! `rearguard collect`: a collector for the developer's desk, until somebody ends it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rearguard_cli::collector::{Answer, Collector, Script, Submission};
use serde_json::json;

/// How often the endless wait looks up; nothing depends on it.
const TURN: Duration = Duration::from_secs(3600);

/// Names from the network become file names, so they are cut to this.
const NAME_CHARS_MAX: usize = 100;

/// Receives reports for ever.
/// Returns when it can't listen or can't write.
pub(crate) fn run(listen: SocketAddr, dir: &Path, status: u16) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("--dir {}: {error}", dir.display()))?;
    let answer = match status {
        200 => Answer::accept(),
        201 => Answer::created(),
        _ => Answer::status(status),
    };
    let collector = Collector::bind(listen, Script::always(answer))
        .map_err(|error| format!("--listen {listen}: {error}"))?;
    println!("reports for {} go to {}", collector.url(), dir.display());
    loop {
        if let Some(submission) = collector.take(TURN) {
            keep(dir, &submission)?;
        }
    }
}

/// One directory a request: its files, and `request.json` with everything else.
fn keep(dir: &Path, submission: &Submission) -> Result<(), String> {
    let id = submission.report_id().map_or_else(|| "no-report".to_owned(), safe_name);
    let target = free_directory(dir, &id)?;
    let written = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    };
    for (index, file) in submission.files().enumerate() {
        let name = safe_name(file.file_name.as_deref().unwrap_or_default());
        // Two files of one name must not overwrite each other.
        let path = target.join(&name);
        let path = if path.exists() { target.join(format!("{index}-{name}")) } else { path };
        written(&path, &file.bytes)?;
    }
    let violations: Vec<String> = submission.violations.iter().map(ToString::to_string).collect();
    let request = json!({
        "method": submission.method,
        "target": submission.target,
        "headers": submission.headers,
        "body_bytes": submission.body_bytes,
        "fields": submission.fields(),
        "violations": violations,
        "status": submission.status,
        "answer": submission.answer,
    });
    written(&target.join("request.json"), format!("{request:#}\n").as_bytes())?;
    println!(
        "{}: {} bytes, {} violations",
        target.display(),
        submission.body_bytes,
        violations.len()
    );
    for violation in violations {
        println!("  {violation}");
    }
    Ok(())
}

/// A new directory of that name, numbered when the report was sent before.
fn free_directory(dir: &Path, id: &str) -> Result<std::path::PathBuf, String> {
    let mut number = 1;
    loop {
        let name = if number == 1 { id.to_owned() } else { format!("{id}-{number}") };
        let target = dir.join(name);
        match fs::create_dir(&target) {
            Ok(()) => return Ok(target),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(format!("{}: {error}", target.display())),
        }
    }
}

/// Letters, digits, dots and hyphens; never empty, never a hidden file, never a way out of the directory.
fn safe_name(name: &str) -> String {
    let safe = |letter: char| {
        let plain = letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
        if plain { letter } else { '_' }
    };
    let name: String = name.chars().take(NAME_CHARS_MAX).map(safe).collect();
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no name from the network leaves the directory.
    #[test]
    fn names_stay_inside() {
        for (name, expected) in
            [("a.dmp", "a.dmp"), ("../x", "_.._x"), ("/etc/x", "_etc_x"), ("", "_"), ("..", "_..")]
        {
            assert_eq!(safe_name(name), expected);
        }
    }
}
