use alloy::primitives::{Address, B256, U256};
use lloom_receipts::{
    ChannelId, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash, PricePerMillion, Prices,
    Receipt, ReceiptHead, RequestHash, RequestNonce, TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill, Voucher,
};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn usage(input: u32, output: u32) -> Usage {
    Usage {
        input: TokenCount::new(input),
        output: TokenCount::new(output),
    }
}

fn receipt(domain: &Domain, client: &Keypair, operator: &Keypair) -> Receipt {
    let channel = ChannelId::new(B256::repeat_byte(3));
    let bill = operator.sign(
        domain,
        UsageBill {
            channel,
            request: RequestHash::new(B256::repeat_byte(4)),
            response_hash: ContentHash::new(B256::repeat_byte(5)),
            usage: usage(7, 9),
            amount: TokenAmount::MAX,
            completed_at: UnixSeconds::new(11),
        },
    );
    let receipt = client.sign(domain, ReceiptHead::empty(channel).link(*bill.document()).unwrap());
    Receipt::join(receipt, &bill).unwrap().into_unverified()
}

fn client_frames() -> Vec<ClientFrame> {
    let domain = Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2));
    let client = Keypair::from_secret([7; 32]).unwrap();
    let operator = Keypair::from_secret([8; 32]).unwrap();
    let channel = ChannelId::new(B256::repeat_byte(3));
    let request = InferenceRequest {
        channel,
        operator: operator.address(),
        nonce: RequestNonce::new(U256::MAX),
        model: ModelHash::of_id("m"),
        prompt_hash: ContentHash::new(B256::repeat_byte(6)),
        max_input: TokenCount::new(10),
        max_output: TokenCount::new(u32::MAX),
        prices: Prices {
            input: PricePerMillion::new(TokenAmount::new(1)),
            output: PricePerMillion::new(TokenAmount::MAX),
        },
        deadline: UnixSeconds::new(u64::MAX),
    };
    let voucher = client
        .sign(
            &domain,
            Voucher {
                channel,
                amount: TokenAmount::MAX,
            },
        )
        .into_unverified();
    vec![
        ClientFrame::Infer(Box::new(Infer {
            request: client.sign(&domain, request).into_unverified(),
            client_random: B256::repeat_byte(9),
            salt: ContentSalt::new(B256::repeat_byte(10)),
            body: br#"{"model":"m"}"#.to_vec(),
            voucher: Some(voucher.clone()),
        })),
        ClientFrame::Sync { channel, after: 3 },
        ClientFrame::Voucher {
            voucher: Some(voucher),
            received_bytes: 12,
            received: usage(1, 2),
        },
        ClientFrame::Cancel,
        ClientFrame::Receipt {
            receipt: Box::new(receipt(&domain, &client, &operator)),
            voucher: None,
        },
    ]
}

fn executor_frames() -> Vec<ExecutorFrame> {
    let domain = Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2));
    let client = Keypair::from_secret([7; 32]).unwrap();
    let operator = Keypair::from_secret([8; 32]).unwrap();
    let receipt = receipt(&domain, &client, &operator);
    let bill = operator.sign(&domain, receipt.receipt().bill).into_unverified();
    vec![
        ExecutorFrame::Accepted,
        ExecutorFrame::Refused(Refusal::DoesNotExtend {
            head: Some(Box::new(receipt.clone())),
        }),
        ExecutorFrame::Refused(Refusal::Busy),
        ExecutorFrame::Chunk {
            data: vec![0, 255, 10],
            usage: usage(3, 4),
        },
        ExecutorFrame::NeedVoucher {
            required: TokenAmount::new(3),
            authorized: TokenAmount::ZERO,
            deposit: TokenAmount::MAX,
        },
        ExecutorFrame::Bill {
            bill: bill.clone(),
            ending: Ending::BackendFailed { reason: "gone".into() },
        },
        ExecutorFrame::Recorded { sequence: u64::MAX },
        ExecutorFrame::State(Box::new(State {
            channel: bill.document().channel,
            head: Some(receipt.clone()),
            receipts: vec![receipt],
            unlinked: vec![bill],
            authorized: TokenAmount::new(1),
            spent: TokenAmount::new(2),
            deposit: TokenAmount::new(3),
        })),
    ]
}

