//! Many rows of the store as few values.
//!
//! The driver hands every value of every row from SQLite's thread to the one that asked, each in an allocation of its own:
//! for what is read of all channels at once that takes longer than finding it. So the store appends the columns of many
//! rows to one value, each in its full width, and it is taken apart here: the counterpart of [`Packed`](crate::packed).

use alloy::primitives::B256;
use lloom_receipts::ChannelId;

use crate::{
    LedgerError,
    column::{Fixed, Read as _, Row, sql},
    session::Session,
    statement::Statement,
};

/// Accounts that are read by one statement.
const ACCOUNTS: i64 = 1_024;
/// No more channels than that are read by one statement too.
const FEW: usize = 4_096;
/// What an id can begin with.
const DIGITS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

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

    /// The next column, which may have no value: `coalesce($yes || column, $missing)` with [`YES`] and [`missing`].
    pub(crate) fn take_optional<T: Fixed>(&mut self) -> Result<Option<T>, LedgerError> {
        if self.take()? {
            return self.take().map(Some);
        }
        let left = self.left.split_at_checked(T::WIDTH);
        self.left = left.ok_or_else(|| unreadable("a row is too short"))?.1;
        Ok(None)
    }
}

/// `true`, as a column, and what stands before an optional column that is there.
pub(crate) const YES: [u8; 1] = [1];
/// `false`, as a column.
pub(crate) const NO: [u8; 1] = [0];

/// The width of an optional column of `T`.
pub(crate) const fn optional<T: Fixed>() -> usize {
    NO.len() + T::WIDTH
}

/// What stands in the place of an optional column of `T` that has no value.
pub(crate) fn missing<T: Fixed>() -> Vec<u8> {
    vec![0; optional::<T>()]
}

/// Reads rows of `width` bytes, which a statement appends to one another as `gathered`, of the accounts with numbers above
/// `$1` and up to `$2`. In a snapshot, and in no order.
pub(crate) async fn of_accounts(
    session: &mut Session,
    statement: impl Fn(i64, i64) -> Statement,
    width: usize,
    mut each: impl FnMut(&mut Fields<'_>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let row = session.row(sql("SELECT max(id) AS last FROM accounts")).await?;
    let last: Option<i64> = row.as_ref().map_or(Ok(None), |row| row.read_optional("last"))?;
    let mut after = 0;
    while last.is_some_and(|last| after < last) {
        let to = after.saturating_add(ACCOUNTS);
        run(session, statement(after, to), width, &mut each).await?;
        after = to;
    }
    Ok(())
}

/// Ranges of ids, each to be read by one statement where there are `about` so many channels. Ids are hashes: those that begin
/// with one digit are about as many as those that begin with another.
pub(crate) fn ranges(about: usize) -> impl Iterator<Item = (ChannelId, ChannelId)> {
    let digits: &[u8] = if about > FEW { &DIGITS } else { &[] };
    let parts = digits.iter().map(|digit| (digit << 4, digit << 4 | 0x0f));
    let all = digits.is_empty().then_some((0, 0xff));
    parts.chain(all).map(|(first, last)| {
        let (mut from, mut to) = (B256::ZERO, B256::repeat_byte(0xff));
        (from[0], to[0]) = (first, last);
        (ChannelId::new(from), ChannelId::new(to))
    })
}

/// Reads rows of `width` bytes, which `statement` appends to one another as `gathered`, in no order.
pub(crate) async fn run(
    session: &mut Session,
    statement: Statement,
    width: usize,
    mut each: impl FnMut(&mut Fields<'_>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let row = session.row(statement).await?;
    let gathered = row.as_ref().map(gathered).transpose()?.flatten().unwrap_or_default();
    if gathered.len() % width != 0 {
        return Err(unreadable("rows of another width"));
    }
    gathered
        .chunks_exact(width)
        .try_for_each(|row| each(&mut Fields { left: row }))
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
