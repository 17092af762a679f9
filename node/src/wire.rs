//! What the two ends of an inference stream say to each other, and how it looks on the wire.
//!
//! A frame is a big-endian `u32` length and that many bytes of CBOR, at most [`MAX_FRAME`]. One stream carries one
//! inference at a time, and any number one after the other; several inferences at a time take several streams.
//!
//! ```text
//! client                                          executor
//!   Infer { request, body, first voucher }   ─▶
//!                                            ◀─   Accepted | Refused
//!                                            ◀─   Chunk …
//!   Voucher { received so far }              ─▶
//!                                            ◀─   NeedVoucher (only where one is missing)
//!                                            ◀─   Bill { why it ended }
//!   Receipt { + voucher }                    ─▶
//!                                            ◀─   Recorded | Refused
//! ```
//!
//! A [`Refusal`] ends what it refuses and nothing else: the stream, the connection and the other streams go on. Only a
//! frame whose end can't be found (too long, or cut off) ends its stream.

mod codec;
mod frame;
mod refusal;

pub use codec::{FrameReader, FrameWriter, WireError, encode};
pub use frame::{ClientFrame, Ending, ExecutorFrame, Infer, State};
pub use refusal::{Document, Refusal};

/// The most bytes of CBOR one frame may have. A request's body has to fit into it.
pub const MAX_FRAME: usize = 1 << 20;

/// How far one event of an answer may reach past what is reserved when the client has paid all that it can: an event
/// can't be cut, and a client never pays more than one increment ahead. Output tokens.
pub const MAX_OVERSHOOT: u32 = 256;

#[cfg(test)]
mod tests;
