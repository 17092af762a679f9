//! Who takes part: accounts with keys, contracts, tokens.

use alloy::{primitives::Address, sol_types::Eip712Domain};

use crate::{signer::Key, typed_data};

/// The chain that both sides live on.
pub const CHAIN_ID: u64 = 31_337;

/// The time that every sequence begins at, Unix seconds.
pub const START: u64 = 1_800_000_000;

/// Accounts, contracts and tokens, the same in every sequence.
///
/// Each account takes every role now and then; the names say what it mostly is.
#[derive(Clone, Debug)]
pub struct World {
    /// The accounts that have keys, in the order of [`World::NAMES`].
    pub keys: Vec<Key>,
    /// The escrow.
    pub escrow: Address,
    /// The settlement.
    pub settlement: Address,
    /// The registry.
    pub registry: Address,
    /// The development token.
    pub token: Address,
    /// The same token, but for one thing: it refuses every transfer to [`World::blocked`]. What is taken from that account
    /// by allowance or authorization still moves.
    pub blocking_token: Address,
    /// A contract that answers every call with the magic value of ERC-1271: a signer that signs everything, and a token
    /// that says yes and moves nothing.
    pub agreeable: Address,
    /// The domain of vouchers.
    pub escrow_domain: Eip712Domain,
    /// The domain of bills and receipts.
    pub settlement_domain: Eip712Domain,
}

impl World {
    /// The names of the accounts: two payers, a payee, a payer and payee that [`World::blocking_token`] blocks, an
    /// operator, and somebody else.
    pub const NAMES: [&'static str; 6] = ["alice", "bob", "carol", "blocked", "oscar", "mallory"];

    /// The world around these contracts.
    pub fn new(deployer: Address, token: Address, blocking_token: Address, agreeable: Address) -> Self {
        let (escrow, settlement) = (deployer.create(2), deployer.create(3));
        Self {
            keys: Self::NAMES.into_iter().map(Key::of).collect(),
            registry: deployer.create(1),
            escrow,
            settlement,
            token,
            blocking_token,
            agreeable,
            escrow_domain: typed_data::escrow_domain(CHAIN_ID, escrow),
            settlement_domain: typed_data::settlement_domain(CHAIN_ID, settlement),
        }
    }

    /// The account that [`World::blocking_token`] pays nothing to.
    pub fn blocked() -> Address {
        Key::of("blocked").address()
    }

    /// The key of an account, unless it is a contract.
    pub fn key(&self, address: Address) -> Option<&Key> {
        self.keys.iter().find(|key| key.address() == address)
    }

    /// The addresses of the accounts that have keys.
    pub fn accounts(&self) -> impl Iterator<Item = Address> {
        self.keys.iter().map(Key::address)
    }

    /// Every address whose money is watched.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.accounts()
            .chain([self.escrow, self.settlement, self.agreeable, Address::ZERO])
    }

    /// Both tokens that money can be in.
    pub const fn tokens(&self) -> [Address; 2] {
        [self.token, self.blocking_token]
    }

    /// A text with names in place of addresses.
    pub fn with_names(&self, text: &str) -> String {
        let contracts = [
            (self.escrow, "ESCROW"),
            (self.settlement, "SETTLEMENT"),
            (self.registry, "REGISTRY"),
            (self.token, "TOKEN"),
            (self.blocking_token, "BLOCKING_TOKEN"),
            (self.agreeable, "AGREEABLE"),
        ];
        let accounts = self.accounts().zip(Self::NAMES);
        accounts
            .chain(contracts)
            .fold(text.to_owned(), |text, (address, name)| {
                text.replace(&address.to_string(), name)
                    .replace(&format!("{address:?}"), name)
            })
    }

    /// Whether there is code at an address.
    pub fn has_code(&self, address: Address) -> bool {
        let contracts = [
            self.escrow,
            self.settlement,
            self.registry,
            self.token,
            self.blocking_token,
            self.agreeable,
        ];
        contracts.contains(&address)
    }
}
