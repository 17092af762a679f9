//! Gathers the evidence, from the chain and from everybody's stores.

use std::collections::BTreeMap;

use alloy::{primitives::Address, sol_types::SolCall as _};
use lloom_bindings::{ChannelEscrow, DevToken};
use lloom_ledger::{ChannelFilter, Ledger, LedgerError, Obligation, TransactionRecord};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    chain::TOKENS,
    evidence::{
        ChannelEvidence, ClientEvidence, CloseRequest, Evidence, LossEvidence, PayeeEvidence, PayerEvidence,
        StoreEvidence,
    },
    process::Process,
    properties::Property,
    simulation::{GRACE, PEACE, Simulation},
};

/// More transactions than any simulation makes.
const ALL: u32 = 1_000_000;

/// What a store says of itself.
struct Told {
    cursor: Option<lloom_ledger::Block>,
    channels: Vec<lloom_ledger::ChannelRecord>,
    transactions: Vec<TransactionRecord>,
    obligations: Vec<Obligation>,
    claimable: BTreeMap<ChannelId, TokenAmount>,
}

async fn tell(ledger: Ledger) -> Result<Told, LedgerError> {
    let channels = ledger.channels(ChannelFilter::default()).await?;
    let mut obligations = Vec::new();
    let mut claimable = BTreeMap::new();
    for channel in &channels {
        obligations.extend(ledger.obligations_of(channel.id).await?);
        if let Some(known) = ledger.claimable_channel(channel.id).await? {
            claimable.insert(channel.id, known.amount());
        }
    }
    Ok(Told {
        cursor: ledger.cursor().await?,
        transactions: ledger.transactions(ALL).await?,
        channels,
        obligations,
        claimable,
    })
}

impl Simulation {
    /// Notes what the executors of channels whose end is near hold, once for each.
    pub(crate) fn note_held(&mut self) {
        let now = self.millis();
        for index in 0..self.channels.len() {
            let channel = &self.channels[index];
            let (id, seller) = (channel.id, channel.seller);
            let Some(claim_by) = channel.claim_by.filter(|_| channel.over_since.is_none()) else {
                continue;
            };
            if seller >= self.sellers.len() {
                continue;
            }
            let is_near = now + PEACE >= claim_by;
            // Too late a look would see what there is no time to claim.
            let is_late = now + PEACE * 3 / 4 >= claim_by;
            if !is_near || is_late || channel.sampled_for == Some(claim_by) {
                continue;
            }
            let held = self.sellers[seller].process.ask(move |ledger| async move {
                let claimable = ledger.claimable_channel(id).await?;
                Ok::<_, LedgerError>(claimable.map_or(TokenAmount::ZERO, |claimable| claimable.amount()))
            });
            if let Some(Ok(held)) = held {
                self.world
                    .lock()
                    .note("holds", format_args!("executor{seller} {held} on {id}"));
                let channel = &mut self.channels[index];
                channel.held.push((now, held));
                channel.sampled_for = Some(claim_by);
            }
        }
    }

    /// Takes note of the transactions that an executor has on record, whose store a backup is about to replace. Says whether
    /// it could be asked.
    pub(crate) fn note_transactions(&mut self, seller: usize) -> bool {
        let process = &mut self.sellers[seller].process;
        let told = process.ask(|ledger| async move { ledger.transactions(ALL).await });
        let Some(Ok(transactions)) = told else {
            return false;
        };
        let hashes = transactions.iter().map(|record| record.hash);
        process.replaced.push(hashes.collect());
        true
    }

    /// Takes note of the bills that an executor has made and shown to nobody yet: those of clients that left.
    pub(crate) fn note_bills(&mut self, seller: usize) {
        let bills = self.sellers[seller].process.ask(|ledger| async move {
            let mut bills = Vec::new();
            for channel in ledger.channels(ChannelFilter::default()).await? {
                bills.extend(ledger.unlinked_bills(channel.id).await?);
            }
            Ok::<_, LedgerError>(bills)
        });
        let mut world = self.world.lock();
        for bill in bills.into_iter().flatten().flatten() {
            world.witness.see_bill(*bill.bill());
        }
    }

