//! What came of a transaction.

use alloy::{
    primitives::{Bytes, Log},
    sol_types::{Panic, SolError, SolEventInterface, SolInterface},
};

use crate::abi::{
    IChannelEscrow::{IChannelEscrowErrors, IChannelEscrowEvents},
    IDevToken::{IDevTokenErrors, IDevTokenEvents},
    IExecutorRegistry::{IExecutorRegistryErrors, IExecutorRegistryEvents},
    IUsageSettlement::{IUsageSettlementErrors, IUsageSettlementEvents},
};

/// What came of a transaction: what both sides have to agree on to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was returned, or the error that was raised.
    pub result: Result<Bytes, Revert>,
    /// Every event of every contract, in order. None when the transaction reverted.
    pub events: Vec<Log>,
}

/// A revert's data: selector and arguments of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert(pub Bytes);

impl<E: SolError> From<E> for Revert {
    fn from(error: E) -> Self {
        Self(error.abi_encode().into())
    }
}

impl Revert {
    /// The error's name, or its bytes when no contract declares it.
    pub fn name(&self) -> String {
        let text = self.to_string();
        let end = text
            .find(|letter: char| !letter.is_ascii_alphanumeric())
            .unwrap_or(text.len());
        text[..end].to_owned()
    }
}

impl std::fmt::Display for Revert {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = &self.0;
        let text = None
            .or_else(|| {
                IChannelEscrowErrors::abi_decode(data)
                    .ok()
                    .map(|error| format!("{error:?}"))
            })
            .or_else(|| {
                IUsageSettlementErrors::abi_decode(data)
                    .ok()
                    .map(|error| format!("{error:?}"))
            })
            .or_else(|| {
                IExecutorRegistryErrors::abi_decode(data)
                    .ok()
                    .map(|error| format!("{error:?}"))
            })
            .or_else(|| IDevTokenErrors::abi_decode(data).ok().map(|error| format!("{error:?}")))
            .or_else(|| Panic::abi_decode(data).ok().map(|panic| format!("{panic:?}")))
            .unwrap_or_else(|| data.to_string());
        // `Variant(Type { … })`: the variant says it all.
        let inner = text
            .split_once('(')
            .map_or(text.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        formatter.write_str(inner)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.result {
            Ok(output) => write!(formatter, "returned {output}")?,
            Err(revert) => write!(formatter, "reverted with {revert}")?,
        }
        for event in &self.events {
            write!(formatter, "\n      {:?} {}", event.address, event_text(event))?;
        }
        Ok(())
    }
}

/// An event in words, or its words when no contract declares it.
pub fn event_text(log: &Log) -> String {
    None.or_else(|| {
        IChannelEscrowEvents::decode_log(log)
            .ok()
            .map(|event| format!("{:?}", event.data))
    })
    .or_else(|| {
        IUsageSettlementEvents::decode_log(log)
            .ok()
            .map(|event| format!("{:?}", event.data))
    })
    .or_else(|| {
        IExecutorRegistryEvents::decode_log(log)
            .ok()
            .map(|event| format!("{:?}", event.data))
    })
    .or_else(|| {
        IDevTokenEvents::decode_log(log)
            .ok()
            .map(|event| format!("{:?}", event.data))
    })
    .unwrap_or_else(|| format!("{:?}", log.data))
}
