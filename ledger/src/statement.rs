//! What is asked of the store, whichever it is.

use sqlx::{Arguments as _, Sqlite, query::Query, sqlite::SqliteArguments};

/// A value that a statement is given. A missing one has its kind all the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bytes(Option<Vec<u8>>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Bool(Option<bool>),
}

/// A statement on its way to the store: its text, and what its parameters `$1`, `$2` and so on stand for.
///
/// A text may hold several statements, separated by semicolons, which share the parameters. Semicolons stand nowhere
/// else in it.
#[derive(Debug)]
pub(crate) struct Statement {
    text: &'static str,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            values: Vec::new(),
        }
    }

    /// Appends the value of the next parameter.
    pub(crate) fn value(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// As SQLite takes it: prepared once for each text, all of its statements together.
    pub(crate) fn for_sqlite(self) -> Result<Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            match value {
                Value::Bytes(bytes) => arguments.add(bytes),
                Value::Integer(integer) => arguments.add(integer),
                Value::Real(real) => arguments.add(real),
                Value::Text(text) => arguments.add(text),
                Value::Bool(bool) => arguments.add(bool),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text, arguments))
    }
}