    /// What is known at the end.
    pub(crate) fn gather(&mut self) -> Evidence {
        for seller in 0..self.sellers.len() {
            self.note_bills(seller);
        }
        let mut evidence = Evidence {
            channels: self.gather_channels(),
            ..Evidence::default()
        };
        for seller in 0..self.sellers.len() {
            evidence.payees.push(self.gather_payee(seller, &evidence.channels));
        }
        for (buyer, setup) in self.payers().enumerate() {
            evidence.payers.push(self.gather_payer(buyer, setup.payer));
        }
        for seller in 0..self.sellers.len() {
            let told = self.sellers[seller].process.ask(tell);
            let process = &self.sellers[seller].process;
            let name = process.name().to_owned();
            let account = self.sellers[seller].setup.operator.address();
            let payee = Some(self.payee(seller));
            match told {
                Some(Ok(told)) => evidence.stores.push(self.gather_store(process, account, payee, told)),
                Some(Err(error)) => self.violate(Property::Life, format!("{name} can't be asked: {error}")),
                None => self.violate(Property::Life, format!("{name} does not live in the end")),
            }
        }
        for buyer in 0..self.buyers.len() {
            let told = self.buyers[buyer].process.ask(tell);
            let process = &self.buyers[buyer].process;
            let name = process.name().to_owned();
            let account = self.buyers[buyer].setup.signer.address();
            match told {
                Some(Ok(told)) => evidence.stores.push(self.gather_store(process, account, None, told)),
                Some(Err(error)) => self.violate(Property::Life, format!("{name} can't be asked: {error}")),
                None => self.violate(Property::Life, format!("{name} does not live in the end")),
            }
            let client = self.gather_client(buyer);
            evidence.clients.push(client);
        }
        let mut world = self.world.lock();
        evidence.requests = world.witness.requests.clone();
        evidence.signed = world.chain.signed.clone();
        let opened = world.chain.succeeded(ChannelEscrow::openWithGrantCall::SELECTOR);
        let topped_up = world.chain.succeeded(ChannelEscrow::topUpWithGrantCall::SELECTOR);
        world.witness.counts.grants = (opened + topped_up) as u64;
        evidence.overserved = world.witness.violations.clone();
        evidence.oversigned = world.dealings.violations.clone();
        drop(world);
        evidence.losses = self.gather_losses();
        evidence
    }

    fn gather_losses(&self) -> Vec<LossEvidence> {
        let honest = self.channels.iter().filter(|channel| channel.buyer < self.buyers.len());
        let mut losses = Vec::new();
        for channel in honest {
            if let Some(on_chain) = self.state_of(channel.id) {
                losses.push(LossEvidence {
                    channel: channel.id,
                    settled: on_chain.settled,
                    received: self.world.lock().dealings.ceiling(channel.id),
                });
            }
        }
        losses
    }

    fn gather_channels(&mut self) -> Vec<ChannelEvidence> {
        let mut channels = Vec::new();
        for channel in self.channels.clone() {
            if channel.seller >= self.sellers.len() {
                continue;
            }
            // A payer without the money opens nothing.
            let Some(on_chain) = self.state_of(channel.id) else {
                continue;
            };
            let over = channel.over_since.unwrap_or(u64::MAX);
            let in_time = over.saturating_sub(PEACE);
            let held = channel
                .held
                .iter()
                .filter(|(at, _)| *at <= in_time.saturating_add(PEACE / 2));
            let held = held.map(|(_, amount)| *amount).max();
            let world = self.world.lock();
            let seen = world.witness.channels.get(&channel.id);
            let recorded = seen.into_iter().flat_map(|seen| &seen.recorded);
            let recorded = recorded
                .filter(|(at, _)| *at <= in_time)
                .map(|(_, amount)| *amount)
                .max();
            let requests = world.witness.requests.values();
            let bills = requests.filter(|seen| seen.request.channel == channel.id);
            let billed = bills
                .filter_map(|seen| seen.bills.values().map(|bill| bill.amount).max())
                .fold(TokenAmount::ZERO, TokenAmount::saturating_add);
            channels.push(ChannelEvidence {
                id: channel.id,
                on_chain,
                due: held.max(recorded).unwrap_or(TokenAmount::ZERO),
                billed,
            });
        }
        channels
    }

    fn gather_payer(&self, buyer: usize, payer: Address) -> PayerEvidence {
        let ours = self.channels.iter().filter(|channel| channel.buyer == buyer);
        let spent = ours
            .filter_map(|channel| self.state_of(channel.id))
            .fold(TokenAmount::ZERO, |sum, state| {
                sum.saturating_add(if state.finalized { state.settled } else { state.deposit })
            });
        PayerEvidence {
            payer,
            lost: TokenAmount::new(TOKENS).saturating_sub(self.holdings(payer)),
            spent,
        }
    }