#[tokio::test]
async fn every_frame_survives_the_wire() {
    let (near, far) = tokio::io::duplex(64);
    let writing = tokio::spawn(async move {
        let mut writer = FrameWriter::new(near);
        for frame in client_frames() {
            writer.queue(&frame).unwrap();
        }
        for frame in executor_frames() {
            writer.queue(&frame).unwrap();
        }
        writer.drain(PATIENCE).await.unwrap();
        assert!(writer.is_drained());
        writer.close(PATIENCE).await.unwrap();
    });
    let mut reader = FrameReader::<_, ClientFrame>::new(far);
    for frame in client_frames() {
        assert_eq!(reader.next().await.unwrap(), Some(frame));
    }
    let mut reader = reader.of::<ExecutorFrame>();
    for frame in executor_frames() {
        assert_eq!(reader.next().await.unwrap(), Some(frame));
    }
    assert_eq!(reader.next().await.unwrap(), None);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_malformed_frame_ends_nothing_but_itself() {
    let good = ExecutorFrame::Recorded { sequence: 7 };
    let mut bytes = Vec::new();
    let malformed: [&[u8]; 5] = [
        b"",
        b"\xff\xff",
        b"\x64abcd",
        // A frame with a byte behind it.
        b"\x68Accepted\x00",
        // Arrays in arrays, deeper than any frame.
        &[0x81; 200],
    ];
    for content in malformed {
        bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&encode(&good).unwrap());
    }
    let mut reader = FrameReader::<_, ExecutorFrame>::new(bytes.as_slice());
    for content in malformed {
        assert!(
            matches!(reader.next().await, Err(WireError::Malformed { .. })),
            "{content:?}"
        );
        assert_eq!(reader.next().await.unwrap().as_ref(), Some(&good));
    }
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn oversize_and_truncated_frames_are_told_apart() {
    let mut reader = FrameReader::<_, ClientFrame>::new(&[0x00, 0x10, 0x00, 0x01, 0x00][..]);
    assert!(matches!(
        reader.next().await,
        Err(WireError::Oversize { length: 1_048_577 })
    ));
    let mut reader = FrameReader::<_, ClientFrame>::new(&[0, 0, 0, 9, 1, 2][..]);
    assert!(matches!(
        reader.next().await,
        Err(WireError::Truncated {
            received: 6,
            length: 13
        })
    ));
    let mut reader = FrameReader::<_, ClientFrame>::new(&[0, 0][..]);
    assert!(matches!(
        reader.next().await,
        Err(WireError::Truncated { received: 2, length: 4 })
    ));

    let mut writer = FrameWriter::new(Vec::new());
    let long = ExecutorFrame::Chunk {
        data: vec![0; MAX_FRAME],
        usage: usage(0, 0),
    };
    assert!(matches!(writer.queue(&long), Err(WireError::Oversize { .. })));
    assert!(writer.is_drained());
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let (mut near, far) = tokio::io::duplex(1024);
    let bytes = encode(&ClientFrame::Cancel).unwrap();
    let mut reader = FrameReader::<_, ClientFrame>::new(far);
    for byte in bytes.iter() {
        assert!(futures::FutureExt::now_or_never(reader.next()).is_none());
        near.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(reader.next().await.unwrap(), Some(ClientFrame::Cancel));
}

#[tokio::test]
async fn a_reader_that_stalls_is_given_up() {
    let (near, _far) = tokio::io::duplex(16);
    let mut writer = FrameWriter::new(near);
    let chunk = ExecutorFrame::Chunk {
        data: vec![1; 100],
        usage: usage(0, 0),
    };
    assert!(matches!(
        writer.send(&chunk, Duration::from_millis(20)).await,
        Err(WireError::Stalled { .. })
    ));
}
