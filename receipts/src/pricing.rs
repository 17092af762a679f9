use std::fmt;

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use crate::{TokenAmount, Usage};

/// Tokens a price is quoted for.
const QUOTED_TOKENS: u64 = 1_000_000;

/// A price in token base units per million model tokens, the way the industry quotes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PricePerMillion(TokenAmount);

impl PricePerMillion {
    /// `amount` for a million tokens.
    pub const fn new(amount: TokenAmount) -> Self {
        Self(amount)
    }

    /// What a million tokens cost.
    pub const fn amount(self) -> TokenAmount {
        self.0
    }
}

impl fmt::Display for PricePerMillion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The two prices of an inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prices {
    /// For prompt tokens.
    pub input: PricePerMillion,
    /// For completion tokens.
    pub output: PricePerMillion,
}

impl Prices {
    /// `ceil((input·inputPrice + output·outputPrice) / 1e6)`, exactly, in 256 bits.
    ///
    /// # Errors
    /// [`PriceOverflow`] when the amount leaves `uint128`.
    pub fn charge(&self, usage: Usage) -> Result<TokenAmount, PriceOverflow> {
        // Each product is below 2^160, so their sum and the rounding stay far below 2^256.
        let product =
            |tokens: u32, price: PricePerMillion| U256::from(tokens) * U256::from(price.amount().base_units());
        let sum = product(usage.input.get(), self.input) + product(usage.output.get(), self.output);
        let amount = sum.div_ceil(U256::from(QUOTED_TOKENS));
        u128::try_from(amount)
            .map(TokenAmount::new)
            .map_err(|_| PriceOverflow { usage })
    }

    /// Whether nothing here is above what `limit` allows.
    pub fn within(&self, limit: &Self) -> bool {
        self.input <= limit.input && self.output <= limit.output
    }
}

/// The charge for some usage does not fit `uint128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} input and {} output tokens at these prices cost more than 2^128 - 1 base units", usage.input, usage.output)]
pub struct PriceOverflow {
    /// What was to be charged.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TokenCount;

    fn prices(input: u128, output: u128) -> Prices {
        let price = |base_units| PricePerMillion::new(TokenAmount::new(base_units));
        Prices {
            input: price(input),
            output: price(output),
        }
    }

    fn usage(input: u32, output: u32) -> Usage {
        Usage {
            input: TokenCount::new(input),
            output: TokenCount::new(output),
        }
    }

    #[test]
    fn rounds_the_sum_up_once() {
        // 0.4 + 0.4 base units: rounded each for itself it would be 2.
        assert_eq!(prices(400_000, 400_000).charge(usage(1, 1)), Ok(TokenAmount::new(1)));
        assert_eq!(prices(1, 0).charge(usage(1, 0)), Ok(TokenAmount::new(1)));
        assert_eq!(prices(1, 1).charge(usage(0, 0)), Ok(TokenAmount::ZERO));
        assert_eq!(
            prices(150_000, 600_000).charge(usage(1_000_000, 1_000_000)),
            Ok(TokenAmount::new(750_000))
        );
        assert_eq!(prices(0, u128::MAX).charge(usage(0, 1_000_000)), Ok(TokenAmount::MAX));
        assert!(prices(0, u128::MAX).charge(usage(0, 1_000_001)).is_err());
        assert!(prices(u128::MAX, u128::MAX).charge(usage(u32::MAX, u32::MAX)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        #[test]
        fn is_the_least_amount_that_covers_the_usage(
            input: u32, output: u32, input_price in 0u128..1 << 90, output_price in 0u128..1 << 90,
        ) {
            let amount = prices(input_price, output_price).charge(usage(input, output)).unwrap().base_units();
            let owed = u128::from(input) * input_price + u128::from(output) * output_price;
            prop_assert!(amount * 1_000_000 >= owed);
            prop_assert!(amount == 0 || (amount - 1) * 1_000_000 < owed);
        }
    }
}