    /// What an account has, in its wallet and inside the escrow, base units.
    fn holdings(&self, account: Address) -> TokenAmount {
        let world = self.world.lock();
        let wallet = world
            .chain
            .read(self.genesis.token, &DevToken::balanceOfCall { account });
        let inside = ChannelEscrow::balanceOfCall {
            account,
            token: self.genesis.token,
        };
        let inside = world.chain.read(self.genesis.contracts.escrow, &inside);
        TokenAmount::new((wallet + inside).saturating_to())
    }

    fn gather_payee(&self, seller: usize, channels: &[ChannelEvidence]) -> PayeeEvidence {
        let payee = self.payee(seller);
        let ours = |id: &ChannelId| {
            let known = self.channels.iter().find(|known| known.id == *id);
            known.is_some_and(|known| known.seller == seller)
        };
        let settled = channels.iter().filter(|channel| ours(&channel.id));
        PayeeEvidence {
            payee,
            received: self.holdings(payee),
            settled: settled.fold(TokenAmount::ZERO, |sum, channel| {
                sum.saturating_add(channel.on_chain.settled)
            }),
        }
    }

    fn gather_store(&self, process: &Process, account: Address, payee: Option<Address>, told: Told) -> StoreEvidence {
        let mut channels = Vec::new();
        for record in told.channels {
            // One that was recorded, and never opened.
            if let Some(on_chain) = self.state_of(record.id) {
                channels.push((record.id, record.latest, on_chain));
            }
        }
        let world = self.world.lock();
        let mut mined = Vec::new();
        let mut close_requests: Vec<CloseRequest> = Vec::new();
        for block in world.chain.canonical() {
            for included in block.transactions.iter().filter(|included| included.sender == account) {
                if let Some(nonce) = world.chain.nonce_of(included.hash) {
                    mined.push((included.hash, nonce, included.executed.succeeded));
                }
            }
            for log in &block.logs {
                if let Ok(asked) = log.log_decode::<ChannelEscrow::CloseRequested>() {
                    close_requests.push(CloseRequest {
                        channel: ChannelId::new(asked.inner.channelId),
                        requested_at: UnixSeconds::new(asked.inner.requestedAt),
                        called_off: false,
                    });
                }
                if let Ok(topped_up) = log.log_decode::<ChannelEscrow::ChannelToppedUp>() {
                    let channel = ChannelId::new(topped_up.inner.channelId);
                    let mut before = close_requests.iter_mut().rev();
                    if let Some(request) = before.find(|request| request.channel == channel) {
                        request.called_off |= topped_up.inner.closeCancelled;
                    }
                }
            }
        }
        let ours = |id: &ChannelId| {
            let known = self.channels.iter().find(|known| known.id == *id);
            known.is_some_and(|known| Some(known.parameters.payee) == payee)
        };
        close_requests.retain(|request| ours(&request.channel));
        StoreEvidence {
            name: process.name().to_owned(),
            account,
            restored: process.restored,
            replaced: process.replaced.clone(),
            cursor: told.cursor,
            head: world.chain.head().header,
            channels,
            transactions: told.transactions,
            mined,
            obligations: told.obligations,
            close_requests,
            claimable: told.claimable,
        }
    }

    fn gather_client(&mut self, buyer: usize) -> ClientEvidence {
        let world = self.world.lock();
        let mut signed: BTreeMap<usize, TokenAmount> = BTreeMap::new();
        let mut dearest = TokenAmount::ZERO;
        for channel in self.channels.iter().filter(|channel| channel.buyer == buyer) {
            let to_one = signed.entry(channel.seller).or_default();
            *to_one = to_one.saturating_add(world.dealings.signed(channel.id));
            dearest = world.dealings.maxima(channel.id).fold(dearest, TokenAmount::max);
        }
        drop(world);
        let budget = self.buyers[buyer].setup.config.budget;
        let process = &self.buyers[buyer].process;
        ClientEvidence {
            name: process.name().to_owned(),
            restored: process.restored,
            per_day: budget.per_day,
            per_executor_per_day: budget.per_executor_per_day,
            signed: signed.into_values().collect(),
            dearest,
            per_request: budget.per_request,
        }
    }
}

const _: () = assert!(GRACE > PEACE);
