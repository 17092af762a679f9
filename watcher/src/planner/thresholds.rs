use alloy::primitives::U256;
use lloom_receipts::TokenAmount;

const WEI_PER_COIN: u64 = 1_000_000_000_000_000_000;

/// When a claim of a token is worth its fee: [`PlannerPolicy`](super::PlannerPolicy)'s fields of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenThresholds {
    /// A claim has to be worth this many times its fee.
    pub min_value_over_fee: u32,
    /// What one whole native coin costs, in base units of the token.
    pub native_price_in_token: Option<TokenAmount>,
    /// The least a claim has to bring where that is not known, base units.
    pub min_claim: TokenAmount,
    /// A channel is claimed, if that is no loss, once no more than this of its deposit is left, base units.
    pub exposure_near: TokenAmount,
}

impl TokenThresholds {
    /// What `gas` at `gas_price` wei costs in the token, rounded up, where its price is known.
    pub(super) fn fee(&self, gas: u64, gas_price: u128) -> Option<TokenAmount> {
        let price = self.native_price_in_token?;
        let wei = U256::from(gas) * U256::from(gas_price);
        // A product of three numbers below 2^128 can leave 256 bits: then the fee is beyond any amount.
        let fee = wei
            .checked_mul(U256::from(price.base_units()))
            .map_or(U256::MAX, |product| product.div_ceil(U256::from(WEI_PER_COIN)));
        Some(TokenAmount::new(u128::try_from(fee).unwrap_or(u128::MAX)))
    }

    pub(super) fn worth(&self, fee: TokenAmount) -> TokenAmount {
        let multiple = u128::from(self.min_value_over_fee);
        TokenAmount::new(fee.base_units().saturating_mul(multiple))
    }

    /// What a claim has to bring to be worth `fee`.
    pub(super) fn needed(&self, fee: Option<TokenAmount>) -> TokenAmount {
        fee.map_or(self.min_claim, |fee| self.worth(fee))
    }
}
