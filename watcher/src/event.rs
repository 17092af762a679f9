//! The contracts' logs as the ledger's events.

use alloy::{
    primitives::{Address, B256, Log as RawLog},
    rpc::types::Log,
    sol_types::SolEvent,
};
use lloom_bindings::{ChannelEscrow, ExecutorRegistry, UsageSettlement};
use lloom_ledger::{ChainEvent, ChainEventKind, SkipReason};
use lloom_receipts::{BlockNumber, ChannelId, ChannelParameters, TokenAmount, TokenTotal, UnixSeconds};

use crate::chain::ChainError;

/// The contracts whose events count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitters {
    pub(crate) escrow: Address,
    pub(crate) settlement: Address,
    pub(crate) registry: Address,
}

impl Emitters {
    pub(crate) const fn addresses(self) -> [Address; 3] {
        [self.escrow, self.settlement, self.registry]
    }

    /// The event a log is, or nothing when it is none of those that count.
    ///
    /// # Errors
    /// [`ChainError::Malformed`] when the log is not in a block or can't be what its topic says.
    pub(crate) fn read(self, log: &Log) -> Result<Option<ChainEvent>, ChainError> {
        // Nodes that follow the old convention still send what a fork took back; a fork is found by hashes here.
        if log.removed {
            return Ok(None);
        }
        let Some(kind) = self.kind(&log.inner)? else {
            return Ok(None);
        };
        let missing = || malformed("a log without its place in a block");
        Ok(Some(ChainEvent {
            block: BlockNumber::new(log.block_number.ok_or_else(missing)?),
            block_hash: log.block_hash.ok_or_else(missing)?,
            log_index: log.log_index.ok_or_else(missing)?,
            transaction: log.transaction_hash.ok_or_else(missing)?,
            kind,
        }))
    }

    fn kind(self, log: &RawLog) -> Result<Option<ChainEventKind>, ChainError> {
        let Some(topic) = log.topics().first().copied() else {
            return Ok(None);
        };
        let kind = if log.address == self.escrow {
            escrow_event(topic, log)
        } else if log.address == self.settlement {
            settlement_event(topic, log)
        } else if log.address == self.registry {
            registry_event(topic, log)
        } else {
            return Ok(None);
        };
        kind.map_err(|error| malformed(&error.to_string()))
    }
}

type Decoded = Result<Option<ChainEventKind>, alloy::sol_types::Error>;

fn escrow_event(topic: B256, log: &RawLog) -> Decoded {
    Ok(Some(match topic {
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
        _ => return Ok(None),
    }))
}

fn settlement_event(topic: B256, log: &RawLog) -> Decoded {
    Ok(Some(match topic {
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
        UsageSettlement::RowSkipped::SIGNATURE_HASH => {
            let event = UsageSettlement::RowSkipped::decode_log_data(log)?;
            skipped(event.channelId, event.index, event.reason)
        }
        _ => return Ok(None),
    }))
}

fn registry_event(topic: B256, log: &RawLog) -> Decoded {
    Ok(Some(match topic {
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
        _ => return Ok(None),
    }))
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
