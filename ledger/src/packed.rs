//! Many rows as one value.
//!
//! Nearly all columns here have one width each, so rows can go to the store as one value, the columns of one row after those
//! of the other, and a statement takes them apart again. It stays the same statement for any number of rows (prepared
//! once, one parameter, no limit to keep to), where a list of parameters would be another for each length.

use lloom_receipts::TokenCount;

use crate::column::Column;

/// Rows of columns with fixed widths, as a parameter.
#[derive(Default)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    /// Appends a column of the row at the end. The statement that takes it apart states the same widths.
    pub(crate) fn push<T: Column<Form = Vec<u8>>>(&mut self, value: T) -> &mut Self {
        self.bytes.extend_from_slice(&value.store());
        self
    }

    /// Appends a column that is an integer, in ten decimal digits: SQL makes numbers of text, and not of blobs.
    pub(crate) fn push_count(&mut self, count: TokenCount) -> &mut Self {
        self.bytes.extend_from_slice(format!("{:010}", count.get()).as_bytes());
        self
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is bound to the statement.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The head of a statement that takes packed rows apart: `packed_rows!("$1", "48")` makes a table `packed` with one row
/// for each 48 bytes of `$1`, in order, whose column `at` says where they begin. So `substr($1, at, 32)` is a first column
/// of 32 bytes, and `substr($1, at + 32, 16)` the next one.
macro_rules! packed_rows {
    ($parameter:literal, $width:literal) => {
        concat!(
            "WITH RECURSIVE packed (at) AS (SELECT 1 WHERE length(",
            $parameter,
            ") > 0 UNION ALL SELECT at + ",
            $width,
            " FROM packed WHERE at + ",
            $width,
            " < length(",
            $parameter,
            ")) "
        )
    };
}
pub(crate) use packed_rows;
