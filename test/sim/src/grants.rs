//! Channels that are opened and topped up on a payer's signature, by somebody else, from its balance in the escrow.

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::{Eip712Domain, SolStruct},
};
use lloom_bindings::{
    ChannelEscrow,
    channel_escrow::IRelayedChannels,
    eip712::{self, ChannelGrant, TopUpGrant},
};
use lloom_receipts::{ChannelId, ChannelParameters, Keypair, TokenAmount};
use lloom_watcher::Call;

use crate::{cast::Channel, chain::CHAIN_ID, client::ClientSetup, simulation::Simulation};

/// Somebody who submits grants for others: a relayer, or whoever has seen one pass by.
const STRANGER: Address = Address::repeat_byte(0xc1);
/// How long a grant is good at most, seconds: some are not submitted in time.
const LONGEST: u64 = 900;

/// Grants that were signed, and can be submitted by anybody as long as the chain takes them.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    signed: Vec<Call>,
}

impl Simulation {
    /// Puts a part of a payer's money into the escrow, for grants.
    pub(crate) fn deposit_balance(&mut self, payer: Address) {
        let amount = self.choices.between(2_000, 60_000);
        let call = ChannelEscrow::depositCall {
            token: self.genesis.token,
            amount: U256::from(amount),
        };
        let escrow = self.genesis.contracts.escrow;
        let mut world = self.world.lock();
        world.chain.run_errand(payer, escrow, &call);
        world.note("payer", format_args!("{payer} deposits {amount}"));
    }

    /// Has a payer sign for a channel, and somebody open it.
    pub(crate) fn open_with_grant(
        &mut self,
        owner: &ClientSetup,
        parameters: &ChannelParameters,
        deposit: TokenAmount,
    ) {
        let grant = ChannelGrant {
            payer: parameters.payer,
            payee: parameters.payee,
            token: parameters.token,
            deposit: deposit.base_units(),
            salt: parameters.salt,
            authorizedSigner: parameters.authorized_signer,
            deadline: self.grant_deadline(),
        };
        let signature = self.sign(&owner.payer_key, &grant);
        let call = ChannelEscrow::openWithGrantCall {
            grant: IRelayedChannels::ChannelGrant {
                payer: grant.payer,
                payee: grant.payee,
                token: grant.token,
                deposit: grant.deposit,
                salt: grant.salt,
                authorizedSigner: grant.authorizedSigner,
                deadline: grant.deadline,
            },
            signature,
        };
        let call = Call::contract(self.genesis.contracts.escrow, &call);
        self.submit(call, parameters.payee);
    }

    /// Has a payer sign for a larger channel, and somebody top it up.
    pub(crate) fn top_up_with_grant(&mut self, owner: &ClientSetup, channel: &Channel, more: u64) {
        let known = self.state_of(channel.id).map_or(channel.deposit, |state| state.deposit);
        let grant = TopUpGrant {
            channelId: channel.id.hash(),
            deposit: known.base_units() + u128::from(more),
            deadline: self.grant_deadline(),
        };
        let signature = self.sign(&owner.payer_key, &grant);
        let call = ChannelEscrow::topUpWithGrantCall {
            grant: IRelayedChannels::TopUpGrant {
                channelId: grant.channelId,
                deposit: grant.deposit,
                deadline: grant.deadline,
            },
            signature,
        };
        let call = Call::contract(self.genesis.contracts.escrow, &call);
        self.submit(call, channel.parameters.payee);
    }

    /// Has somebody submit a grant that was signed before: it counts once at most.
    pub(crate) fn replay_grant(&mut self) {
        if self.grants.signed.is_empty() {
            return;
        }
        let call = self.choices.pick(&self.grants.signed).clone();
        let mut world = self.world.lock();
        world.chain.run_call(STRANGER, call);
        world.note("stranger", format_args!("submits an old grant"));
    }

    /// Opens from the wallet what a grant was to open, and did not in time.
    pub(crate) fn open_what_is_missing(&mut self) {
        for channel in self.channels.clone() {
            if self.state_of(channel.id).is_none() {
                self.open_from_wallet(channel.id, &channel.parameters, channel.deposit);
            }
        }
    }

    pub(crate) fn open_from_wallet(&mut self, id: ChannelId, parameters: &ChannelParameters, deposit: TokenAmount) {
        let call = ChannelEscrow::openCall {
            payee: parameters.payee,
            token: parameters.token,
            amount: deposit.base_units(),
            salt: parameters.salt,
            authorizedSigner: parameters.authorized_signer,
        };
        let escrow = self.genesis.contracts.escrow;
        let mut world = self.world.lock();
        world.chain.run_errand(parameters.payer, escrow, &call);
        world.note("payer", format_args!("{} opens {id} with {deposit}", parameters.payer));
    }

    /// The payee's owner submits it, or somebody who was quicker, or both.
    fn submit(&mut self, call: Call, payee: Address) {
        let (first, second) = (self.choices.chance(700), self.choices.chance(300));
        let mut world = self.world.lock();
        let from = if first { payee } else { STRANGER };
        world.chain.run_call(from, call.clone());
        if second {
            world.chain.run_call(STRANGER, call.clone());
        }
        world.note("grant", format_args!("{from} submits it, and somebody else: {second}"));
        drop(world);
        self.grants.signed.push(call);
    }

    fn grant_deadline(&mut self) -> u64 {
        let good_for = self.choices.below(LONGEST);
        self.world.lock().now().get() + good_for
    }

    fn sign(&self, key: &Keypair, grant: &impl SolStruct) -> Bytes {
        let domain: Eip712Domain = eip712::escrow_domain(CHAIN_ID, self.genesis.contracts.escrow);
        key.sign_digest(grant.eip712_signing_hash(&domain)).to_bytes().into()
    }
}
