//! What has to run where the contracts are.

use alloy::primitives::Address;

use crate::{
    contracts::{ChannelEscrow, ExecutorRegistry, UsageSettlement},
    deployment::Contracts,
};

/// The first and the last of the instructions that push the bytes behind them: one, and a word (yellow paper, appendix H).
const PUSH1: u8 = 0x60;
const PUSH32: u8 = 0x7f;
const WORD: usize = 32;

/// A contract that holds money or decides about it, and the code that belongs there.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// What people call it.
    pub name: &'static str,
    /// Where it is.
    pub address: Address,
    compiled: &'static [u8],
    contracts: Contracts,
}

impl Contracts {
    /// What this version's sources compile to, for each of the contracts that payments go through.
    pub fn runtimes(&self) -> [Runtime; 3] {
        let runtime = |name, address, compiled| Runtime {
            name,
            address,
            compiled,
            contracts: *self,
        };
        [
            runtime("escrow", self.escrow, &ChannelEscrow::DEPLOYED_BYTECODE),
            runtime("settlement", self.settlement, &UsageSettlement::DEPLOYED_BYTECODE),
            runtime("registry", self.registry, &ExecutorRegistry::DEPLOYED_BYTECODE),
        ]
    }
}

impl Runtime {
    /// Whether `code` is what this version's sources compile to.
    ///
    /// The constructor writes the immutables into it, which are addresses of the contracts that know each other. So where
    /// the compiler left room for one, any of these may stand, and elsewhere nothing may differ.
    pub fn is(&self, code: &[u8]) -> bool {
        if code.len() != self.compiled.len() {
            return false;
        }
        let Contracts {
            deployer: _,
            registry,
            escrow,
            settlement,
        } = self.contracts;
        let known = [registry, escrow, settlement].map(|address| address.into_word());
        let mut compared = 0;
        for begin in immutables(self.compiled) {
            let end = begin + WORD;
            if code[compared..begin] != self.compiled[compared..begin]
                || known.iter().all(|word| code[begin..end] != word[..])
            {
                return false;
            }
            compared = end;
        }
        code[compared..] == self.compiled[compared..]
    }
}

/// Where `compiled` has room for immutables: the compiler pushes 32 bytes of zeros there, and pushes no other zero so.
fn immutables(compiled: &[u8]) -> impl Iterator<Item = usize> {
    let mut next = 0;
    std::iter::from_fn(move || {
        while let Some(&instruction) = compiled.get(next) {
            let begin = next + 1;
            next = match instruction {
                PUSH1..=PUSH32 => begin + usize::from(instruction - PUSH1) + 1,
                _ => begin,
            };
            if instruction == PUSH32 && compiled.get(begin..next).is_some_and(|word| word == [0; WORD]) {
                return Some(begin);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code as a constructor leaves it.
    fn deployed(runtime: &Runtime, immutable: Address) -> Vec<u8> {
        let mut code = runtime.compiled.to_vec();
        for begin in immutables(runtime.compiled) {
            code[begin..begin + WORD].copy_from_slice(immutable.into_word().as_slice());
        }
        code
    }

    #[test]
    fn nothing_but_immutables_may_differ() {
        let contracts = Contracts::of_this_version();
        for runtime in contracts.runtimes() {
            let code = deployed(&runtime, contracts.settlement);
            assert!(runtime.is(&code), "{}", runtime.name);
            assert!(!runtime.is(runtime.compiled), "no constructor was run");
            assert!(!runtime.is(&deployed(&runtime, Address::repeat_byte(1))));
            assert!(!runtime.is(&code[..code.len() - 1]) && !runtime.is(&[]));
            for place in [0, code.len() / 2, code.len() - 1] {
                let mut other = code.clone();
                other[place] ^= 1;
                assert!(!runtime.is(&other), "{} at {place}", runtime.name);
            }
        }
    }

    #[test]
    fn each_contract_has_room_for_what_its_sources_call_immutable() {
        let counts = Contracts::of_this_version()
            .runtimes()
            .map(|runtime| immutables(runtime.compiled).count());
        // The compiler repeats each wherever it is read.
        assert_eq!(counts, [3, 8, 5]);
    }
}
