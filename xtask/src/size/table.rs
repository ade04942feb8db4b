//! The figures of all systems: for people as a table, for programs as JSON, and against the limit.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::parts::Row;

/// Changes with the meaning of the JSON.
const SCHEMA: &str = "rearguard-size-2";

/// What was found of one way to build.
pub(super) struct Sizes {
    /// The bytes of hello world, without and with rearguard.
    pub(super) hello: [u64; 2],
    /// The same of a program with threads, files and commands.
    pub(super) base: [u64; 2],
    /// The bytes of hello world without and with the dump writer alone, where there is one.
    pub(super) writer: Option<[u64; 2]>,
    /// What hello world has grown by.
    pub(super) rows: Vec<Row>,
    /// By how many bytes the code that the rows were read from is larger than the shipped one; 0 unless the compiler took the names into account.
    pub(super) twin_code_off: i64,
}

/// What became of one measurement.
pub(super) enum Found {
    Sizes(Sizes),
    NotMeasured(String),
}

/// One way to build.
pub(super) struct Column {
    pub(super) target: String,
    pub(super) panic: &'static str,
    pub(super) found: Found,
}

/// All ways to build.
pub(super) struct Table {
    columns: Vec<Column>,
}

fn growth(sizes: [u64; 2]) -> i64 {
    sizes[1] as i64 - sizes[0] as i64
}

impl Table {
    pub(super) fn new() -> Table {
        Table { columns: Vec::new() }
    }

    pub(super) fn add(&mut self, column: Column) {
        self.columns.push(column);
    }

    fn measured(&self) -> impl Iterator<Item = (&Column, &Sizes)> {
        self.columns.iter().filter_map(|column| match &column.found {
            Found::Sizes(sizes) => Some((column, sizes)),
            Found::NotMeasured(_) => None,
        })
    }

    /// One line for what has grown over the limit by something.
    pub(super) fn above(
        &self,
        by: &str,
        growth_bytes_max: u64,
        pick: fn(&Sizes) -> Option<[u64; 2]>,
    ) -> Option<String> {
        let over: Vec<String> = self
            .measured()
            .filter_map(|(column, sizes)| Some((column, growth(pick(sizes)?))))
            .filter(|(_, growth)| *growth > growth_bytes_max as i64)
            .map(|(column, growth)| {
                let growth = grouped(growth);
                format!("{growth} bytes for {} with panic={}", column.target, column.panic)
            })
            .collect();
        let limit = grouped(growth_bytes_max as i64);
        (!over.is_empty()).then(|| {
            let over = over.join(", ");
            format!("hello world grows by more than {limit} bytes by {by}, stripped: {over}")
        })
    }

    /// The table for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![self.line("", |column, _| column.target.clone())];
        lines.push(self.line("", |column, _| format!("panic={}", column.panic)));
        type Pick = fn(&Sizes) -> i64;
        let sizes: [(&str, Pick); 6] = [
            ("hello world", |sizes| sizes.hello[0] as i64),
            ("  with rearguard", |sizes| sizes.hello[1] as i64),
            ("  growth", |sizes| growth(sizes.hello)),
            ("threads, files, commands", |sizes| sizes.base[0] as i64),
            ("  with rearguard", |sizes| sizes.base[1] as i64),
            ("  growth", |sizes| growth(sizes.base)),
        ];
        for (name, pick) in sizes {
            lines.push(self.line(name, |_, sizes| grouped(pick(sizes))));
        }
        let growth_by_writer =
            |sizes: &Sizes| sizes.writer.map_or_else(String::new, |writer| grouped(growth(writer)));
        lines.push(self.line("hello world's growth by the dump writer alone", |_, sizes| {
            growth_by_writer(sizes)
        }));
        lines.push(vec!["of hello world's growth:".to_owned()]);
        for name in self.row_names() {
            lines.push(self.line(&format!("  {name}"), |_, sizes| {
                let row = sizes.rows.iter().find(|row| row.name == name);
                row.map_or_else(String::new, |row| grouped(row.bytes))
            }));
        }
        let mut text =
            String::from("bytes of stripped files (opt-level z, fat LTO, one codegen unit)\n");
        text.push_str(&aligned(&lines));
        for column in &self.columns {
            // Writing to a String can't fail.
            let _ = match &column.found {
                Found::NotMeasured(reason) => {
                    writeln!(
                        text,
                        "{}, panic={}: not measured: {reason}",
                        column.target, column.panic
                    )
                }
                Found::Sizes(sizes) if sizes.twin_code_off != 0 => writeln!(
                    text,
                    "{}, panic={}: the code with names, which is divided here, is {} bytes off",
                    column.target,
                    column.panic,
                    grouped(sizes.twin_code_off)
                ),
                Found::Sizes(_) => Ok(()),
            };
        }
        text
    }

    fn line(&self, name: &str, cell: impl Fn(&Column, &Sizes) -> String) -> Vec<String> {
        let mut line = vec![name.to_owned()];
        line.extend(self.measured().map(|(column, sizes)| cell(column, sizes)));
        line
    }

    /// The rows that some column has something in, in their order.
    fn row_names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for (_, sizes) in self.measured() {
            for row in &sizes.rows {
                let is_used = self
                    .measured()
                    .flat_map(|(_, sizes)| &sizes.rows)
                    .any(|other| other.name == row.name && other.bytes != 0);
                if is_used && !names.contains(&row.name) {
                    names.push(row.name);
                }
            }
        }
        names
    }

    /// The same for programs.
    pub(super) fn json(&self, growth_bytes_max: u64) -> String {
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|column| match &column.found {
                Found::Sizes(sizes) => json!({
                    "target": column.target,
                    "panic": column.panic,
                    "hello": pair(sizes.hello),
                    "base": pair(sizes.base),
                    "writer": sizes.writer.map(pair),
                    "parts_off": sizes.twin_code_off,
                    "parts": sizes
                        .rows
                        .iter()
                        .map(|row| json!({ "name": row.name, "bytes": row.bytes }))
                        .collect::<Vec<Value>>(),
                }),
                Found::NotMeasured(reason) => json!({
                    "target": column.target,
                    "panic": column.panic,
                    "not_measured": reason,
                }),
            })
            .collect();
        let whole = json!({
            "schema": SCHEMA,
            "growth_bytes_max": growth_bytes_max,
            "systems": columns,
        });
        format!("{whole:#}\n")
    }
}

