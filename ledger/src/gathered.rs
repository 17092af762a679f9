//! Many rows of the store as few values.
//!
//! The driver hands every value of every row from SQLite's thread to the one that asked, each in an allocation of its own:
//! for what is read of all channels at once that takes longer than finding it. So the store appends the columns of many
//! rows to one value, each in its full width, and it is taken apart here: the counterpart of [`Packed`](crate::packed).

use crate::{
    LedgerError,
    column::{Fixed, Put as _, Read as _, Row, sql},
    session::Session,
    statement::Statement,
};

/// Accounts that are read by one statement.
const ACCOUNTS: i64 = 4_096;

/// The columns of one row, in the order of the statement.
pub(crate) struct Fields<'a> {
    left: &'a [u8],
}

impl Fields<'_> {
    /// The next column.
    pub(crate) fn take<T: Fixed>(&mut self) -> Result<T, LedgerError> {
        let found = self.left.split_at_checked(T::WIDTH);
        let (field, left) = found.ok_or_else(|| unreadable("a row is too short"))?;
        self.left = left;
        T::from_slice(field).ok_or_else(|| unreadable(std::any::type_name::<T>()))
    }
}

/// Reads rows of `width` bytes, which `statement` appends to one another as `gathered`, of the accounts with numbers above
/// `$1` and up to `$2`; nothing else is said of the order. In a snapshot.
pub(crate) async fn of_all_accounts<T>(
    session: &mut Session,
    statement: impl Fn(Statement) -> Statement,
    text: &'static str,
    width: usize,
    read: impl Fn(&mut Fields<'_>) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    let row = session.row(sql("SELECT max(id) AS last FROM accounts")).await?;
    let last: i64 = row
        .as_ref()
        .map_or(Ok(None), |row| row.read_optional("last"))?
        .unwrap_or(0);
    let mut found = Vec::new();
    let mut after = 0;
    while after < last {
        let to = after.saturating_add(ACCOUNTS);
        let row = session.row(statement(sql(text).put(after).put(to))).await?;
        let gathered: Option<Vec<u8>> = row.as_ref().map(gathered).transpose()?.flatten();
        let gathered = gathered.unwrap_or_default();
        if gathered.len() % width != 0 {
            return Err(unreadable("rows of another width"));
        }
        found.reserve(gathered.len() / width);
        for row in gathered.chunks_exact(width) {
            found.push(read(&mut Fields { left: row })?);
        }
        after = to;
    }
    Ok(found)
}

fn gathered(row: &Row) -> Result<Option<Vec<u8>>, LedgerError> {
    row.read_optional("gathered")
}

fn unreadable(what: &str) -> LedgerError {
    LedgerError::Unreadable {
        column: "gathered",
        source: sqlx::Error::Decode(what.into()),
    }
}
