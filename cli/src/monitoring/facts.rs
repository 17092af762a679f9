//! Gauges that are read when somebody scrapes: what is known already, without asking the store or the chain.

use std::{fmt, path::PathBuf, time::SystemTime};

use alloy::primitives::{Address, U256};
use lloom_node::NetworkHandle;
use lloom_receipts::{TokenAmount, UnixSeconds};
use lloom_watcher::{EndpointHealth, Standing, WatcherStatus};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, GaugeValueEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use tokio::sync::watch;

use super::{
    Joined,
    survey::{Newest, Survey},
    vigil::Verdict,
};
use crate::money::Token;

const STANDINGS: [(Standing, &str); 4] = [
    (Standing::Healthy, "healthy"),
    (Standing::Unproven, "unproven"),
    (Standing::Stale, "stale"),
    (Standing::Resting, "resting"),
];

/// Everything that is read on a scrape.
pub struct Facts {
    /// Where the watcher stands.
    pub watcher: watch::Receiver<WatcherStatus>,
    /// The newest survey.
    pub survey: Newest,
    /// The newest judgement.
    pub verdict: watch::Receiver<Verdict>,
    /// The peer-to-peer network, once it is joined.
    pub network: Joined,
    /// The store's file, where it is one.
    pub store: Option<PathBuf>,
    /// A file of the home: a shared store is on its server's disk, and its witness on this one.
    pub home: PathBuf,
    /// The token whose symbol and decimals are known.
    pub token: Token,
    /// The key that pays for gas.
    pub operator: Address,
    /// When the process began.
    pub started_at: UnixSeconds,
}

impl fmt::Debug for Facts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Facts").finish_non_exhaustive()
    }
}

type Labels = Vec<(&'static str, String)>;

/// A number as Prometheus keeps it: a float, which is exact up to 2^53.
struct Number(f64);

impl EncodeGaugeValue for Number {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number as f64)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self(number as f64)
    }
}

impl From<bool> for Number {
    fn from(is: bool) -> Self {
        Self(if is { 1.0 } else { 0.0 })
    }
}

impl From<UnixSeconds> for Number {
    fn from(at: UnixSeconds) -> Self {
        Self(at.get() as f64)
    }
}

impl From<TokenAmount> for Number {
    fn from(amount: TokenAmount) -> Self {
        Self(amount.base_units() as f64)
    }
}

impl From<U256> for Number {
    fn from(wei: U256) -> Self {
        Self(f64::from(wei))
    }
}

/// Writes gauges.
struct Gauges<'a>(DescriptorEncoder<'a>);

impl Gauges<'_> {
    fn write(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (Labels, Number)>,
    ) -> fmt::Result {
        let help = format!("{help}.");
        let mut encoder = self
            .0
            .encode_descriptor(name, &help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                encoder.encode_gauge(&value)?;
            } else {
                encoder.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// A gauge without labels; none where there is no value.
    fn one(&mut self, name: &str, help: &str, value: Option<impl Into<Number>>) -> fmt::Result {
        self.write(name, help, None, value.map(|value| (Labels::new(), value.into())))
    }

    /// A counter with labels.
    fn count(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let help = format!("{help}.");
        let mut encoder = self.0.encode_descriptor(name, &help, None, MetricType::Counter)?;
        for (labels, count) in samples {
            encoder
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, value: Option<impl Into<Number>>) -> fmt::Result {
        let sample = value.map(|value| (Labels::new(), value.into()));
        self.write(name, help, Some(Unit::Seconds), sample)
    }
}

impl Collector for Facts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauges = Gauges(encoder);
        let now = UnixSeconds::from(SystemTime::now());
        self.write_watcher(&mut gauges, now)?;
        self.write_money(&mut gauges, &self.survey.get())?;
        self.write_machine(&mut gauges)?;
        self.write_verdict(&mut gauges)
    }
}

