//! What claiming and closing came to, in a form that a running node can hand to another process.

use std::io::{self, Write};

use alloy::primitives::{Address, B256};
use lloom_ledger::ClaimBy;
use lloom_node::NetworkHandle;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use lloom_watcher::{ClaimReport, CloseReport, EndpointHealth, Plan, Standing, Waiting, WatcherStatus, WhyNot, WhyNow};
use serde::{Deserialize, Serialize};

use crate::{
    date::utc,
    failure::{Failure, Kind, Result},
    money::Token,
    output::{Align, Report, Table, counted, shortened},
};

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAnswer {
    transactions: Vec<ClaimTransactionAnswer>,
    rows: Vec<RowAnswer>,
    /// Channels that the chain would have skipped.
    refused: Vec<RefusedAnswer>,
    /// What stopped the claim half-way, if something did.
    failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClaimTransactionAnswer {
    transaction: B256,
    by: String,
    channels: usize,
    block: Option<u64>,
    succeeded: bool,
    gas_used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RowAnswer {
    channel: ChannelId,
    target: TokenAmount,
    settled: TokenAmount,
    settled_display: String,
    reached: bool,
}

/// A channel whose row failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAnswer {
    channel: ChannelId,
    reason: String,
}

impl ClaimAnswer {
    /// For `report`.
    pub fn new(report: ClaimReport, token: &Token) -> Self {
        Self {
            transactions: report
                .transactions
                .into_iter()
                .map(|transaction| ClaimTransactionAnswer {
                    transaction: transaction.hash,
                    by: claim_by(transaction.by).to_owned(),
                    channels: transaction.rows,
                    block: transaction.mined.map(|mined| mined.block.get()),
                    succeeded: transaction.mined.is_some_and(|mined| mined.succeeded),
                    gas_used: transaction.mined.map_or(0, |mined| mined.gas_used),
                })
                .collect(),
            rows: report
                .rows
                .into_iter()
                .map(|row| RowAnswer {
                    channel: row.channel,
                    target: row.target,
                    settled: row.settled,
                    settled_display: token.show(row.settled),
                    reached: row.is_reached(),
                })
                .collect(),
            refused: report
                .refused
                .into_iter()
                .map(|row| RefusedAnswer {
                    channel: row.channel,
                    reason: row.reason,
                })
                .collect(),
            failure: report.failure,
        }
    }

    /// What of it went wrong.
    ///
    /// # Errors
    /// When something did.
    pub fn check(&self) -> Result {
        if let Some(failure) = &self.failure {
            return Err(Failure::new(Kind::Chain, failure.clone())
                .while_("a part of the claim was not sent")
                .hint("what is unclaimed stays claimable; try again"));
        }
        if let Some(row) = self.refused.first() {
            return Err(Failure::new(Kind::Refused, row.reason.clone())
                .while_(format!("the channel {} can't be claimed now", row.channel)));
        }
        if let Some(row) = self.rows.iter().find(|row| !row.reached) {
            return Err(Failure::new(
                Kind::Chain,
                format!("the channel {} did not reach what was claimed", row.channel),
            )
            .hint("`lloomctl claim` tries again"));
        }
        Ok(())
    }
}

impl Report for ClaimAnswer {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.transactions.is_empty() && self.refused.is_empty() && self.failure.is_none() {
            return writeln!(out, "Nothing to claim.");
        }
        for transaction in &self.transactions {
            let end = match (transaction.block, transaction.succeeded) {
                (Some(block), true) => format!("in block {block}"),
                (Some(block), false) => format!("reverted in block {block}"),
                (None, _) => "overtaken by another transaction".to_owned(),
            };
            writeln!(
                out,
                "Transaction {:?}: {} by {}, {end}, {} gas",
                transaction.transaction,
                counted(transaction.channels as u64, "channel"),
                transaction.by,
                transaction.gas_used
            )?;
        }
        if !self.rows.is_empty() {
            writeln!(out)?;
            let mut table = Table::new(&[("CHANNEL", Align::Left), ("SETTLED IN ALL", Align::Right)]);
            for row in &self.rows {
                table.row([shortened(&row.channel.to_string()), row.settled_display.clone()]);
            }
            table.write(out)?;
        }
        for row in &self.refused {
            writeln!(out, "Left out {}: {}", row.channel, row.reason)?;
        }
        Ok(())
    }
}

