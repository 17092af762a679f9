//! Why a channel would be claimed now, or what it waits for, in words and in a form that a running node can hand over.

use std::io::{self, Write};

use alloy::primitives::{Address, B256};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use lloom_watcher::{Explanation, NothingDue, Verdict, Waiting, WhyNot};
use serde::{Deserialize, Serialize};

use crate::{
    date::utc,
    money::Token,
    output::Report,
    settlement::{claim_by, why_not, why_now},
};

const WEI_PER_GWEI: u128 = 1_000_000_000;

/// An explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationAnswer {
    channel: ChannelId,
    payee: Address,
    token: Address,
    /// `now`, `not_yet`, `under_way`, `held` or `nothing`.
    verdict: String,
    /// Why, in a word that stays the same.
    reason: String,
    /// The same as a sentence.
    why: String,
    /// What would change it, a sentence each.
    changes: Vec<String>,
    deposit: TokenAmount,
    settled: TokenAmount,
    billed: TokenAmount,
    voucher: Option<TokenAmount>,
    receipt: Option<TokenAmount>,
    /// What a claim would bring now.
    value: Option<TokenAmount>,
    /// What it would have to bring.
    needed: Option<TokenAmount>,
    /// What the whole transaction costs.
    fee: Option<TokenAmount>,
    gas_price_wei: String,
    /// When the payer may take the rest out, Unix seconds.
    deadline: Option<u64>,
    /// From when on it is claimed at any fee, Unix seconds.
    claimed_from: Option<u64>,
    /// The transaction under way.
    transaction: Option<B256>,
    /// How often in a row the node looked at it and let it wait.
    looks: u64,
    /// Since when, Unix seconds.
    since: Option<u64>,
    /// Why its row failed the last time.
    failed: Option<String>,
    /// The first line for people.
    summary: String,
}

impl ExplanationAnswer {
    /// For `explanation`.
    pub fn new(explanation: Explanation, own: &Token) -> Self {
        let show = |amount| own.show_of(explanation.token, amount);
        let found = Found::of(&explanation, own);
        let covered = explanation.voucher.max(explanation.receipt);
        let covered = covered.map_or_else(
            || String::from("nothing authorizes more"),
            |amount| format!("the best authorization is for {}", show(amount)),
        );
        let summary = format!(
            "The channel holds {}: {} were billed, {} are settled, and {covered}.",
            show(explanation.deposit),
            show(explanation.billed),
            show(explanation.settled),
        );
        let waiting = match &explanation.verdict {
            Verdict::NotYet(waiting) => waiting.deferred,
            _ => None,
        };
        Self {
            channel: explanation.channel,
            payee: explanation.payee,
            token: explanation.token,
            verdict: found.verdict.to_owned(),
            reason: found.reason.to_owned(),
            why: found.why,
            changes: found.changes,
            deposit: explanation.deposit,
            settled: explanation.settled,
            billed: explanation.billed,
            voucher: explanation.voucher,
            receipt: explanation.receipt,
            value: found.value,
            needed: found.needed,
            fee: found.fee,
            gas_price_wei: explanation.gas_price.to_string(),
            deadline: explanation.deadline.map(UnixSeconds::get),
            claimed_from: explanation.claimed_from.map(UnixSeconds::get),
            transaction: found.transaction,
            looks: waiting.map_or(0, |deferral| deferral.looks),
            since: waiting.map(|deferral| deferral.since.get()),
            failed: explanation.failed,
            summary,
        }
    }
}

/// What a verdict says.
#[derive(Default)]
struct Found {
    verdict: &'static str,
    reason: &'static str,
    why: String,
    changes: Vec<String>,
    value: Option<TokenAmount>,
    needed: Option<TokenAmount>,
    fee: Option<TokenAmount>,
    transaction: Option<B256>,
}

impl Found {
    fn of(explanation: &Explanation, own: &Token) -> Self {
        let show = |amount| own.show_of(explanation.token, amount);
        match &explanation.verdict {
            Verdict::Now {
                by,
                value,
                why,
                rows,
                claim_value,
                fee,
            } => {
                let with = match rows {
                    1 => String::new(),
                    rows => format!(" with {} others, together {}", rows - 1, show(*claim_value)),
                };
                let fee_text = fee.map_or_else(String::new, |fee| format!(", for a fee of about {}", show(fee)));
                Self {
                    verdict: "now",
                    reason: why_now(*why),
                    why: format!(
                        "{} by {}{with}{fee_text}, because: {}.",
                        show(*value),
                        claim_by(*by),
                        why_now(*why)
                    ),
                    value: Some(*value),
                    fee: *fee,
                    ..Self::default()
                }
            }
            Verdict::NotYet(waiting) => Self::waiting(explanation, waiting, own),
            Verdict::UnderWay {
                transaction,
                amount,
                closes,
            } => Self {
                verdict: "under_way",
                reason: if *closes { "closing" } else { "claiming" },
                why: format!(
                    "the transaction {transaction} {} it at {}; it is sent again, and dearer, until it or another is final.",
                    if *closes { "closes" } else { "settles" },
                    show(*amount)
                ),
                transaction: Some(*transaction),
                ..Self::default()
            },
            Verdict::Held { value, from } => Self::held(explanation, *value, *from, own),
            Verdict::Nothing(nothing) => Self::nothing(explanation, *nothing),
        }
    }