impl Facts {
    fn write_watcher(&self, gauges: &mut Gauges<'_>, now: UnixSeconds) -> fmt::Result {
        let status = self.watcher.borrow().clone();
        let (head, cursor) = (status.head, status.cursor);
        gauges.one(
            "head_block",
            "The newest block an endpoint has shown",
            head.map(|block| block.number.get()),
        )?;
        gauges.seconds(
            "head_timestamp",
            "That block's time, Unix time",
            head.map(|block| block.timestamp),
        )?;
        gauges.one(
            "cursor_block",
            "The newest block whose events are in the store",
            cursor.map(|block| block.number.get()),
        )?;
        gauges.seconds(
            "cursor_timestamp",
            "That block's time, Unix time",
            cursor.map(|block| block.timestamp),
        )?;
        gauges.one(
            "confirmed_block",
            "The newest block that counts as final",
            status.confirmed.map(|number| number.get()),
        )?;
        gauges.one(
            "lag_blocks",
            "How many blocks the store is behind the head",
            head.map(|_| status.behind()),
        )?;
        let lag = head
            .zip(cursor)
            .map(|(head, cursor)| head.timestamp.since(cursor.timestamp).as_secs());
        gauges.seconds("lag", "How far the store is behind the head in time", lag)?;
        gauges.seconds(
            "watcher_last_progress_timestamp",
            "When the watcher completed a round or took in blocks last, Unix time",
            status.last_progress,
        )?;
        gauges.one(
            "watcher_problem",
            "Whether something keeps the watcher from its work: 1 where it does",
            Some(status.problem.is_some()),
        )?;
        gauges.one(
            "watcher_standing_by",
            "Whether another watcher on the same store leads, and this one waits to take over: 1 where it does",
            Some(status.standing_by),
        )?;
        gauges.one(
            "transactions_pending",
            "Sent transactions whose fate is unknown",
            Some(status.pending_transactions),
        )?;
        gauges.one(
            "obligations",
            "Closes that payers have asked for and that are not dealt with for good",
            Some(status.obligations),
        )?;
        // Deadlines are the chain's: its time counts where it is ahead.
        let now = head.map_or(now, |head| now.max(head.timestamp));
        let deadline = status
            .next_deadline
            .map(|deadline| deadline.get() as f64 - now.get() as f64);
        gauges.seconds(
            "deadline_remaining",
            "Time to the nearest deadline; negative once it passed, without a sample where there is none",
            deadline.map(Number),
        )?;
        let counts = status.deferrals;
        let reasons = [
            ("not_worthwhile", counts.not_worthwhile),
            ("awaits_receipt", counts.awaits_receipt),
            ("quarantined", counts.quarantined),
            ("fees_too_high", counts.fees_too_high),
            ("gas_money", counts.gas_money),
        ];
        gauges.count(
            "deferrals",
            "Looks at a channel with something to claim that left it for later, by the reason",
            reasons.map(|(reason, count)| (vec![("reason", reason.to_owned())], count)),
        )?;
        Self::write_endpoints(gauges, &status.endpoints)
    }

    fn write_endpoints(gauges: &mut Gauges<'_>, endpoints: &[EndpointHealth]) -> fmt::Result {
        let name = |endpoint: &EndpointHealth| ("endpoint", endpoint.name.clone());
        gauges.write(
            "rpc_endpoint_standing",
            "How an endpoint stands: 1 for the one standing that it has",
            None,
            endpoints.iter().flat_map(|endpoint| {
                STANDINGS.into_iter().map(move |(standing, word)| {
                    let labels = vec![name(endpoint), ("standing", word.to_owned())];
                    (labels, (endpoint.standing == standing).into())
                })
            }),
        )?;
        gauges.write(
            "rpc_endpoint_behind_blocks",
            "How many blocks an endpoint is behind the best of all",
            None,
            endpoints
                .iter()
                .map(|endpoint| (vec![name(endpoint)], endpoint.behind.into())),
        )
    }

    fn write_money(&self, gauges: &mut Gauges<'_>, survey: &Survey) -> fmt::Result {
        let sums = |of: fn(&super::survey::Sums) -> TokenAmount| {
            // A sample from the beginning, so that an alert can tell "nothing" from "no answer".
            let known = survey.tokens.get(&self.token.address).copied().unwrap_or_default();
            let others = survey.tokens.iter().filter(|(token, _)| **token != self.token.address);
            std::iter::once((self.token.address, known))
                .chain(others.map(|(token, sums)| (*token, *sums)))
                .map(|(token, sums)| (self.token_labels(token), of(&sums).into()))
                .collect::<Vec<_>>()
        };
        gauges.write(
            "value_at_risk",
            "Claimable value in channels whose payers have asked for the rest, in base units: lost if no claim is mined before their deadlines. A tower's is what it promised to claim",
            None,
            sums(|sums| sums.at_risk),
        )?;
        gauges.write(
            "unclaimed_value",
            "Value that could be claimed now, in base units",
            None,
            sums(|sums| sums.unclaimed),
        )?;
        gauges.write(
            "exposure_value",
            "Value served, or reserved to be served, that no authorization covers, in base units",
            None,
            sums(|sums| sums.exposure),
        )?;
        gauges.write(
            "uncovered_value",
            "Value that could be claimed and that no tower that was heard lately has promised to claim, in base units",
            None,
            survey
                .uncovered
                .map(|value| (self.token_labels(self.token.address), value.into())),
        )?;
        gauges.write(
            "token_base_units",
            "How many base units make one of the token",
            None,
            [(
                self.token_labels(self.token.address),
                Number(10f64.powi(self.token.decimals.get().into())),
            )],
        )?;
        gauges.write(
            "billed_value",
            "The sum of all bills, in base units",
            None,
            sums(|sums| sums.billed),
        )?;
        gauges.write(
            "settled_value",
            "What the chain has paid in all, as of the head, in base units",
            None,
            sums(|sums| sums.settled),
        )?;
        gauges.write(
            "channels",
            "Channels served here, by where they are in their life",
            None,
            survey
                .channels
                .iter()
                .filter(|_| survey.at.is_some())
                .map(|(state, count)| (vec![("state", (*state).to_owned())], (*count).into())),
        )?;
        gauges.one(
            "held_channels",
            "Channels that this tower holds for others",
            survey.at.map(|_| survey.held.channels),
        )?;
        gauges.one(
            "held_operators",
            "Operators that this tower holds channels for",
            survey.at.map(|_| survey.held.operators),
        )?;
        gauges.write(
            "held",
            "What the vouchers that this tower holds for others count for",
            Some(Unit::Bytes),
            survey.at.map(|_| (Labels::new(), survey.held.bytes.into())),
        )?;
        self.write_payers(gauges, survey)?;
        let gas = survey.gas;
        let account = || vec![("account", self.operator.to_string())];
        gauges.write(
            "gas_balance_wei",
            "What the key that pays for gas has, in wei of the native coin",
            None,
            gas.map(|gas| (account(), gas.balance.into())),
        )?;
        gauges.one(
            "gas_price_wei",
            "What one gas costs now, in wei",
            gas.map(|gas| Number(gas.price as f64)),
        )?;
        gauges.seconds(
            "survey_timestamp",
            "When money, channels and payers were looked at last, Unix time",
            survey.at,
        )?;
        gauges.seconds(
            "survey_duration",
            "How long that took",
            survey.at.map(|_| Number(survey.took.as_secs_f64())),
        )
    }

