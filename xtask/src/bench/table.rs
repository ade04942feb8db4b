//! The figures: kept by row and contestant, shown as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// The layout's number in the JSON; it changes when a reader has to.
const SCHEMA: u32 = 1;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    Rearguard,
    Peer,
    /// No handler at all.
    Floor,
}

impl Contestant {
    pub(super) const ALL: [Contestant; 3] =
        [Contestant::Rearguard, Contestant::Peer, Contestant::Floor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Contestant::Rearguard => "rearguard",
            Contestant::Peer => "minidumper-child",
            Contestant::Floor => "no handler",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Kilobytes,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Kilobytes => "KiB",
            Unit::Count => "",
        }
    }

    /// Three decimals for times, since the shortest are tens of microseconds.
    fn show(self, value: f64) -> String {
        match self {
            Unit::Milliseconds => format!("{value:.3}"),
            Unit::Kilobytes | Unit::Count => format!("{value:.0}"),
        }
    }
}

struct Row {
    name: String,
    unit: Unit,
    values: [Vec<f64>; 3],
}

impl Row {
    fn values(&self, contestant: Contestant) -> &[f64] {
        match contestant {
            Contestant::Rearguard => &self.values[0],
            Contestant::Peer => &self.values[1],
            Contestant::Floor => &self.values[2],
        }
    }

    fn median(&self, contestant: Contestant) -> Option<f64> {
        quantile(self.values(contestant), 0.5)
    }

    /// rearguard over another one; nothing where one of them has no figure or the other one's is 0.
    fn ratio(&self, other: Contestant) -> Option<f64> {
        let other = self.median(other)?;
        (other > 0.0).then_some(self.median(Contestant::Rearguard)? / other)
    }
}

/// All figures, in the order in which their rows first came.
pub(super) struct Table {
    runs: usize,
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn new(runs: usize) -> Table {
        Table { runs, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &str, unit: Unit, contestant: Contestant, value: f64) {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), unit, values: Default::default() });
            self.rows.len() - 1
        });
        self.rows[index].values[contestant as usize].push(value);
    }

    /// The table for people.
    pub(super) fn text(&self) -> String {
        let head = ["", "rearguard", "minidumper-child", "no handler", "r/peer", "r/floor"];
        let mut lines = vec![head.map(str::to_owned)];
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        // Who came first depends on whose turn it was.
        rows.sort_by_key(|row| rank(&row.name));
        for row in rows {
            let name = match row.unit {
                Unit::Count => row.name.clone(),
                Unit::Milliseconds | Unit::Kilobytes => {
                    format!("{}, {}", row.name, row.unit.name())
                }
            };
            let [rearguard, peer, floor] = Contestant::ALL.map(|contestant| shown(row, contestant));
            let [by_peer, by_floor] = [Contestant::Peer, Contestant::Floor].map(|other| {
                row.ratio(other).map_or_else(String::new, |ratio| format!("{ratio:.2}"))
            });
            lines.push([name, rearguard, peer, floor, by_peer, by_floor]);
        }
        let mut text =
            format!("median (p90) of {} runs, taken in turns; core dumps off\n", self.runs);
        for line in &lines {
            for (column, cell) in line.iter().enumerate() {
                let width = lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
                // Writing to a String can't fail.
                let _ = if column == 0 {
                    write!(text, "{cell:<width$}")
                } else {
                    write!(text, "  {cell:>width$}")
                };
            }
            text.push('\n');
        }
        text.push_str(
            "\"fault\" is the last line of the worker's trace before the faulting instruction.\n\
             The peer's dump is finished when its server calls back; it has no restart, and doesn't tell how long it stops threads.\n",
        );
        text
    }

    /// The same for programs, with every single value.
    pub(super) fn json(&self, problems: &[String]) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let figures = |contestant| {
                    let values = row.values(contestant);
                    let quantile = |part| quantile(values, part);
                    json!({ "median": quantile(0.5), "p90": quantile(0.9), "values": values })
                };
                json!({
                    "name": row.name,
                    "unit": row.unit.name(),
                    "rearguard": figures(Contestant::Rearguard),
                    "minidumper-child": figures(Contestant::Peer),
                    "floor": figures(Contestant::Floor),
                    "ratio_to_peer": row.ratio(Contestant::Peer),
                    "ratio_to_floor": row.ratio(Contestant::Floor),
                })
            })
            .collect();
        let whole = json!({
            "schema": SCHEMA,
            "runs": self.runs,
            "machine": machine(),
            "rows": rows,
            "problems": problems,
        });
        format!("{whole:#}\n")
    }
}

/// What has to be known of a machine to judge figures from it.
pub(super) fn machine() -> Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "kernel": kernel.trim(),
        "cores": cores(),
        "architecture": std::env::consts::ARCH,
    })
}

/// How many processors we may use; 0 when the system doesn't say.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// Times in the order of a life, then sizes, then idleness; each with its crowds in rising order.
fn rank(name: &str) -> (usize, usize) {
    const ORDER: [&str; 11] = [
        "start()",
        "main -> armed",
        "main -> guarded",
        "fault -> dump",
        "crash seen by the handler -> dump",
        "crash seen by the handler -> threads",
        "threads stopped",
        "fault -> worker gone",
        "fault -> next",
        "minidump",
        "idle",
    ];
    let place = ORDER.iter().position(|begin| name.starts_with(begin)).unwrap_or(ORDER.len());
    let crowd = name.rsplit_once(", ").and_then(|(_, crowd)| crowd.split(' ').next()?.parse().ok());
    (place, crowd.unwrap_or(0))
}

fn shown(row: &Row, contestant: Contestant) -> String {
    let values = row.values(contestant);
    match (quantile(values, 0.5), quantile(values, 0.9)) {
        // One value has no spread.
        (Some(median), Some(_)) if values.len() == 1 => row.unit.show(median),
        (Some(median), Some(p90)) => format!("{} ({})", row.unit.show(median), row.unit.show(p90)),
        (_, _) => String::new(),
    }
}

/// The value that the given part of all values doesn't exceed; none of no values.
pub(super) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the median and the ninetieth percentile are values that were measured.
    #[test]
    fn quantiles_are_measured_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.9), Some(5.0));
        assert_eq!(quantile(&[7.0], 0.5), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    /// Goal: a missing contestant leaves its cells empty, and a ratio is of medians.
    #[test]
    fn missing_figures_stay_empty() {
        let mut table = Table::new(1);
        table.add("fault -> dump finished", Unit::Milliseconds, Contestant::Peer, 2.0);
        table.add("fault -> dump finished", Unit::Milliseconds, Contestant::Rearguard, 0.5);
        let text = table.text();
        let line = text.lines().find(|line| line.starts_with("fault")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().skip(5).collect();
        assert_eq!(cells, ["0.500", "2.000", "0.25"]);
        let whole: Value = serde_json::from_str(&table.json(&[])).unwrap();
        assert_eq!(whole["rows"][0]["ratio_to_peer"], 0.25);
        assert_eq!(whole["rows"][0]["floor"]["median"], Value::Null);
    }
}
