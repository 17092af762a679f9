use libp2p::Multiaddr;
use lloom_ledger::{HeldClaim, StandingRefusal, TowerRecord};
use lloom_receipts::TowerAppointment;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Network, NetworkConfig, NetworkHandle, network::NetworkName};

/// Longer than anything here takes, so that a test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test here, so that a tower is asked only what is handed to it.
const ASK_EVERY: Duration = Duration::from_secs(86_400);

async fn node(keypair: Keypair, listen: &str) -> NetworkHandle {
    let name = NetworkName {
        name: "test".to_owned(),
        chain_id: 31_337,
        settlement: domain().settlement(),
    };
    let mut config = NetworkConfig::new(keypair, name);
    config.listen = vec![listen.parse().unwrap()];
    let (handle, _incoming) = Network::start(config).await.unwrap();
    handle
}

/// A tower that can be dialed.
struct Standing {
    network: NetworkHandle,
    store: Store,
    serving: JoinHandle<()>,
}

impl Standing {
    async fn start(keypair: Keypair, channels: u8) -> Self {
        let store = Store::following(channels).await;
        Self::on(keypair, store, "/ip4/127.0.0.1/tcp/0").await
    }

    async fn on(keypair: Keypair, store: Store, listen: &str) -> Self {
        let network = node(keypair.clone(), listen).await;
        let inquiries = network.serve_tower().await.unwrap();
        let tower = Tower::new(tower_config(), store.ledger.clone(), domain(), keypair);
        let serving = tokio::spawn(async move { tower.serve(inquiries).await });
        Self {
            network,
            store,
            serving,
        }
    }

    fn address(&self) -> Multiaddr {
        self.network.listen_addresses().swap_remove(0)
    }

    /// Where it listens, without its peer id.
    fn port(&self) -> String {
        let mut address = self.address();
        address.pop();
        address.to_string()
    }

    /// Stops it. Its store stays.
    async fn stop(self) -> Store {
        self.network.shutdown().await;
        self.serving.await.unwrap();
        self.store
    }

    async fn held(&self) -> Vec<HeldClaim> {
        let ledger = &self.store.ledger;
        ledger.held_for(operator().address(), None, 100).await.unwrap()
    }
}

