use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use alloy::primitives::keccak256;
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

use crate::{Weather, wait::LIMIT};

/// What a proxy does to the calls of a method.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answers this instead of asking the chain.
    Answer(Value),
    /// Answers this JSON-RPC error instead of asking the chain.
    Error(i64, &'static str),
    /// Asks the chain, then answers with an HTTP error: done, but reported failed.
    DoneButFailed,
    /// Answers with the hash of the transaction, and sends it nowhere: reported sent, but dropped.
    ReportedButDropped,
    /// The HTTP error alone.
    Unavailable,
    /// No answer at all.
    Silence,
    /// Half an answer.
    Garbage,
    /// What an endpoint says that is so many blocks behind.
    Behind(u64),
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
    weather: Mutex<Option<Weather>>,
    calls: watch::Sender<Calls>,
}

/// How often which method was called.
#[derive(Debug, Default)]
struct Calls {
    all: u64,
    of: HashMap<String, u64>,
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
            weather: Mutex::default(),
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

    /// From now on, every call meets what the weather has for it.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather() = Some(weather);
    }

    /// Forwards everything again.
    pub fn heal(&self) {
        self.faults().clear();
        *self.weather() = None;
    }

    /// How often `method` was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.shared.0.calls.borrow().of.get(method).copied().unwrap_or_default()
    }

    /// Waits until `method` was answered `count` times in all.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn called(&self, method: &str, count: u64) -> Result<()> {
        let mut calls = self.shared.0.calls.subscribe();
        let enough = |calls: &Calls| calls.of.get(method).is_some_and(|&so_far| so_far >= count);
        tokio::time::timeout(LIMIT, calls.wait_for(enough))
            .await
            .wrap_err_with(|| format!("waiting for {count} calls of {method}"))??;
        Ok(())
    }

    /// How often it was called at all.
    pub fn all_calls(&self) -> u64 {
        self.shared.0.calls.borrow().all
    }

    /// Waits until it was called `count` times in all: a moment in the life of whoever calls.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn called_at_all(&self, count: u64) -> Result<()> {
        let mut calls = self.shared.0.calls.subscribe();
        tokio::time::timeout(LIMIT, calls.wait_for(|calls| calls.all >= count))
            .await
            .wrap_err_with(|| format!("waiting for {count} calls"))??;
        Ok(())
    }

    fn weather(&self) -> std::sync::MutexGuard<'_, Option<Weather>> {
        self.shared.0.weather.lock().unwrap_or_else(PoisonError::into_inner)
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
                    Ok(Answer::Json(answer)) => answers.push(answer),
                    Ok(Answer::Garbage) => return GARBAGE.into_response(),
                    Err(status) => return status.into_response(),
                }
            }
            Ok(Answer::Json(Value::Array(answers)))
        }
        Ok(call) => shared.answer(call).await,
        Err(_) => Err(StatusCode::BAD_REQUEST),
    };
    match answer {
        Ok(Answer::Json(answer)) => Json(answer).into_response(),
        Ok(Answer::Garbage) => GARBAGE.into_response(),
        Err(status) => status.into_response(),
    }
}

/// The beginning of an answer that broke off.
const GARBAGE: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"resu";

enum Answer {
    Json(Value),
    Garbage,
}

impl Shared {
    async fn answer(&self, call: Value) -> Result<Answer, StatusCode> {
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        let id = call["id"].clone();
        let fault = self.fault_of(&method);
        self.0.calls.send_modify(|calls| {
            calls.all += 1;
            *calls.of.entry(method.clone()).or_default() += 1;
        });
        let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
        match fault {
            None => self.ask(&call).await,
            Some(Fault::Answer(answer)) => Ok(result(answer)),
            Some(Fault::Error(code, message)) => {
                Ok(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }))
            }
            Some(Fault::DoneButFailed) => self.ask(&call).await.and(Err(StatusCode::BAD_GATEWAY)),
            Some(Fault::ReportedButDropped) => {
                let raw: alloy::primitives::Bytes =
                    serde_json::from_value(call["params"][0].clone()).map_err(|_| StatusCode::BAD_REQUEST)?;
                Ok(result(json!(keccak256(raw))))
            }
            Some(Fault::Unavailable) => Err(StatusCode::SERVICE_UNAVAILABLE),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Garbage) => return Ok(Answer::Garbage),
            Some(Fault::Behind(blocks)) => self.ask_behind(&call, blocks).await,
        }
        .map(Answer::Json)
    }

    fn fault_of(&self, method: &str) -> Option<Fault> {
        let fixed = self.0.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fixed.get(method) {
            return Some(fault.clone());
        }
        let mut weather = self.0.weather.lock().unwrap_or_else(PoisonError::into_inner);
        weather.as_mut().and_then(|weather| weather.draw(method))
    }

    /// What an endpoint says that has not heard of the newest blocks.
    async fn ask_behind(&self, call: &Value, blocks: u64) -> Result<Value, StatusCode> {
        let hex = |value: &Value| {
            value
                .as_str()
                .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok())
        };
        let question = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": call["id"], "method": method, "params": params });
        let head = self.ask(&question("eth_blockNumber", json!([]))).await?;
        let head = hex(&head["result"]).unwrap_or_default().saturating_sub(blocks);
        let mut behind = call.clone();
        let params = &mut behind["params"];
        match call["method"].as_str().unwrap_or_default() {
            "eth_blockNumber" => {
                return Ok(json!({ "jsonrpc": "2.0", "id": call["id"], "result": format!("{head:#x}") }));
            }
            "eth_getBlockByNumber" if params[0] == "latest" => params[0] = json!(format!("{head:#x}")),
            "eth_getTransactionCount" | "eth_getBalance" if params[1].is_string() => {
                params[1] = json!(format!("{head:#x}"));
            }
            _ => {}
        }
        let answer = self.ask(&behind).await?;
        let result = &answer["result"];
        let number = if result["blockNumber"].is_string() {
            &result["blockNumber"]
        } else {
            &result["number"]
        };
        if hex(number).is_some_and(|number| number > head) {
            return Ok(json!({ "jsonrpc": "2.0", "id": call["id"], "result": null }));
        }
        // State or logs of a block it hasn't heard of.
        let named = call["params"].as_array().into_iter().flatten();
        for hash in named.map(|param| &param["blockHash"]).filter(|hash| hash.is_string()) {
            let block = self.ask(&question("eth_getBlockByHash", json!([hash, false]))).await?;
            if hex(&block["result"]["number"]).is_none_or(|number| number > head) {
                if call["method"] == "eth_getLogs" {
                    // As the worst of them: it has none, and says nothing of the block.
                    return Ok(json!({ "jsonrpc": "2.0", "id": call["id"], "result": [] }));
                }
                let error = json!({ "code": -32_000, "message": "header not found" });
                return Ok(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }));
            }
        }
        Ok(answer)
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
