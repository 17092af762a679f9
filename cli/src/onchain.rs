//! What the chain says, read through the contracts' views.

mod splitter;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use lloom_bindings::{ChannelEscrow, Contracts, DevToken, ExecutorRegistry};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use lloom_watcher::{Chain as _, ChainError, RpcChain};

use crate::{
    failure::{Failure, Kind, Result},
    money::{Token, saturating},
    network::Network,
};

pub use splitter::SplitterOnChain;

/// A failure of the chain, with its advice.
pub fn chain_failure(error: ChainError, operation: impl Into<String>) -> Failure {
    let (kind, hint) = match &error {
        ChainError::Unavailable { .. } => (
            Kind::Chain,
            Some("is the endpoint up? Another one can be given with --rpc-url"),
        ),
        ChainError::WrongChain { .. } | ChainError::WrongGenesis { .. } => (
            Kind::Chain,
            Some("the endpoint belongs to another network: check --network and --rpc-url (or config.toml)"),
        ),
        ChainError::Reverted { .. } => (Kind::Refused, None),
        _ => (Kind::Chain, None),
    };
    let failure = Failure::of(kind, error).while_(operation);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A channel as the escrow holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOnChain {
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// In which token.
    pub token: Address,
    /// Who signs for the payer; zero: the payer itself.
    pub authorized_signer: Address,
    /// All that was put in.
    pub deposit: TokenAmount,
    /// All that was paid out to the payee.
    pub settled: TokenAmount,
    /// When the payer asked for the rest, if it did.
    pub close_requested_at: Option<UnixSeconds>,
    /// Whether it is closed for good.
    pub finalized: bool,
    /// Whether the rest returns to the payer's balance in the escrow.
    pub refunds_to_balance: bool,
}

impl ChannelOnChain {
    /// Where it is in its life.
    pub const fn status(&self) -> &'static str {
        if self.finalized {
            "closed"
        } else if self.close_requested_at.is_some() {
            "closing"
        } else {
            "open"
        }
    }

    /// What is not paid out.
    pub fn remaining(&self) -> TokenAmount {
        if self.finalized {
            TokenAmount::ZERO
        } else {
            self.deposit.saturating_sub(self.settled)
        }
    }
}

/// An operator's standing with a payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorStatus {
    /// Never named.
    Unknown,
    /// Signs, claims and closes.
    Active,
    /// Does nothing new; what it signed stays claimable.
    Retired,
}

impl OperatorStatus {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "not named",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// The contracts on one chain.
#[derive(Clone, Debug)]
pub struct OnChain {
    chain: RpcChain,
    contracts: Contracts,
    token: Token,
}

impl OnChain {
    /// The network's contracts behind `chain`.
    pub fn new(chain: RpcChain, network: &Network) -> Self {
        Self {
            chain,
            contracts: network.contracts,
            token: network.token.clone(),
        }
    }

    /// The chain itself.
    pub const fn chain(&self) -> &RpcChain {
        &self.chain
    }

    /// Whether there is code at `address`.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn has_code(&self, address: Address) -> Result<bool> {
        self.chain
            .code(address)
            .await
            .map(|code| !code.is_empty())
            .map_err(|error| chain_failure(error, format!("cannot look for a contract at {address}")))
    }

    /// Checks that the network's contracts are there.
    ///
    /// # Errors
    /// When they are not, or the chain doesn't answer.
    pub async fn check_deployed(&self, network: &Network) -> Result {
        let operation = || format!("cannot use the network '{}'", network.name);
        for (name, address) in [
            ("escrow", self.contracts.escrow),
            ("settlement", self.contracts.settlement),
            ("registry", self.contracts.registry),
        ] {
            if !self.has_code(address).await.map_err(|failure| {
                let failure = failure.while_(operation());
                if network.development {
                    failure.hint("`lloomctl devnet` starts a local chain")
                } else {
                    failure
                }
            })? {
                let hint = if network.development {
                    "`lloomctl devnet` starts a chain that has them; `lloomctl deploy` puts them on a running one"
                } else {
                    "`lloomctl deploy` puts them there, at the same addresses as everywhere, and says first what it costs"
                };
                return Err(Failure::new(
                    Kind::Chain,
                    format!("the network '{}' has no {name} contract at {address}", network.name),
                )
                .hint(hint));
            }
        }
        Ok(())
    }

