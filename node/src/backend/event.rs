use bytes::Bytes;
use lloom_receipts::{TokenCount, Usage};

/// What comes of a chat, in order: any number of deltas, one usage, then the end.
///
/// A stream that fails yields its usage, too, if it carried anything, and then the error: what was delivered is billed,
/// whatever came after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// A chunk to pass on.
    Delta {
        /// The data of the server-sent event, byte for byte: tool calls, reasoning and unknown fields included.
        data: Bytes,
        /// Output tokens so far, this chunk included, as far as can be told yet: what the server reports on the
        /// way, or one for each delta that carried text, and several for a long one.
        /// The usage at the end may say more or less.
        output: TokenCount,
    },
    /// What to bill.
    Usage(Usage),
    /// The answer is complete. Nothing follows.
    Done,
}
