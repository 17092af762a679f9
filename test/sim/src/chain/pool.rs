use std::collections::BTreeMap;

use alloy::{
    consensus::{Transaction as _, TxEnvelope},
    eips::eip2718::Decodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256},
};
use lloom_receipts::{Signature, Verifier};
use lloom_watcher::{Broadcast, Call};
use revm::context::TxEnv;

use super::CHAIN_ID;

/// A replacement has to raise both fees by this many percent.
const REPLACEMENT_PERCENT: u128 = 10;

/// A signed transaction.
#[derive(Clone, Debug)]
pub struct Pooled {
    pub(super) hash: B256,
    pub(super) env: TxEnv,
    /// Whether no node sent it.
    pub(super) is_errand: bool,
}

/// The transactions that wait for a block.
#[derive(Debug, Default)]
pub struct Pool {
    waiting: BTreeMap<(Address, u64), Pooled>,
}

impl Pooled {
    /// Reads a transaction as it is broadcast.
    pub(super) fn decode(raw: &Bytes) -> Result<Self, String> {
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).map_err(|error| error.to_string())?;
        let signed = envelope.as_eip1559().ok_or("a transaction of an unknown type")?;
        let transaction = signed.tx();
        let mut signature = [0; 65];
        signature[..32].copy_from_slice(&signed.signature().r().to_be_bytes::<32>());
        signature[32..64].copy_from_slice(&signed.signature().s().to_be_bytes::<32>());
        signature[64] = 27 + u8::from(signed.signature().v());
        let signature = Signature::from_bytes(&signature).map_err(|error| error.to_string())?;
        let sender = Verifier::default()
            .recover(signed.signature_hash(), &signature)
            .map_err(|error| error.to_string())?;
        if transaction.chain_id != CHAIN_ID {
            return Err(String::from("invalid chain id"));
        }
        Ok(Self {
            hash: *signed.hash(),
            is_errand: false,
            env: TxEnv {
                tx_type: 2,
                caller: sender,
                gas_limit: transaction.gas_limit,
                gas_price: transaction.max_fee_per_gas,
                gas_priority_fee: Some(transaction.max_priority_fee_per_gas),
                kind: transaction.to,
                value: transaction.value,
                data: transaction.input().clone(),
                nonce: transaction.nonce,
                chain_id: Some(CHAIN_ID),
                ..TxEnv::default()
            },
        })
    }

    /// What it does.
    pub(super) fn call(&self) -> Call {
        let to = match self.env.kind {
            TxKind::Call(to) => to,
            TxKind::Create => Address::ZERO,
        };
        Call {
            to,
            data: self.env.data.clone(),
            value: self.env.value,
        }
    }

    /// What it pays where the base fee is this, wei per gas.
    pub(super) fn gas_price(&self, base_fee: u128) -> u128 {
        self.env.gas_price.min(base_fee + self.tip())
    }

    fn tip(&self) -> u128 {
        self.env.gas_priority_fee.unwrap_or_default()
    }

    fn cost(&self) -> U256 {
        U256::from(self.env.gas_limit) * U256::from(self.env.gas_price) + self.env.value
    }

    fn replaces(&self, other: &Self) -> bool {
        let enough = |new: u128, old: u128| new * 100 >= old * (100 + REPLACEMENT_PERCENT);
        enough(self.env.gas_price, other.env.gas_price) && enough(self.tip(), other.tip())
    }
}

impl Pool {
    pub(super) fn take(&mut self, pooled: Pooled, nonce: u64, balance: U256) -> Broadcast {
        let refused = |reason: &str| Broadcast::Refused {
            reason: reason.to_owned(),
        };
        let place = (pooled.env.caller, pooled.env.nonce);
        if pooled.env.nonce < nonce {
            return Broadcast::NonceUsed;
        }
        if pooled.cost() > balance {
            return refused("insufficient funds for gas * price + value");
        }
        match self.waiting.get(&place) {
            Some(known) if known.hash == pooled.hash => return Broadcast::AlreadyKnown,
            Some(known) if !pooled.replaces(known) => return refused("replacement transaction underpriced"),
            _ => {}
        }
        self.waiting.insert(place, pooled);
        Broadcast::Accepted
    }

    /// A transaction whose block was taken away.
    pub(super) fn put_back(&mut self, pooled: Pooled) {
        let place = (pooled.env.caller, pooled.env.nonce);
        self.waiting.entry(place).or_insert(pooled);
    }

    /// Takes out what a block would take next: the one that pays the most, of those whose turn it is.
    pub(super) fn ready(&mut self, base_fee: u128, gas: u64, nonce: impl Fn(Address) -> u64) -> Option<Pooled> {
        let best = self
            .waiting
            .iter()
            .filter(|((sender, turn), pooled)| {
                pooled.env.gas_price >= base_fee && pooled.env.gas_limit <= gas && nonce(*sender) == *turn
            })
            .max_by_key(|(place, pooled)| (pooled.gas_price(base_fee), std::cmp::Reverse(**place)))
            .map(|(place, _)| *place)?;
        self.waiting.remove(&best)
    }

    pub(super) fn forget_used(&mut self, nonce: impl Fn(Address) -> u64) {
        self.waiting.retain(|(sender, turn), _| *turn >= nonce(*sender));
    }

    pub(super) fn empty(&mut self) -> u64 {
        std::mem::take(&mut self.waiting).len() as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(super) fn holds(&self, place: (Address, u64)) -> bool {
        self.waiting.contains_key(&place)
    }

    /// How many offer less than a block takes.
    pub(super) fn too_dear(&self, base_fee: u128) -> u64 {
        let waiting = self.waiting.values();
        waiting.filter(|pooled| pooled.env.gas_price < base_fee).count() as u64
    }

    pub(super) fn next_nonce(&self, account: Address, mut nonce: u64) -> u64 {
        while self.waiting.contains_key(&(account, nonce)) {
            nonce += 1;
        }
        nonce
    }
}
