//! A database on the other side of a network: who answers there, and when nobody does.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use lloom_ledger::{Ledger, LedgerError, OpenError, Outcome, ServeError};
use lloom_postgres::{Certificate, Server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    beside,
    world::{Home, Pair, amount, deployment, mine},
};

/// Who signs the certificates of servers.
struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: parameters.self_signed(&key).unwrap(),
            key,
        }
    }

    fn certify(&self, name: &str) -> Certificate {
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.certificate, &self.key).unwrap();
        Certificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// What a connection says that trusts this authority alone.
    fn verifying(&self, folder: &Path) -> String {
        let path = folder.join("ca.pem");
        std::fs::write(&path, self.certificate.pem()).unwrap();
        format!("sslmode=verify-full&sslrootcert={}", path.display())
    }
}

async fn refusal(url: String) -> String {
    let home = Home::at(url);
    let refused = Ledger::open(home.url(), &deployment()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Sql { .. }), "{refused}");
    with_causes(&refused)
}

/// An error with all of its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[tokio::test]
async fn a_server_is_spoken_to_when_its_certificate_is_the_one_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let verifying = authority.verifying(folder.path());
    let server = Server::start_on_network(Some(&authority.certify("localhost"))).unwrap();
    let home = Home::at(server.network_url("postgres", &verifying));
    let ledger = home.open().await;
    mine(&ledger, vec![Pair::new(1, 1).opened(1_000)]).await;
    let mut beside = beside::at(&server.url("postgres")).await;
    let sessions = "FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name = 'lloom'";
    let unencrypted = beside.numbers(&format!("SELECT count(*) {sessions} AND NOT ssl")).await;
    let encrypted = beside.numbers(&format!("SELECT count(*) {sessions} AND ssl")).await;
    assert_eq!(unencrypted, [0]);
    assert!(encrypted[0] > 0);
    ledger.close().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let unknown = refusal(server.network_url("postgres", &stranger.verifying(elsewhere.path()))).await;
    assert!(unknown.contains("certificate"), "{unknown}");
    let nameless = server
        .network_url("postgres", &verifying)
        .replace("localhost", "127.0.0.1");
    let nameless = refusal(nameless).await;
    assert!(nameless.contains("certificate"), "{nameless}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = Server::start_on_network(None).unwrap();
    for mode in ["require", "verify-full"] {
        let refused = refusal(server.network_url("postgres", &format!("sslmode={mode}"))).await;
        assert!(refused.contains("TLS"), "{refused}");
    }
}

/// A way to a server that can fall silent (what is sent then arrives nowhere, and nobody is told), and lose a commit.
struct Way {
    port: u16,
    open: watch::Sender<bool>,
    loss: Arc<Mutex<Option<Loss>>>,
}

/// What the next commit loses, and its connection with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// It does not arrive.
    Order,
    /// It takes effect, and nobody is told.
    Answer,
    /// The same, and the way falls silent after it.
    AnswerAndWay,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (open, _) = watch::channel(true);
        let loss = Arc::new(Mutex::new(None));
        let (of_connections, losses) = (open.clone(), Arc::clone(&loss));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, port, of_connections.clone(), Arc::clone(&losses)));
            }
        });
        Self { port: own, open, loss }
    }

    fn lose(&self, loss: Loss) {
        *self.loss.lock().unwrap() = Some(loss);
    }
}

async fn carry(mut near: TcpStream, port: u16, open: watch::Sender<bool>, loss: Arc<Mutex<Option<Loss>>>) {
    let mut is_open = open.subscribe();
    if is_open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut to, mut from) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = near.read(&mut to) => {
                let Ok(length @ 1..) = read else { return };
                let commits = names_commit(&to[..length]);
                let lost = commits.then(|| loss.lock().unwrap().take()).flatten();
                if lost == Some(Loss::Order) {
                    return;
                }
                far.write_all(&to[..length]).await.unwrap();
                if let Some(lost) = lost {
                    // Its answer is there: it has taken effect.
                    let mut length = 0;
                    while !names_commit(&from[..length]) {
                        length = far.read(&mut from).await.unwrap();
                    }
                    if lost == Loss::AnswerAndWay {
                        open.send_replace(false);
                    }
                    return;
                }
            }
            read = far.read(&mut from) => {
                let Ok(length @ 1..) = read else { return };
                if near.write_all(&from[..length]).await.is_err() {
                    return;
                }
            }
            () = async { drop(is_open.wait_for(|open| !open).await) } => break,
        }
    }
    // Both ends believe in the connection for as long as they hear nothing else.
    let _ = is_open.wait_for(|open| *open).await;
}

