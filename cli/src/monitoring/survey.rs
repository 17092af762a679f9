//! Facts of the ledger and the chain, gathered beside the scrapes: however often somebody scrapes, the store is asked
//! as often as this says.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use alloy::primitives::{Address, U256};
use lloom_ledger::{Held, HeldTotals, Ledger, LedgerError, SurveyedChannel};
use lloom_receipts::{TokenAmount, UnixSeconds};
use lloom_watcher::{Chain as _, RpcChain};
use std::collections::BTreeMap;

use super::payers::{Payer, PayerBook};

/// The shortest time between two surveys.
const SURVEY_EVERY: Duration = Duration::from_secs(10);
/// The next survey waits this many times as long as the last took: surveys take at most a twentieth of one reader.
const PAUSE_PER_WORK: u32 = 20;
/// How often the key's coins and the price of gas are looked at.
const GAS_EVERY: Duration = Duration::from_secs(60);
/// Payers that are named. The label space of their metrics has no more.
pub const NAMED_PAYERS: usize = 10;

/// What the newest survey found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// When it was made; `None` before the first.
    pub at: Option<UnixSeconds>,
    /// How long it took.
    pub took: Duration,
    /// The money, by token.
    pub tokens: BTreeMap<Address, Sums>,
    /// Channels that are open, closing and closed.
    pub channels: [(&'static str, u64); 3],
    /// What is held for others.
    pub held: HeldTotals,
    /// The payers that owe the most, with their tokens.
    pub payers: Vec<((Address, Address), Payer)>,
    /// How many payers have something that could be claimed.
    pub owing_payers: usize,
    /// How long the payer that waits longest has had something claimable of which nothing was claimed.
    pub longest_wait: Duration,
    /// What could be claimed and no tower that was heard lately has promised to claim, base units of this network's token; `None` where none is
    /// configured.
    pub uncovered: Option<TokenAmount>,
    /// What the key has, and what one gas costs, wei.
    pub gas: Option<Gas>,
}

/// Money in one token, base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Could be claimed now, in channels whose payers have asked for the rest: lost if no claim is mined in time. A tower's
    /// are those that it promised to claim.
    pub at_risk: TokenAmount,
    /// Could be claimed now.
    pub unclaimed: TokenAmount,
    /// Served, or reserved to be served, without an authorization.
    pub exposure: TokenAmount,
    /// All bills there ever were.
    pub billed: TokenAmount,
    /// All the chain ever paid.
    pub settled: TokenAmount,
}

/// What claiming is paid from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gas {
    /// The key's coins, wei.
    pub balance: U256,
    /// What one gas costs, wei.
    pub price: u128,
}

/// What towers are to defend.
#[derive(Clone, Copy, Debug)]
pub struct Defended {
    /// Who is paid.
    pub payee: Address,
    /// In which token.
    pub token: Address,
}

/// The newest survey, for whoever wants to see it.
#[derive(Clone, Debug, Default)]
pub struct Newest(Arc<RwLock<Survey>>);

impl Newest {
    /// A copy.
    pub fn get(&self) -> Survey {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, survey: Survey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = survey;
    }
}

/// Surveys until it is dropped.
pub async fn run(ledger: Ledger, chain: RpcChain, operator: Address, defended: Option<Defended>, newest: Newest) {
    let mut book = PayerBook::default();
    let mut gas = None;
    let mut gas_at: Option<Instant> = None;
    loop {
        if gas_at.is_none_or(|at| at.elapsed() >= GAS_EVERY) {
            gas = look_at_gas(&chain, operator).await.or(gas);
            gas_at = Some(Instant::now());
        }
        let took = match survey(&ledger, &mut book, defended).await {
            Ok(survey) => {
                let took = survey.took;
                newest.set(Survey { gas, ..survey });
                took
            }
            // A store that was closed ends the process; another failure may pass.
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the channels can't be surveyed"
                );
                Duration::ZERO
            }
        };
        tokio::time::sleep(pause_after(took)).await;
    }
}

/// How long the store is left alone after a survey that took so long.
fn pause_after(took: Duration) -> Duration {
    SURVEY_EVERY.max(took.saturating_mul(PAUSE_PER_WORK))
}

async fn survey(ledger: &Ledger, book: &mut PayerBook, defended: Option<Defended>) -> Result<Survey, LedgerError> {
    let began = Instant::now();
    let mut survey = Survey::default();
    book.begin();
    let surveyed = ledger.survey_each(|channel| {
        survey.count(&channel);
        book.add(&channel);
    });
    surveyed.await?;
    let now = UnixSeconds::from(SystemTime::now());
    book.conclude(now);
    survey.defend(&ledger.held_closing().await?);
    survey.held = ledger.held_totals().await?;
    survey.at = Some(now);
    survey.payers = book.largest(NAMED_PAYERS);
    survey.owing_payers = book.owing();
    survey.longest_wait = book.longest_wait(now);
    if let Some(Defended { payee, token }) = defended {
        survey.uncovered = Some(ledger.value_at_risk(payee, token, now).await?.uncovered());
    }
    survey.took = began.elapsed();
    Ok(survey)
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            at: None,
            took: Duration::ZERO,
            tokens: BTreeMap::new(),
            channels: [("open", 0), ("closing", 0), ("closed", 0)],
            held: HeldTotals::default(),
            payers: Vec::new(),
            owing_payers: 0,
            longest_wait: Duration::ZERO,
            uncovered: None,
            gas: None,
        }
    }
}

