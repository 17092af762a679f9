use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{StreamProtocol, request_response};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Offer, OfferError, offer::MAX_OFFER_BYTES};

/// What is asked over [`OFFER_PROTOCOL`](super::OFFER_PROTOCOL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// What do you sell?
    Offer,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// This.
    Offer(Box<Offer>),
    /// Nothing: the node is no executor.
    NoOffer,
}

/// The most bytes a question takes.
const MAX_QUESTION_BYTES: usize = 1024;
/// What an [`Answer`] adds to the offer in it: the variant's name.
const ANSWER_OVERHEAD_BYTES: usize = 16;

/// CBOR, one message a stream, never read beyond its limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfferCodec;

impl request_response::Codec for OfferCodec {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, MAX_QUESTION_BYTES, |bytes| OfferError::TooLarge { bytes }).await
    }

    async fn read_response<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let limit = MAX_OFFER_BYTES + ANSWER_OVERHEAD_BYTES;
        read(io, limit, |bytes| OfferError::TooLarge { bytes }).await
    }

    async fn write_request<T>(&mut self, _: &Self::Protocol, io: &mut T, question: Question) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&question)?).await
    }

    async fn write_response<T>(&mut self, _: &Self::Protocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&answer)?).await
    }
}

/// The size of `offer` on the wire.
///
/// # Errors
/// [`OfferError::TooLarge`] when no peer would read it.
pub(super) fn check_size(offer: &Offer) -> Result<(), OfferError> {
    // An offer is plain data; if it can't be encoded it can't be sent, whatever its size.
    let bytes = encode(offer).map_or(usize::MAX, |encoded| encoded.len());
    if bytes > MAX_OFFER_BYTES {
        return Err(OfferError::TooLarge { bytes });
    }
    Ok(())
}

pub(super) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Reads a message of at most `limit` bytes; `too_large` says what is wrong with one that is longer.
pub(super) async fn read<T, M, E>(io: &mut T, limit: usize, too_large: impl FnOnce(usize) -> E) -> io::Result<M>
where
    T: AsyncRead + Unpin + Send,
    M: DeserializeOwned,
    E: std::error::Error + Send + Sync + 'static,
{
    // One byte more than allowed is read, so that too long can be told from cut short.
    let mut bytes = Vec::new();
    io.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, too_large(bytes.len())));
    }
    ciborium::from_reader(bytes.as_slice()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;
    use crate::network::{OFFER_PROTOCOL, offer_for_tests};

    async fn read_answer(bytes: &[u8]) -> io::Result<Answer> {
        OfferCodec.read_response(&OFFER_PROTOCOL, &mut Cursor::new(bytes)).await
    }

    #[tokio::test]
    async fn an_offer_survives_the_wire() {
        let answer = Answer::Offer(Box::new(offer_for_tests(Address::repeat_byte(3))));
        let mut wire = Cursor::new(Vec::new());
        OfferCodec
            .write_response(&OFFER_PROTOCOL, &mut wire, answer.clone())
            .await
            .unwrap();
        assert_eq!(read_answer(wire.get_ref()).await.unwrap(), answer);
    }

    #[tokio::test]
    async fn reads_no_further_than_the_limit() {
        let mut offer = offer_for_tests(Address::repeat_byte(3));
        offer.agent = "x".repeat(MAX_OFFER_BYTES);
        assert!(matches!(check_size(&offer), Err(OfferError::TooLarge { .. })));
        let error = read_answer(&encode(&Answer::Offer(Box::new(offer))).unwrap())
            .await
            .unwrap_err();
        let error = error.get_ref().unwrap().downcast_ref::<OfferError>().unwrap();
        assert!(matches!(error, OfferError::TooLarge { .. }));
    }

    #[tokio::test]
    async fn malformed_and_truncated_messages_are_errors() {
        let whole = encode(&Answer::Offer(Box::new(offer_for_tests(Address::repeat_byte(3))))).unwrap();
        for bytes in [&[][..], &[0xff; 64][..], &whole[..whole.len() - 1], b"{}"] {
            let error = read_answer(bytes).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        // The largest offer that passes the checks of its parts is the one the limit is made for.
        let mut largest = offer_for_tests(Address::repeat_byte(3));
        largest.agent = "a".repeat(crate::offer::MAX_AGENT_BYTES);
        largest.models = (0..crate::offer::MAX_MODELS)
            .map(|index| {
                let mut model = largest.models[0].clone();
                model.id = format!("{index:0>width$}", width = crate::offer::MAX_MODEL_ID_BYTES);
                model.hash = lloom_receipts::ModelHash::of_id(&model.id);
                model
            })
            .collect();
        assert_eq!(largest.check(largest.operator), Ok(()));
        assert_eq!(
            check_size(&largest),
            Ok(()),
            "MAX_OFFER_BYTES holds any offer within the limits"
        );
    }
}
