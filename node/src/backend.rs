//! The LLM server behind an executor: any that speaks the OpenAI chat API (Ollama, LM Studio, vLLM, llama.cpp, OpenAI).

mod config;
mod error;
mod event;

pub use config::{BackendConfig, Counting, OutputCounting, Secret, Timeouts, Tokenizer, TokenizerEndpoint};
pub use error::BackendError;
pub use event::BackendEvent;
