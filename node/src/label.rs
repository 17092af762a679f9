//! Names of enums' variants, as metrics and logs show them.

/// A function that names the variants of an enum, and the list of the names. A new variant without a name doesn't compile.
macro_rules! names {
    ($function:ident, $all:ident, $type:ident, { $($variant:ident: $name:literal,)* }) => {
        const $all: &[&str] = &[$($name),*];

        const fn $function(of: &$type) -> &'static str {
            match of {
                $($type::$variant { .. } => $name,)*
            }
        }
    };
}

pub(crate) use names;
