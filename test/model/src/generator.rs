//! Random steps, in which success and every kind of failure are common.
//!
//! A step is drawn with good parameters first: a channel that is there, its payer or payee as the caller, a signature of
//! who has to sign. Each parameter is then replaced by a bad or a borderline one now and then ([`draw`]), so that most
//! steps have one thing wrong with them or none, and the order in which errors are looked for is met too.

mod channels;
mod draw;
mod money;
mod relayed;
mod rows;

use alloy::primitives::{Address, U256};
use rand::rngs::StdRng;

use crate::{
    abi::IDevToken,
    action::{Action, Call},
    generator::draw::Draw,
    model::Model,
    world::World,
};

/// How often an action is drawn, relative to the others.
type Weight = u32;

/// Draws an action of one kind.
type DrawAction = fn(&mut Draw<'_>) -> Action;

const ACTIONS: &[(Weight, DrawAction)] = &[
    (9, |draw| draw.wait()),
    (6, |draw| draw.again()),
    (7, |draw| draw.open()),
    (6, |draw| draw.open_from_balance()),
    (5, |draw| draw.open_with_authorization()),
    (1, |draw| draw.open_with_permit2()),
    (6, |draw| draw.open_with_grant()),
    (4, |draw| draw.top_up()),
    (4, |draw| draw.top_up_from_balance()),
    (5, |draw| draw.top_up_with_authorization()),
    (1, |draw| draw.top_up_with_permit2()),
    (5, |draw| draw.top_up_with_grant()),
    (4, |draw| draw.deposit()),
    (3, |draw| draw.deposit_for()),
    (4, |draw| draw.deposit_with_permit()),
    (5, |draw| draw.deposit_with_authorization()),
    (4, |draw| draw.withdraw_balance()),
    (5, |draw| draw.settle()),
    (6, |draw| draw.settle_with_authorization()),
    (3, |draw| draw.close()),
    (4, |draw| draw.close_with_authorization()),
    (5, |draw| draw.request_close()),
    (5, |draw| draw.request_close_with_authorization()),
    (5, |draw| draw.withdraw()),
    (5, |draw| draw.withdraw_for()),
    (3, |draw| draw.invalidate_nonce()),
    (8, |draw| draw.claim_vouchers()),
    (5, |draw| draw.claim_contract_vouchers()),
    (1, |draw| draw.advance_channels()),
    (1, |draw| draw.close_channel()),
    (8, |draw| draw.claim_receipts()),
    (4, |draw| draw.close_with_receipt()),
    (4, |draw| draw.close_with_voucher()),
    (4, |draw| draw.add_operator()),
    (4, |draw| draw.remove_operator()),
    (2, |draw| draw.mint()),
    (2, |draw| draw.approve()),
    (1, |draw| draw.transfer()),
];

/// A step for the state that `model` is in, after the steps of `past`.
pub fn action(random: &mut StdRng, model: &Model, past: &[Action]) -> Action {
    let mut draw = Draw { random, model, past };
    let total = ACTIONS.iter().map(|(weight, _)| weight).sum();
    let mut left = draw.below(total);
    for (weight, action) in ACTIONS {
        if left < *weight {
            return action(&mut draw);
        }
        left -= weight;
    }
    Action::Wait(1)
}

/// What every sequence begins with: one account has more of each token than a channel can hold, one allows the escrow less
/// than it has, one allows it nothing.
pub fn opening(world: &World) -> Vec<Action> {
    let means: [(U256, U256); World::NAMES.len()] = [
        (U256::ONE << 130_u32, U256::MAX),
        (U256::from(10_000), U256::from(5_000)),
        (U256::from(10_000), U256::MAX),
        (U256::from(10_000), U256::MAX),
        (U256::from(3_000), U256::ZERO),
        (U256::from(10_000), U256::MAX),
    ];
    let mut actions = Vec::new();
    for to in world.tokens() {
        for (account, (amount, value)) in world.accounts().zip(means) {
            actions.push(call(account, to, IDevToken::mintCall { to: account, amount }));
            actions.push(call(
                account,
                to,
                IDevToken::approveCall {
                    spender: world.escrow,
                    value,
                },
            ));
        }
    }
    actions
}

fn call(caller: Address, to: Address, call: impl Into<Call>) -> Action {
    Action::Call {
        caller,
        to,
        call: Box::new(call.into()),
    }
}