/// What would be claimed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    claims: Vec<PlannedAnswer>,
    waiting: Vec<WaitingAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PlannedAnswer {
    by: String,
    payee: Address,
    token: Address,
    value: TokenAmount,
    value_display: String,
    fee: Option<TokenAmount>,
    fee_display: Option<String>,
    rows: Vec<PlannedRowAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PlannedRowAnswer {
    channel: ChannelId,
    value: TokenAmount,
    value_display: String,
    deadline: Option<u64>,
    why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WaitingAnswer {
    channel: ChannelId,
    value: TokenAmount,
    value_display: String,
    why: String,
    /// How often in a row the node looked at it and let it wait.
    looks: u64,
    /// Since when, Unix seconds.
    since: Option<u64>,
}

impl PlanAnswer {
    /// For `plan`.
    pub fn new(plan: Plan, token: &Token) -> Self {
        Self {
            claims: plan
                .claims
                .into_iter()
                .map(|claim| PlannedAnswer {
                    by: claim_by(claim.by).to_owned(),
                    payee: claim.payee,
                    token: claim.token,
                    value: claim.value,
                    value_display: token.show_of(claim.token, claim.value),
                    fee: claim.fee,
                    fee_display: claim.fee.map(|fee| token.show_of(claim.token, fee)),
                    rows: claim
                        .rows
                        .into_iter()
                        .map(|row| PlannedRowAnswer {
                            channel: row.channel,
                            value: row.value,
                            value_display: token.show_of(claim.token, row.value),
                            deadline: row.deadline.map(UnixSeconds::get),
                            why: why_now(row.why).to_owned(),
                        })
                        .collect(),
                })
                .collect(),
            waiting: plan
                .waiting
                .into_iter()
                .map(|waiting| WaitingAnswer {
                    channel: waiting.channel,
                    value: waiting.value,
                    value_display: token.show_of(waiting.token, waiting.value),
                    why: match waiting.claimed_from {
                        Some(from) => format!(
                            "{}; its payer is leaving, so it is claimed at any fee from {} on",
                            why_not(&waiting, token),
                            utc(from)
                        ),
                        None => why_not(&waiting, token),
                    },
                    looks: waiting.deferred.map_or(0, |deferred| deferred.looks),
                    since: waiting.deferred.map(|deferred| deferred.since.get()),
                })
                .collect(),
        }
    }
}

impl Report for PlanAnswer {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.claims.is_empty() && self.waiting.is_empty() {
            return writeln!(out, "Nothing to claim.");
        }
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("CLAIMABLE", Align::Right),
            ("WHEN", Align::Left),
            ("WHY", Align::Left),
        ]);
        for claim in &self.claims {
            for row in &claim.rows {
                table.row([
                    shortened(&row.channel.to_string()),
                    row.value_display.clone(),
                    format!("now, by {}", claim.by),
                    row.why.clone(),
                ]);
            }
        }
        for waiting in &self.waiting {
            table.row([
                shortened(&waiting.channel.to_string()),
                waiting.value_display.clone(),
                "not yet".to_owned(),
                waiting.why.clone(),
            ]);
        }
        table.write(out)?;
        for (index, claim) in self.claims.iter().enumerate() {
            let fee = claim
                .fee_display
                .as_ref()
                .map_or_else(String::new, |fee| format!(", for a fee of about {fee}"));
            writeln!(
                out,
                "\nTransaction {}: {}, worth {}{fee}",
                index + 1,
                counted(claim.rows.len() as u64, "channel"),
                claim.value_display
            )?;
        }
        writeln!(
            out,
            "\nNothing was sent. `lloomctl claim` claims all of it, whatever the fee."
        )
    }
}

/// What a close came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseAnswer {
    channel: ChannelId,
    transaction: B256,
    claimed_first: Option<B256>,
    settled: TokenAmount,
    settled_display: String,
    forfeited: TokenAmount,
    forfeited_display: String,
    gas_used: u64,
}

impl CloseAnswer {
    /// For `report`.
    pub fn new(report: CloseReport, token: &Token) -> Self {
        Self {
            channel: report.channel,
            transaction: report.transaction,
            claimed_first: report.claimed_first,
            settled: report.settled,
            settled_display: token.show(report.settled),
            forfeited: report.forfeited,
            forfeited_display: token.show(report.forfeited),
            gas_used: report.mined.gas_used,
        }
    }
}

impl Report for CloseAnswer {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(claim) = self.claimed_first {
            writeln!(out, "Claimed first, in transaction {claim:?}")?;
        }
        writeln!(
            out,
            "Closed channel {} in transaction {:?}",
            self.channel, self.transaction
        )?;
        writeln!(
            out,
            "It paid {} in all; the rest returned to the payer. {} gas",
            self.settled_display, self.gas_used
        )?;
        if !self.forfeited.is_zero() {
            writeln!(
                out,
                "{} were billed and never authorized by the client: they are given up.",
                self.forfeited_display
            )?;
        }
        Ok(())
    }
}

