//! A real HTTP server that answers JSON-RPC as a test says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

type Script = Box<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// What the script gives is what is answered, with the id put in; `{"status": n}` is an HTTP error instead, and
/// `{"silent": true}` no answer at all.
pub(super) struct StubEndpoint {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    calls: Mutex<HashMap<String, usize>>,
}

impl StubEndpoint {
    pub(super) async fn start(script: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            calls: Mutex::default(),
        });
        let served = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Self {
            shared,
            address,
            server,
        }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set(&self, script: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn calls(&self, method: &str) -> usize {
        self.shared.calls.lock().unwrap().get(method).copied().unwrap_or(0)
    }
}

impl Drop for StubEndpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            let line = line.trim().to_lowercase();
            if let Some(given) = line.strip_prefix("content-length:") {
                length = given.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let call: Value = serde_json::from_slice(&body).ok()?;
        let method = call["method"].as_str()?;
        *shared.calls.lock().unwrap().entry(method.to_owned()).or_default() += 1;
        let mut answer = (shared.script.lock().unwrap())(method, &call["params"]);
        if answer["silent"] == json!(true) {
            std::future::pending::<()>().await;
        }
        let status = answer["status"].as_u64().unwrap_or(200);
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = call["id"].clone();
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all((head + &body).as_bytes()).await.ok()?;
    }
}
