use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Answers every stream with who opened it and what it sent.
fn echo(mut incoming: IncomingStreams) {
    tokio::spawn(async move {
        while let Some(mut incoming) = incoming.next().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                incoming.stream.read_to_end(&mut received).await.unwrap();
                incoming.stream.write_all(incoming.address.as_slice()).await.unwrap();
                incoming.stream.write_all(&received).await.unwrap();
                incoming.stream.shutdown().await.unwrap();
            });
        }
    });
}

async fn ask(mut stream: InferenceStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_together_all_arrive() {
    let executor = Node::start(config(1)).await;
    let peer = executor.handle.peer_id();
    let address = executor.address();
    echo(executor.incoming);
    let clients = [Node::start(config(2)).await, Node::start(config(3)).await];
    for client in &clients {
        client.handle.dial(address.clone()).await.unwrap();
    }
    let answers = clients.iter().flat_map(|client| {
        (0..50u32).map(move |number| async move {
            let stream = client.handle.open_inference_stream(peer).await.unwrap();
            // Long enough to take several frames of the multiplexer.
            let text = number.to_be_bytes().repeat(10_000);
            let answer = ask(stream, &text).await;
            let expected = [client.handle.address().as_slice(), &text].concat();
            assert!(answer == expected, "stream {number} is answered with its own text");
        })
    });
    timeout(PATIENCE, join_all(answers))
        .await
        .expect("every stream is answered");
}

#[tokio::test]
async fn opening_a_stream_dials_a_peer_that_was_found() {
    let third = Node::start(config(3)).await;
    let executor = Node::joining(1, &[&third]).await;
    executor.serve().await;
    let client = Node::joining(2, &[&third]).await;
    let peer = executor.handle.peer_id();
    find(&client.handle, Some(tiny()), peer).await;
    echo(executor.incoming);
    let stream = client.handle.open_inference_stream(peer).await.unwrap();
    assert_eq!(
        ask(stream, b"x").await,
        [client.handle.address().as_slice(), b"x"].concat()
    );
}

#[tokio::test]
async fn who_serves_no_inference_says_so() {
    let node = Node::start(config(1)).await;
    drop(node.incoming);
    let client = Node::start(config(2)).await;
    let address = node.handle.listen_addresses().swap_remove(0);
    let peer = client.handle.dial(address).await.unwrap();
    let error = client.handle.open_inference_stream(peer).await.unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::OpenStream {
                source: OpenStreamError::Unsupported,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_a_closed_one_makes_room() {
    let mut executor = Node::start(config(1)).await;
    let mut limited = config(2);
    limited.limits.streams_per_connection = 2;
    let client = Node::start(limited).await;
    let peer = client.handle.dial(executor.address()).await.unwrap();
    let first = client.handle.open_inference_stream(peer).await.unwrap();
    let _second = client.handle.open_inference_stream(peer).await.unwrap();
    let error = client.handle.open_inference_stream(peer).await.unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::OpenStream {
                source: OpenStreamError::TooMany { limit: 2 },
                ..
            }
        ),
        "{error:?}"
    );
    drop(first);
    client.handle.open_inference_stream(peer).await.unwrap();
    assert_eq!(executor.incoming.next().await.unwrap().address, client.handle.address());
}

#[tokio::test]
async fn incoming_streams_beyond_the_limit_are_reset_and_the_others_go_on() {
    let mut limited = config(1);
    limited.limits.streams_per_connection = 1;
    let mut executor = Node::start(limited).await;
    let client = Node::start(config(2)).await;
    let peer = client.handle.dial(executor.address()).await.unwrap();
    let mut first = client.handle.open_inference_stream(peer).await.unwrap();
    first.write_all(b"first").await.unwrap();
    let mut served = executor.incoming.next().await.unwrap();
    let mut second = client.handle.open_inference_stream(peer).await.unwrap();
    // The reset shows as an error or as an end, never as an answer.
    let read = timeout(PATIENCE, second.read(&mut [0; 1])).await.expect("it is reset");
    assert!(!matches!(read, Ok(1..)), "{read:?}");

    let mut received = [0; 5];
    served.stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"first");
    served.stream.write_all(b"still").await.unwrap();
    first.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"still");
}

#[tokio::test]
async fn streams_end_when_the_peer_shuts_down() {
    let mut executor = Node::start(config(1)).await;
    let client = Node::start(config(2)).await;
    let peer = client.handle.dial(executor.address()).await.unwrap();
    let mut stream = client.handle.open_inference_stream(peer).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let served = executor.incoming.next().await.unwrap();
    executor.handle.shutdown().await;
    let read = timeout(PATIENCE, stream.read(&mut [0; 1]))
        .await
        .expect("the stream ends");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    drop(served);
}
