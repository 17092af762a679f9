//! What is asked of the store, whichever it is.

use sqlx::{Arguments, Encode, Postgres, Sqlite, Type, postgres::PgArguments, query::Query, sqlite::SqliteArguments};

/// A value that a statement is given. A missing one has its kind all the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bytes(Option<Vec<u8>>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Bool(Option<bool>),
}

impl Value {
    /// The missing value of the same kind.
    const fn missing(&self) -> Self {
        match self {
            Self::Bytes(_) => Self::Bytes(None),
            Self::Integer(_) => Self::Integer(None),
            Self::Real(_) => Self::Real(None),
            Self::Text(_) => Self::Text(None),
            Self::Bool(_) => Self::Bool(None),
        }
    }

    pub(crate) fn add_to<A>(self, arguments: &mut A) -> Result<(), sqlx::Error>
    where
        A: Arguments,
        Option<Vec<u8>>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Option<i64>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Option<f64>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Option<String>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Option<bool>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
    {
        match self {
            Self::Bytes(bytes) => arguments.add(bytes),
            Self::Integer(integer) => arguments.add(integer),
            Self::Real(real) => arguments.add(real),
            Self::Text(text) => arguments.add(text),
            Self::Bool(bool) => arguments.add(bool),
        }
        .map_err(sqlx::Error::Encode)
    }
}

/// A statement on its way to the store: its text, and what its parameters `$1`, `$2` and so on stand for.
///
/// A text may hold several statements, separated by semicolons, which share the parameters. Semicolons stand nowhere
/// else in it.
#[derive(Debug)]
pub(crate) struct Statement {
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self::by_dialect(text, text)
    }

    /// One that each store has a text of its own for.
    pub(crate) const fn by_dialect(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite,
            postgres,
            values: Vec::new(),
        }
    }

    /// Appends the value of the next parameter.
    pub(crate) fn value(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// As SQLite takes it on the caller's thread: each statement by itself.
    #[cfg(feature = "simulation")]
    pub(crate) fn sqlite_parts(&self) -> impl Iterator<Item = &'static str> {
        self.sqlite.split(';').map(str::trim).filter(|part| !part.is_empty())
    }

    /// What its parameters stand for, in order.
    #[cfg(feature = "simulation")]
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// As SQLite takes it: prepared once for each text, all of its statements together.
    pub(crate) fn for_sqlite(self) -> Result<Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            value.add_to(&mut arguments)?;
        }
        Ok(sqlx::query_with(self.sqlite, arguments))
    }

    /// As PostgreSQL takes it: each statement by itself. One that does not use a parameter is given none for it.
    pub(crate) fn for_postgres(mut self) -> Result<Vec<Query<'static, Postgres, PgArguments>>, sqlx::Error> {
        let parts: Vec<&'static str> = self
            .postgres
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        let mut queries = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let mut arguments = PgArguments::default();
            for (number, value) in (1..).zip(&mut self.values) {
                let missing = value.missing();
                let value = if !uses(part, number) {
                    missing
                } else if parts.iter().skip(index + 1).any(|later| uses(later, number)) {
                    value.clone()
                } else {
                    std::mem::replace(value, missing)
                };
                value.add_to(&mut arguments)?;
            }
            queries.push(sqlx::query_with(*part, arguments));
        }
        Ok(queries)
    }
}

/// Whether `text` has the parameter with this number.
fn uses(text: &str, number: usize) -> bool {
    text.split('$').skip(1).any(|after| {
        let digits = after.len() - after.trim_start_matches(|next: char| next.is_ascii_digit()).len();
        after[..digits].parse() == Ok(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_number() {
        let text = "SELECT $1, $12 WHERE $3 > $1";
        let used: Vec<usize> = (1..20).filter(|number| uses(text, *number)).collect();
        assert_eq!(used, [1, 3, 12]);
    }
}
