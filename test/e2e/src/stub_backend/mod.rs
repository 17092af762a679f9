//! A small HTTP server that speaks the part of the OpenAI API an executor uses, without a model behind it.
//!
//! **Tokens.** A text is split at white space into words, and a word into pieces of at most four characters; each
//! piece is a token ([`tokens_of`]). A prompt's tokens are those of all its messages' roles and contents, as where a chat
//! template writes both ([`prompt_tokens`]). An answer is streamed one token a chunk, so true counts are known whatever
//! the server says about them.
//!
//! **Answers** ([`answer`]) depend on the prompt and the limit alone.

mod behavior;
mod chat;
mod server;
mod text;

pub use behavior::{Behavior, Ending};
pub use server::{Served, StubBackend};
pub use text::{answer, prompt_tokens, tokens_of};