    fn write_payers(&self, gauges: &mut Gauges<'_>, survey: &Survey) -> fmt::Result {
        let each = |of: fn(&super::payers::Payer) -> Option<Number>| {
            let samples = survey.payers.iter().filter_map(move |((payer, token), found)| {
                let mut labels = vec![("payer", payer.to_string())];
                labels.extend(self.token_labels(*token));
                Some((labels, of(found)?))
            });
            samples.collect::<Vec<_>>()
        };
        gauges.one(
            "payers_owing",
            "Payers with something that could be claimed",
            Some(survey.owing_payers),
        )?;
        gauges.seconds(
            "payers_longest_unclaimed",
            "How long the payer that waits longest has had something claimable of which nothing was claimed",
            Some(survey.longest_wait.as_secs()),
        )?;
        gauges.write(
            "payer_unclaimed_value",
            "Value that could be claimed from one of the payers that owe the most, in base units",
            None,
            each(|payer| Some(payer.unclaimed.into())),
        )?;
        gauges.write(
            "payer_exposure_value",
            "Value that one of these was served and no authorization covers, in base units",
            None,
            each(|payer| Some(payer.exposure.into())),
        )?;
        gauges.write(
            "payer_last_accepted_timestamp",
            "When a request, voucher or bill of one of these was seen last, Unix time",
            Some(Unit::Seconds),
            each(|payer| payer.accepted_at.map(Number::from)),
        )?;
        gauges.write(
            "payer_last_settled_timestamp",
            "When the chain was last seen to pay something of one of these, Unix time",
            Some(Unit::Seconds),
            each(|payer| payer.settled_at.map(Number::from)),
        )
    }

    fn write_machine(&self, gauges: &mut Gauges<'_>) -> fmt::Result {
        let network = self.network.get();
        gauges.one(
            "peers",
            "Peers that are connected or known from the local network",
            network.map(NetworkHandle::known_peers),
        )?;
        gauges.one(
            "listen_addresses",
            "Addresses that peers can reach this node by",
            network.map(|network| network.listen_addresses().len()),
        )?;
        let file = |name: &'static str, suffix: &str| {
            let mut path = self.store.clone()?.into_os_string();
            path.push(suffix);
            let size = std::fs::metadata(path).ok()?.len();
            Some((vec![("file", name.to_owned())], Number::from(size)))
        };
        gauges.write(
            "store_size",
            "How large the store's files are",
            Some(Unit::Bytes),
            file("database", "").into_iter().chain(file("log", "-wal")),
        )?;
        let free = crate::disk::free_bytes(self.store.as_ref().unwrap_or(&self.home));
        let free = free.map(|bytes| (Labels::new(), Number::from(bytes)));
        gauges.write("disk_free", "What the store's disk has left", Some(Unit::Bytes), free)?;
        gauges.seconds(
            "start_timestamp",
            "When the process began, Unix time",
            Some(self.started_at),
        )
    }

    fn write_verdict(&self, gauges: &mut Gauges<'_>) -> fmt::Result {
        let verdict = self.verdict.borrow();
        gauges.one(
            "ready",
            "Whether everything progresses: what /readyz says",
            Some(verdict.is_ready()),
        )?;
        let checks = verdict.checks.iter();
        gauges.write(
            "check",
            "Whether one part of it progresses: 1 where it does",
            None,
            checks.map(|check| (vec![("check", check.check.to_owned())], check.ok.into())),
        )
    }

    fn token_labels(&self, token: Address) -> Labels {
        let mut labels = vec![("token", token.to_string())];
        if token == self.token.address {
            labels.push(("symbol", self.token.symbol.clone()));
            labels.push(("decimals", self.token.decimals.get().to_string()));
        }
        labels
    }
}

#[cfg(test)]
mod tests;