impl Survey {
    /// Adds a channel.
    fn count(&mut self, channel: &SurveyedChannel) {
        let sums = self.tokens.entry(channel.token).or_default();
        sums.unclaimed = sums.unclaimed.saturating_add(channel.unclaimed());
        sums.exposure = sums.exposure.saturating_add(channel.exposure());
        sums.billed = sums.billed.saturating_add(channel.billed);
        sums.settled = sums.settled.saturating_add(channel.settled);
        let [(_, open), (_, closing), (_, closed)] = &mut self.channels;
        if channel.finalized {
            *closed += 1;
        } else if channel.close_requested_at.is_some() {
            *closing += 1;
            sums.at_risk = sums.at_risk.saturating_add(channel.unclaimed());
        } else {
            *open += 1;
        }
    }

    /// Adds what has to be defended for others. What is below the promised minimum is left to the executor.
    fn defend(&mut self, closing: &[Held]) {
        for Held { claimable, terms } in closing {
            let value = claimable.unclaimed();
            if value >= terms.minimum_value {
                let sums = self.tokens.entry(claimable.channel.parameters.token).or_default();
                sums.at_risk = sums.at_risk.saturating_add(value);
            }
        }
    }
}

async fn look_at_gas(chain: &RpcChain, operator: Address) -> Option<Gas> {
    let balance = chain.native_balance(operator).await.ok()?;
    let price = chain.fees().await.ok()?.gas_price();
    Some(Gas { balance, price })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use lloom_ledger::{ChannelRecord, ChannelState, Claimable, HeldTerms};
    use lloom_receipts::{ChannelId, ChannelParameters, Domain, Keypair, Voucher};

    use super::*;

    #[test]
    fn surveys_leave_the_store_alone_for_most_of_the_time() {
        assert_eq!(pause_after(Duration::from_millis(3)), SURVEY_EVERY);
        assert_eq!(pause_after(Duration::from_secs(2)), Duration::from_secs(40));
    }

    #[test]
    fn only_what_could_be_lost_with_a_deadline_is_at_risk() {
        let amount = TokenAmount::new;
        let open = SurveyedChannel {
            id: ChannelId::new(B256::ZERO),
            payer: Address::repeat_byte(1),
            payee: Address::ZERO,
            token: Address::ZERO,
            authorized: amount(90),
            spent: amount(120),
            billed: amount(100),
            settled: amount(40),
            close_requested_at: None,
            finalized: false,
        };
        let closing = SurveyedChannel {
            close_requested_at: Some(UnixSeconds::new(1)),
            ..open
        };
        let closed = SurveyedChannel {
            finalized: true,
            ..closing
        };
        let mut survey = Survey::default();
        [open, closing, closed].iter().for_each(|channel| survey.count(channel));
        assert_eq!(survey.channels, [("open", 1), ("closing", 1), ("closed", 1)]);
        let expected = Sums {
            at_risk: amount(50),
            unclaimed: amount(100),
            exposure: amount(60),
            billed: amount(300),
            settled: amount(120),
        };
        assert_eq!(survey.tokens[&Address::ZERO], expected);
    }

    #[test]
    fn what_a_tower_has_promised_to_claim_is_at_risk_until_it_is_settled() {
        let amount = TokenAmount::new;
        let token = Address::repeat_byte(4);
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let domain = Domain::new(1, Address::repeat_byte(1), Address::repeat_byte(2));
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: Address::repeat_byte(3),
            token,
            salt: B256::ZERO,
            authorized_signer: Address::ZERO,
        };
        let channel = parameters.id(&domain);
        let held = |settled: u128| Held {
            terms: HeldTerms {
                minimum_value: amount(30),
                max_fee_per_gas: 1,
            },
            claimable: Claimable {
                channel: ChannelRecord {
                    id: channel,
                    parameters,
                    opened_in: None,
                    refunds_to_balance: true,
                    confirmed: None,
                    latest: Some(ChannelState {
                        deposit: amount(1_000),
                        settled: amount(settled),
                        close_requested_at: Some(UnixSeconds::new(1)),
                        finalized: false,
                    }),
                    operator: None,
                    client_random: None,
                },
                billed: amount(80),
                voucher: Some(payer.sign(
                    &domain,
                    Voucher {
                        channel,
                        amount: amount(100),
                    },
                )),
                receipt: None,
                linked: amount(0),
            },
        };
        for (settled, at_risk) in [(20, 60), (50, 30), (51, 0), (80, 0)] {
            let mut survey = Survey::default();
            survey.defend(&[held(settled)]);
            let found = survey.tokens.get(&token).map_or(amount(0), |sums| sums.at_risk);
            assert_eq!(found, amount(at_risk), "{settled} of 80 are settled");
        }
    }
}
