use std::sync::OnceLock;

use alloy::{
    primitives::{Address, Bytes, TxKind, U256, address},
    sol_types::SolCall as _,
};
use lloom_bindings::{Contracts, DevToken, LloomDeployer};
use lloom_receipts::Domain;

use super::{
    START,
    evm::{self, State, Surroundings},
};

/// The chain's id.
pub const CHAIN_ID: u64 = 31_337;

/// Who deploys everything.
const DEPLOYER: Address = address!("0x00000000000000000000000000000000000d0001");

/// What everybody has at the beginning: coins in wei.
const COINS: u128 = 1_000_000_000_000_000_000_000;
/// And tokens, base units.
pub const TOKENS: u128 = 1_000_000_000_000;

/// A state in which the contracts are deployed.
#[derive(Clone, Debug)]
pub struct Genesis {
    pub(super) state: State,
    /// Where the contracts are.
    pub contracts: Contracts,
    /// The token that everything is paid in.
    pub token: Address,
}

impl Genesis {
    /// The contracts, deployed once for all simulations of this process.
    pub fn deployed() -> Self {
        static DEPLOYED: OnceLock<Genesis> = OnceLock::new();
        DEPLOYED.get_or_init(Self::deploy).clone()
    }

    fn deploy() -> Self {
        let mut state = State::default();
        create(&mut state, LloomDeployer::BYTECODE.clone(), 0);
        create(&mut state, DevToken::BYTECODE.clone(), 1);
        let deployer = DEPLOYER.create(0);
        Self {
            state,
            contracts: Contracts {
                deployer,
                registry: deployer.create(1),
                escrow: deployer.create(2),
                settlement: deployer.create(3),
            },
            token: DEPLOYER.create(1),
        }
    }

    /// The domain that documents are signed in.
    pub fn domain(&self) -> Domain {
        Domain::new(CHAIN_ID, self.contracts.escrow, self.contracts.settlement)
    }

    /// Gives an account coins and tokens, and lets the escrow take the tokens.
    pub fn endow(&mut self, account: Address) {
        evm::endow(&mut self.state, account, U256::from(COINS));
        let amount = U256::from(TOKENS);
        let mint = DevToken::mintCall { to: account, amount };
        self.run(account, self.token, mint.abi_encode());
        let approve = DevToken::approveCall {
            spender: self.contracts.escrow,
            value: U256::MAX,
        };
        self.run(account, self.token, approve.abi_encode());
    }

    fn run(&mut self, from: Address, to: Address, data: Vec<u8>) {
        let env = evm::call_env(from, TxKind::Call(to), data.into(), U256::ZERO, evm::GAS_LIMIT);
        let executed = evm::commit(&mut self.state, at(), env, false).expect("the transaction is valid");
        assert!(executed.succeeded, "a transaction of the beginning reverted");
    }
}

const fn at() -> Surroundings {
    Surroundings {
        chain_id: CHAIN_ID,
        number: 0,
        timestamp: START,
        base_fee: 0,
    }
}

fn create(state: &mut State, code: Bytes, nonce: u64) {
    let mut env = evm::call_env(DEPLOYER, TxKind::Create, code, U256::ZERO, evm::GAS_LIMIT);
    env.nonce = nonce;
    let executed = evm::commit(state, at(), env, false).expect("the transaction is valid");
    assert!(executed.succeeded, "a contract was not created");
}
