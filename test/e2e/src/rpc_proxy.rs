use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use eyre::{Result, WrapErr};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::wait::LIMIT;

/// What a proxy does to the calls of a method.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answers this instead of asking the chain.
    Answer(Value),
    /// Answers this JSON-RPC error instead of asking the chain.
    Error(i64, &'static str),
    /// Asks the chain, then answers with an HTTP error: done, but reported failed.
    DoneButFailed,
    /// The HTTP error alone.
    Unavailable,
}

/// Stands between a process and its chain, forwards JSON-RPC, and lies where it was told to.
#[derive(Debug)]
pub struct RpcProxy {
    shared: Shared,
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: String,
    client: reqwest::Client,
    faults: Mutex<HashMap<String, Fault>>,
    calls: watch::Sender<HashMap<String, u64>>,
}

impl RpcProxy {
    /// Stands before the chain at `url`, on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(url: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .wrap_err("binding the proxy's port")?;
        let address = listener.local_addr().wrap_err("the proxy's address")?;
        let shared = Shared(Arc::new(Inner {
            chain: url.to_owned(),
            client: reqwest::Client::new(),
            faults: Mutex::default(),
            calls: watch::Sender::default(),
        }));
        let router = Router::new().fallback(forward).with_state(shared.clone());
        let server = tokio::spawn(async move {
            // It only ends with the task.
            let _never = axum::serve(listener, router).await;
        });
        Ok(Self {
            shared,
            address,
            server,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, calls of `method` meet `fault`.
    pub fn set_fault(&self, method: &str, fault: Fault) {
        self.faults().insert(method.to_owned(), fault);
    }

    /// Forwards everything again.
    pub fn heal(&self) {
        self.faults().clear();
    }

    /// How often `method` was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.shared.0.calls.borrow().get(method).copied().unwrap_or_default()
    }

    /// Waits until `method` was answered `count` times in all.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn called(&self, method: &str, count: u64) -> Result<()> {
        let mut calls = self.shared.0.calls.subscribe();
        let enough = |calls: &HashMap<String, u64>| calls.get(method).is_some_and(|&so_far| so_far >= count);
        tokio::time::timeout(LIMIT, calls.wait_for(enough))
            .await
            .wrap_err_with(|| format!("waiting for {count} calls of {method}"))??;
        Ok(())
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, HashMap<String, Fault>> {
        self.shared.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RpcProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(State(shared): State<Shared>, body: Bytes) -> Response {
    let answer = match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Array(calls)) => {
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                match shared.answer(call).await {
                    Ok(answer) => answers.push(answer),
                    Err(status) => return status.into_response(),
                }
            }
            Ok(Value::Array(answers))
        }
        Ok(call) => shared.answer(call).await,
        Err(_) => Err(StatusCode::BAD_REQUEST),
    };
    answer.map_or_else(IntoResponse::into_response, |answer| Json(answer).into_response())
}

impl Shared {
    async fn answer(&self, call: Value) -> Result<Value, StatusCode> {
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        let id = call["id"].clone();
        let faults = || self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = faults().get(&method).cloned();
        let answer = match fault {
            None => self.ask(&call).await,
            Some(Fault::Answer(result)) => Ok(json!({ "jsonrpc": "2.0", "id": id, "result": result })),
            Some(Fault::Error(code, message)) => {
                Ok(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }))
            }
            Some(Fault::DoneButFailed) => self.ask(&call).await.and(Err(StatusCode::BAD_GATEWAY)),
            Some(Fault::Unavailable) => Err(StatusCode::SERVICE_UNAVAILABLE),
        };
        self.0.calls.send_modify(|calls| *calls.entry(method).or_default() += 1);
        answer
    }

    async fn ask(&self, call: &Value) -> Result<Value, StatusCode> {
        let response = self.0.client.post(&self.0.chain).json(call).send().await;
        let response = response.map_err(|_| StatusCode::BAD_GATEWAY)?;
        response.json().await.map_err(|_| StatusCode::BAD_GATEWAY)
    }
}

#[cfg(test)]
mod tests {
    use alloy::providers::{Provider, ProviderBuilder};

    use super::*;
    use crate::{Anvil, Mining};

    #[tokio::test]
    async fn forwards_and_lies_as_told() {
        let anvil = Anvil::start(Mining::OnTransaction).await.unwrap();
        let proxy = RpcProxy::start(anvil.url()).await.unwrap();
        let provider = ProviderBuilder::new().connect_http(proxy.url().parse().unwrap());
        assert_eq!(provider.get_block_number().await.unwrap(), 0);

        proxy.set_fault("anvil_mine", Fault::DoneButFailed);
        let mined = provider
            .raw_request::<_, Value>("anvil_mine".into(), json!(["0x2"]))
            .await;
        assert!(mined.is_err());
        assert_eq!(anvil.block_number().await.unwrap(), 2);

        proxy.set_fault("eth_blockNumber", Fault::Answer(json!("0x9")));
        assert_eq!(provider.get_block_number().await.unwrap(), 9);
        proxy.set_fault("eth_blockNumber", Fault::Error(-32000, "not today"));
        assert!(provider.get_block_number().await.is_err());
        proxy.heal();
        assert_eq!(provider.get_block_number().await.unwrap(), 2);
        proxy.called("eth_blockNumber", 4).await.unwrap();
        assert_eq!(proxy.calls("anvil_mine"), 1);
    }
}