/// An executor's courier at work.
struct Carrying {
    store: Store,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Carrying {
    async fn start(store: Store, towers: Vec<Multiaddr>) -> Self {
        Self::start_as(operator(), store, towers).await
    }

    async fn start_as(operator: Keypair, store: Store, towers: Vec<Multiaddr>) -> Self {
        let network = node(operator, "/ip4/127.0.0.1/tcp/0").await;
        let config = CourierConfig {
            towers,
            payee: payee(),
            token: token(),
            interval: Duration::from_millis(50),
            urgent_value: amount(0),
            ask_every: ASK_EVERY,
            retry: (Duration::from_millis(50), Duration::from_millis(200)),
        };
        let courier = Courier::new(config, network, store.ledger.clone(), domain());
        let stop = CancellationToken::new();
        let task = tokio::spawn(courier.run(stop.clone()));
        Self { store, stop, task }
    }

    async fn stop(self) -> Store {
        self.stop.cancel();
        self.task.await.unwrap();
        self.store
    }

    async fn uncovered(&self) -> u128 {
        let risk = self.store.ledger.value_at_risk(payee(), token(), now()).await.unwrap();
        risk.uncovered().base_units()
    }

    async fn covered(&self) {
        until("all is covered", async || self.uncovered().await == 0).await;
    }

    async fn record(&self, tower: &Keypair) -> Option<TowerRecord> {
        let towers = self.store.ledger.towers().await.unwrap();
        towers.into_iter().find(|record| record.address == tower.address())
    }

    /// What the tower does not take on.
    async fn refused(&self, tower: &Keypair) -> Vec<StandingRefusal> {
        let ledger = &self.store.ledger;
        ledger.refusals(tower.address(), None, 10).await.unwrap()
    }

    /// What the tower is said to have done.
    async fn fault(&self, tower: &Keypair) -> String {
        until("a fault", async || {
            self.record(tower).await.is_some_and(|record| record.fault.is_some())
        })
        .await;
        self.record(tower).await.unwrap().fault.unwrap().0
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "in vain: {what}");
}

/// An executor's store that has earned 100 on each of `channels` channels.
async fn earned(channels: u8) -> Store {
    let store = Store::following(channels).await;
    for number in 1..=channels {
        store.earn(number, 100, 20).await;
    }
    store
}

/// A home that has another payee since still claims what the one before has earned, as long as that one names its key; so it
/// has it defended, too.
#[tokio::test]
async fn channels_of_a_payee_that_the_home_had_before_are_handed_over_while_it_names_the_key() {
    let removed = FORMER + 1;
    let kinds = || {
        let opened = |number| ChainEventKind::ChannelOpened {
            channel: channel(number),
            parameters: parameters(number),
            deposit: amount(DEPOSIT),
            refunds_to_balance: false,
        };
        vec![
            ChainEventKind::OperatorAdded {
                payee: former_payee(),
                operator: operator().address(),
            },
            opened(FORMER),
            opened(removed),
        ]
    };
    let tower = Standing::start(tower_key(), 1).await;
    tower.store.mine(kinds()).await;
    let store = earned(1).await;
    store.mine(kinds()).await;
    store.earn(FORMER, 70, 0).await;
    let carrying = Carrying::start(store, vec![tower.address()]).await;
    until("the tower holds both", async || tower.held().await.len() == 2).await;
    assert!(
        tower
            .held()
            .await
            .iter()
            .any(|held| (held.channel, held.claim) == (channel(FORMER), amount(70)))
    );

    // Nobody speaks for it any more: the tower is not even asked.
    let retired = || {
        vec![ChainEventKind::OperatorRetired {
            payee: former_payee(),
            operator: operator().address(),
        }]
    };
    let store = carrying.stop().await;
    tower.store.mine(retired()).await;
    store.mine(retired()).await;
    store.earn(removed, 50, 0).await;
    let carrying = Carrying::start(store, vec![tower.address()]).await;
    carrying.store.earn(1, 30, 0).await;
    until("the tower holds more of the other", async || {
        tower.held().await.iter().any(|held| held.claim == amount(130))
    })
    .await;
    assert_eq!(tower.held().await.len(), 2);
    assert_eq!(carrying.record(&tower_key()).await.unwrap().problem, None);
}

#[tokio::test]
async fn the_newest_of_every_channel_reaches_every_tower_and_again_when_there_is_more() {
    let (one, two) = (
        Standing::start(tower_key(), 3).await,
        Standing::start(key(0x78), 3).await,
    );
    let carrying = Carrying::start(earned(3).await, vec![one.address(), two.address()]).await;
    for tower in [&one, &two] {
        until("the tower holds them", async || tower.held().await.len() == 3).await;
    }
    carrying.covered().await;
    carrying.store.earn(2, 33, 0).await;
    for tower in [&one, &two] {
        until("the tower holds more", async || {
            tower.held().await.iter().any(|held| held.claim == amount(133))
        })
        .await;
    }
    // A tower holds it before the executor has read its answer.
    until("both answers are kept", async || {
        let kept = carrying.store.ledger.appointments_of(channel(2)).await.unwrap();
        let more = kept
            .iter()
            .filter(|record| record.appointment.document().claim == amount(133));
        more.count() == 2
    })
    .await;
    assert_eq!(carrying.uncovered().await, 0);
    let store = carrying.stop().await;
    assert_eq!(store.ledger.towers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_dead_tower_keeps_nothing_from_the_living() {
    let dead = Standing::start(key(0x78), 1).await;
    let address = dead.address();
    dead.stop().await;
    let living = Standing::start(tower_key(), 1).await;
    let carrying = Carrying::start(earned(1).await, vec![address, living.address()]).await;
    carrying.covered().await;
    until("the dead one is named", async || {
        let record = carrying.record(&key(0x78)).await;
        record.is_some_and(|record| record.problem.is_some() && record.fault.is_none())
    })
    .await;
    assert_eq!(carrying.record(&tower_key()).await.unwrap().problem, None);
}

#[tokio::test]
async fn a_tower_that_comes_back_gets_what_it_missed() {
    let tower = Standing::start(tower_key(), 2).await;
    let (address, port) = (tower.address(), tower.port());
    let carrying = Carrying::start(earned(1).await, vec![address]).await;
    carrying.covered().await;
    let store = tower.stop().await;
    carrying.store.earn(1, 50, 0).await;
    until("its absence is noticed", async || {
        let record = carrying.record(&tower_key()).await;
        record.is_some_and(|record| record.problem.is_some())
    })
    .await;
    assert_eq!(carrying.uncovered().await, 50);
    let tower = Standing::on(tower_key(), store, &port).await;
    carrying.covered().await;
    assert_eq!(tower.held().await[0].claim, amount(150));
    let record = carrying.record(&tower_key()).await.unwrap();
    assert_eq!((record.problem, record.fault), (None, None));
}

#[tokio::test]
async fn a_tower_that_forgot_is_named_and_told_again() {
    let tower = Standing::start(tower_key(), 1).await;
    let (address, port) = (tower.address(), tower.port());
    let carrying = Carrying::start(earned(1).await, vec![address.clone()]).await;
    carrying.covered().await;
    let executor = carrying.stop().await;
    tower.stop().await;
    // Its disk is lost, its key is not.
    let tower = Standing::on(tower_key(), Store::following(1).await, &port).await;
    let carrying = Carrying::start(executor, vec![address]).await;
    let fault = carrying.fault(&tower_key()).await;
    assert!(fault.contains("does not hold it any more"), "{fault}");
    carrying.covered().await;
    assert_eq!(tower.held().await.len(), 1);
}

#[tokio::test]
async fn a_tower_that_settled_what_it_held_has_not_forgotten() {
    let tower = Standing::start(tower_key(), 1).await;
    let address = tower.address();
    let carrying = Carrying::start(earned(1).await, vec![address.clone()]).await;
    carrying.covered().await;
    let executor = carrying.stop().await;
    // The tower has seen a claim that the executor has not seen yet.
    let settled = ChainEventKind::Settled {
        channel: channel(1),
        settled: amount(100),
    };
    tower.store.mine(vec![settled]).await;
    assert_eq!(tower.store.ledger.prune_held(now()).await.unwrap(), 1);
    let carrying = Carrying::start(executor, vec![address]).await;
    until("it is asked again", async || {
        let refused = carrying.refused(&tower_key()).await;
        refused
            .iter()
            .any(|refusal| refusal.reason.contains("has settled 100 already"))
    })
    .await;
    assert_eq!(carrying.record(&tower_key()).await.unwrap().fault, None);
}

#[tokio::test]
async fn a_tower_that_is_told_too_late_says_so_and_promises_nothing() {
    let tower = Standing::start(tower_key(), 2).await;
    let requested = ChainEventKind::CloseRequested {
        channel: channel(1),
        requested_at: now().minus(tower_config().grace),
    };
    tower.store.mine(vec![requested]).await;
    let carrying = Carrying::start(earned(2).await, vec![tower.address()]).await;
    until("it is told why", async || {
        let refused = carrying.refused(&tower_key()).await;
        refused.iter().any(|refusal| {
            refusal.channel == channel(1)
                && refusal
                    .reason
                    .starts_with("it is too late: the payer may withdraw from")
        })
    })
    .await;
    assert_eq!(tower.held().await.len(), 1, "the other one is taken on");
    assert_eq!(carrying.uncovered().await, 100);
    let record = carrying.record(&tower_key()).await.unwrap();
    assert_eq!((record.problem, record.fault), (None, None), "it is there, and honest");
    // What it takes on afterwards takes nothing of that back.
    let refused = carrying.refused(&tower_key()).await;
    carrying.store.earn(2, 10, 0).await;
    until("more of the other one is taken on", async || {
        tower.held().await[0].claim == amount(110)
    })
    .await;
    until("its answer is kept", async || carrying.uncovered().await == 100).await;
    assert_eq!(carrying.refused(&tower_key()).await, refused);
    // The payer has thought better of it.
    let topped_up = ChainEventKind::ToppedUp {
        channel: channel(1),
        deposit: amount(20_000),
        close_cancelled: true,
    };
    tower.store.mine(vec![topped_up]).await;
    carrying.store.earn(1, 10, 0).await;
    carrying.covered().await;
    assert!(carrying.refused(&tower_key()).await.is_empty());
}

/// The key of another node of the same payee.
fn second_operator() -> Keypair {
    key(0x0d)
}

fn second_is_named() -> ChainEventKind {
    ChainEventKind::OperatorAdded {
        payee: payee(),
        operator: second_operator().address(),
    }
}

#[tokio::test]
async fn a_tower_is_not_accused_where_another_node_takes_over_the_store() {
    let tower = Standing::start(tower_key(), 2).await;
    tower.store.mine(vec![second_is_named()]).await;
    let first = Carrying::start(earned(2).await, vec![tower.address()]).await;
    first.covered().await;
    let second = Carrying::start_as(second_operator(), first.stop().await, vec![tower.address()]).await;
    // Twice: what it would say of the first pass it has said before the second one.
    for _ in 0..2 {
        second.store.earn(2, 10, 0).await;
        second.covered().await;
    }
    let record = second.record(&tower_key()).await.unwrap();
    assert_eq!((record.problem, record.fault), (None, None));
    let kept = second.store.ledger.appointments_of(channel(1)).await.unwrap();
    assert_eq!(kept[0].appointment.document().operator, operator().address());
    assert_eq!(kept[0].lost_at, None);

    // Nor where the first comes back and is told of its own alone.
    let first = Carrying::start(second.stop().await, vec![tower.address()]).await;
    for _ in 0..2 {
        first.store.earn(1, 10, 0).await;
        first.covered().await;
    }
    assert_eq!(first.record(&tower_key()).await.unwrap().fault, None);
}

#[tokio::test]
async fn a_tower_is_not_accused_of_what_another_node_renewed_and_did_not_live_to_keep() {
    let tower = Standing::start(tower_key(), 1).await;
    tower.store.mine(vec![second_is_named()]).await;
    let executor = earned(1).await;
    // In the last third of its term.
    let signed = TowerAppointment {
        channel: channel(1),
        tower: tower_key().address(),
        operator: operator().address(),
        ceiling: amount(120),
        claim: amount(100),
        minimum_value: amount(10),
        max_fee_per_gas: 500,
        taken_at: UnixSeconds::new(now().get() - 900_000),
        expires_at: now().plus(Duration::from_secs(100_000)),
    };
    let signed = vec![tower_key().sign(&domain(), signed)];
    executor
        .ledger
        .record_appointments(tower_key().address(), signed, now())
        .await
        .unwrap();
    let service = Tower::new(tower_config(), tower.store.ledger.clone(), domain(), tower_key());
    let question = update(vec![delegation(1, 120, 100)]);
    let TowerAnswer::Updated(answers) = service.answer(second_operator().address(), question, now()).await else {
        panic!("it was refused");
    };
    assert!(matches!(answers[..], [DelegationAnswer::TakenOn(_)]));

    let carrying = Carrying::start(executor, vec![tower.address()]).await;
    until("it is handed over again", async || !tower.held().await.is_empty()).await;
    for _ in 0..2 {
        carrying.store.earn(1, 10, 0).await;
        carrying.covered().await;
    }
    assert_eq!(carrying.record(&tower_key()).await.unwrap().fault, None);
}

type Lie = fn(TowerAppointment) -> Signed<TowerAppointment>;

/// A tower that promises like any other, and then answers updates with what `lie` makes of the truth.
async fn liar(keypair: Keypair, lie: Lie) -> (NetworkHandle, Multiaddr) {
    let store = Store::following(1).await;
    let network = node(keypair.clone(), "/ip4/127.0.0.1/tcp/0").await;
    let mut inquiries = network.serve_tower().await.unwrap();
    let tower = Tower::new(tower_config(), store.ledger.clone(), domain(), keypair);
    tokio::spawn(async move {
        let _store = store;
        while let Some(inquiry) = inquiries.next().await {
            let mut answer = tower.answer(inquiry.address, inquiry.question.clone(), now()).await;
            if let TowerAnswer::Updated(answers) = &mut answer {
                for answer in answers {
                    if let DelegationAnswer::TakenOn(appointment) = answer {
                        *appointment = lie(*appointment.document());
                    }
                }
            }
            inquiry.answer(answer).await;
        }
    });
    let address = network.listen_addresses().swap_remove(0);
    (network, address)
}

#[tokio::test]
async fn a_tower_that_lies_is_named_and_covers_nothing() {
    let lies: [(Lie, &str); 2] = [
        (
            |truth| key(9).sign(&domain(), truth).into_unverified(),
            "is not signed by the tower",
        ),
        (
            |truth| {
                let claim = amount(1_000);
                let other = TowerAppointment {
                    claim,
                    ceiling: claim,
                    ..truth
                };
                tower_key().sign(&domain(), other).into_unverified()
            },
            "promised 1000",
        ),
    ];
    for (lie, words) in lies {
        let (_network, address) = liar(tower_key(), lie).await;
        let carrying = Carrying::start(earned(1).await, vec![address]).await;
        let fault = carrying.fault(&tower_key()).await;
        assert!(fault.contains(words), "{fault}");
        assert_eq!(carrying.uncovered().await, 100);
        assert!(
            carrying
                .store
                .ledger
                .appointments_of(channel(1))
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_peer_that_is_no_tower_says_so() {
    let network = node(tower_key(), "/ip4/127.0.0.1/tcp/0").await;
    let address = network.listen_addresses().swap_remove(0);
    let asker = node(operator(), "/ip4/127.0.0.1/tcp/0").await;
    let answer = asker.ask_tower(&address, TowerQuestion::Terms).await.unwrap();
    assert_eq!(answer, TowerAnswer::Refused(TowerRefusal::NoTower));
}

#[tokio::test]
async fn a_tower_that_can_not_keep_up_says_so() {
    let name = NetworkName {
        name: "test".to_owned(),
        chain_id: 31_337,
        settlement: domain().settlement(),
    };
    let mut config = NetworkConfig::new(tower_key(), name);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.limits.waiting_tower_questions = 1;
    let (network, _incoming) = Network::start(config).await.unwrap();
    // Nobody takes the questions.
    let _inquiries = network.serve_tower().await.unwrap();
    let address = network.listen_addresses().swap_remove(0);
    let asker = node(operator(), "/ip4/127.0.0.1/tcp/0").await;
    let ask = || asker.ask_tower(&address, TowerQuestion::Terms);
    let busy = tokio::select! {
        answer = ask() => answer,
        answer = ask() => answer,
    };
    assert_eq!(busy.unwrap(), TowerAnswer::Refused(TowerRefusal::Busy));
}

#[tokio::test]
async fn a_tower_that_has_nothing_to_be_told_is_asked_whether_it_is_there() {
    let tower = Standing::start(tower_key(), 1).await;
    let network = node(operator(), "/ip4/127.0.0.1/tcp/0").await;
    let store = earned(1).await;
    let config = CourierConfig {
        towers: vec![tower.address()],
        payee: payee(),
        token: token(),
        interval: Duration::from_secs(86_400),
        urgent_value: amount(0),
        ask_every: Duration::from_millis(50),
        retry: (Duration::from_millis(50), Duration::from_millis(200)),
    };
    let courier = Courier::new(config, network, store.ledger.clone(), domain());
    let carrying = Carrying {
        stop: CancellationToken::new(),
        task: tokio::spawn(courier.run(CancellationToken::new())),
        store,
    };
    carrying.covered().await;
    tower.stop().await;
    until("its absence is noticed", async || {
        let record = carrying.record(&tower_key()).await;
        record.is_some_and(|record| record.problem.is_some())
    })
    .await;
    carrying.task.abort();
}

#[tokio::test]
async fn growth_is_handed_over_before_the_interval_is_over() {
    let tower = Standing::start(tower_key(), 1).await;
    let network = node(operator(), "/ip4/127.0.0.1/tcp/0").await;
    let store = earned(1).await;
    let config = CourierConfig {
        towers: vec![tower.address()],
        payee: payee(),
        token: token(),
        interval: Duration::from_secs(86_400),
        urgent_value: amount(60),
        ask_every: ASK_EVERY,
        retry: (Duration::from_millis(50), Duration::from_millis(200)),
    };
    let stop = CancellationToken::new();
    let courier = Courier::new(config, network, store.ledger.clone(), domain());
    let task = tokio::spawn(courier.run(stop.clone()));
    until("the first is held", async || tower.held().await.len() == 1).await;
    // What is earned before the courier begins to wait is no growth to it.
    until("the growth is held", async || {
        if store.ledger.account(channel(1)).await.unwrap().billed < amount(700) {
            store.earn(1, 10, 0).await;
        }
        tower.held().await[0].claim >= amount(160)
    })
    .await;
    stop.cancel();
    task.await.unwrap();
}
