//! How text comes out: styles where a person looks, plain where a program does, and a pager for what is long.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use crate::failure::Failure;

/// The width where none is told.
const WIDTH_DEFAULT: usize = 80;

/// The width of what no person looks at.
const WIDTH_MAX: usize = 10_000;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading.
    Head,
    /// What the reader came for.
    Strong,
    /// What can be skipped.
    Faint,
    /// What is wrong.
    Bad,
}

/// Where text goes, and what it may look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) has_colours: bool,
    pub(crate) width: usize,
}

impl Look {
    /// Of standard output.
    pub(crate) fn of_stdout() -> Look {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        // See no-color.org: whatever the variable holds, as long as it holds something.
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let measured = || tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let told = told.filter(|width| *width > 0);
        // A program that reads it has no use for lines that are cut.
        let default = if is_terminal { WIDTH_DEFAULT } else { WIDTH_MAX };
        Look {
            has_colours: is_terminal && !is_refused && !is_dumb,
            width: told.or_else(|| measured().filter(|_| is_terminal)).unwrap_or(default),
        }
    }

    /// A text in a style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let number = match style {
            Style::Head => "1;36",
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Bad => "1;31",
        };
        if self.has_colours { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What comes from reports and dumps may hold anything; nothing of it may steer a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter })
        .collect()
}

/// A text that has at most so many columns, with an ellipsis where it was cut.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Writes a text to standard output, through a pager where a person would have to scroll.
///
/// A reader that has gone is nobody's failure.
pub(crate) fn show(text: &str) -> Result<(), Failure> {
    written(text).map_err(|error| Failure::from(format!("standard output: {error}")))
}

fn written(text: &str) -> io::Result<()> {
    if let Some(mut pager) = pager(text) {
        if let Some(mut input) = pager.stdin.take() {
            let _ = input.write_all(text.as_bytes());
        }
        pager.wait()?;
        return Ok(());
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A bar for what takes a while, on standard error where that is a terminal.
pub(crate) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    // The template is a constant that is right; if it weren't, the default would do.
    let style = ProgressStyle::with_template("{msg} [{bar:24}] {bytes} of {total_bytes}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()).with_style(style)
}

/// The pager that the user has chosen, else `less`, where the text is longer than the terminal.
fn pager(text: &str) -> Option<Child> {
    let stdout = io::stdout();
    if !stdout.is_terminal() || !io::stdin().is_terminal() {
        return None;
    }
    let rows = tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_row))?;
    if text.lines().count() < rows {
        return None;
    }
    let chosen = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    let mut words = chosen.split_whitespace();
    let program = words.next()?;
    let mut command = Command::new(program);
    // As git does it: leave at the end of what fits, show colours, keep the screen.
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    command.args(words).stdin(Stdio::piped()).spawn().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a report can't write to the terminal what only we may.
    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(harmless("a\x1b[2Jb\u{9b}c\td\n"), "a\u{fffd}[2Jb\u{fffd}c\td\u{fffd}");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("äbcdefg", 6), "äbcde…");
        assert_eq!(cut("ab", 0), "…");
    }
}
