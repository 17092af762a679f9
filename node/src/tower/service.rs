use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use alloy::primitives::Address;
use lloom_ledger::{Delegation, Ledger, LedgerError, TakeOn, TowerQuotas, TowerTerms};
use lloom_receipts::{ChannelId, Domain, Keypair, UnixSeconds, Verifier};
use tokio::task::JoinSet;

use super::{
    message::{
        DelegationAnswer, DelegationMessage, Deployment, Impediment, MAX_DELEGATIONS, MAX_HELD_CLAIMS, TowerAnswer,
        TowerHead, TowerProfile, TowerQuestion, TowerRefusal, UpdateRefusal,
    },
    metrics::TowerMetrics,
    quota::MessageQuota,
};
use crate::network::TowerInquiries;

/// Questions that are answered at a time.
const MAX_ANSWERING: usize = 16;

/// What a tower promises, and to whom.
#[derive(Clone, Debug)]
pub struct TowerConfig {
    /// What every appointment says.
    pub terms: TowerTerms,
    /// What there is room for.
    pub quotas: TowerQuotas,
    /// How many messages of one peer are answered in a minute.
    pub messages_per_minute: u32,
    /// Whom it works for; anybody whose payee has named it, where it is `None`.
    pub executors: Option<HashSet<Address>>,
    /// How long a payer waits between asking for a close and withdrawing: the escrow's `CLOSE_GRACE_PERIOD`.
    pub grace: Duration,
}

/// The tower's side of `/lloom/tower/1.0.0`: checks, stores, then signs.
///
/// What it takes on is defended by a watcher on the same ledger. Clones are the same tower.
#[derive(Clone, Debug)]
pub struct Tower {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: TowerConfig,
    ledger: Ledger,
    domain: Domain,
    key: Keypair,
    verifier: Verifier,
    quota: Mutex<MessageQuota>,
    impediment: Mutex<Option<Impediment>>,
    metrics: TowerMetrics,
}

impl Tower {
    /// A tower that signs with `key`, and keeps what it takes on in `ledger`.
    pub fn new(config: TowerConfig, ledger: Ledger, domain: Domain, key: Keypair) -> Self {
        Self {
            shared: Arc::new(Shared {
                quota: Mutex::new(MessageQuota::new(config.messages_per_minute)),
                config,
                ledger,
                domain,
                key,
                verifier: Verifier::default(),
                impediment: Mutex::new(None),
                metrics: TowerMetrics::default(),
            }),
        }
    }

    /// What it answers, counted.
    pub fn metrics(&self) -> &TowerMetrics {
        &self.shared.metrics
    }

    /// Says what keeps the tower from keeping promises, if anything does. Until that is over, it makes none.
    pub fn set_impediment(&self, impediment: Option<Impediment>) {
        let mut current = self.shared.impediment.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != impediment {
            match impediment {
                Some(impediment) => tracing::error!("the tower {impediment}: it takes nothing on"),
                None => tracing::info!("the tower takes channels on again"),
            }
        }
        *current = impediment;
    }

    /// Answers until the network is shut down.
    pub async fn serve(&self, mut inquiries: TowerInquiries) {
        let mut answering = JoinSet::new();
        loop {
            if answering.len() >= MAX_ANSWERING {
                answering.join_next().await;
            }
            let Some(inquiry) = inquiries.next().await else {
                break;
            };
            let tower = self.clone();
            answering.spawn(async move {
                let (executor, question) = (inquiry.address, inquiry.question.clone());
                let now = UnixSeconds::from(SystemTime::now());
                let answer = tower.answer(executor, question, now).await;
                inquiry.answer(answer).await;
            });
            while answering.try_join_next().is_some() {}
        }
        while answering.join_next().await.is_some() {}
    }

    /// What to answer `executor`, which the connection has proven to be the one who asks.
    pub async fn answer(&self, executor: Address, question: TowerQuestion, now: UnixSeconds) -> TowerAnswer {
        let answer = self.decide(executor, question, now).await;
        self.shared.metrics.answered(&answer);
        answer
    }

