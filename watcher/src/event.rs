//! The contracts' logs as the ledger's events.

use alloy::{
    primitives::{Address, B256, Log as RawLog},
    rpc::types::Log,
    sol_types::SolEvent,
};
use lloom_bindings::{ChannelEscrow, ExecutorRegistry, UsageSettlement};
use lloom_ledger::{ChainEvent, ChainEventKind, EventPosition, SkipReason};
use lloom_receipts::{BlockNumber, ChannelId, ChannelParameters, TokenAmount, TokenTotal, UnixSeconds};

use crate::{LogFilter, chain::ChainError};

/// The contracts whose events count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitters {
    pub(crate) escrow: Address,
    pub(crate) settlement: Address,
    pub(crate) registry: Address,
}

impl Emitters {
    /// What the chain is asked for. That a row was skipped is not among it: whoever sent the claim reads it in the
    /// transaction's receipt, and anybody can have the contracts say it ten thousand times in a block.
    pub(crate) fn filter(self) -> LogFilter {
        LogFilter {
            addresses: vec![self.escrow, self.settlement, self.registry],
            topics: vec![
                ChannelEscrow::ChannelOpened::SIGNATURE_HASH,
                ChannelEscrow::ChannelToppedUp::SIGNATURE_HASH,
                ChannelEscrow::ChannelSettled::SIGNATURE_HASH,
                ChannelEscrow::ChannelsSettled::SIGNATURE_HASH,
                ChannelEscrow::CloseRequested::SIGNATURE_HASH,
                ChannelEscrow::ChannelClosed::SIGNATURE_HASH,
                ChannelEscrow::PayoutCredited::SIGNATURE_HASH,
                UsageSettlement::UsageSettled::SIGNATURE_HASH,
                UsageSettlement::UsagesSettled::SIGNATURE_HASH,
                ExecutorRegistry::OperatorAdded::SIGNATURE_HASH,
                ExecutorRegistry::OperatorRetired::SIGNATURE_HASH,
            ],
        }
    }

    /// The events a log holds: none when it is none of those that count, several when it speaks of many channels.
    ///
    /// # Errors
    /// [`ChainError::Malformed`] when the log is not in a block or can't be what its topic says.
    pub(crate) fn read(self, log: &Log) -> Result<Vec<ChainEvent>, ChainError> {
        // Nodes that follow the old convention still send what a fork took back; a fork is found by hashes here.
        if log.removed {
            return Ok(Vec::new());
        }
        let missing = || malformed("a log without its place in a block");
        let mut events = Vec::new();
        for (kind, entry) in self.kinds(&log.inner)?.into_iter().zip(0..) {
            let index = log.log_index.ok_or_else(missing)?;
            events.push(ChainEvent {
                block: BlockNumber::new(log.block_number.ok_or_else(missing)?),
                block_hash: log.block_hash.ok_or_else(missing)?,
                position: EventPosition {
                    log: u32::try_from(index).map_err(|_| malformed("a log's index in its block beyond 32 bits"))?,
                    entry,
                },
                transaction: log.transaction_hash.ok_or_else(missing)?,
                kind,
            });
        }
        Ok(events)
    }

    fn kinds(self, log: &RawLog) -> Result<Vec<ChainEventKind>, ChainError> {
        let Some(topic) = log.topics().first().copied() else {
            return Ok(Vec::new());
        };
        let kinds = if log.address == self.escrow {
            escrow_events(topic, log)
        } else if log.address == self.settlement {
            settlement_events(topic, log)
        } else if log.address == self.registry {
            registry_events(topic, log)
        } else {
            return Ok(Vec::new());
        };
        kinds.map_err(|error| malformed(&error.to_string()))
    }
}

type Decoded = Result<Vec<ChainEventKind>, alloy::sol_types::Error>;

