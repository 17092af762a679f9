use std::collections::BTreeSet;

use alloy::primitives::{B256, Bytes, U256};
use lloom_bindings::channel_escrow::IChannelEscrow;
use lloom_receipts::{ChannelParameters, Keypair, Voucher};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::*;
use crate::{chain::Revert, scripted_chain::ScriptedChain};

const PAYEE: Address = Address::repeat_byte(0xee);
const TOKEN: Address = Address::repeat_byte(0x70);
const OPERATOR: Address = Address::repeat_byte(0x0b);
const ROWS: usize = 13;
/// Where everything has to be asked.
const AT: StateAt = StateAt::Block(B256::repeat_byte(0xb1));

/// What a bad row does to a call that it is in.
#[derive(Clone, Copy, Debug)]
enum Badness {
    /// All of it reverts.
    Reverts,
    /// It is passed over, and nothing is paid for it.
    Skipped,
}

/// What a chain says on which every row is a sound one by its state, and those of some payers are bad when they are called.
struct ScriptedCall {
    payers: Vec<Address>,
    bad: BTreeSet<Address>,
    badness: Badness,
}

impl ScriptedCall {
    fn answer(&self, call: &Call) -> CallOutcome<Bytes> {
        match ChannelEscrow::claimVouchersCall::abi_decode(&call.data) {
            Ok(claim) => self.claim(&claim.rows),
            Err(_) => CallOutcome::Returned(self.states()),
        }
    }

    fn claim(&self, rows: &[IChannelEscrow::VoucherRow]) -> CallOutcome<Bytes> {
        let is_bad = |row: &IChannelEscrow::VoucherRow| self.bad.contains(&row.payer);
        if matches!(self.badness, Badness::Reverts) && rows.iter().any(is_bad) {
            return CallOutcome::Reverted(Revert {
                message: String::from("a row of it can't be settled"),
                data: Bytes::new(),
            });
        }
        let paid: U256 = rows
            .iter()
            .filter(|row| !is_bad(row))
            .map(|row| row.amounts & U256::from(u128::MAX))
            .sum();
        CallOutcome::Returned(ChannelEscrow::claimVouchersCall::abi_encode_returns(&paid).into())
    }

    fn states(&self) -> Bytes {
        let state = |&payer: &Address| IChannelEscrow::Channel {
            payer,
            payee: PAYEE,
            token: TOKEN,
            authorizedSigner: Address::ZERO,
            deposit: u128::MAX,
            settled: 0,
            closeRequestedAt: 0,
            finalized: false,
            refundsToBalance: false,
        };
        let states: Vec<_> = self.payers.iter().map(state).collect();
        ChannelEscrow::getChannelsBatchCall::abi_encode_returns(&states).into()
    }
}

fn rows(draws: &mut StdRng) -> Vec<VoucherRow> {
    let domain = domain();
    let key = Keypair::from_secret([5; 32]).unwrap();
    (0..ROWS as u8)
        .map(|number| {
            let parameters = ChannelParameters {
                payer: Address::repeat_byte(0xa0 + number),
                payee: PAYEE,
                token: TOKEN,
                salt: B256::repeat_byte(number),
                authorized_signer: key.address(),
            };
            let amount = TokenAmount::new(draws.random_range(1..1_000));
            let voucher = Voucher {
                channel: parameters.id(&domain),
                amount,
            };
            VoucherRow {
                parameters,
                voucher: key.sign(&domain, voucher),
                amount,
            }
        })
        .collect()
}

fn domain() -> Domain {
    Domain::new(31_337, Address::repeat_byte(1), Address::repeat_byte(2))
}

/// The calls that halving takes at most: one for all, and on the way down to each bad row two for each halving; never more
/// than a tree over the rows has parts.
fn most_calls(bad: usize) -> usize {
    let halvings = ROWS.next_power_of_two().ilog2() as usize;
    (1 + 2 * bad * halvings).min(2 * ROWS - 1)
}

#[tokio::test]
async fn bad_rows_are_found_by_halving_wherever_they_are_and_no_other_is_refused() {
    let mut draws = StdRng::seed_from_u64(13);
    for (badness, reason) in [
        (Badness::Reverts, "a row of it can't be settled"),
        (Badness::Skipped, "the voucher would be skipped"),
    ] {
        for count in [0, 1, 2, 3, ROWS].into_iter().flat_map(|count| [count; 12]) {
            let rows = rows(&mut draws);
            let mut places: Vec<usize> = (0..ROWS).collect();
            places.shuffle(&mut draws);
            let bad: BTreeSet<usize> = places.into_iter().take(count).collect();
            let case = format!("{badness:?} at {bad:?}");
            let script = ScriptedCall {
                payers: rows.iter().map(|row| row.parameters.payer).collect(),
                bad: bad.iter().map(|&place| rows[place].parameters.payer).collect(),
                badness,
            };
            let chain = ScriptedChain::with_blocks(1);
            chain.answer_calls(move |call| script.answer(call));
            let batch = Batch {
                payee: PAYEE,
                token: TOKEN,
                rows: Rows::Vouchers(rows),
            };
            let (sunk, kept): (Vec<_>, Vec<_>) = batch
                .targets(&domain())
                .into_iter()
                .enumerate()
                .partition(|(place, _)| bad.contains(place));

            let simulated = batch.simulate(&chain, &domain(), OPERATOR, AT).await.unwrap();
            let mut refused = simulated.refused;
            refused.sort_by_key(|row| row.channel);
            let mut expected: Vec<RowRefused> = sunk
                .into_iter()
                .map(|(_, (channel, _))| RowRefused {
                    channel,
                    reason: reason.to_owned(),
                })
                .collect();
            expected.sort_by_key(|row| row.channel);
            assert_eq!(refused, expected, "{case}");
            let good = simulated.good.map_or_else(Vec::new, |good| good.targets(&domain()));
            let kept: Vec<_> = kept.into_iter().map(|(_, target)| target).collect();
            assert_eq!(good, kept, "{case}");
            let asked = chain.called_at();
            assert!(asked.iter().all(|at| *at == AT), "{case}: two states can't be compared");
            // The first reads the channels' states.
            let calls = asked.len() - 1;
            let most = most_calls(count);
            assert!(calls <= most, "{case}: {calls} calls, and {most} are enough");
        }
    }
}
