//! Carries an executor's newest vouchers to its towers.
//!
//! The ledger is the queue: what a tower lacks is what is billed there and not acknowledged by it. So only what is
//! durable is handed over, of each channel only the newest, nothing is lost when a tower or this process is away, and
//! serving waits for none of it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use alloy::primitives::Address;
use libp2p::{Multiaddr, multiaddr::Protocol};
use lloom_ledger::{Ledger, LedgerError, StandingRefusal, Undelegated};
use lloom_receipts::{ChannelId, Domain, Signed, TokenAmount, TowerAppointment, UnixSeconds, Verified, Verifier};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    message::{
        DelegationMessage, Deployment, MAX_DELEGATIONS, MAX_HELD_CLAIMS, TowerAnswer, TowerProfile, TowerQuestion,
        TowerRefusal,
    },
    statement::{TowerFault, check_answers},
};
use crate::{NetworkError, NetworkHandle, peer_address};

/// How often it is looked at whether something is urgent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the store is looked through for other payees: nothing new is earned for them.
const OTHERS_EVERY: Duration = Duration::from_secs(60);
/// How long a delegation that a tower refused is not offered again, unless there is more to claim.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// Refused delegations that are remembered; beyond, all are forgotten and offered again.
const MAX_REFUSED: usize = 65_536;
/// Answers to one question what a tower holds: more is nobody's.
const MAX_STATUS_PAGES: usize = 1_024;
/// Own appointments that are compared with what a tower holds.
const MAX_COMPARED: u32 = 1_048_576;
/// The longest wait for a tower that has heard too much.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which towers, and how often.
#[derive(Clone, Debug)]
pub struct CourierConfig {
    /// Where the towers are; each address ends in the tower's peer id.
    pub towers: Vec<Multiaddr>,
    /// Whose channels are defended, and what may be urgent of theirs. Those of other payees that the store serves, and that name
    /// the same operator, are handed over beside them.
    pub payee: Address,
    /// The token whose growth is urgent.
    pub token: Address,
    /// How long to gather what is new.
    pub interval: Duration,
    /// By how much the value that no tower covers may grow within the interval, base units; nothing is urgent where it
    /// is zero.
    pub urgent_value: TokenAmount,
    /// How long a tower that has nothing to be told is left alone before it is asked whether it is still there. Far less
    /// than [`TOWER_SILENCE`](lloom_ledger::TOWER_SILENCE), after which it would cover nothing.
    pub ask_every: Duration,
    /// How long to wait for a tower that is away: the first time, and at most.
    pub retry: (Duration, Duration),
}

/// Hands what an executor earned to its towers, until it is told to stop.
#[derive(Clone, Debug)]
pub struct Courier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: CourierConfig,
    network: NetworkHandle,
    ledger: Ledger,
    domain: Domain,
    verifier: Verifier,
}

impl Courier {
    /// A courier for the operator whose key `network` runs with.
    pub fn new(config: CourierConfig, network: NetworkHandle, ledger: Ledger, domain: Domain) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                network,
                ledger,
                domain,
                verifier: Verifier::default(),
            }),
        }
    }

    /// Works until `cancel` is cancelled. Each tower is spoken to by a task of its own, so none waits for another.
    pub async fn run(self, cancel: CancellationToken) {
        let mut towers = JoinSet::new();
        for address in &self.shared.config.towers {
            let Some(tower) = tower_at(address) else {
                tracing::error!(%address, "a tower's address has to end in its peer id");
                continue;
            };
            let rounds = Rounds {
                shared: Arc::clone(&self.shared),
                address: address.clone(),
                tower,
                refused: HashMap::new(),
                others: Vec::new(),
                looked_at: None,
            };
            let span = tracing::info_span!("tower", %tower);
            towers.spawn(rounds.work().instrument(span));
        }
        let stopped = async {
            while let Some(ended) = towers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "the courier of a tower crashed; the others go on");
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = stopped => {}
        }
    }
}

/// The address of the tower at `address`, which its peer id holds.
pub(crate) fn tower_at(address: &Multiaddr) -> Option<Address> {
    match address.iter().last()? {
        Protocol::P2p(peer) => peer_address(&peer),
        _ => None,
    }
}

