//! How values of the domain become columns.
//!
//! Numbers are stored in their full width, big-endian (see `migrations/0001_initial.sql`), hashes and addresses as
//! their bytes.

use alloy::primitives::{Address, B256, U256};
use lloom_receipts::{
    BillHash, BlockNumber, ChannelId, ContentHash, ContentSalt, ModelHash, PricePerMillion, ReceiptHash, RequestHash,
    RequestNonce, Signature, TokenAmount, TokenCount, TokenTotal, UnixSeconds,
};
use sqlx::{Decode, Postgres, Sqlite, Type};

pub(crate) use crate::row::Row;
use crate::{
    EventPosition, LedgerError,
    statement::{Statement, Value},
};

/// A statement with the text `text`.
pub(crate) const fn sql(text: &'static str) -> Statement {
    Statement::new(text)
}

/// What a store keeps a value as.
pub(crate) trait Form:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Sized
{
    fn value(form: Option<Self>) -> Value;

    /// `None` when the value is of another kind.
    #[cfg(feature = "simulation")]
    fn of(value: Value) -> Option<Self>;
}

macro_rules! forms {
    ($($form:ty: $value:ident),*) => {$(
        impl Form for $form {
            fn value(form: Option<Self>) -> Value {
                Value::$value(form)
            }

            #[cfg(feature = "simulation")]
            fn of(value: Value) -> Option<Self> {
                match value {
                    Value::$value(form) => form,
                    _ => None,
                }
            }
        }
    )*};
}

forms!(Vec<u8>: Bytes, i64: Integer, f64: Real, String: Text);

impl Form for bool {
    fn value(form: Option<Self>) -> Value {
        Value::Bool(form)
    }

    #[cfg(feature = "simulation")]
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Bool(form) => form,
            // SQLite keeps it as a number.
            Value::Integer(Some(number)) => Some(number != 0),
            _ => None,
        }
    }
}

/// A type with one stored form.
pub(crate) trait Column: Sized + Send {
    /// What the store sees.
    type Form: Form;

    fn store(self) -> Self::Form;

    /// `None` when the stored form is none of this type.
    fn load(form: Self::Form) -> Option<Self>;
}

/// Binds values of the domain.
pub(crate) trait Put: Sized {
    fn put<T: Column>(self, value: T) -> Self;
    fn put_optional<T: Column>(self, value: Option<T>) -> Self;
}

impl Put for Statement {
    fn put<T: Column>(self, value: T) -> Self {
        self.put_optional(Some(value))
    }

    fn put_optional<T: Column>(self, value: Option<T>) -> Self {
        self.value(T::Form::value(value.map(T::store)))
    }
}

