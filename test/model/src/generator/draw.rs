//! Single parameters: good ones mostly, and the ways in which each can be bad.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::SolStruct,
};
use rand::{Rng, rngs::StdRng};

use crate::{
    action::{Action, Call},
    model::{Channel, Model, Terms},
    signer::Parts,
};

/// What a step is drawn from.
pub(super) struct Draw<'a> {
    pub random: &'a mut StdRng,
    pub model: &'a Model,
    pub past: &'a [Action],
}

impl Draw<'_> {
    // --- Chance ---

    pub fn below(&mut self, end: u32) -> u32 {
        self.random.random_range(0..end)
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.random.random_range(0..from.len());
        from[index].clone()
    }

    // --- Who and where ---

    pub fn escrow_call(&self, caller: Address, call: impl Into<Call>) -> Action {
        super::call(caller, self.model.world.escrow, call)
    }

    pub fn account(&mut self) -> Address {
        let accounts: Vec<_> = self.model.world.accounts().collect();
        self.pick(&accounts)
    }

    /// The account that may do it, or another one. A contract sends no transactions.
    pub fn caller(&mut self, right: Address) -> Address {
        let can_call = self.model.world.key(right).is_some();
        if can_call && self.chance(90) {
            right
        } else {
            self.account()
        }
    }

    pub fn payee(&mut self) -> Address {
        let world = &self.model.world;
        let (carol, blocked) = (world.keys[2].address(), world.keys[3].address());
        let (agreeable, escrow) = (world.agreeable, world.escrow);
        match self.below(100) {
            0..40 => carol,
            40..60 => blocked,
            60..87 => self.account(),
            87..94 => agreeable,
            94..97 => escrow,
            _ => Address::ZERO,
        }
    }

    pub fn token(&mut self) -> Address {
        let world = &self.model.world;
        let (good, blocking, agreeable) = (world.token, world.blocking_token, world.agreeable);
        match self.below(100) {
            0..55 => good,
            55..92 => blocking,
            92..95 => agreeable,
            95..98 => self.account(),
            _ => Address::ZERO,
        }
    }

    pub fn authorized_signer(&mut self) -> Address {
        let (agreeable, token) = (self.model.world.agreeable, self.model.world.token);
        match self.below(100) {
            0..55 => Address::ZERO,
            55..83 => self.account(),
            83..98 => agreeable,
            _ => token,
        }
    }

    // --- Channels ---

    /// Terms of a channel that is not there yet, or is.
    pub fn new_terms(&mut self, payer: Address, token: Address) -> Terms {
        if self.chance(10)
            && let Some((_, channel)) = self.known_channel()
        {
            return channel.terms;
        }
        Terms {
            payer,
            payee: self.payee(),
            token,
            salt: U256::from(self.below(1000)).into(),
            authorized_signer: self.authorized_signer(),
        }
    }

    /// A channel with its id: an open one mostly, or a final one, or one that isn't there.
    pub fn channel(&mut self) -> (B256, Channel) {
        self.channel_where(|_| true)
    }

    /// The same, of the open ones one that `fits` rather than others.
    pub fn channel_where(&mut self, fits: impl Fn(&Channel) -> bool) -> (B256, Channel) {
        if self.chance(90) {
            let of = |final_too: bool, fitting: bool| {
                let channels = self.model.channels.iter();
                let channels =
                    channels.filter(|(_, channel)| (final_too || !channel.finalized) && (!fitting || fits(channel)));
                channels.map(|(id, channel)| (*id, channel.clone())).collect::<Vec<_>>()
            };
            let (fitting, others) = (of(false, true), of(false, false));
            if !fitting.is_empty() && self.chance(90) {
                return self.pick(&fitting);
            }
            if !others.is_empty() {
                return self.pick(&others);
            }
        }
        if self.chance(60)
            && let Some(known) = self.known_channel()
        {
            return known;
        }
        let (payer, token) = (self.account(), self.token());
        let terms = Terms {
            payer,
            payee: self.payee(),
            token,
            salt: keccak256("a salt that no channel has"),
            authorized_signer: self.authorized_signer(),
        };
        let channel = Channel {
            terms,
            deposit: 100,
            settled: 0,
            close_requested_at: 0,
            finalized: false,
            refunds_to_balance: false,
        };
        (terms.id(self.model.world.escrow), channel)
    }

    fn known_channel(&mut self) -> Option<(B256, Channel)> {
        let channels: Vec<_> = self.model.channels.iter().collect();
        if channels.is_empty() {
            return None;
        }
        let (id, channel) = self.pick(&channels);
        Some((*id, channel.clone()))
    }

    // --- Amounts ---

    /// What is put into a channel.
    pub fn deposit_amount(&mut self) -> u128 {
        match self.below(100) {
            0..80 => 1 + u128::from(self.below(1000)),
            80..86 => 0,
            86..92 => 1,
            92..96 => 20_000,
            _ => u128::MAX,
        }
    }

    /// What a channel's `settled` is to become.
    pub fn cumulative_amount(&mut self, channel: &Channel) -> u128 {
        let left = channel.deposit - channel.settled;
        match self.below(100) {
            0..60 if left > 0 => channel.settled + self.random.random_range(1..=left),
            60..74 => channel.deposit,
            74..80 => channel.deposit.saturating_add(1),
            80..88 => channel.settled,
            88..92 => channel.settled.saturating_sub(1),
            92..94 => 0,
            94..96 => u128::MAX,
            _ => channel.settled.saturating_add(1),
        }
    }

    // --- Times and nonces ---

    pub fn deadline(&mut self) -> u64 {
        let now = self.model.now;
        match self.below(100) {
            0..70 => now + u64::from(self.below(5000)),
            70..80 => now,
            80..90 => now - 1,
            90..95 => 0,
            _ => u64::MAX,
        }
    }

    /// From when and until when an EIP-3009 authorization is good, both exclusive.
    pub fn validity(&mut self) -> (U256, U256) {
        let now = self.model.now;
        let after = match self.below(100) {
            0..60 => 0,
            60..90 => now - 1,
            90..96 => now,
            _ => now + 100,
        };
        let before = match self.below(100) {
            0..50 => U256::from(now + 5000),
            50..75 => U256::from(now + 1),
            75..90 => U256::MAX,
            90..96 => U256::from(now),
            _ => U256::from(now - 1),
        };
        (U256::from(after), before)
    }

    pub fn nonce(&mut self) -> U256 {
        match self.below(100) {
            0..70 => U256::from(self.below(1000)),
            70..85 => U256::from(self.below(3)),
            85..95 => U256::from(255 + self.below(2)),
            _ => U256::MAX,
        }
    }

    // --- Signatures ---

    /// What `signer` signs with its key, or nearly.
    pub fn parts(&mut self, signer: Address, digest: B256) -> Parts {
        let key = self.model.world.key(signer).cloned();
        let key = match key {
            Some(key) if self.chance(93) => key,
            _ => {
                let keys = &self.model.world.keys;
                keys[self.random.random_range(0..keys.len())].clone()
            }
        };
        let good = key.sign(digest);
        match self.below(100) {
            0..3 => good.twin(),
            3..4 => Parts { v: good.v ^ 7, ..good },
            4..5 => key.sign(keccak256(digest)),
            5 => Parts {
                r: B256::ZERO,
                s: B256::ZERO,
                v: 27,
            },
            _ => good,
        }
    }

    /// The same as bytes of either form, or of none.
    pub fn signature(&mut self, signer: Address, digest: B256) -> Bytes {
        let parts = self.parts(signer, digest);
        let mut bytes = if self.chance(15) {
            parts.to_compact_bytes()
        } else {
            parts.to_bytes()
        };
        match self.below(100) {
            0 => bytes.push(0),
            1 => bytes.clear(),
            2 => bytes.truncate(63),
            // The parity as Ethereum's transactions have it.
            3 if bytes.len() == 65 => bytes[64] -= 27,
            _ => {}
        }
        bytes.into()
    }

    /// The signature over a message of the escrow's domain.
    pub fn escrow_signature(&mut self, signer: Address, message: &impl SolStruct) -> Bytes {
        let digest = message.eip712_signing_hash(&self.model.world.escrow_domain);
        self.signature(signer, digest)
    }
}
