//! Orders to a running node: a socket in the home, one JSON order and one JSON answer a line.
//!
//! Whoever may open the socket may order: it lies in the home, which is its owner's alone. No order moves money
//! anywhere but to the payee.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use lloom_receipts::{ChannelId, UnixSeconds};
use lloom_watcher::{ClaimFilter, WatcherHandle};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    explanation::ExplanationAnswer,
    failure::{Failure, Kind, OrFail as _, Result},
    money::Token,
    monitoring::Joined,
    settlement::{ClaimAnswer, CloseAnswer, NetworkAnswer, PlanAnswer, StatusAnswer},
    watching::handle_failure,
};

/// The longest order, bytes. Answers have no limit: they are as long as the node has channels, and come from whoever
/// holds the home.
const MAX_ORDER: u64 = 4 << 20;
/// Orders that are carried out at a time. How the node stands is no order: whoever watches over it asks when it is busiest.
const MAX_ORDERS: usize = 16;
/// Connections at a time: there is room for whoever asks how the node stands beside all orders.
const MAX_CONNECTIONS: usize = 64;
/// How long whoever connects may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an order waits for a watcher that has just begun. Catching up takes hours where much happened meanwhile, and
/// an order that waits for it would have one of the places.
const BEGINNING: Duration = Duration::from_secs(5);
/// How long a node may take to say how it stands. It looks nothing up for that.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// What a node can be told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Claim what these channels earned; all, where none is named.
    Claim {
        /// Which.
        channels: Vec<ChannelId>,
    },
    /// Say what would be claimed.
    Plan {
        /// Which.
        channels: Vec<ChannelId>,
    },
    /// Say why a channel would be claimed now, or would not.
    Explain {
        /// Which.
        channel: ChannelId,
    },
    /// Close a channel.
    Close {
        /// Which.
        channel: ChannelId,
    },
    /// Say how the watcher stands.
    Status {},
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Order::Claim`].
    Claimed(ClaimAnswer),
    /// To [`Order::Plan`].
    Planned(PlanAnswer),
    /// To [`Order::Explain`].
    Explained(Box<ExplanationAnswer>),
    /// To [`Order::Close`].
    Closed(CloseAnswer),
    /// To [`Order::Status`].
    Status(StatusAnswer),
    /// It couldn't.
    Failed {
        /// The kind's exit code.
        exit_code: u8,
        /// Why.
        message: String,
        /// Advice.
        hints: Vec<String>,
    },
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Failed {
            exit_code: failure.kind().exit_code(),
            message: failure.one_line(),
            hints: failure.hints().to_vec(),
        }
    }
}

/// Whom orders are for, and what answers are made of.
#[derive(Clone, Debug)]
pub struct Served {
    /// Takes the orders.
    pub watcher: WatcherHandle,
    /// What amounts are in.
    pub token: Token,
    /// Where this process is monitored.
    pub monitoring: Option<String>,
    /// The peer-to-peer network, once it is joined.
    pub network: Joined,
}

/// The node's end. Orders are carried out until it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    _serving: JoinSet<()>,
}

impl ControlSocket {
    /// Answers at `path` from now on, whether the chain has been caught up with or not. The caller holds the home's store,
    /// so whatever socket lies there is a dead process's.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn open(path: &Path, served: Served) -> Result<Self> {
        let opened_at = UnixSeconds::from(SystemTime::now());
        Self::serving(path, move |order| {
            let served = served.clone();
            async move {
                caught_up(&order, &served.watcher).await?;
                Ok(match obey(order, &served).await? {
                    Answer::Status(status) => Answer::Status(StatusAnswer {
                        started_at: Some(opened_at.get()),
                        ..status
                    }),
                    answer => answer,
                })
            }
        })
    }

    /// The same, for whoever `obeys`.
    fn serving<O, F>(path: &Path, obeys: O) -> Result<Self>
    where
        O: Fn(Order) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let listener = bind(path)?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, obeys));
        Ok(Self {
            path: path.to_owned(),
            _serving: serving,
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A socket that stays is replaced by the next node.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> Result<UnixListener> {
    let operation = || format!("cannot listen at {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::of(Kind::Failed, error).while_(operation()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path)
        .or_fail(Kind::Failed, operation)
        .map_err(|failure| failure.hint("paths of sockets have to be short: use another --home if this one isn't"))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .or_fail(Kind::Failed, operation)?;
    Ok(listener)
}

async fn serve<O, F>(listener: UnixListener, obeys: O)
where
    O: Fn(Order) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Answer>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let places = Arc::new(Semaphore::new(MAX_ORDERS));
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, usually: they come back.
                tracing::warn!(%error, "an order can't be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(connection) = connections.clone().try_acquire_owned() else {
            continue;
        };
        let (obeys, places) = (obeys.clone(), places.clone());
        running.spawn(async move {
            if let Err(error) = answer(stream, obeys, &places).await {
                tracing::debug!(%error, "an order broke off");
            }
            drop(connection);
        });
    }
}

async fn answer<O, F>(stream: UnixStream, obeys: O, places: &Semaphore) -> io::Result<()>
where
    O: Fn(Order) -> F,
    F: Future<Output = Result<Answer>>,
{
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_ORDER));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Order>(&line) {
        Ok(order @ Order::Status {}) => obeys(order).await.unwrap_or_else(Answer::from),
        Ok(order) => match places.try_acquire() {
            Ok(_place) => {
                tracing::info!(?order, "carrying out an order");
                obeys(order).await.unwrap_or_else(Answer::from)
            }
            Err(_) => Failure::new(
                Kind::Refused,
                format!("the node is carrying out {MAX_ORDERS} orders already"),
            )
            .hint("nothing was sent: try again once one of them is done")
            .into(),
        },
        Err(error) => Failure::of(Kind::Usage, error).while_("the order can't be read").into(),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Refuses what needs to know the chain as long as `watcher` has not seen its head.
async fn caught_up(order: &Order, watcher: &WatcherHandle) -> Result {
    if matches!(order, Order::Status {}) {
        return Ok(());
    }
    let mut status = watcher.status();
    // One that stands by says so itself, and so does one that has ended.
    let begun = status.wait_for(|status| status.caught_up || status.standing_by);
    if tokio::time::timeout(BEGINNING, begun).await.is_ok() {
        return Ok(());
    }
    let status = StatusAnswer::from(&*watcher.status().borrow());
    let failure = Failure::new(
        Kind::Chain,
        match &status.problem {
            None => status.progress(),
            Some(problem) => format!("{}: {problem}", status.progress()),
        },
    );
    Err(failure
        .while_("the node can't do that yet")
        .hint("nothing was sent: try again later; `lloomctl doctor` says how it gets on"))
}

/// Carries an order out.
///
/// # Errors
/// The order's.
pub async fn obey(order: Order, served: &Served) -> Result<Answer> {
    let Served {
        watcher,
        token,
        monitoring,
        network,
    } = served;
    let filter = |channels| ClaimFilter { payee: None, channels };
    Ok(match order {
        Order::Claim { channels } => {
            let report = watcher.claim_now(filter(channels)).await.map_err(handle_failure)?;
            Answer::Claimed(ClaimAnswer::new(report, token))
        }
        Order::Plan { channels } => {
            let plan = watcher.plan(filter(channels)).await.map_err(handle_failure)?;
            Answer::Planned(PlanAnswer::new(plan, token))
        }
        Order::Explain { channel } => {
            let explanation = watcher.explain(channel).await.map_err(handle_failure)?;
            Answer::Explained(Box::new(ExplanationAnswer::new(explanation, token)))
        }
        Order::Close { channel } => {
            let report = watcher.close_channel(channel).await.map_err(handle_failure)?;
            Answer::Closed(CloseAnswer::new(report, token))
        }
        Order::Status {} => Answer::Status(StatusAnswer {
            monitoring: monitoring.clone(),
            network: network.get().map(NetworkAnswer::from),
            ..StatusAnswer::from(&*watcher.status().borrow())
        }),
    })
}

/// Asks the node that runs in this home how it stands. `None` when none does.
///
/// # Errors
/// When it does not answer soon, as one that hangs, or what it answers.
pub async fn ask_status(path: &Path) -> Result<Option<StatusAnswer>> {
    let Some(stream) = connect(path).await? else {
        return Ok(None);
    };
    // Who listens, as the system knows it: a store's lock may be anybody's.
    let holder = stream.peer_cred().ok().and_then(|holder| holder.pid());
    match tokio::time::timeout(STATUS_PATIENCE, exchange(path, stream, &Order::Status {})).await {
        Ok(answer) => match answer? {
            Answer::Status(status) => Ok(Some(status)),
            _ => Err(Failure::new(Kind::Failed, "the node answered something else")),
        },
        Err(_) => Err(silent(path, holder)),
    }
}

/// Hands `order` to the node that runs in this home. `None` when none does. An order may take as long as the chain takes
/// to make something final, so whether anybody is there that carries it out is [asked](ask_status) before.
///
/// # Errors
/// When the node hangs, what it answers, or a connection that broke.
pub async fn hand_over(path: &Path, order: &Order) -> Result<Option<Answer>> {
    if ask_status(path).await?.is_none() {
        return Ok(None);
    }
    match connect(path).await? {
        None => Ok(None),
        Some(stream) => exchange(path, stream, order).await.map(Some),
    }
}

/// What is said of a node that does not answer.
fn silent(path: &Path, holder: Option<i32>) -> Failure {
    let (who, end) = holder.map_or_else(
        || ("a process".to_owned(), "end it".to_owned()),
        |id| {
            (
                format!("process {id}"),
                format!("end it (`kill {id}`, `kill -KILL {id}` if that does nothing)"),
            )
        },
    );
    Failure::new(
        Kind::Failed,
        format!("{who} holds {} and does not answer", path.display()),
    )
    .hint(format!(
        "the node hangs, or was stopped: {end} and start it again; nothing that was authorized is lost"
    ))
}

fn operation(path: &Path) -> String {
    format!("cannot speak to the node at {}", path.display())
}

async fn connect(path: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        // None was started, or it died.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        // So many wait to be heard that no more may.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(silent(path, None)),
        Err(error) => Err(Failure::of(Kind::Failed, error).while_(operation(path))),
    }
}

async fn exchange(path: &Path, stream: UnixStream, order: &Order) -> Result<Answer> {
    let operation = || operation(path);
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(order).or_fail(Kind::Failed, operation)?;
    text.push(b'\n');
    write.write_all(&text).await.or_fail(Kind::Failed, operation)?;
    let mut line = String::new();
    BufReader::new(read)
        .read_line(&mut line)
        .await
        .or_fail(Kind::Failed, operation)?;
    // Also in the middle of it.
    if !line.ends_with('\n') {
        return Err(Failure::new(Kind::Failed, "the node ended before it answered")
            .hint("what it had sent goes on; `lloomctl earnings` shows where it stands"));
    }
    match serde_json::from_str(&line).or_fail(Kind::Failed, operation)? {
        Answer::Failed {
            exit_code,
            message,
            hints,
        } => {
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.exit_code() == exit_code)
                .unwrap_or(Kind::Failed);
            Err(hints.into_iter().fold(Failure::new(kind, message), Failure::hint))
        }
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use lloom_receipts::TokenAmount;
    use lloom_watcher::{Plan, Waiting, WatcherStatus, WhyNot};

    use super::*;
    use crate::{home::Home, network::Network};

    #[tokio::test]
    async fn nobody_answers_where_no_node_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        assert_eq!(hand_over(&path, &Order::Status {}).await.unwrap(), None);
        assert_eq!(ask_status(&path).await.unwrap(), None);
        // A node that died leaves its socket behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(hand_over(&path, &Order::Status {}).await.unwrap(), None);
        let socket = ControlSocket::serving(&path, |_| async { Err(Failure::new(Kind::Failed, "busy")) }).unwrap();
        assert!(hand_over(&path, &Order::Status {}).await.is_err());
        drop(socket);
        assert!(!path.exists(), "the socket goes with the node");
    }

    #[tokio::test]
    async fn how_a_node_stands_is_told_however_many_orders_are_under_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (begun, mut begins) = tokio::sync::mpsc::channel(MAX_ORDERS);
        let _socket = ControlSocket::serving(&path, move |order| {
            let begun = begun.clone();
            async move {
                if matches!(order, Order::Status {}) {
                    return Ok(Answer::Status(StatusAnswer::from(&WatcherStatus::default())));
                }
                begun.send(()).await.unwrap();
                std::future::pending().await
            }
        })
        .unwrap();
        let order = || Order::Plan { channels: Vec::new() };
        let mut waiting = JoinSet::new();
        for _ in 0..MAX_ORDERS {
            let stream = connect(&path).await.unwrap().unwrap();
            let path = path.clone();
            waiting.spawn(async move { exchange(&path, stream, &order()).await });
            begins.recv().await.unwrap();
        }
        assert!(ask_status(&path).await.unwrap().is_some());
        let refused = hand_over(&path, &order()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Refused, "{}", refused.one_line());
        assert!(waiting.try_join_next().is_none(), "those before go on");
    }

    /// Whoever connects and says nothing keeps nobody else from being heard.
    #[tokio::test]
    async fn connections_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let _socket = ControlSocket::serving(&path, |_| async {
            Ok(Answer::Status(StatusAnswer::from(&WatcherStatus::default())))
        })
        .unwrap();
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(connect(&path).await.unwrap().unwrap());
        }
        // The one beyond them is hung up on at once.
        let beyond = connect(&path).await.unwrap().unwrap();
        assert!(exchange(&path, beyond, &Order::Status {}).await.is_err());
        silent.clear();
        while ask_status(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_is_whole_however_many_channels_wait() {
        const CHANNELS: u64 = 100_000;
        let directory = tempfile::tempdir().unwrap();
        let network = Network::load(&Home::resolve(Some(directory.path().to_owned())).unwrap(), "devnet").unwrap();
        let waiting = |number: u64| Waiting {
            channel: ChannelId::new(U256::from(number).into()),
            token: network.token.address,
            value: TokenAmount::new(number.into()),
            why: WhyNot::AwaitsReceipt,
            claimed_from: None,
            deferred: None,
        };
        let plan = Plan {
            waiting: (0..CHANNELS).map(waiting).collect(),
            ..Plan::default()
        };
        let planned = PlanAnswer::new(plan, &network.token);
        assert!(serde_json::to_vec(&planned).unwrap().len() as u64 > 4 * MAX_ORDER);

        let path = directory.path().join("control.sock");
        let told = planned.clone();
        let _socket = ControlSocket::serving(&path, move |order| {
            let answer = match order {
                Order::Status {} => Answer::Status(StatusAnswer::from(&WatcherStatus::default())),
                _ => Answer::Planned(told.clone()),
            };
            async { Ok(answer) }
        })
        .unwrap();
        let order = Order::Plan { channels: Vec::new() };
        let answer = hand_over(&path, &order).await.unwrap();
        // Not by `assert_eq`, which would print both.
        assert!(answer == Some(Answer::Planned(planned)));
    }

    #[tokio::test]
    async fn a_node_that_dies_in_the_middle_of_its_answer_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let dying = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.read_line(&mut String::new()).await.unwrap();
            stream.write_all(b"{\"answer\":\"status\",\"head\":1").await.unwrap();
        });
        let failure = ask_status(&path).await.unwrap_err();
        assert_eq!(failure.message(), "the node ended before it answered");
        dying.await.unwrap();
    }

    #[test]
    fn orders_are_lines_of_json() {
        let order = Order::Close {
            channel: ChannelId::new(alloy::primitives::B256::repeat_byte(1)),
        };
        let text = serde_json::to_string(&order).unwrap();
        assert!(text.starts_with(r#"{"order":"close","channel":"0x0101"#), "{text}");
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        assert!(serde_json::from_str::<Order>(r#"{"order":"steal"}"#).is_err());
    }
}
