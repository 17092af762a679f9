//! Money at the edge: decimals in the token's units for people, base units as decimal strings for programs.

use alloy::primitives::{Address, U256};
use lloom_receipts::{Decimals, ParseAmountError, PricePerMillion, TokenAmount};

use crate::failure::{Failure, Kind, Result};

/// Decimals of every EVM chain's native coin.
const COIN_DECIMALS: usize = 18;
/// How many of them people are shown.
const COIN_DIGITS: usize = 8;

/// The ERC-20 that is paid in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its contract.
    pub address: Address,
    /// What people call it.
    pub symbol: String,
    /// How many decimals its unit has.
    pub decimals: Decimals,
}

impl Token {
    /// `12.5 USDC`.
    pub fn show(&self, amount: TokenAmount) -> String {
        format!("{} {}", amount.display(self.decimals), self.symbol)
    }

    /// An amount of `token`: as [`show`](Self::show) does if it is this one, in base units if it is another.
    pub fn show_of(&self, token: Address, amount: TokenAmount) -> String {
        if token == self.address {
            self.show(amount)
        } else {
            format!("{amount} base units of {token}")
        }
    }

    /// `0.15`: a price for a million tokens, without its unit.
    pub fn show_price(&self, price: PricePerMillion) -> String {
        price.amount().display(self.decimals)
    }

    /// Reads an amount from the command line.
    ///
    /// # Errors
    /// A usage failure that says what is wrong with it.
    pub fn parse(&self, text: &str) -> Result<TokenAmount> {
        TokenAmount::parse(text, self.decimals).map_err(|error| self.explain(error, Kind::Usage))
    }

    /// Reads an amount from the command line that can't be nothing.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and for zero.
    pub fn parse_positive(&self, text: &str) -> Result<TokenAmount> {
        let amount = self.parse(text)?;
        if amount.is_zero() {
            return Err(Failure::new(Kind::Usage, "the amount is zero")
                .hint(format!("say how many {}, such as 12.5", self.symbol)));
        }
        Ok(amount)
    }

    /// Reads an amount of a configuration file.
    ///
    /// # Errors
    /// A configuration failure that names the key.
    pub fn parse_setting(&self, key: &str, text: &str) -> Result<TokenAmount> {
        TokenAmount::parse(text, self.decimals).map_err(|error| {
            self.explain(error, Kind::Configuration)
                .while_(format!("config.toml's {key} is wrong"))
        })
    }

    fn explain(&self, error: ParseAmountError, kind: Kind) -> Failure {
        let hint = match error {
            ParseAmountError::Malformed { .. } => format!("amounts are in {}, such as 12.5", self.symbol),
            ParseAmountError::Negative { .. } => "amounts are never negative".to_owned(),
            ParseAmountError::TooPrecise { .. } => {
                format!("the smallest amount is {}", self.show(TokenAmount::new(1)))
            }
            ParseAmountError::Overflow { .. } => {
                format!("the largest amount is {}", self.show(TokenAmount::new(u128::MAX)))
            }
        };
        Failure::of(kind, error).hint(hint)
    }
}

/// `0.0021 ETH`: native coins, rounded down to the digits people read.
pub fn show_coins(wei: U256, symbol: &str) -> String {
    let padded = format!("{:0>width$}", wei.to_string(), width = COIN_DECIMALS + 1);
    let (whole, fraction) = padded.split_at(padded.len() - COIN_DECIMALS);
    let shown = fraction[..COIN_DIGITS].trim_end_matches('0');
    if shown.is_empty() {
        if whole == "0" && !wei.is_zero() {
            return format!("<0.{}1 {symbol}", "0".repeat(COIN_DIGITS - 1));
        }
        format!("{whole} {symbol}")
    } else {
        format!("{whole}.{shown} {symbol}")
    }
}

/// A balance the ERC-20 reports, as far as a channel could hold it.
pub fn saturating(balance: U256) -> TokenAmount {
    TokenAmount::new(u128::try_from(balance).unwrap_or(u128::MAX))
}

/// Wei as a decimal string: JSON's numbers are too short for it.
///
/// # Errors
/// The serializer's.
pub fn serialize_wei<S: serde::Serializer>(wei: &U256, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(wei)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usdc() -> Token {
        Token {
            address: Address::ZERO,
            symbol: "USDC".to_owned(),
            decimals: Decimals::new(6),
        }
    }

    #[test]
    fn wrong_amounts_are_wrong_usage() {
        for text in [
            "",
            "abc",
            "-1",
            "0.0000001",
            "1e30",
            "999999999999999999999999999999999999999",
            "0",
        ] {
            assert_eq!(usdc().parse_positive(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        assert_eq!(usdc().parse_positive("12.5").unwrap(), TokenAmount::new(12_500_000));
        let failure = usdc().parse_setting("client.channel_deposit", "x").unwrap_err();
        assert_eq!(failure.kind(), Kind::Configuration);
        assert!(failure.message().contains("client.channel_deposit"));
    }

    #[test]
    fn coins_are_rounded_for_people() {
        for (wei, text) in [
            (0u64, "0 ETH"),
            (1, "<0.00000001 ETH"),
            (21_000_000_000_000, "0.000021 ETH"),
            (1_500_000_000_000_000_000, "1.5 ETH"),
            (2_000_000_000_000_000_000, "2 ETH"),
        ] {
            assert_eq!(show_coins(U256::from(wei), "ETH"), text);
        }
    }
}
