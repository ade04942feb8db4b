//! The figures of the three writers: kept by what is measured, scene and contestant, shown as Markdown and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::table::{cores, machine, quantile};

/// The layout's name in the JSON; it changes when a reader has to.
const SCHEMA: &str = "rearguard-bench-writers-1";

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    Rearguard,
    MinidumpWriter,
    Crashpad,
    /// Nobody, who writes a file of zeros and answers.
    Floor,
    /// Who makes the system calls of a whole dump and looks at nothing that comes.
    Calls,
}

impl Contestant {
    pub(super) const ALL: [Contestant; 5] = [
        Contestant::Rearguard,
        Contestant::MinidumpWriter,
        Contestant::Crashpad,
        Contestant::Floor,
        Contestant::Calls,
    ];

    /// As the measured program's command line and the JSON name it.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Contestant::Rearguard => "rearguard-minidump",
            Contestant::MinidumpWriter => "minidump-writer",
            Contestant::Crashpad => "crashpad",
            Contestant::Floor => "floor",
            Contestant::Calls => "calls",
        }
    }
}

/// What is measured; less is better of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Dump,
    Frozen,
    Bytes,
    Peak,
}

impl Figure {
    /// In the order of the table.
    const ALL: [Figure; 4] = [Figure::Dump, Figure::Frozen, Figure::Bytes, Figure::Peak];

    fn name(self) -> &'static str {
        match self {
            Figure::Dump => "crash → dump finished, ms",
            Figure::Frozen => "an application thread stood still for, ms",
            Figure::Bytes => "dump, KiB",
            Figure::Peak => "peak memory of the writer, KiB",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Figure::Dump | Figure::Frozen => format!("{value:.2}"),
            Figure::Bytes => format!("{value:.1}"),
            Figure::Peak => format!("{value:.0}"),
        }
    }
}

struct Row {
    figure: Figure,
    scene: String,
    values: [Vec<f64>; 5],
}

impl Row {
    fn median(&self, contestant: Contestant) -> Option<f64> {
        quantile(&self.values[contestant as usize], 0.5)
    }

    /// Ours over the better one of the peers that have a figure.
    fn ratio(&self) -> Option<f64> {
        let peers = [Contestant::MinidumpWriter, Contestant::Crashpad];
        let best = peers.into_iter().filter_map(|peer| self.median(peer)).reduce(f64::min)?;
        (best > 0.0).then_some(self.median(Contestant::Rearguard)? / best)
    }

    fn shown(&self, contestant: Contestant) -> String {
        let values = &self.values[contestant as usize];
        match (quantile(values, 0.5), quantile(values, 0.9)) {
            (Some(median), Some(p90)) => {
                format!("{} ({})", self.figure.show(median), self.figure.show(p90))
            }
            (_, _) => String::new(),
        }
    }
}

