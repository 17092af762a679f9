//! The wire of `/lloom/tower/1.0.0`, and the questions that wait for a tower's answer.

use std::io;

use alloy::primitives::Address;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::{
    PeerId, StreamProtocol,
    request_response::{self, ResponseChannel},
};
use tokio::sync::mpsc;

use super::{
    codec::{encode, read},
    handle::NetworkHandle,
};
use crate::tower::{MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, TowerAnswer, TowerQuestion};

/// CBOR, one message a stream, never read beyond its limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TowerCodec;

/// A message beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than {limit} bytes")]
pub(super) struct Oversize {
    pub(super) limit: usize,
}

impl request_response::Codec for TowerCodec {
    type Protocol = StreamProtocol;
    type Request = TowerQuestion;
    type Response = TowerAnswer;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<TowerQuestion>
    where
        T: AsyncRead + Unpin + Send,
    {
        let limit = MAX_QUESTION_BYTES;
        read(io, limit, |_| Oversize { limit }).await
    }

    async fn read_response<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<TowerAnswer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let limit = MAX_ANSWER_BYTES;
        read(io, limit, |_| Oversize { limit }).await
    }

    async fn write_request<T>(&mut self, _: &Self::Protocol, io: &mut T, question: TowerQuestion) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&question)?).await
    }

    async fn write_response<T>(&mut self, _: &Self::Protocol, io: &mut T, answer: TowerAnswer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&answer)?).await
    }
}

/// A question as the event loop hands it on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: PeerId,
    pub(super) address: Address,
    pub(super) question: TowerQuestion,
    pub(super) channel: ResponseChannel<TowerAnswer>,
}

/// A question somebody asks this node as a tower.
#[derive(Debug)]
pub struct TowerInquiry {
    /// Who asks, as the connection's handshake has proven.
    pub address: Address,
    /// The same, as libp2p knows it.
    pub peer: PeerId,
    /// What.
    pub question: TowerQuestion,
    channel: ResponseChannel<TowerAnswer>,
    handle: NetworkHandle,
}

impl TowerInquiry {
    /// Answers it. Whoever has left by now isn't told.
    pub async fn answer(self, answer: TowerAnswer) {
        self.handle.answer_tower(self.channel, answer).await;
    }
}

/// The questions others ask this node as a tower, in the order of their arrival. A node that drops this is no tower any
/// more.
#[derive(Debug)]
pub struct TowerInquiries {
    pub(super) receiver: mpsc::Receiver<Asked>,
    pub(super) handle: NetworkHandle,
}

impl TowerInquiries {
    /// The next question; nothing once the network has been shut down. Cancel safe.
    pub async fn next(&mut self) -> Option<TowerInquiry> {
        let asked = tokio::select! {
            asked = self.receiver.recv() => asked?,
            () = self.handle.stopped() => return None,
        };
        Some(TowerInquiry {
            address: asked.address,
            peer: asked.peer,
            question: asked.question,
            channel: asked.channel,
            handle: self.handle.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;
    use lloom_receipts::{
        ChannelId, ChannelParameters, Domain, Keypair, TokenAmount, TowerAppointment, UnixSeconds, Voucher,
    };

    use super::*;
    use crate::{
        network::TOWER_PROTOCOL,
        tower::{DelegationAnswer, DelegationMessage, Deployment, MAX_DELEGATIONS, MAX_HELD_CLAIMS, TowerRefusal},
    };

    fn domain() -> Domain {
        Domain::new(u64::MAX, Address::repeat_byte(0xff), Address::repeat_byte(0xfe))
    }

    /// The largest question and the largest answers there are.
    fn largest() -> (TowerQuestion, Vec<TowerAnswer>) {
        let key = Keypair::from_secret([0xff; 32].map(|byte: u8| byte >> 1)).unwrap();
        let channel = ChannelId::new(B256::repeat_byte(0xff));
        let all = Address::repeat_byte(0xff);
        let voucher = key
            .sign(
                &domain(),
                Voucher {
                    channel,
                    amount: TokenAmount::MAX,
                },
            )
            .into_unverified();
        let delegation = DelegationMessage {
            parameters: ChannelParameters {
                payer: all,
                payee: all,
                token: all,
                salt: B256::repeat_byte(0xff),
                authorized_signer: all,
            },
            voucher: voucher.clone(),
            claim: TokenAmount::MAX,
        };
        let appointment = TowerAppointment {
            channel,
            tower: all,
            operator: all,
            ceiling: TokenAmount::MAX,
            claim: TokenAmount::MAX,
            minimum_value: TokenAmount::MAX,
            max_fee_per_gas: u128::MAX,
            taken_at: UnixSeconds::new(u64::MAX),
            expires_at: UnixSeconds::new(u64::MAX),
        };
        let appointment = key.sign(&domain(), appointment).into_unverified();
        let held = lloom_ledger::HeldClaim {
            channel,
            claim: TokenAmount::MAX,
            expires_at: UnixSeconds::new(u64::MAX),
        };
        let question = TowerQuestion::Update {
            deployment: Deployment::from(&domain()),
            delegations: vec![delegation; MAX_DELEGATIONS],
        };
        let answers = vec![
            TowerAnswer::Updated(vec![
                DelegationAnswer::PassedOver { appointment, voucher };
                MAX_DELEGATIONS
            ]),
            TowerAnswer::Status {
                held: vec![held; MAX_HELD_CLAIMS],
                more: true,
            },
        ];
        (question, answers)
    }

    #[tokio::test]
    async fn the_largest_messages_fit_and_survive_the_wire() {
        let (question, answers) = largest();
        let mut wire = Cursor::new(Vec::new());
        let mut codec = TowerCodec;
        codec
            .write_request(&TOWER_PROTOCOL, &mut wire, question.clone())
            .await
            .unwrap();
        let read = codec
            .read_request(&TOWER_PROTOCOL, &mut Cursor::new(wire.get_ref()))
            .await
            .unwrap();
        assert_eq!(read, question);
        for answer in answers {
            let mut wire = Cursor::new(Vec::new());
            codec
                .write_response(&TOWER_PROTOCOL, &mut wire, answer.clone())
                .await
                .unwrap();
            let read = codec
                .read_response(&TOWER_PROTOCOL, &mut Cursor::new(wire.get_ref()))
                .await
                .unwrap();
            assert_eq!(read, answer);
        }
    }

    #[tokio::test]
    async fn reads_no_further_than_the_limit_and_refuses_what_is_malformed() {
        let mut codec = TowerCodec;
        let long = vec![0x60; MAX_QUESTION_BYTES + 2];
        let error = codec
            .read_request(&TOWER_PROTOCOL, &mut Cursor::new(&long))
            .await
            .unwrap_err();
        let limit = MAX_QUESTION_BYTES;
        assert_eq!(
            error.get_ref().unwrap().downcast_ref::<Oversize>(),
            Some(&Oversize { limit })
        );
        let whole = encode(&TowerAnswer::Refused(TowerRefusal::Busy)).unwrap();
        for bytes in [&[][..], &[0xff; 64][..], &whole[..whole.len() - 1]] {
            assert!(
                codec
                    .read_response(&TOWER_PROTOCOL, &mut Cursor::new(bytes))
                    .await
                    .is_err()
            );
        }
    }
}
