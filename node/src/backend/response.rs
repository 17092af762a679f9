use bytes::{Bytes, BytesMut};

use super::error::BackendError;

/// How much of an unexpected answer is quoted.
const EXCERPT_BYTES: usize = 300;

/// The whole body, unless it is longer than `limit`.
pub(super) async fn read(
    mut response: reqwest::Response,
    limit: usize,
    unit: &'static str,
) -> Result<Bytes, BackendError> {
    let mut body = BytesMut::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| BackendError::BrokeOff(error.without_url()))?
    {
        if body.len() + part.len() > limit {
            return Err(BackendError::Oversize { unit, limit });
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// Enough of the body for an excerpt; what comes after it is never read.
pub(super) async fn beginning(mut response: reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    while body.len() <= EXCERPT_BYTES {
        match response.chunk().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            // What has come is quoted; why no more came doesn't matter beside the error it belongs to.
            Ok(None) | Err(_) => break,
        }
    }
    body.freeze()
}

/// One line of at most [`EXCERPT_BYTES`], with `secret` taken out.
pub(super) fn excerpt(bytes: &[u8], secret: Option<&str>) -> String {
    // The secret is taken out before the text is cut, lest a part of it stays at the end.
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "…");
    }
    let mut line = String::new();
    for character in text.trim().chars() {
        if line.len() + character.len_utf8() > EXCERPT_BYTES {
            line.push('…');
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}
