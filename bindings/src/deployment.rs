use alloy::primitives::{Address, B256, Bytes, address, keccak256};
use serde::{Deserialize, Serialize};

use crate::contracts::{DevToken, LloomDeployer};

/// The CREATE2 proxy that is at the same address on every chain
/// (<https://github.com/Arachnid/deterministic-deployment-proxy>). Calldata: the salt, then the creation code.
pub const CREATE2_PROXY: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");

/// The salt both contracts below are deployed with.
pub const DEPLOYMENT_SALT: B256 = B256::ZERO;

/// Where the contracts are. Their addresses follow from their code, so they are equal on every chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contracts {
    /// `LloomDeployer`, which created the other three.
    pub deployer: Address,
    /// `ExecutorRegistry`.
    pub registry: Address,
    /// `ChannelEscrow`.
    pub escrow: Address,
    /// `UsageSettlement`.
    pub settlement: Address,
}

impl Contracts {
    /// The addresses of this version of the contracts (design, section 3.5).
    pub fn of_this_version() -> Self {
        let deployer = create2_address(&LloomDeployer::BYTECODE);
        Self {
            deployer,
            registry: deployer.create(1),
            escrow: deployer.create(2),
            settlement: deployer.create(3),
        }
    }

    /// What to send to [`CREATE2_PROXY`] to deploy them.
    pub fn creation_call() -> Bytes {
        creation_call(&LloomDeployer::BYTECODE)
    }
}

/// The development token's address on every chain that has it.
pub fn dev_token_address() -> Address {
    create2_address(&DevToken::BYTECODE)
}

/// What to send to [`CREATE2_PROXY`] to deploy the development token.
pub fn dev_token_creation_call() -> Bytes {
    creation_call(&DevToken::BYTECODE)
}

pub(crate) fn create2_address(creation_code: &[u8]) -> Address {
    CREATE2_PROXY.create2(DEPLOYMENT_SALT, keccak256(creation_code))
}

pub(crate) fn creation_call(creation_code: &[u8]) -> Bytes {
    [DEPLOYMENT_SALT.as_slice(), creation_code].concat().into()
}
