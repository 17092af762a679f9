use std::fmt;

use alloy::primitives::Address;
use lloom_receipts::{ModelHash, Prices, Receipt, TokenAmount, TokenCount, UnixSeconds, Unverified};
use serde::{Deserialize, Serialize};

/// A kind of signed document, named in a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// An inference request.
    Request,
    /// A voucher.
    Voucher,
    /// A usage receipt.
    Receipt,
    /// The bill inside a usage receipt.
    Bill,
}

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Request => "request",
            Self::Voucher => "voucher",
            Self::Receipt => "receipt",
            Self::Bill => "bill",
        })
    }
}

/// Why an executor does not do what a frame asks: one variant a rule broken.
///
/// Nothing is served on what is refused, and nothing of it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    // Frames.
    /// The frame is no CBOR of a client frame.
    #[error("the frame is malformed: {detail}")]
    Malformed {
        /// For a person.
        detail: String,
    },
    /// The frame is too long. Ends the stream.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    Oversize {
        /// What its length says.
        length: u64,
        /// The most it may say.
        limit: u64,
    },
    /// The stream ended inside a frame. Ends the stream.
    #[error("the stream ended inside a frame: {received} of {length} bytes came")]
    Truncated {
        /// Bytes that came.
        received: u64,
        /// Bytes the frame has, the length itself included.
        length: u64,
    },
    /// A request while the stream still answers another.
    #[error("this stream is still answering a request")]
    Busy,
    /// An acknowledgement of something that was never sent.
    #[error("{received_bytes} bytes acknowledged is not the end of a chunk that was sent")]
    NeverSent {
        /// What was acknowledged.
        received_bytes: u64,
    },

    // Who.
    /// The channel's salt does not name this node.
    #[error("the channel is not committed to {operator}")]
    NotCommitted {
        /// This node's operator.
        operator: Address,
    },
    /// The request names another operator.
    #[error("the request is for another operator, not for {operator}")]
    OtherOperator {
        /// This node's operator.
        operator: Address,
    },
    /// The channel pays somebody else, or in another token.
    #[error("the channel pays {payee} in {token}, which is not what this node offers")]
    OtherPayment {
        /// The channel's.
        payee: Address,
        /// The channel's.
        token: Address,
    },
    /// Not signed by who has to.
    #[error("the {document} is not signed by {expected}")]
    WrongSigner {
        /// Which one.
        document: Document,
        /// Who has to.
        expected: Address,
    },
    /// A document names another channel than the one it comes with.
    #[error("the {document} is of another channel")]
    OtherChannel {
        /// Which one.
        document: Document,
    },
    /// Only the channel's payer side is told how it stands.
    #[error("only the channel's payer side may ask for its state")]
    NotThePayer,

    // The request.
    /// Its deadline has passed.
    #[error("the request expired at {deadline}, here it is {now}")]
    Expired {
        /// The request's.
        deadline: UnixSeconds,
        /// This node's clock.
        now: UnixSeconds,
    },
    /// Its deadline lies too far ahead.
    #[error("the request's deadline {deadline} lies too far ahead, here it is {now}")]
    DeadlineTooFar {
        /// The request's.
        deadline: UnixSeconds,
        /// This node's clock.
        now: UnixSeconds,
    },
    /// Its maximum does not fit `uint128`.
    #[error("the request's maximum is more than a channel can hold")]
    AmountOverflow,
    /// Not a model of this node.
    #[error("the model {model} is not served here")]
    UnknownModel {
        /// The request's.
        model: ModelHash,
    },
    /// Below this node's prices.
    #[error(
        "the request's prices are under the ask of {} (input) and {} (output) base units per million tokens",
        ask.input, ask.output
    )]
    PriceUnderAsk {
        /// The least this node takes.
        ask: Prices,
    },
    /// More tokens than this node serves in one request, or none.
    #[error("the request's limits are outside the offer's: at most {max_input} input and {max_output} output tokens")]
    LimitsOutsideOffer {
        /// The offer's.
        max_input: TokenCount,
        /// The offer's.
        max_output: TokenCount,
    },
    /// The body can't have so few tokens.
    #[error("the request's input limit is too low for its body: at least {minimum} tokens")]
    InputLimitTooLow {
        /// The least this node takes.
        minimum: TokenCount,
    },
    /// The body is not the one the request commits to.
    #[error("the body is not the one the request's prompt hash commits to")]
    PromptHashMismatch,
    /// The body is no `chat.completions` object.
    #[error("the body is no chat completion request: {detail}")]
    MalformedBody {
        /// For a person.
        detail: String,
    },
    /// The body names another model than the request.
    #[error("the body asks for the model '{body}', the request for another")]
    BodyModelMismatch {
        /// The body's.
        body: String,
    },
    /// The body asks for more output than the request pays for.
    #[error("the body asks for {body} tokens, the request allows {request}")]
    BodyLimitMismatch {
        /// The body's.
        body: u64,
        /// The request's.
        request: TokenCount,
    },
    /// The nonce, or this very request, was used before.
    #[error("the request's nonce was used before")]
    NonceUsed,

    // The channel and its money.
    /// No such channel is known here (yet).
    #[error("the channel is unknown here")]
    ChannelUnknown,
    /// The channel, its deposit, or that its close was called off, is not confirmed yet.
    #[error("the channel is not confirmed yet")]
    ChannelUnconfirmed,
    /// The payer asked to close the channel.
    #[error("the payer asked to close the channel")]
    ChannelClosing,
    /// The channel is closed.
    #[error("the channel is closed")]
    ChannelFinalized,
    /// Less is deposited than this node asks for.
    #[error("the channel's deposit of {deposit} is under the minimum of {minimum}")]
    DepositTooSmall {
        /// Confirmed.
        deposit: TokenAmount,
        /// The offer's.
        minimum: TokenAmount,
    },
    /// A voucher for more than is deposited.
    #[error("the voucher is over the channel's deposit of {deposit}")]
    VoucherOverDeposit {
        /// Confirmed.
        deposit: TokenAmount,
    },
    /// A voucher below one that is already held.
    #[error("the voucher does not increase: {best} is already authorized")]
    VoucherNotIncreasing {
        /// The best voucher held.
        best: TokenAmount,
    },
    /// What is authorized does not cover what is asked.
    #[error("{required} base units have to be authorized, {authorized} are (deposit {deposit})")]
    Uncovered {
        /// What vouchers have to reach.
        required: TokenAmount,
        /// What they reach.
        authorized: TokenAmount,
        /// The channel's confirmed deposit.
        deposit: TokenAmount,
    },

    // Bills and receipts.
    /// The receipt's predecessor or totals are not the recorded head's.
    #[error("the receipt does not extend the recorded head")]
    DoesNotExtend {
        /// The recorded head; absent when nothing is recorded.
        head: Option<Box<Receipt<Unverified>>>,
    },
    /// This node never signed the bill inside the receipt.
    #[error("the receipt's bill was never made here")]
    UnknownBill,
    /// Another receipt already holds a bill of that request.
    #[error("the request's bill is already linked")]
    BillAlreadyLinked,

    // This node.
    /// As many inferences are running as this node serves at a time.
    #[error("all of the {capacity} places are taken")]
    Overloaded {
        /// How many it serves at a time.
        capacity: u32,
    },
    /// Too many of the channel's requests were taken on and came to nothing. An answer makes room for another request, and
    /// so does time.
    #[error("too many of the channel's requests came to nothing; one more is taken at {until}")]
    Fruitless {
        /// From when on it is.
        until: UnixSeconds,
    },
    /// This node's store was restored; it may have signed bills it doesn't know of.
    #[error("this node was restored from a backup and takes no such request before {until}")]
    RestoredTooRecently {
        /// From when on it does.
        until: UnixSeconds,
    },
    /// This node has lost sight of the chain: no endpoint answers it, or none shows it a new block. It could not know if the
    /// channel is closing.
    #[error("this node can't see the chain at the moment: it reaches no endpoint, or is shown no new block")]
    ChainOutOfSight,
    /// This node's payee has removed its key: it would sign what counts for nobody.
    #[error("this node's payee does not name it as an operator any more")]
    NotNamed,
    /// This node is about to stop.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// This node's store failed. What was asked is not recorded.
    #[error("this node failed internally")]
    Internal,
}
