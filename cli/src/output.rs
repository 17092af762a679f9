//! What goes to stdout, for people and for programs.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};
use serde::Serialize;

use crate::failure::{Failure, Kind, Result};

/// A command's answer: JSON by its serialization, text by [`Report::write_human`].
pub trait Report: Serialize {
    /// Writes it for a person.
    ///
    /// # Errors
    /// When `out` can't be written.
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON, or text.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a command's answer. JSON takes one line, so that answers can follow each other.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn print(self, report: &impl Report) -> Result {
        let mut out = io::stdout().lock();
        let written = if self.json {
            serde_json::to_writer(&mut out, report)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
        } else {
            report.write_human(&mut out)
        };
        finish(written.and_then(|()| out.flush()))
    }

    /// Tells a person what is going on, on stderr; programs aren't told.
    pub fn note(self, message: impl AsRef<str>) {
        if !self.json {
            // Whoever closed stderr doesn't want to be told.
            let _ = writeln!(io::stderr(), "{}", message.as_ref());
        }
    }

    /// Whether a person can be asked: there is a terminal on both sides, and no program reads the answer.
    pub fn is_interactive(self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question that Enter answers with no. Without a terminal the answer is `Err`.
    ///
    /// # Errors
    /// When nobody can be asked, or the terminal can't be read.
    pub fn confirm(self, question: &str) -> Result<bool> {
        if !self.is_interactive() {
            return Err(Failure::new(Kind::Usage, format!("nobody can be asked: {question}"))
                .hint("say --yes to go ahead without being asked"));
        }
        let failed = |error| Failure::of(Kind::Failed, error).while_("cannot ask on the terminal");
        let mut err = io::stderr();
        write!(err, "{question} [y/N] ")
            .and_then(|()| err.flush())
            .map_err(failed)?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(failed)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

/// A closed pipe (`lloomctl … | head`) is not a failure of the command.
pub fn finish(written: io::Result<()>) -> Result {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of(Kind::Failed, error).while_("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table of plain columns, two spaces apart.
#[derive(Debug)]
pub struct Table {
    grid: Grid,
    aligns: Vec<Align>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.iter().map(|(name, _)| *name));
        Self {
            grid,
            aligns: columns.iter().map(|(_, align)| *align).collect(),
        }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.grid.add_row(cells.into_iter().map(Into::into));
    }

    /// Writes it.
    ///
    /// # Errors
    /// When `out` can't be written.
    pub fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        for (index, align) in self.aligns.iter().enumerate() {
            if let Some(column) = self.grid.column_mut(index) {
                column.set_padding((0, 2)).set_cell_alignment(match align {
                    Align::Left => CellAlignment::Left,
                    Align::Right => CellAlignment::Right,
                });
            }
        }
        for line in self.grid.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Lines of `label  value`, aligned.
///
/// # Errors
/// When `out` can't be written.
pub fn write_pairs(out: &mut dyn Write, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    for (label, value) in pairs {
        writeln!(out, "{label:<width$}  {value}")?;
    }
    Ok(())
}

/// `1 receipt`, `2 receipts`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `0x12345678…cdef`: enough to recognize, not to use. Ids stand in full wherever one is asked for.
pub fn shortened(id: &str) -> String {
    let count = id.chars().count();
    if count <= 16 {
        return id.to_owned();
    }
    let head: String = id.chars().take(10).collect();
    let tail: String = id.chars().skip(count - 4).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&[("CHANNEL", Align::Left), ("AMOUNT", Align::Right)]);
        table.row(["a", "1"]);
        table.row(["longer name", "12.5 LDEV"]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "CHANNEL         AMOUNT\na                    1\nlonger name  12.5 LDEV\n"
        );
    }

    #[test]
    fn ids_are_shortened_in_the_middle() {
        assert_eq!(shortened("0x12"), "0x12");
        assert_eq!(shortened(&format!("0x{}", "ab".repeat(32))), "0xabababab…abab");
    }
}