/// Whether a message commits, or says that somebody did.
fn names_commit(message: &[u8]) -> bool {
    message.windows(6).any(|word| word == b"COMMIT")
}

/// A store behind a way to its server, with a channel and a voucher of 10.
async fn behind_a_way(server: &Server, pair: &Pair) -> (Way, Home, Ledger) {
    let way = Way::to(server.port()).await;
    let direct = server.network_url("postgres", "sslmode=disable");
    let home = Home::at(direct.replace(&server.port().to_string(), &way.port.to_string()));
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    ledger.accept_voucher(pair.voucher(10)).await.unwrap();
    (way, home, ledger)
}

#[tokio::test]
async fn what_became_of_a_commit_is_found_out_when_its_answer_is_lost() {
    let server = Server::start_on_network(None).unwrap();
    let pair = Pair::new(1, 1);
    let (way, _home, ledger) = behind_a_way(&server, &pair).await;
    let mut beside = beside::at(&server.url("postgres")).await;
    let before = beside.generation().await;

    for (loss, cumulative, commits) in [(Loss::Order, 20, 1), (Loss::Answer, 30, 2)] {
        way.lose(loss);
        let outcome = ledger.accept_voucher(pair.voucher(cumulative)).await.unwrap();
        assert_eq!(outcome, Outcome::Recorded, "{loss:?}");
        assert_eq!(*way.loss.lock().unwrap(), None, "{loss:?}: nothing was lost");
        assert_eq!(beside.generation().await, before + commits, "{loss:?}");
        let authorized = ledger.account(pair.channel()).await.unwrap().authorized;
        assert_eq!(authorized, amount(cumulative), "{loss:?}");
    }

    // Nobody is left to ask: the caller is told that it isn't known, and may ask again.
    way.lose(Loss::AnswerAndWay);
    let accepting = tokio::spawn({
        let (ledger, voucher) = (ledger.clone(), pair.voucher(40));
        async move { ledger.accept_voucher(voucher).await }
    });
    way.open.subscribe().wait_for(|open| !open).await.unwrap();
    tokio::time::pause();
    let unknown = accepting.await.unwrap().unwrap_err();
    assert!(
        matches!(&unknown, ServeError::Ledger(LedgerError::OutcomeUnknown)),
        "{unknown}"
    );
    way.open.send_replace(true);
    tokio::time::resume();
    let outcome = ledger.accept_voucher(pair.voucher(40)).await.unwrap();
    assert_eq!(outcome, Outcome::AlreadyKnown);
    assert_eq!(beside.generation().await, before + 3);
    assert_eq!(
        ledger.accept_voucher(pair.voucher(50)).await.unwrap(),
        Outcome::Recorded
    );
    ledger.close().await;
}

#[tokio::test]
async fn a_network_that_falls_silent_is_given_up_and_nothing_is_recorded_twice() {
    let server = Server::start_on_network(None).unwrap();
    let pair = Pair::new(1, 1);
    let (way, _home, ledger) = behind_a_way(&server, &pair).await;

    way.open.send_replace(false);
    // Nothing arrives from now on but what the clock says: it may run ahead.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let refused = ledger.accept_voucher(pair.voucher(20)).await.unwrap_err();
    let ServeError::Ledger(refused) = refused else {
        panic!("{refused}");
    };
    assert!(refused.is_transient(), "{refused}");
    assert!(matches!(refused, LedgerError::Unavailable { .. }), "{refused}");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(120), "{waited:?}");
    let read = ledger.account(pair.channel()).await;
    assert!(matches!(read, Err(LedgerError::Unavailable { .. })), "{read:?}");

    way.open.send_replace(true);
    tokio::time::resume();
    assert_eq!(ledger.account(pair.channel()).await.unwrap().authorized, amount(10));
    assert_eq!(
        ledger.accept_voucher(pair.voucher(20)).await.unwrap(),
        Outcome::Recorded
    );
    ledger.close().await;
}