    fn waiting(explanation: &Explanation, waiting: &Waiting, own: &Token) -> Self {
        let show = |amount| own.show_of(explanation.token, amount);
        let mut changes = Vec::new();
        let (reason, needed) = match waiting.why {
            WhyNot::NotWorthwhile { value, needed } => {
                changes.push(format!(
                    "{} more to claim, here or on other channels that the same transaction carries",
                    show(needed.saturating_sub(value))
                ));
                if explanation.thresholds.native_price_in_token.is_some() && !needed.is_zero() {
                    // What is needed grows with the price of gas.
                    let ratio = |price: u128| price.saturating_mul(value.base_units()) / needed.base_units();
                    changes.push(format!(
                        "gas at {} or less; it costs {} now",
                        gwei(ratio(explanation.gas_price)),
                        gwei(explanation.gas_price)
                    ));
                }
                ("not_worthwhile", Some(needed))
            }
            WhyNot::AwaitsReceipt => {
                changes.push(String::from(
                    "the client's signature under its newest bills, when it comes back",
                ));
                ("awaits_receipt", None)
            }
            WhyNot::Quarantined(held) => {
                changes.push(format!("time: it is tried again at {}", utc(held.until)));
                ("quarantined", None)
            }
        };
        changes.push(match (explanation.deadline, explanation.claimed_from) {
            (Some(deadline), Some(from)) => format!(
                "time: its payer may take the rest out at {}, so it is claimed at any fee from {} on",
                utc(deadline),
                utc(from)
            ),
            _ => String::from("its payer's wish to leave: then it is claimed in time, at any fee"),
        });
        changes.push(format!("an order: `lloomctl claim --channel {}`", explanation.channel));
        Self {
            verdict: "not_yet",
            reason,
            why: format!("{}.", why_not(waiting, own)),
            changes,
            value: Some(waiting.value),
            needed,
            ..Self::default()
        }
    }

    fn held(explanation: &Explanation, value: TokenAmount, from: Option<UnixSeconds>, own: &Token) -> Self {
        let value_shown = own.show_of(explanation.token, value);
        let (why, change) = match (explanation.deadline, from) {
            (Some(deadline), Some(from)) => (
                format!(
                    "its payer may take the rest out at {}. Unless its executor claims before, {value_shown} are claimed for {} from {} on, by the tower that runs in this home.",
                    utc(deadline),
                    explanation.payee,
                    utc(from)
                ),
                "its executor's own claim, for which it is left alone until then",
            ),
            _ => (
                format!(
                    "{value_shown} are defended for {} when its payer asks for a close.",
                    explanation.payee
                ),
                "its payer's wish to leave",
            ),
        };
        Self {
            verdict: "held",
            reason: "held",
            why,
            changes: vec![change.to_owned()],
            value: Some(value),
            ..Self::default()
        }
    }

    fn nothing(explanation: &Explanation, nothing: NothingDue) -> Self {
        let (reason, why, change) = match nothing {
            NothingDue::NotOurs => (
                "not_ours",
                "this home serves no such channel, or the channel pays somebody else or in another token.",
                None,
            ),
            NothingDue::Closed => ("closed", "the channel is closed for good.", None),
            NothingDue::AllSettled => (
                "all_settled",
                "everything that was billed is settled.",
                // A channel whose payer is leaving is not served.
                explanation
                    .deadline
                    .is_none()
                    .then_some("the next answer that is billed"),
            ),
            NothingDue::NotAuthorized => (
                "not_authorized",
                "what was billed beyond what is settled has no authorization of the client within the deposit.",
                Some("the client's next voucher or receipt, or a larger deposit"),
            ),
        };
        Self {
            verdict: "nothing",
            reason,
            why: why.to_owned(),
            changes: change.map(str::to_owned).into_iter().collect(),
            ..Self::default()
        }
    }
}

/// `0.25 gwei`.
fn gwei(wei: u128) -> String {
    let (whole, part) = (wei / WEI_PER_GWEI, wei % WEI_PER_GWEI);
    let part = format!("{part:09}");
    match part.trim_end_matches('0') {
        "" => format!("{whole} gwei"),
        part => format!("{whole}.{part} gwei"),
    }
}

impl Report for ExplanationAnswer {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Channel {}", self.channel)?;
        if self.reason != "not_ours" {
            writeln!(out, "{}", self.summary)?;
        }
        let heading = match self.verdict.as_str() {
            "now" => "It is claimed now",
            "not_yet" => "It is not claimed yet",
            "under_way" => "A claim is under way",
            "held" => "It is held for its executor",
            _ => "There is nothing to claim",
        };
        writeln!(out, "\n{heading}: {}", self.why)?;
        if let Some(failed) = &self.failed {
            writeln!(out, "The last try failed: {failed}.")?;
        }
        if self.looks > 1
            && let Some(since) = self.since
        {
            writeln!(
                out,
                "The node looked {} times since {}.",
                self.looks,
                utc(UnixSeconds::new(since))
            )?;
        }
        if !self.changes.is_empty() {
            writeln!(out, "\nWhat would change that:")?;
            for change in &self.changes {
                writeln!(out, "  - {change}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