    /// Checks that the code there is what this program was built with.
    ///
    /// # Errors
    /// When it is something else, or the chain doesn't answer.
    pub async fn check_code(&self) -> Result {
        for runtime in self.contracts.runtimes() {
            let (name, address) = (runtime.name, runtime.address);
            let code = self
                .chain
                .code(address)
                .await
                .map_err(|error| chain_failure(error, format!("cannot read the {name} contract at {address}")))?;
            if !runtime.is(&code) {
                return Err(Failure::new(
                    Kind::Chain,
                    format!("the {name} contract at {address} is not what this lloomctl was built with"),
                )
                .hint("ask another endpoint (--rpc-url); if it says the same, they are another version's, which wants a lloomctl of its own, or a stranger's: deposit nothing there"));
            }
        }
        Ok(())
    }

    /// Free tokens of `account` in the escrow.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn escrow_balance(&self, account: Address) -> Result<TokenAmount> {
        let token = self.token.address;
        self.view(self.contracts.escrow, ChannelEscrow::balanceOfCall { account, token })
            .await
            .map(saturating)
            .map_err(|error| chain_failure(error, format!("cannot read the escrow balance of {account}")))
    }

    /// Tokens in `account`'s wallet.
    ///
    /// # Errors
    /// When the chain doesn't answer, or the token isn't there.
    pub async fn wallet_balance(&self, account: Address) -> Result<TokenAmount> {
        self.view(self.token.address, DevToken::balanceOfCall { account })
            .await
            .map(saturating)
            .map_err(|error| {
                chain_failure(
                    error,
                    format!("cannot read the {} balance of {account}", self.token.symbol),
                )
            })
    }

    /// The same of several accounts.
    ///
    /// # Errors
    /// As [`wallet_balance`](Self::wallet_balance).
    pub async fn wallet_balances(&self, accounts: Vec<Address>) -> Result<Vec<(Address, TokenAmount)>> {
        let mut balances = Vec::new();
        for account in accounts {
            balances.push((account, self.wallet_balance(account).await?));
        }
        Ok(balances)
    }

    /// What `owner` allows the escrow to take.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn allowance(&self, owner: Address) -> Result<U256> {
        let spender = self.contracts.escrow;
        self.view(self.token.address, DevToken::allowanceCall { owner, spender })
            .await
            .map_err(|error| chain_failure(error, "cannot read the escrow's allowance"))
    }

    /// What the token says of itself: its symbol and decimals.
    ///
    /// # Errors
    /// When the chain doesn't answer, or the token isn't there.
    pub async fn token_description(&self) -> Result<(String, u8)> {
        let operation = || format!("cannot read the token {}", self.token.address);
        let symbol = self
            .view(self.token.address, DevToken::symbolCall {})
            .await
            .map_err(|error| chain_failure(error, operation()))?;
        let decimals = self
            .view(self.token.address, DevToken::decimalsCall {})
            .await
            .map_err(|error| chain_failure(error, operation()))?;
        Ok((symbol, decimals))
    }

    /// What a permit of `owner` has to be signed with: the token's domain separator, and the owner's next nonce. `None`
    /// where the token has no permits.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn permit(&self, owner: Address) -> Result<Option<(B256, U256)>> {
        let separator = self.view(self.token.address, DevToken::DOMAIN_SEPARATORCall {}).await;
        let nonce = self.view(self.token.address, DevToken::noncesCall { owner }).await;
        match (separator, nonce) {
            (Ok(separator), Ok(nonce)) => Ok(Some((separator, nonce))),
            (Err(ChainError::Reverted { .. } | ChainError::Malformed { .. }), _)
            | (_, Err(ChainError::Reverted { .. } | ChainError::Malformed { .. })) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(chain_failure(error, "cannot read the token's permit state")),
        }
    }

    /// A channel, or `None` where the escrow never saw it.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn channel(&self, id: ChannelId) -> Result<Option<ChannelOnChain>> {
        let call = ChannelEscrow::getChannelCall { channelId: id.hash() };
        match self.view(self.contracts.escrow, call).await {
            Ok(channel) => Ok(Some(ChannelOnChain {
                payer: channel.payer,
                payee: channel.payee,
                token: channel.token,
                authorized_signer: channel.authorizedSigner,
                deposit: TokenAmount::new(channel.deposit),
                settled: TokenAmount::new(channel.settled),
                close_requested_at: (channel.closeRequestedAt != 0).then(|| UnixSeconds::new(channel.closeRequestedAt)),
                finalized: channel.finalized,
                refunds_to_balance: channel.refundsToBalance,
            })
            .filter(|channel| channel.payee != Address::ZERO)),
            Err(ChainError::Reverted { .. }) => Ok(None),
            Err(error) => Err(chain_failure(error, format!("cannot read the channel {id}"))),
        }
    }

    /// A channel that has to be there.
    ///
    /// # Errors
    /// When it isn't, or the chain doesn't answer.
    pub async fn known_channel(&self, id: ChannelId) -> Result<ChannelOnChain> {
        self.channel(id).await?.ok_or_else(|| {
            Failure::new(Kind::Refused, format!("the escrow knows no channel {id}"))
                .hint("`lloomctl channel list` shows yours; an id stands for one deployment on one chain (--network)")
        })
    }

    /// How long a payee has to claim after a payer asked to close.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn grace_period(&self) -> Result<std::time::Duration> {
        self.view(self.contracts.escrow, ChannelEscrow::CLOSE_GRACE_PERIODCall {})
            .await
            .map(std::time::Duration::from_secs)
            .map_err(|error| chain_failure(error, "cannot read the grace period"))
    }

    /// The newest block's time, which is what contracts go by.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn head_time(&self) -> Result<UnixSeconds> {
        self.chain
            .head()
            .await
            .map(|block| block.timestamp)
            .map_err(|error| chain_failure(error, "cannot read the chain's head"))
    }

    /// An operator's standing with a payee.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn operator_status(&self, payee: Address, operator: Address) -> Result<OperatorStatus> {
        let status = self
            .view(
                self.contracts.registry,
                ExecutorRegistry::operatorStatusCall { payee, operator },
            )
            .await
            .map_err(|error| chain_failure(error, format!("cannot read the standing of the operator {operator}")))?;
        Ok(match status {
            1 => OperatorStatus::Active,
            2 => OperatorStatus::Retired,
            _ => OperatorStatus::Unknown,
        })
    }

    /// Native coins of `account`, wei.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn coins(&self, account: Address) -> Result<U256> {
        self.chain
            .native_balance(account)
            .await
            .map_err(|error| chain_failure(error, format!("cannot read the gas money of {account}")))
    }

    async fn view<C: SolCall + Sync>(&self, contract: Address, call: C) -> std::result::Result<C::Return, ChainError> {
        lloom_watcher::read(&self.chain, contract, &call).await
    }
}

