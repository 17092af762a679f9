//! What is asked of the contracts after every step.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::{SolCall, SolValue},
};

use crate::{
    abi::{IChannelEscrow, IDevToken, IExecutorRegistry},
    model::Model,
};

/// A view, and the answer that the model gives.
pub struct View {
    /// In words.
    pub what: String,
    /// Which contract is asked.
    pub to: Address,
    /// The call's data.
    pub data: Bytes,
    /// What the model says.
    pub answer: Bytes,
}

/// Every channel, one that isn't there, every balance of every account inside and outside of the escrow, every
/// allowance, every nonce that was used and every operator.
pub fn of(model: &Model) -> Vec<View> {
    let world = &model.world;
    let unknown = keccak256("no channel");
    let ids: Vec<B256> = model.channels.keys().copied().chain([unknown]).collect();
    let channels: Vec<_> = ids.iter().map(|&id| model.view(id)).collect();
    let mut views = vec![view(
        format!("channels {ids:?}"),
        world.escrow,
        &IChannelEscrow::getChannelsBatchCall { channelIds: ids },
        &channels,
    )];
    for (address, token) in &model.tokens {
        let escrow = world.escrow;
        for account in world.addresses() {
            views.push(view(
                format!("tokens {address} of {account}"),
                *address,
                &IDevToken::balanceOfCall { account },
                &token.balance_of(account),
            ));
            views.push(view(
                format!("balance of {account} in tokens {address}"),
                escrow,
                &IChannelEscrow::balanceOfCall {
                    account,
                    token: *address,
                },
                &model.balance_of(account, *address),
            ));
        }
        for owner in world.accounts() {
            views.push(view(
                format!("allowance of {owner} in tokens {address}"),
                *address,
                &IDevToken::allowanceCall { owner, spender: escrow },
                &token.allowance(owner, escrow),
            ));
        }
    }
    for &(account, channel_id, nonce) in &model.nonces {
        for nonce in [nonce, nonce ^ U256::from(256)] {
            views.push(view(
                format!("nonce {nonce} of {account} for {channel_id}"),
                world.escrow,
                &IChannelEscrow::isNonceUsedCall {
                    account,
                    channelId: channel_id,
                    nonce,
                },
                &model.nonces.contains(&(account, channel_id, nonce)),
            ));
        }
    }
    for (&(payee, operator), &status) in &model.operators {
        views.push(view(
            format!("what {operator} is to {payee}"),
            world.registry,
            &IExecutorRegistry::operatorStatusCall { payee, operator },
            &U256::from(status as u8),
        ));
    }
    views
}

fn view(what: String, to: Address, call: &impl SolCall, answer: &impl SolValue) -> View {
    View {
        what,
        to,
        data: call.abi_encode().into(),
        answer: answer.abi_encode().into(),
    }
}
