use alloy::{primitives::Address, sol_types::SolCall};
use lloom_bindings::{ChannelEscrow, DevToken, ExecutorRegistry, channel_escrow};
use lloom_receipts::{ChannelId, TokenAmount};

use crate::{
    chain::{Call, CallOutcome, Chain, ChainError, StateAt},
    rpc_chain::RpcChain,
};

/// Reads a contract's view on the newest state.
///
/// # Errors
/// [`ChainError`], also when the contract reverts or is not there.
pub async fn read<C: Chain, V: SolCall + Sync>(
    chain: &C,
    contract: Address,
    view: &V,
) -> Result<V::Return, ChainError> {
    read_at(chain, contract, view, StateAt::Latest).await
}

/// Reads a contract's view on the state `at`.
pub(crate) async fn read_at<C: Chain, V: SolCall + Sync>(
    chain: &C,
    contract: Address,
    view: &V,
    at: StateAt,
) -> Result<V::Return, ChainError> {
    let call = Call::contract(contract, view);
    match chain.call(Address::ZERO, &call, at).await? {
        CallOutcome::Returned(data) => V::abi_decode_returns(&data).map_err(|error| ChainError::Malformed {
            operation: V::SIGNATURE,
            reason: format!("{contract} answered what no such contract answers: {error}"),
        }),
        CallOutcome::Reverted(revert) => Err(ChainError::Reverted {
            operation: V::SIGNATURE,
            contract,
            revert,
        }),
    }
}

/// A channel as the escrow holds it.
pub type ChannelView = channel_escrow::IChannelEscrow::Channel;

/// What a person's commands read of the contracts. All on the newest state.
impl RpcChain {
    /// A channel; `None` when the escrow has none of this id.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn channel(&self, escrow: Address, channel: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        let view = ChannelEscrow::getChannelsBatchCall {
            channelIds: vec![channel.hash()],
        };
        let mut channels = read(self, escrow, &view).await?;
        Ok(channels.pop().filter(|channel| !channel.payer.is_zero()))
    }

    /// The balance of `account` inside the escrow, base units.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn escrow_balance(
        &self,
        escrow: Address,
        account: Address,
        token: Address,
    ) -> Result<TokenAmount, ChainError> {
        let balance = read(self, escrow, &ChannelEscrow::balanceOfCall { account, token }).await?;
        amount("balanceOf", balance)
    }

    /// How long a payer waits between asking for a channel's close and withdrawing.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn grace_period(&self, escrow: Address) -> Result<std::time::Duration, ChainError> {
        let seconds = read(self, escrow, &ChannelEscrow::CLOSE_GRACE_PERIODCall {}).await?;
        Ok(std::time::Duration::from_secs(seconds))
    }

    /// The tokens in the wallet of `account`, base units.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn token_balance(&self, token: Address, account: Address) -> Result<TokenAmount, ChainError> {
        let balance = read(self, token, &DevToken::balanceOfCall { account }).await?;
        amount("balanceOf", balance)
    }

    /// What `spender` may take of the tokens of `owner`, base units; [`TokenAmount::MAX`] for more than that.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn allowance(&self, token: Address, owner: Address, spender: Address) -> Result<TokenAmount, ChainError> {
        let allowance = read(self, token, &DevToken::allowanceCall { owner, spender }).await?;
        Ok(TokenAmount::new(allowance.saturating_to()))
    }

    /// Whether `operator` may claim and close for `payee`: it is the payee, or an active operator.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_active_operator(
        &self,
        registry: Address,
        payee: Address,
        operator: Address,
    ) -> Result<bool, ChainError> {
        const ACTIVE: u8 = 1;
        if operator == payee {
            return Ok(true);
        }
        let status = read(
            self,
            registry,
            &ExecutorRegistry::operatorStatusCall { payee, operator },
        )
        .await?;
        Ok(status == ACTIVE)
    }

    /// Those of `addresses` that hold no code.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn without_code(&self, addresses: &[Address]) -> Result<Vec<Address>, ChainError> {
        let mut without = Vec::new();
        for &address in addresses {
            if self.code(address).await?.is_empty() {
                without.push(address);
            }
        }
        Ok(without)
    }
}

fn amount(operation: &'static str, value: alloy::primitives::U256) -> Result<TokenAmount, ChainError> {
    u128::try_from(value)
        .map(TokenAmount::new)
        .map_err(|_| ChainError::Malformed {
            operation,
            reason: format!("{value} does not fit the amounts of this project"),
        })
}