/// How a node's watcher stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The newest block seen.
    pub head: Option<u64>,
    /// The newest block in the store.
    pub cursor: Option<u64>,
    /// When something last went forward, Unix seconds.
    pub last_progress: Option<u64>,
    /// Transactions whose fate is unknown.
    pub pending_transactions: usize,
    /// Channels whose payers want to leave.
    pub obligations: usize,
    /// When the node began to answer, Unix seconds.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// Whether it has not been at the head yet since it began.
    #[serde(default)]
    pub catching_up: bool,
    /// Whether another watcher of the store leads.
    #[serde(default)]
    pub standing_by: bool,
    /// Channels with something to claim that wait.
    #[serde(default)]
    pub deferred: usize,
    /// Channels whose rows failed, and why.
    #[serde(default)]
    pub quarantined: Vec<RefusedAnswer>,
    /// How the chain's endpoints do.
    #[serde(default)]
    pub endpoints: Vec<EndpointAnswer>,
    /// What is wrong now.
    pub problem: Option<String>,
    /// Where `/metrics` and `/readyz` are answered.
    #[serde(default)]
    pub monitoring: Option<String>,
    /// How it stands among peers, once it has joined them.
    #[serde(default)]
    pub network: Option<NetworkAnswer>,
}

/// How a node stands among peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAnswer {
    /// How many are connected, or known from the local network.
    pub peers: usize,
    /// On how many addresses it listens: none where nobody has to reach it.
    pub addresses: usize,
}

impl From<&NetworkHandle> for NetworkAnswer {
    fn from(network: &NetworkHandle) -> Self {
        Self {
            peers: network.known_peers(),
            addresses: network.listen_addresses().len(),
        }
    }
}

impl StatusAnswer {
    /// How far a node got that is catching up, for people.
    pub fn progress(&self) -> String {
        match (self.cursor, self.head) {
            (Some(cursor), Some(head)) => format!("it is catching up with the chain, at block {cursor} of {head}"),
            _ => "it is catching up with the chain, and has seen no block yet".to_owned(),
        }
    }
}

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointAnswer {
    /// Host and port.
    pub name: String,
    /// Whether it is asked.
    pub standing: String,
    /// Blocks behind the best of all.
    pub behind: u64,
    /// Its recent failures, in thousandths.
    pub failures_per_mille: u32,
    /// How long its answers take.
    pub latency_millis: Option<u64>,
}

impl From<&EndpointHealth> for EndpointAnswer {
    fn from(health: &EndpointHealth) -> Self {
        let standing = match health.standing {
            Standing::Healthy => "healthy",
            Standing::Unproven => "unproven",
            Standing::Stale => "stale",
            Standing::Resting => "resting",
        };
        Self {
            name: health.name.clone(),
            standing: standing.to_owned(),
            behind: health.behind,
            failures_per_mille: health.failures_per_mille,
            latency_millis: health.latency.map(|latency| latency.as_millis() as u64),
        }
    }
}

impl From<&WatcherStatus> for StatusAnswer {
    fn from(status: &WatcherStatus) -> Self {
        Self {
            head: status.head.map(|block| block.number.get()),
            cursor: status.cursor.map(|block| block.number.get()),
            last_progress: status.last_progress.map(lloom_receipts::UnixSeconds::get),
            pending_transactions: status.pending_transactions,
            obligations: status.obligations,
            started_at: None,
            catching_up: !status.caught_up && !status.standing_by,
            standing_by: status.standing_by,
            deferred: status.deferred,
            quarantined: status
                .quarantined
                .iter()
                .map(|row| RefusedAnswer {
                    channel: row.channel,
                    reason: row.reason.clone(),
                })
                .collect(),
            endpoints: status.endpoints.iter().map(EndpointAnswer::from).collect(),
            problem: status.problem.clone(),
            monitoring: None,
            network: None,
        }
    }
}

/// The word for what a claim puts before the chain.
pub const fn claim_by(by: ClaimBy) -> &'static str {
    match by {
        ClaimBy::Vouchers => "vouchers",
        ClaimBy::Receipts => "receipts",
    }
}

/// Why a row is claimed now, for people.
pub const fn why_now(why: WhyNow) -> &'static str {
    match why {
        WhyNow::Deadline => "the payer is leaving",
        WhyNow::Ordered => "ordered",
        WhyNow::DepositUsed => "the deposit is used up",
        WhyNow::Worthwhile => "worth the fee",
    }
}

/// Why a row isn't claimed yet, for people.
pub fn why_not(waiting: &Waiting, token: &Token) -> String {
    let show = |amount| token.show_of(waiting.token, amount);
    match waiting.why {
        WhyNot::NotWorthwhile { value, needed } => {
            format!(
                "the claim would bring {}, and has to bring {}",
                show(value),
                show(needed)
            )
        }
        WhyNot::AwaitsReceipt => "the client hasn't signed its receipt yet".to_owned(),
        WhyNot::Quarantined(held) => format!("its claim failed; it is tried again at {}", utc(held.until)),
    }
}

#[cfg(test)]
mod tests;