fn pair(sizes: [u64; 2]) -> Value {
    json!({ "without": sizes[0], "with": sizes[1], "growth": growth(sizes) })
}

/// Columns under each other, the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let cells = lines.iter().filter_map(|line| line.get(column));
            let width = cells.map(String::len).max().unwrap_or(0);
            // Writing to a String can't fail.
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A number with a comma at every third place.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(growth: u64) -> Table {
        let rows = vec![Row { name: "code", bytes: 7 }, Row { name: "nothing", bytes: 0 }];
        let hello = [300, 300 + growth];
        let sizes =
            Sizes { hello, base: [500, 1_500], writer: Some([300, 345]), rows, twin_code_off: 0 };
        let mut table = Table::new();
        table.add(Column { target: "one".to_owned(), panic: "abort", found: Found::Sizes(sizes) });
        let found = Found::NotMeasured("no linker".to_owned());
        table.add(Column { target: "two".to_owned(), panic: "unwind", found });
        table
    }

    /// Goal: the limit itself is allowed, a byte more is told in one line with system and setting.
    #[test]
    fn the_limit_holds() {
        let above = |table: Table| table.above("rearguard", 200_000, |sizes| Some(sizes.hello));
        assert_eq!(above(table(200_000)), None);
        assert_eq!(
            above(table(200_001)).as_deref(),
            Some(
                "hello world grows by more than 200,000 bytes by rearguard, stripped: 200,001 bytes for one with panic=abort"
            )
        );
        assert_eq!(table(1).above("it", 45, |sizes| sizes.writer), None);
        assert!(table(1).above("it", 44, |sizes| sizes.writer).is_some());
        assert_eq!(table(1).above("it", 44, |_| None), None);
    }

    /// Goal: what was measured has a column, what wasn't has its reason, and empty rows are left out.
    #[test]
    fn people_see_all_of_it() {
        let text = table(1_000).text();
        let line = |begin: &str| text.lines().find(|line| line.trim_start().starts_with(begin));
        let last = |line: &str| line.split_whitespace().last().unwrap().to_owned();
        assert_eq!(line("growth").map(last).as_deref(), Some("1,000"));
        assert_eq!(line("code").map(last).as_deref(), Some("7"));
        assert_eq!(line("nothing"), None);
        assert_eq!(line("two"), Some("two, panic=unwind: not measured: no linker"));
    }

    /// Goal: programs see the same.
    #[test]
    fn programs_see_all_of_it() {
        let whole: Value = serde_json::from_str(&table(1_000).json(200_000)).unwrap();
        assert_eq!(whole["systems"][0]["hello"]["growth"], 1_000);
        assert_eq!(whole["systems"][0]["parts"][0]["bytes"], 7);
        assert_eq!(whole["systems"][1]["not_measured"], "no linker");
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1_000, 261_304, -1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "261,304", "-1,234,567"]);
    }
}