/// All figures; scenes are in the order in which they first came.
pub(super) struct Table {
    runs: usize,
    /// Which minidump-writer it is.
    peer_version: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    pub(super) fn new(runs: usize, peer_version: String) -> Table {
        Table { runs, peer_version, rows: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn add(&mut self, figure: Figure, scene: &str, contestant: Contestant, value: f64) {
        let is_here = |row: &Row| row.figure == figure && row.scene == scene;
        let index = self.rows.iter().position(is_here).unwrap_or_else(|| {
            self.rows.push(Row { figure, scene: scene.to_owned(), values: Default::default() });
            self.rows.len() - 1
        });
        self.rows[index].values[contestant as usize].push(value);
    }

    /// A sentence for the end of the table.
    pub(super) fn note(&mut self, sentence: String) {
        self.notes.push(sentence);
    }

    fn sorted(&self) -> impl Iterator<Item = &Row> {
        Figure::ALL
            .into_iter()
            .flat_map(|figure| self.rows.iter().filter(move |row| row.figure == figure))
    }

    /// The table for people.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Median (p90) of {} runs, taken in turns on {} processors; core dumps off.\n\n",
            self.runs,
            cores()
        );
        text.push_str("| | scene | rearguard-minidump | minidump-writer ");
        text.push_str(&self.peer_version);
        text.push_str(
            " | Crashpad | nobody | calls alone | ours / better peer |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        let mut last = None;
        for row in self.sorted() {
            let name = if last == Some(row.figure) { "" } else { row.figure.name() };
            last = Some(row.figure);
            let [ours, crate_peer, crashpad, nobody, calls] =
                Contestant::ALL.map(|each| row.shown(each));
            let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let scene = &row.scene;
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "| {name} | {scene} | {ours} | {crate_peer} | {crashpad} | {nobody} | {calls} | {ratio} |"
            );
        }
        text.push('\n');
        for note in NOTES.into_iter().chain(self.notes.iter().map(String::as_str)) {
            // Writing to a String can't fail.
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    /// The same for programs, with every single value.
    pub(super) fn json(&self, problems: &[String]) -> String {
        let rows: Vec<Value> = self
            .sorted()
            .map(|row| {
                let mut entry = json!({
                    "figure": row.figure.name(),
                    "scene": row.scene,
                    "ratio_to_better_peer": row.ratio(),
                });
                for contestant in Contestant::ALL {
                    let values = &row.values[contestant as usize];
                    let quantile = |part| quantile(values, part);
                    entry[contestant.argument()] =
                        json!({ "median": quantile(0.5), "p90": quantile(0.9), "values": values });
                }
                entry
            })
            .collect();
        let whole = json!({
            "schema": SCHEMA,
            "runs": self.runs,
            "machine": machine(),
            "minidump_writer_version": self.peer_version,
            "rows": rows,
            "notes": self.notes,
            "problems": problems,
        });
        format!("{whole:#}\n")
    }
}

/// What a figure is, for those who compare it with others.
const NOTES: [&str; 9] = [
    "The crash is the clock read directly before the faulting instruction, and the dump is finished when its answer has arrived in the crashed thread's handler: the same for all three.",
    "The writer is a process that stands there before the crash; each has its own defaults, and is asked as its own client asks it: the crates by a byte on a socket, Crashpad by its protocol. Neither crate's file is synced to the disk.",
    "Nobody looks at the program: a file of zeros, about as large as our dump, is written, and the answer sent. It is what no writer can do without.",
    "Calls alone makes the system calls of a whole dump and looks at nothing that comes: what a writer of this design would need if its own work cost no time.",
    "rearguard-minidump has dumped its own process once before, as rearguard's guard does at its start while nobody waits; minidump-writer stops whom it dumps, and Crashpad's handler has no such thing.",
    "How long a thread stood still is from runs of their own, with one more thread, which looks at the clock all the time: the longest time between two looks.",
    "It counts a thread that had no processor as well, so it is right only where the machine has nothing else to do; writer and thread need two processors.",
    "A dump counts only when it lists each thread once, with stack and registers, and names the crashed one; all other samples are reported as problems.",
    "The peak is the writer's VmHWM, read after the dump; it includes the pages of its executable and libraries.",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the ratio is to the better of the peers, and to the only one where the other is missing.
    #[test]
    fn the_better_peer_is_what_counts() {
        let mut table = Table::new(1, "0.0.1".to_owned());
        table.add(Figure::Dump, "1 thread", Contestant::Rearguard, 1.0);
        table.add(Figure::Dump, "1 thread", Contestant::Crashpad, 4.0);
        assert_eq!(table.rows[0].ratio(), Some(0.25));
        table.add(Figure::Dump, "1 thread", Contestant::MinidumpWriter, 2.0);
        assert_eq!(table.rows[0].ratio(), Some(0.5));
    }

    /// Goal: a contestant without figures leaves its cells empty, and the sentence about it stands below.
    #[test]
    fn a_missing_contestant_stays_empty() {
        let mut table = Table::new(1, "0.0.1".to_owned());
        table.add(Figure::Peak, "1 thread", Contestant::Rearguard, 2048.0);
        table.add(Figure::Bytes, "1 thread", Contestant::Rearguard, 14.46);
        table.note("Crashpad was not measured.".to_owned());
        let text = table.markdown();
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("1 thread")).collect();
        assert_eq!(
            rows,
            [
                "| dump, KiB | 1 thread | 14.5 (14.5) |  |  |  |  |  |",
                "| peak memory of the writer, KiB | 1 thread | 2048 (2048) |  |  |  |  |  |",
            ]
        );
        assert_eq!(text.lines().last(), Some("- Crashpad was not measured."));
        let whole: Value = serde_json::from_str(&table.json(&[])).unwrap();
        assert_eq!(whole["rows"][0]["crashpad"]["median"], Value::Null);
        assert_eq!(whole["rows"][0]["ratio_to_better_peer"], Value::Null);
    }
}
