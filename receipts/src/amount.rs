use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An amount of a token in its base units (the smallest unit the ERC-20 knows), at most `uint128`.
///
/// Serialized as a decimal string, as the draft's section "Numeric Values" asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenAmount(u128);

impl TokenAmount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount a channel can hold.
    pub const MAX: Self = Self(u128::MAX);

    /// An amount of `base_units`.
    pub const fn new(base_units: u128) -> Self {
        Self(base_units)
    }

    /// The amount in base units.
    pub const fn base_units(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, unless it leaves `uint128`.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, or nothing where it would be negative.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`TokenAmount::MAX`] where it would be more: for limits, never for money owed.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The amount as a decimal in the token's units, without trailing zeros: `12.5`.
    pub fn display(self, decimals: Decimals) -> String {
        let digits = usize::from(decimals.0);
        let padded = format!("{:0>width$}", self.0, width = digits + 1);
        let (whole, fraction) = padded.split_at(padded.len() - digits);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            whole.to_owned()
        } else {
            format!("{whole}.{fraction}")
        }
    }

    /// Reads a decimal in the token's units: `12.5`, `3`, `0.000001`.
    ///
    /// # Errors
    /// Signs, exponents, separators, more decimals than the token has, and amounts beyond `uint128`.
    pub fn parse(text: &str, decimals: Decimals) -> Result<Self, ParseAmountError> {
        let malformed = || ParseAmountError::Malformed { text: text.to_owned() };
        if text.starts_with('-') {
            return Err(ParseAmountError::Negative { text: text.to_owned() });
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(malformed());
        }
        let given = fraction.trim_end_matches('0').len();
        if given > usize::from(decimals.0) {
            return Err(ParseAmountError::TooPrecise {
                text: text.to_owned(),
                given,
                decimals,
            });
        }
        let overflow = || ParseAmountError::Overflow {
            text: text.to_owned(),
            decimals,
        };
        let digits: String = whole
            .chars()
            .chain(
                fraction
                    .chars()
                    .chain(std::iter::repeat('0'))
                    .take(usize::from(decimals.0)),
            )
            .collect();
        digits.trim_start_matches('0').parse().map(Self).or_else(|_| {
            if digits.bytes().all(|byte| byte == b'0') {
                Ok(Self::ZERO)
            } else {
                Err(overflow())
            }
        })
    }
}

impl fmt::Display for TokenAmount {
    /// Base units. What a person reads goes through [`TokenAmount::display`].
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for TokenAmount {
    type Err = std::num::ParseIntError;

    /// Base units.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for TokenAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TokenAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// How many decimals a token's unit has: 6 for USDC, 18 for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decimals(u8);

impl Decimals {
    /// `decimals`, as the token's `decimals()` says.
    pub const fn new(decimals: u8) -> Self {
        Self(decimals)
    }

    /// The number itself.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not digits with at most one point between them.
    #[error("'{text}' is not an amount: write digits with at most one decimal point, such as 12.5")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Below zero.
    #[error("'{text}' is negative")]
    Negative {
        /// What was given.
        text: String,
    },
    /// Finer than the token's base unit.
    #[error("'{text}' has {given} decimals, but the token has {}", decimals.get())]
    TooPrecise {
        /// What was given.
        text: String,
        /// Decimals of the text.
        given: usize,
        /// Decimals of the token.
        decimals: Decimals,
    },
    /// Beyond `uint128` base units.
    #[error("'{text}' is more than a channel can hold (2^128 - 1 base units at {} decimals)", decimals.get())]
    Overflow {
        /// What was given.
        text: String,
        /// Decimals of the token.
        decimals: Decimals,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const USDC: Decimals = Decimals::new(6);

    #[test]
    fn reads_and_writes_decimals() {
        for (text, base_units, written) in [
            ("12.5", 12_500_000, "12.5"),
            ("0", 0, "0"),
            ("0.0", 0, "0"),
            ("000.000001", 1, "0.000001"),
            ("7.1000000000", 7_100_000, "7.1"),
            (
                "340282366920938463463374607431768.211455",
                u128::MAX,
                "340282366920938463463374607431768.211455",
            ),
        ] {
            let amount = TokenAmount::parse(text, USDC).unwrap();
            assert_eq!(amount, TokenAmount::new(base_units), "{text}");
            assert_eq!(amount.display(USDC), written);
        }
        assert_eq!(
            TokenAmount::parse("5", Decimals::new(0))
                .unwrap()
                .display(Decimals::new(0)),
            "5"
        );
        assert_eq!(
            TokenAmount::parse("1", Decimals::new(24)).unwrap(),
            TokenAmount::new(10u128.pow(24))
        );
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in [
            "", ".", "1.", ".5", "1e6", "+1", "1_000", "1,5", "0x10", " 1", "1 ", "1.2.3", "١",
        ] {
            assert!(
                matches!(TokenAmount::parse(text, USDC), Err(ParseAmountError::Malformed { .. })),
                "{text:?}"
            );
        }
        assert!(matches!(
            TokenAmount::parse("-1", USDC),
            Err(ParseAmountError::Negative { .. })
        ));
        assert!(matches!(
            TokenAmount::parse("0.0000001", USDC),
            Err(ParseAmountError::TooPrecise { given: 7, .. })
        ));
        for text in [
            "340282366920938463463374607431768.211456",
            "1000000000000000000000000000000000000000000000",
        ] {
            assert!(
                matches!(TokenAmount::parse(text, USDC), Err(ParseAmountError::Overflow { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn serializes_as_a_decimal_string() {
        assert_eq!(
            serde_json::to_string(&TokenAmount::MAX).unwrap(),
            format!("\"{}\"", u128::MAX)
        );
        assert_eq!(
            serde_json::from_str::<TokenAmount>("\"250000\"").unwrap(),
            TokenAmount::new(250_000)
        );
        assert!(serde_json::from_str::<TokenAmount>("\"-1\"").is_err());
    }
}
