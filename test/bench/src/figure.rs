use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use eyre::{Result, WrapErr};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// How often everything is measured; the median counts.
pub const RUNS: usize = 5;

/// A measured number, how it came about, and what it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What other programs find it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
    /// What was measured.
    pub name: String,
    /// The median of the runs.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// Exactly what was done.
    pub method: String,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    fn allows(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Figure {
    /// A figure without a target.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, method: impl Into<String>) -> Self {
        Self {
            key: None,
            name: name.into(),
            value,
            unit,
            method: method.into(),
            target: None,
            met: None,
        }
    }

    /// Lets other programs find it.
    pub const fn with_key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Says what it should be.
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.met = Some(target.allows(self.value));
        self
    }
}

/// The middle of `values`: the mean of the middle two when their number is even.
///
/// # Panics
/// On no values: a benchmark that measured nothing is a mistake.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a benchmark measured nothing");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// The least of `values` that `part` of them, from 0 to 1, don't exceed.
///
/// # Panics
/// As [`median`].
pub fn percentile(values: &[f64], part: f64) -> f64 {
    assert!(!values.is_empty(), "a benchmark measured nothing");
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let within = (values.len() as f64 * part).ceil() as usize;
    values[within.clamp(1, values.len()) - 1]
}

/// How long `work` keeps a core busy: this thread's processor time, whatever else the machine does meanwhile.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = thread_time();
    let made = work();
    (made, thread_time().saturating_sub(start))
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    // A thread's clock begins at zero and counts up.
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// Writes the file of a topic into the folder `output`: the figures that have a key by their keys, as plain numbers, and all
/// of them with their methods as `figures`.
///
/// # Errors
/// When it can't be written.
pub fn write(output: &Path, topic: &str, figures: &[Figure]) -> Result<()> {
    let path = output.join(format!("{topic}.json"));
    let mut file = serde_json::Map::new();
    for figure in figures {
        if let Some(key) = figure.key {
            file.insert(key.to_owned(), figure.value.into());
        }
    }
    file.insert(String::from("figures"), serde_json::to_value(figures)?);
    let json = serde_json::to_string_pretty(&file)?;
    fs::write(&path, json + "\n").wrap_err_with(|| format!("writing {}", path.display()))
}

/// All figures of a run, by topic.
pub struct Report {
    output: PathBuf,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty report whose topics are written to the folder `output`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn new(output: PathBuf) -> Result<Self> {
        fs::create_dir_all(&output).wrap_err_with(|| format!("making {}", output.display()))?;
        Ok(Self {
            output,
            figures: Vec::new(),
        })
    }

    /// Adds a topic, writes its file and prints it, with its methods below.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, topic: &str, figures: Vec<Figure>) -> Result<()> {
        write(&self.output, topic, &figures)?;
        print(topic, &figures);
        self.figures.extend(figures);
        Ok(())
    }

    /// Says which targets are missed.
    pub fn conclude(&self) {
        let missed = self.figures.iter().filter(|figure| figure.met == Some(false));
        let missed: Vec<&str> = missed.map(|figure| figure.name.as_str()).collect();
        if missed.is_empty() {
            println!("All targets are met.");
        } else {
            println!("Missed: {}.", missed.join("; "));
        }
    }
}

fn print(topic: &str, figures: &[Figure]) {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY);
    table.set_header([topic, "median", "unit", "target", "met"]);
    for figure in figures {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&figure.name),
            number(shown(figure.value)),
            Cell::new(figure.unit),
            number(figure.target.map_or_else(String::new, |target| match target {
                Target::AtLeast(least) => format!("≥ {}", shown(least)),
                Target::AtMost(most) => format!("≤ {}", shown(most)),
            })),
            Cell::new(match figure.met {
                None => "",
                Some(true) => "yes",
                Some(false) => "MISSED",
            }),
        ]);
    }
    println!("{table}");
    let mut methods: Vec<&str> = figures.iter().map(|figure| figure.method.as_str()).collect();
    methods.dedup();
    for method in methods {
        println!("  {method}");
    }
    println!();
}

/// A number as people read it: groups of three, and decimals only where they matter.
fn shown(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!((median(vec![9.0, 1.0, 5.0, 6.0]) - 5.5).abs() < f64::EPSILON);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (part, expected) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert!((percentile(&values, part) - expected).abs() < f64::EPSILON, "{part}");
        }
        assert!((percentile(&[7.0], 0.99) - 7.0).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_are_grouped() {
        for (value, text) in [
            (0.5, "0.50"),
            (99.0, "99.00"),
            (100.0, "100"),
            (16_500.0, "16,500"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}
