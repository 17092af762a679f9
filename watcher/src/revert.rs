//! Names of the contracts' refusals.

use alloy::sol_types::{Revert as ErrorString, SolError};
use lloom_bindings::{ChannelEscrow, DevToken, ExecutorRegistry, UsageSettlement};

/// The name of the custom error in `data`, or the text of a `require`.
pub(crate) fn name(data: &[u8]) -> Option<String> {
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    if selector == ErrorString::SELECTOR {
        return ErrorString::abi_decode(data).ok().map(|revert| revert.reason);
    }
    let named = UsageSettlement::UsageSettlementErrors::name_by_selector(selector)
        .or_else(|| ChannelEscrow::ChannelEscrowErrors::name_by_selector(selector))
        .or_else(|| ExecutorRegistry::ExecutorRegistryErrors::name_by_selector(selector))
        .or_else(|| DevToken::DevTokenErrors::name_by_selector(selector))?;
    Some(named.to_owned())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;

    use super::*;

    #[test]
    fn names_the_contracts_errors() {
        let closed = ChannelEscrow::ChannelFinalized {}.abi_encode();
        assert_eq!(name(&closed).as_deref(), Some("ChannelFinalized"));
        let stranger = UsageSettlement::NotOperator {}.abi_encode();
        assert_eq!(name(&stranger).as_deref(), Some("NotOperator"));
        let text = ErrorString::from("too late").abi_encode();
        assert_eq!(name(&text).as_deref(), Some("too late"));
        assert_eq!(name(&hex!("deadbeef")), None);
        assert_eq!(name(&[]), None);
    }
}
