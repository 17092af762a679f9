use std::fmt;

use alloy::primitives::B256;
use lloom_receipts::{
    ChannelId, ContentSalt, InferenceRequest, Receipt, Signed, TokenAmount, Unverified, Usage, UsageBill, Voucher,
};
use serde::{Deserialize, Serialize};

use super::Refusal;

/// What a client asks for, with all that an executor needs to judge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infer {
    /// Signed by the channel's payer side.
    pub request: Signed<InferenceRequest, Unverified>,
    /// What the channel's salt was made of: proves that the channel is committed to this node.
    pub client_random: B256,
    /// Salts the prompt's and the response's hashes.
    pub salt: ContentSalt,
    /// The `chat.completions` JSON object, in the exact bytes that `request.prompt_hash` commits to.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    /// Pays for the input's maximum and one increment of output; absent where an earlier voucher already does.
    pub voucher: Option<Signed<Voucher, Unverified>>,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Asks for an inference. Answered by `Accepted` or `Refused`.
    Infer(Box<Infer>),
    /// Asks how a channel stands. Answered by `State`, to the channel's payer side only.
    Sync {
        /// The channel.
        channel: ChannelId,
        /// The client wants the receipts after this sequence: all before, both sides are known to have.
        after: u64,
    },
    /// Acknowledges what was received of the running answer and pays one increment ahead of it.
    Voucher {
        /// Absent where the best voucher the executor holds already covers it.
        voucher: Option<Signed<Voucher, Unverified>>,
        /// The bytes of `Chunk::data` received so far: always up to the end of a chunk.
        received_bytes: u64,
        /// The usage the last of these chunks announced.
        received: Usage,
    },
    /// Ends the running answer. What was delivered is billed.
    Cancel,
    /// Links a bill. Answered by `Recorded` or `Refused`.
    Receipt {
        /// Signed by both sides.
        receipt: Box<Receipt<Unverified>>,
        /// At least the receipt's amount; absent where an earlier voucher already is.
        voucher: Option<Signed<Voucher, Unverified>>,
    },
}

/// How a channel stands at its executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The channel.
    pub channel: ChannelId,
    /// The newest receipt the executor has recorded.
    pub head: Option<Receipt<Unverified>>,
    /// The receipts after the one the client named, in order. As many as fit a frame: who needs more asks again.
    pub receipts: Vec<Receipt<Unverified>>,
    /// Bills that no recorded receipt holds.
    pub unlinked: Vec<Signed<UsageBill, Unverified>>,
    /// The highest amount a voucher or receipt authorizes, base units.
    pub authorized: TokenAmount,
    /// Billed and reserved, base units.
    pub spent: TokenAmount,
    /// The confirmed deposit, base units.
    pub deposit: TokenAmount,
}

/// What an executor sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorFrame {
    /// The request is recorded; its answer follows.
    Accepted,
    /// Something the client sent breaks a rule. Nothing is served on it.
    Refused(Refusal),
    /// More of the answer.
    Chunk {
        /// Server-sent events as the backend wrote them: `data: …` lines, each event ended by an empty line.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// Tokens used by the answer up to the end of this chunk.
        usage: Usage,
    },
    /// The answer waits: the next tokens would pass what is authorized.
    NeedVoucher {
        /// What the channel's vouchers have to reach, base units.
        required: TokenAmount,
        /// What they reach now, base units.
        authorized: TokenAmount,
        /// The channel's confirmed deposit, base units.
        deposit: TokenAmount,
    },
    /// The answer is over; this is what it costs.
    Bill {
        /// Signed exactly once for a request.
        bill: Signed<UsageBill, Unverified>,
        /// Why the answer is over.
        ending: Ending,
    },
    /// The receipt is durable.
    Recorded {
        /// The receipt's.
        sequence: u64,
    },
    /// Answers `Sync`.
    State(Box<State>),
}

/// Why an answer is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The model finished.
    Complete,
    /// The request's `max_output` is reached.
    LimitReached,
    /// The model server failed. What came before it is billed, which may be nothing.
    BackendFailed {
        /// For a person.
        reason: String,
    },
    /// The client cancelled.
    Cancelled,
    /// The voucher that the next tokens needed did not come in time.
    Unpaid,
    /// The payer asked to close the channel.
    ChannelClosing,
    /// The executor is shutting down.
    ShuttingDown,
    /// The executor itself failed.
    ExecutorFailed,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => formatter.write_str("complete"),
            Self::LimitReached => formatter.write_str("the request's output limit is reached"),
            Self::BackendFailed { reason } => write!(formatter, "the model server failed: {reason}"),
            Self::Cancelled => formatter.write_str("cancelled by the client"),
            Self::Unpaid => formatter.write_str("the next voucher did not come in time"),
            Self::ChannelClosing => formatter.write_str("the payer asked to close the channel"),
            Self::ShuttingDown => formatter.write_str("the executor is shutting down"),
            Self::ExecutorFailed => formatter.write_str("the executor failed"),
        }
    }
}
