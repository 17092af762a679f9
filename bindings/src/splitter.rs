use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolConstructor as _,
};

use crate::{
    Contracts, RevenueSplitter,
    deployment::{create2_address, creation_call},
    revenue_splitter::IRevenueSplitter::{Parties, Shares},
};

/// What a `RevenueSplitter` is made of, for good (design, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitterTerms {
    /// Who runs the executor and names its operators.
    pub host: Address,
    /// The validators' account.
    pub validators: Address,
    /// The treasury's account.
    pub treasury: Address,
    /// What host, validators and treasury get, basis points; together 10,000.
    pub shares: [u16; 3],
}

impl SplitterTerms {
    /// Where the splitter of these terms is on every chain, beside `contracts`.
    pub fn address(&self, contracts: &Contracts) -> Address {
        create2_address(&self.creation_code(contracts))
    }

    /// What to send to [`CREATE2_PROXY`](crate::CREATE2_PROXY) to deploy it.
    pub fn creation_call(&self, contracts: &Contracts) -> Bytes {
        creation_call(&self.creation_code(contracts))
    }

    fn creation_code(&self, contracts: &Contracts) -> Vec<u8> {
        let [host, validators, treasury] = self.shares;
        let arguments = RevenueSplitter::constructorCall {
            registry: contracts.registry,
            escrow: contracts.escrow,
            parties: Parties {
                host: self.host,
                validators: self.validators,
                treasury: self.treasury,
            },
            shares: Shares {
                host,
                validators,
                treasury,
            },
        };
        [RevenueSplitter::BYTECODE.as_ref(), &arguments.abi_encode()].concat()
    }
}
