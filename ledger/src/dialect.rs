//! Where the stores speak differently. Everything else is said once, in words that both understand.

/// A statement of which each store has its own text: `by_dialect!(sql_of!)` with a macro `sql_of!(sqlite)`,
/// `sql_of!(postgres)` that gives the two.
macro_rules! by_dialect {
    ($text:ident $(, $argument:tt)*) => {
        $crate::statement::Statement::by_dialect($text!(sqlite $(, $argument)*), $text!(postgres $(, $argument)*))
    };
}
pub(crate) use by_dialect;

/// The number in ten decimal digits at an offset of packed rows: `count_at!(sqlite, "$1", "at + 180")`.
macro_rules! count_at {
    (sqlite, $parameter:literal, $offset:literal) => {
        concat!(
            "CAST(CAST(substr(",
            $parameter,
            ", ",
            $offset,
            ", 10) AS TEXT) AS INTEGER)"
        )
    };
    (postgres, $parameter:literal, $offset:literal) => {
        concat!(
            "CAST(convert_from(substr(",
            $parameter,
            ", ",
            $offset,
            ", 10), 'UTF8') AS BIGINT)"
        )
    };
}
pub(crate) use count_at;