/// Why a tower can't be used now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Refused(TowerRefusal),
    #[error("it answered something else than it was asked")]
    OtherAnswer,
    #[error("it works for the escrow {} on the chain {}", deployment.escrow, deployment.chain_id)]
    OtherDeployment { deployment: Deployment },
    #[error("it said what is not true: {0}")]
    Fault(TowerFault),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is done with one tower.
struct Rounds {
    shared: Arc<Shared>,
    address: Multiaddr,
    tower: Address,
    /// What it refused: over how much, and until when that is left alone.
    refused: HashMap<ChannelId, (TokenAmount, UnixSeconds)>,
    /// For whom else this node speaks, and when that was looked up.
    others: Vec<Address>,
    looked_at: Option<Instant>,
}

impl Rounds {
    async fn work(mut self) {
        let (first, longest) = self.shared.config.retry;
        let mut wait = first;
        loop {
            let began = Instant::now();
            let Err(trouble) = self.session().await;
            // A tower that was there for a while is not the one that never answers.
            if began.elapsed() > longest {
                wait = first;
            }
            if let Err(error) = self.note(&trouble).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
            }
            sleep(wait).await;
            wait = wait.saturating_mul(2).min(longest);
        }
    }

    async fn note(&self, trouble: &Trouble) -> Result<(), LedgerError> {
        let text = one_line(trouble);
        tracing::warn!(problem = text, "a tower can't be used; trying again");
        let ledger = &self.shared.ledger;
        match trouble {
            // Terms may change while nobody looks; whoever asks again learns them.
            Trouble::Fault(fault) if !matches!(fault, TowerFault::OtherTerms { .. }) => {
                ledger.record_tower_fault(self.tower, fault.to_string(), now()).await?;
            }
            _ => {}
        }
        ledger.record_tower_problem(self.tower, text).await.map(drop)
    }

    /// Speaks to the tower until something goes wrong.
    async fn session(&mut self) -> Result<std::convert::Infallible, Trouble> {
        let mut profile = self.ask_terms().await?;
        let mut suspects = self.compare(&profile).await?;
        let mut asked_at = Instant::now();
        loop {
            if self.pass(&profile, &mut suspects).await? {
                asked_at = Instant::now();
            }
            self.wait(&mut profile, &mut asked_at).await?;
        }
    }

    async fn ask_terms(&self) -> Result<TowerProfile, Trouble> {
        let TowerAnswer::Terms(profile) = self.ask(TowerQuestion::Terms).await? else {
            return Err(Trouble::OtherAnswer);
        };
        if profile.tower != self.tower {
            return Err(Trouble::Fault(TowerFault::OtherName { named: profile.tower }));
        }
        if profile.deployment != self.deployment() {
            return Err(Trouble::OtherDeployment {
                deployment: profile.deployment,
            });
        }
        self.heard(Vec::new()).await?;
        Ok(*profile)
    }

    /// Compares what the tower holds with what it has signed for this operator. What it lacks is handed over again; gives
    /// those of these channels that no other node can have taken over, and what was promised of each.
    ///
    /// A tower answers each operator for its own. What it has signed for another one, whose node shares this store or whose
    /// key this home had, can't be found missing here.
    async fn compare(&self, profile: &TowerProfile) -> Result<HashMap<ChannelId, TokenAmount>, Trouble> {
        let ledger = &self.shared.ledger;
        let operator = self.shared.network.address();
        let now = now();
        let signed = ledger.appointments(self.tower, None, MAX_COMPARED).await?;
        let mut missing: HashMap<ChannelId, TowerAppointment> = signed
            .iter()
            .filter(|record| record.lost_at.is_none())
            .map(|record| *record.appointment.document())
            .filter(|appointment| appointment.operator == operator && appointment.expires_at > now)
            .map(|appointment| (appointment.channel, appointment))
            .collect();
        let mut after = None;
        for _ in 0..MAX_STATUS_PAGES {
            if missing.is_empty() {
                break;
            }
            let deployment = self.deployment();
            let TowerAnswer::Status { held, more } = self.ask(TowerQuestion::Status { deployment, after }).await?
            else {
                return Err(Trouble::OtherAnswer);
            };
            let ascends = held.iter().map(|held| held.channel).is_sorted() && held.len() <= MAX_HELD_CLAIMS;
            let goes_on = held.first().is_none_or(|first| Some(first.channel) > after);
            if !ascends || !goes_on {
                return Err(Trouble::OtherAnswer);
            }
            for held in &held {
                if missing
                    .get(&held.channel)
                    .is_some_and(|signed| held.claim >= signed.claim)
                {
                    missing.remove(&held.channel);
                }
            }
            match held.last() {
                Some(last) if more => after = Some(last.channel),
                _ => break,
            }
        }
        if !missing.is_empty() {
            // It may have seen a claim first that this side has not heard of: it is accused only if it takes them anew.
            let channels = missing.keys().copied().collect();
            ledger
                .mark_appointments_lost(self.tower, operator, channels, now)
                .await?;
        }
        // Another node may have renewed what is due, over the same amount, and died before it kept the answer.
        let renew_before = renew_before(profile, now);
        missing.retain(|_, signed| signed.expires_at >= renew_before);
        let suspects = missing.into_iter().map(|(channel, signed)| (channel, signed.claim));
        Ok(suspects.collect())
    }

    /// Hands over everything the tower lacks. Says whether it was asked anything.
    async fn pass(
        &mut self,
        profile: &TowerProfile,
        suspects: &mut HashMap<ChannelId, TokenAmount>,
    ) -> Result<bool, Trouble> {
        let mut asked = false;
        for payee in self.payees().await? {
            let mut after = None;
            loop {
                let now = now();
                let (ledger, limit) = (&self.shared.ledger, MAX_DELEGATIONS as u32);
                let mut page = ledger
                    .undelegated(self.tower, payee, renew_before(profile, now), after, limit)
                    .await?;
                let is_last = page.len() < MAX_DELEGATIONS;
                after = page.last().map(|found| found.channel.id);
                page.retain(|found| self.is_worth_asking(found, profile, now));
                if !page.is_empty() {
                    asked = true;
                    self.hand_over(page, profile, suspects).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(asked)
    }

    /// Whose channels are handed over: the configured payee's, and those of others that the store serves and that name this
    /// node's key, such as one that the home had before. A tower takes channels of those alone who name whoever brings them.
    async fn payees(&mut self) -> Result<Vec<Address>, LedgerError> {
        let own = self.shared.config.payee;
        if self.looked_at.is_none_or(|at| at.elapsed() >= OTHERS_EVERY) {
            let ledger = &self.shared.ledger;
            let operator = self.shared.network.address();
            let mut others = Vec::new();
            for payee in ledger.other_payees_served(own).await? {
                if payee == operator || ledger.operators(payee).await?.contains(&(operator, true)) {
                    others.push(payee);
                }
            }
            self.others = others;
            self.looked_at = Some(Instant::now());
        }
        Ok(std::iter::once(own).chain(self.others.iter().copied()).collect())
    }

    fn is_worth_asking(&self, found: &Undelegated, profile: &TowerProfile, now: UnixSeconds) -> bool {
        let claim = found.delegation.claim;
        let settled = found.channel.latest.map_or(TokenAmount::ZERO, |state| state.settled);
        let refused = self.refused.get(&found.channel.id);
        found.channel.parameters.token == profile.token
            && claim.saturating_sub(settled) >= profile.minimum_value
            && refused.is_none_or(|(refused, until)| claim > *refused || now >= *until)
    }

    async fn hand_over(
        &mut self,
        page: Vec<Undelegated>,
        profile: &TowerProfile,
        suspects: &mut HashMap<ChannelId, TokenAmount>,
    ) -> Result<(), Trouble> {
        let delegations = page.iter().map(|found| DelegationMessage {
            parameters: found.channel.parameters,
            voucher: found.delegation.voucher.clone().into_unverified(),
            claim: found.delegation.claim,
        });
        let question = TowerQuestion::Update {
            deployment: self.deployment(),
            delegations: delegations.collect(),
        };
        let TowerAnswer::Updated(answers) = self.ask(question).await? else {
            return Err(Trouble::OtherAnswer);
        };
        let Shared {
            network,
            domain,
            verifier,
            ..
        } = &*self.shared;
        let now = now();
        let statements =
            check_answers(&page, answers, profile, network.address(), domain, verifier, now).map_err(Trouble::Fault)?;
        let mut refusals = Vec::new();
        let mut appointments = Vec::new();
        let mut forgot = None;
        for (found, statement) in page.iter().zip(statements) {
            let channel = found.channel.id;
            match statement {
                Ok(appointment) => {
                    self.refused.remove(&channel);
                    let promised = suspects.remove(&channel);
                    if promised == Some(appointment.document().claim) {
                        forgot = Some(TowerFault::Forgot { channel });
                    }
                    appointments.push(appointment);
                }
                Err(refusal) => {
                    let claim = found.delegation.claim;
                    tracing::warn!(%channel, %claim, %refusal, "a tower does not take a channel on");
                    if self.refused.len() >= MAX_REFUSED {
                        self.refused.clear();
                    }
                    self.refused.insert(channel, (claim, now.plus(REFUSED_FOR)));
                    refusals.push(StandingRefusal {
                        channel,
                        claim,
                        reason: refusal.to_string(),
                        since: now,
                    });
                }
            }
        }
        self.heard(appointments).await?;
        let ledger = &self.shared.ledger;
        if !refusals.is_empty() {
            ledger.record_refusals(self.tower, refusals).await?;
        }
        if let Some(fault) = forgot {
            tracing::error!(%fault, "a tower broke its word; it was handed the channels again");
            ledger.record_tower_fault(self.tower, fault.to_string(), now).await?;
        }
        Ok(())
    }

    /// Waits for the interval to end, or for something urgent. A tower that is asked nothing meanwhile is asked whether it
    /// is still there: what it has promised counts for nothing otherwise.
    async fn wait(&self, profile: &mut TowerProfile, asked_at: &mut Instant) -> Result<(), Trouble> {
        let config = &self.shared.config;
        let began = Instant::now();
        let uncovered_before = self.uncovered().await?;
        while began.elapsed() < config.interval {
            if asked_at.elapsed() >= config.ask_every {
                *profile = self.ask_terms().await?;
                *asked_at = Instant::now();
            }
            sleep(LOOK_EVERY.min(config.interval).min(config.ask_every)).await;
            if config.urgent_value.is_zero() {
                continue;
            }
            let grown = self.uncovered().await?.saturating_sub(uncovered_before);
            if grown >= config.urgent_value {
                break;
            }
        }
        Ok(())
    }

    async fn uncovered(&self) -> Result<TokenAmount, LedgerError> {
        let Shared { config, ledger, .. } = &*self.shared;
        let risk = ledger.value_at_risk(config.payee, config.token, now()).await?;
        Ok(risk.uncovered())
    }

    async fn heard(&self, appointments: Vec<Signed<TowerAppointment, Verified>>) -> Result<(), LedgerError> {
        let ledger = &self.shared.ledger;
        ledger
            .record_appointments(self.tower, appointments, now())
            .await
            .map(drop)
    }

    /// Asks, and waits where the tower has heard too much.
    async fn ask(&self, question: TowerQuestion) -> Result<TowerAnswer, Trouble> {
        loop {
            match self.shared.network.ask_tower(&self.address, question.clone()).await? {
                TowerAnswer::Refused(TowerRefusal::TooManyMessages { seconds }) => {
                    sleep(Duration::from_secs(seconds.max(1)).min(LONGEST_PAUSE)).await;
                }
                TowerAnswer::Refused(refusal) => return Err(Trouble::Refused(refusal)),
                answer => return Ok(answer),
            }
        }
    }

    fn deployment(&self) -> Deployment {
        Deployment::from(&self.shared.domain)
    }
}

/// Appointments that end before this are renewed: they are in the last third of their term.
fn renew_before(profile: &TowerProfile, now: UnixSeconds) -> UnixSeconds {
    now.plus(Duration::from_secs(profile.term_secs / 3))
}

fn now() -> UnixSeconds {
    UnixSeconds::from(SystemTime::now())
}

/// An error with its causes, for a place that has one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
