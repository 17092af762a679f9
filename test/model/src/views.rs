//! What is asked of the contracts after every step.

use std::fmt::Debug;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{SolCall, SolValue},
};

use crate::{
    abi::{IChannelEscrow, IDevToken, IExecutorRegistry},
    model::Model,
};

/// A view, and the answer that the model gives.
pub struct View {
    /// Which contract is asked.
    pub to: Address,
    /// The call's data.
    pub data: Bytes,
    /// What the model says.
    pub answer: Bytes,
    describe: fn(&[u8]) -> String,
}

impl View {
    /// The call in words.
    pub fn describe(&self) -> String {
        (self.describe)(&self.data)
    }
}

/// Every channel, one that isn't there, every balance of every account inside and outside of the escrow, every
/// allowance, every nonce that was used and every operator.
pub fn of(model: &Model) -> Vec<View> {
    let escrow = model.world.escrow;
    let channel_ids: Vec<B256> = model.channels.keys().copied().chain([B256::repeat_byte(1)]).collect();
    let channels: Vec<_> = channel_ids.iter().map(|&id| model.view(id)).collect();
    let mut views = vec![view(
        escrow,
        &IChannelEscrow::getChannelsBatchCall {
            channelIds: channel_ids,
        },
        &channels,
    )];
    for (&address, token) in &model.tokens {
        for account in model.world.addresses() {
            let held = token.balance_of(account);
            views.push(view(address, &IDevToken::balanceOfCall { account }, &held));
            let balance = model.balance_of(account, address);
            views.push(view(
                escrow,
                &IChannelEscrow::balanceOfCall {
                    account,
                    token: address,
                },
                &balance,
            ));
        }
        for owner in model.world.accounts() {
            let allowance = token.allowance(owner, escrow);
            views.push(view(
                address,
                &IDevToken::allowanceCall { owner, spender: escrow },
                &allowance,
            ));
        }
    }
    for &(account, channel_id, nonce) in &model.nonces {
        // Its neighbour in a bitmap, and one in another word.
        for nonce in [nonce, nonce ^ U256::from(1), nonce ^ U256::from(256)] {
            let used = model.nonces.contains(&(account, channel_id, nonce));
            let call = IChannelEscrow::isNonceUsedCall {
                account,
                channelId: channel_id,
                nonce,
            };
            views.push(view(escrow, &call, &used));
        }
    }
    for (&(payee, operator), &status) in &model.operators {
        let call = IExecutorRegistry::operatorStatusCall { payee, operator };
        views.push(view(model.world.registry, &call, &U256::from(status as u8)));
    }
    views
}

fn view<C: SolCall + Debug>(to: Address, call: &C, answer: &impl SolValue) -> View {
    let describe = |data: &[u8]| C::abi_decode(data).map_or_else(|_| String::new(), |call| format!("{call:?}"));
    View {
        to,
        data: call.abi_encode().into(),
        answer: answer.abi_encode().into(),
        describe,
    }
}
