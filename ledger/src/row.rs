//! What the store answers with, whichever it is.

use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::column::Form;
#[cfg(feature = "simulation")]
use crate::inline::InlineRow;

/// A row, read by the names of its columns.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
    #[cfg(feature = "simulation")]
    Inline(InlineRow),
}

impl Row {
    /// The value in `column`, `None` where it has none.
    pub(crate) fn form<F: Form>(&self, column: &str) -> Result<Option<F>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
            #[cfg(feature = "simulation")]
            Self::Inline(row) => row.form(column),
        }
    }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}