fn escrow_events(topic: B256, log: &RawLog) -> Decoded {
    let kind = match topic {
        ChannelEscrow::ChannelOpened::SIGNATURE_HASH => {
            let event = ChannelEscrow::ChannelOpened::decode_log_data(log)?;
            ChainEventKind::ChannelOpened {
                channel: ChannelId::new(event.channelId),
                parameters: ChannelParameters {
                    payer: event.payer,
                    payee: event.payee,
                    token: event.token,
                    salt: event.salt,
                    authorized_signer: event.authorizedSigner,
                },
                deposit: TokenAmount::new(event.deposit),
                refunds_to_balance: event.refundsToBalance,
            }
        }
        ChannelEscrow::ChannelToppedUp::SIGNATURE_HASH => {
            let event = ChannelEscrow::ChannelToppedUp::decode_log_data(log)?;
            ChainEventKind::ToppedUp {
                channel: ChannelId::new(event.channelId),
                deposit: TokenAmount::new(event.deposit),
                close_cancelled: event.closeCancelled,
            }
        }
        ChannelEscrow::ChannelSettled::SIGNATURE_HASH => {
            let event = ChannelEscrow::ChannelSettled::decode_log_data(log)?;
            ChainEventKind::Settled {
                channel: ChannelId::new(event.channelId),
                settled: TokenAmount::new(event.settled),
            }
        }
        ChannelEscrow::ChannelsSettled::SIGNATURE_HASH => {
            let event = ChannelEscrow::ChannelsSettled::decode_log_data(log)?;
            let settled = event.channels.into_iter().map(|entry| ChainEventKind::Settled {
                channel: ChannelId::new(entry.channelId),
                settled: TokenAmount::new(entry.settled),
            });
            return Ok(settled.collect());
        }
        ChannelEscrow::CloseRequested::SIGNATURE_HASH => {
            let event = ChannelEscrow::CloseRequested::decode_log_data(log)?;
            ChainEventKind::CloseRequested {
                channel: ChannelId::new(event.channelId),
                requested_at: UnixSeconds::new(event.requestedAt),
            }
        }
        ChannelEscrow::ChannelClosed::SIGNATURE_HASH => {
            let event = ChannelEscrow::ChannelClosed::decode_log_data(log)?;
            ChainEventKind::Closed {
                channel: ChannelId::new(event.channelId),
                settled: TokenAmount::new(event.settled),
                refunded: TokenAmount::new(event.refunded),
            }
        }
        ChannelEscrow::RowSkipped::SIGNATURE_HASH => {
            let event = ChannelEscrow::RowSkipped::decode_log_data(log)?;
            skipped(event.channelId, event.index, event.reason)
        }
        ChannelEscrow::PayoutCredited::SIGNATURE_HASH => {
            let event = ChannelEscrow::PayoutCredited::decode_log_data(log)?;
            ChainEventKind::PayoutCredited {
                account: event.account,
                token: event.token,
                // What a channel pays out fits a uint128.
                amount: TokenAmount::new(event.amount.saturating_to()),
            }
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![kind])
}

fn settlement_events(topic: B256, log: &RawLog) -> Decoded {
    let kind = match topic {
        UsageSettlement::UsageSettled::SIGNATURE_HASH => {
            let event = UsageSettlement::UsageSettled::decode_log_data(log)?;
            ChainEventKind::UsageSettled {
                channel: ChannelId::new(event.channelId),
                sequence: event.sequence,
                input: TokenTotal::new(event.cumulativeInputTokens),
                output: TokenTotal::new(event.cumulativeOutputTokens),
                amount: TokenAmount::new(event.cumulativeAmount),
            }
        }
        UsageSettlement::UsagesSettled::SIGNATURE_HASH => {
            let event = UsageSettlement::UsagesSettled::decode_log_data(log)?;
            let published = event.usages.into_iter().map(|usage| ChainEventKind::UsageSettled {
                channel: ChannelId::new(usage.channelId),
                sequence: usage.sequence,
                input: TokenTotal::new(usage.cumulativeInputTokens),
                output: TokenTotal::new(usage.cumulativeOutputTokens),
                amount: TokenAmount::new(usage.cumulativeAmount),
            });
            return Ok(published.collect());
        }
        UsageSettlement::RowSkipped::SIGNATURE_HASH => {
            let event = UsageSettlement::RowSkipped::decode_log_data(log)?;
            skipped(event.channelId, event.index, event.reason)
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![kind])
}

fn registry_events(topic: B256, log: &RawLog) -> Decoded {
    let kind = match topic {
        ExecutorRegistry::OperatorAdded::SIGNATURE_HASH => {
            let event = ExecutorRegistry::OperatorAdded::decode_log_data(log)?;
            ChainEventKind::OperatorAdded {
                payee: event.payee,
                operator: event.operator,
            }
        }
        ExecutorRegistry::OperatorRetired::SIGNATURE_HASH => {
            let event = ExecutorRegistry::OperatorRetired::decode_log_data(log)?;
            ChainEventKind::OperatorRetired {
                payee: event.payee,
                operator: event.operator,
            }
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![kind])
}

fn skipped(channel: B256, index: alloy::primitives::U256, reason: u8) -> ChainEventKind {
    ChainEventKind::RowSkipped {
        channel: ChannelId::new(channel),
        // A batch of more rows than that doesn't fit a block.
        index: index.saturating_to(),
        // The order of the contract's enum; a later one counts as the mildest of these.
        reason: match reason {
            0 => SkipReason::ChannelNotFound,
            1 => SkipReason::ChannelFinalized,
            3 => SkipReason::AmountExceedsDeposit,
            4 => SkipReason::AmountExceedsVoucher,
            5 => SkipReason::InvalidSignature,
            6 => SkipReason::CloseNotReady,
            _ => SkipReason::AmountNotIncreasing,
        },
    }
}

fn malformed(reason: &str) -> ChainError {
    ChainError::Malformed {
        operation: "eth_getLogs",
        reason: reason.to_owned(),
    }
}
