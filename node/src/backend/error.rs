use std::time::Duration;

/// Why a backend's answer ended before its end, or never began.
///
/// Nothing here holds the API key, also where the server repeats it.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The configuration is no use.
    #[error("the backend's configuration: {0}")]
    Config(&'static str),
    /// The request's body is no chat request.
    #[error("the chat request: {0}")]
    Request(&'static str),
    /// No connection, or it broke before the answer began.
    #[error("the backend can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The answer is an HTTP error.
    #[error("the backend answers {status}: {excerpt}")]
    Status {
        /// The status code.
        status: u16,
        /// The beginning of its body.
        excerpt: String,
    },
    /// The answer is no stream of events, or no JSON.
    #[error("the backend answers with '{content_type}' where {expected} is expected: {excerpt}")]
    ContentType {
        /// What it says it sends.
        content_type: String,
        /// What was asked for.
        expected: &'static str,
        /// The beginning of the body.
        excerpt: String,
    },
    /// Nothing came in time.
    #[error("the backend sent no {awaited} within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was waited for.
        awaited: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The connection broke in the middle of the answer.
    #[error("the backend's answer broke off")]
    BrokeOff(#[source] reqwest::Error),
    /// The answer ended without saying that it is complete.
    #[error("the backend's answer ended before it was complete")]
    Incomplete,
    /// What came is no chunk of a chat completion.
    #[error("the backend sent what is no chunk of a chat completion: {excerpt}")]
    Garbage {
        /// The beginning of it.
        excerpt: String,
    },
    /// One event, or one whole short answer, is too long.
    #[error("the backend sent more than {limit} bytes where one {unit} is expected")]
    Oversize {
        /// Of what.
        unit: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The server says in the stream that it failed.
    #[error("the backend failed: {excerpt}")]
    Reported {
        /// The beginning of what it says.
        excerpt: String,
    },
}