/// A number of the newest block.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn head_number(chain: &RpcChain) -> Result<u64> {
    chain
        .head()
        .await
        .map(|block| block.number.get())
        .map_err(|error| chain_failure(error, "cannot read the chain's head"))
}

/// The endpoint's unlocked accounts: a development chain's own.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn unlocked_accounts(chain: &RpcChain) -> Result<Vec<Address>> {
    match chain.request("eth_accounts", ()).await {
        Ok(accounts) => Ok(accounts),
        Err(ChainError::Refused { .. }) => Ok(Vec::new()),
        Err(error) => Err(chain_failure(error, "cannot ask the chain for accounts")),
    }
}

/// Reads an address of the command line.
///
/// # Errors
/// What an address looks like.
pub fn parse_address(text: &str) -> std::result::Result<Address, String> {
    // The parser's own words are about strings of bytes, as with ids.
    text.parse()
        .map_err(|_| "an address is 0x and 40 hexadecimal digits".to_owned())
}

/// Parses a channel id from the command line.
///
/// # Errors
/// A usage failure.
pub fn parse_channel(text: &str) -> Result<ChannelId> {
    // The parser's own words are about strings of bytes: they'd explain nothing.
    text.parse().map_err(|_| {
        Failure::new(
            Kind::Usage,
            format!("'{text}' is no channel id: an id is 0x and 64 hexadecimal digits"),
        )
        .hint("`lloomctl channel list --json` shows ids in full")
    })
}