/// Reads values of the domain.
pub(crate) trait Read {
    fn read<T: Column>(&self, column: &'static str) -> Result<T, LedgerError>;
    fn read_optional<T: Column>(&self, column: &'static str) -> Result<Option<T>, LedgerError>;
}

impl Read for Row {
    fn read<T: Column>(&self, column: &'static str) -> Result<T, LedgerError> {
        self.read_optional(column)?.ok_or_else(|| LedgerError::Unreadable {
            column,
            source: sqlx::Error::Decode("it has no value".into()),
        })
    }

    fn read_optional<T: Column>(&self, column: &'static str) -> Result<Option<T>, LedgerError> {
        let unreadable = |source| LedgerError::Unreadable { column, source };
        let Some(form) = self.form::<T::Form>(column).map_err(unreadable)? else {
            return Ok(None);
        };
        let value = T::load(form).ok_or_else(|| {
            unreadable(sqlx::Error::Decode(
                format!("no value of {}", std::any::type_name::<T>()).into(),
            ))
        })?;
        Ok(Some(value))
    }
}

/// A type whose stored form has one width.
pub(crate) trait Fixed: Sized {
    /// That width, bytes.
    const WIDTH: usize;

    /// `None` where the bytes are none of this type.
    fn from_slice(bytes: &[u8]) -> Option<Self>;
}

macro_rules! as_bytes {
    ($($type:ty: $length:literal, |$value:ident| $to:expr, |$bytes:ident| $from:expr;)*) => {$(
        impl Fixed for $type {
            const WIDTH: usize = $length;

            fn from_slice(bytes: &[u8]) -> Option<Self> {
                let $bytes: [u8; $length] = bytes.try_into().ok()?;
                $from
            }
        }

        impl Column for $type {
            type Form = Vec<u8>;

            fn store(self) -> Vec<u8> {
                let $value = self;
                let bytes: [u8; $length] = $to;
                bytes.to_vec()
            }

            fn load(form: Vec<u8>) -> Option<Self> {
                <Self as Fixed>::from_slice(&form)
            }
        }
    )*};
}

as_bytes! {
    u64: 8, |value| value.to_be_bytes(), |bytes| Some(Self::from_be_bytes(bytes));
    EventPosition: 8,
        |value| ((u64::from(value.log) << 32) | u64::from(value.entry)).to_be_bytes(),
        |bytes| Some(Self {
            log: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            entry: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
    u128: 16, |value| value.to_be_bytes(), |bytes| Some(Self::from_be_bytes(bytes));
    TokenTotal: 8, |value| value.get().to_be_bytes(), |bytes| Some(Self::new(u64::from_be_bytes(bytes)));
    UnixSeconds: 8, |value| value.get().to_be_bytes(), |bytes| Some(Self::new(u64::from_be_bytes(bytes)));
    BlockNumber: 8, |value| value.get().to_be_bytes(), |bytes| Some(Self::new(u64::from_be_bytes(bytes)));
    TokenAmount: 16, |value| value.base_units().to_be_bytes(), |bytes| Some(Self::new(u128::from_be_bytes(bytes)));
    PricePerMillion: 16, |value| value.amount().base_units().to_be_bytes(),
        |bytes| Some(Self::new(TokenAmount::new(u128::from_be_bytes(bytes))));
    Address: 20, |value| value.into_array(), |bytes| Some(Self::new(bytes));
    B256: 32, |value| value.0, |bytes| Some(Self::new(bytes));
    ChannelId: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    RequestHash: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    BillHash: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    ReceiptHash: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    ModelHash: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    ContentHash: 32, |value| value.hash().0, |bytes| Some(Self::new(B256::new(bytes)));
    ContentSalt: 32, |value| value.bytes().0, |bytes| Some(Self::new(B256::new(bytes)));
    RequestNonce: 32, |value| value.get().to_be_bytes(), |bytes| Some(Self::new(U256::from_be_bytes(bytes)));
    Signature: 65, |value| value.to_bytes(), |bytes| Self::from_bytes(&bytes).ok();
}

/// One byte, 1 for true.
impl Fixed for bool {
    const WIDTH: usize = 1;

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

macro_rules! as_itself {
    ($($type:ty),*) => {$(
        impl Column for $type {
            type Form = Self;

            fn store(self) -> Self {
                self
            }

            fn load(form: Self) -> Option<Self> {
                Some(form)
            }
        }
    )*};
}

as_itself!(i64, f64, bool, String, Vec<u8>);

impl Column for TokenCount {
    type Form = i64;

    fn store(self) -> i64 {
        i64::from(self.get())
    }

    fn load(form: i64) -> Option<Self> {
        u32::try_from(form).ok().map(Self::new)
    }
}

/// A small value without a table of its own.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|_| LedgerError::Inconsistent {
        what: "a value can't be written as JSON",
    })
}

/// Reads what [`to_json`] wrote into `column`.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(column: &'static str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| LedgerError::Unreadable {
        column,
        source: sqlx::Error::Decode(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn stored_amounts_order_like_amounts(left: u128, right: u128) {
            let (left, right) = (TokenAmount::new(left), TokenAmount::new(right));
            prop_assert_eq!(left.cmp(&right), left.store().cmp(&right.store()));
            prop_assert_eq!(TokenAmount::load(left.store()), Some(left));
        }

        #[test]
        fn stored_times_order_like_times(left: u64, right: u64) {
            let (left, right) = (UnixSeconds::new(left), UnixSeconds::new(right));
            prop_assert_eq!(left.cmp(&right), left.store().cmp(&right.store()));
        }
    }

    #[test]
    fn refuses_forms_of_another_width() {
        assert_eq!(TokenAmount::load(vec![0; 15]), None);
        assert_eq!(u64::load(vec![0; 16]), None);
        assert_eq!(Signature::load(vec![0; 65]), None);
        assert_eq!(TokenCount::load(1 << 32), None);
        assert_eq!(TokenCount::load(-1), None);
    }
}