    async fn decide(&self, executor: Address, question: TowerQuestion, now: UnixSeconds) -> TowerAnswer {
        let answered = match self.admit(executor, &question, now) {
            Ok(()) => match question {
                TowerQuestion::Terms => self.terms(executor).await,
                TowerQuestion::Update { delegations, .. } => self.update(executor, delegations, now).await,
                TowerQuestion::Status { after, .. } => self.status(executor, after).await,
            },
            Err(refusal) => return TowerAnswer::Refused(refusal),
        };
        answered.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the tower's store failed");
            TowerAnswer::Refused(TowerRefusal::Internal)
        })
    }

    fn admit(&self, executor: Address, question: &TowerQuestion, now: UnixSeconds) -> Result<(), TowerRefusal> {
        // A count has no invariant that a panic elsewhere could break.
        let mut quota = self.shared.quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota
            .count(executor, now)
            .map_err(|wait| TowerRefusal::TooManyMessages {
                seconds: wait.as_secs().max(1),
            })?;
        drop(quota);
        let here = Deployment::from(&self.shared.domain);
        let asked = match question {
            TowerQuestion::Terms => return Ok(()),
            TowerQuestion::Update { deployment, .. } | TowerQuestion::Status { deployment, .. } => *deployment,
        };
        if asked != here {
            return Err(TowerRefusal::OtherDeployment { deployment: here });
        }
        if !self.works_for(executor) {
            return Err(TowerRefusal::UnknownExecutor { executor });
        }
        match question {
            TowerQuestion::Update { delegations, .. } if delegations.len() > MAX_DELEGATIONS => {
                Err(TowerRefusal::TooManyDelegations {
                    limit: MAX_DELEGATIONS as u32,
                })
            }
            TowerQuestion::Update { .. } => self.impediment().map_or(Ok(()), |why| Err(TowerRefusal::Impeded(why))),
            TowerQuestion::Terms | TowerQuestion::Status { .. } => Ok(()),
        }
    }

    fn works_for(&self, executor: Address) -> bool {
        let executors = &self.shared.config.executors;
        executors.as_ref().is_none_or(|executors| executors.contains(&executor))
    }

    fn impediment(&self) -> Option<Impediment> {
        *self.shared.impediment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn terms(&self, executor: Address) -> Result<TowerAnswer, LedgerError> {
        let Shared {
            config,
            ledger,
            domain,
            key,
            ..
        } = &*self.shared;
        let head = ledger.cursor().await?;
        let profile = TowerProfile {
            tower: key.address(),
            deployment: Deployment::from(domain),
            token: config.terms.token,
            minimum_value: config.terms.minimum_value,
            max_fee_per_gas: config.terms.max_fee_per_gas,
            term_secs: config.terms.term.as_secs(),
            max_operators: config.quotas.operators,
            max_channels: config.quotas.channels_per_operator,
            messages_per_minute: config.messages_per_minute,
            channels: ledger.held_channels_of(executor).await?,
            head: head.map(|block| TowerHead {
                number: block.number,
                timestamp: block.timestamp,
            }),
            impediment: self.impediment(),
            agent: concat!("lloom/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(TowerAnswer::Terms(Box::new(profile)))
    }

    async fn status(&self, executor: Address, after: Option<ChannelId>) -> Result<TowerAnswer, LedgerError> {
        let limit = MAX_HELD_CLAIMS as u32;
        let mut held = self.shared.ledger.held_for(executor, after, limit + 1).await?;
        let more = held.len() > MAX_HELD_CLAIMS;
        held.truncate(MAX_HELD_CLAIMS);
        Ok(TowerAnswer::Status { held, more })
    }

    async fn update(
        &self,
        executor: Address,
        messages: Vec<DelegationMessage>,
        now: UnixSeconds,
    ) -> Result<TowerAnswer, LedgerError> {
        let Shared {
            config,
            ledger,
            domain,
            key,
            ..
        } = &*self.shared;
        let claims: Vec<_> = messages.iter().map(|message| message.claim).collect();
        let checked = self.check(messages);
        let good = checked.iter().filter_map(|checked| checked.as_ref().ok().cloned());
        let taken = ledger
            .take_on(TakeOn {
                tower: key.address(),
                operator: executor,
                delegations: good.collect(),
                terms: config.terms,
                quotas: config.quotas,
                grace: config.grace,
                now,
            })
            .await?;
        let mut taken = taken.into_iter();
        let mut answers = Vec::with_capacity(claims.len());
        for (checked, claim) in checked.into_iter().zip(claims) {
            let answer = match checked {
                Err(refusal) => DelegationAnswer::Refused(refusal),
                Ok(_) => match taken.next() {
                    Some(Ok(committed)) => {
                        // Stored, so it may be signed.
                        let appointment = key.sign(domain, *committed.appointment()).into_unverified();
                        if committed.appointment().claim == claim {
                            DelegationAnswer::TakenOn(appointment)
                        } else {
                            DelegationAnswer::PassedOver {
                                appointment,
                                voucher: committed.voucher().clone().into_unverified(),
                            }
                        }
                    }
                    Some(Err(refusal)) => DelegationAnswer::Refused(UpdateRefusal::Delegation(refusal)),
                    None => {
                        return Err(LedgerError::Inconsistent {
                            what: "fewer delegations were answered than asked",
                        });
                    }
                },
            };
            answers.push(answer);
        }
        Ok(TowerAnswer::Updated(answers))
    }

    /// What the documents alone tell, in their order.
    fn check(&self, messages: Vec<DelegationMessage>) -> Vec<Result<Delegation, UpdateRefusal>> {
        let domain = &self.shared.domain;
        let mut vouchers = Vec::with_capacity(messages.len());
        let mut expected = Vec::with_capacity(messages.len());
        for message in messages {
            let is_its = message.parameters.id(domain) == message.voucher.document().channel;
            let signer = message.parameters.payer_side();
            if is_its {
                vouchers.push(message.voucher.by(signer));
            }
            expected.push(is_its.then_some((signer, message.claim)));
        }
        // Together they take a fraction of the time.
        let mut verified = self.shared.verifier.verify_all(domain, vouchers).into_iter();
        expected
            .into_iter()
            .map(|expected| {
                let (expected, claim) = expected.ok_or(UpdateRefusal::OtherChannel)?;
                match verified.next() {
                    Some(Ok(voucher)) => Ok(Delegation { voucher, claim }),
                    _ => Err(UpdateRefusal::WrongSigner { expected }),
                }
            })
            .collect()
    }
}
