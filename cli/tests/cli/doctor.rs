//! What `doctor` says of homes that are really broken.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256, address};
use lloom_bindings::Contracts;
use lloom_ledger::{Block, Ledger, ObligationPolicy, StoreDeployment};
use lloom_receipts::{BlockNumber, Domain, UnixSeconds};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    caring::Served,
    harness::{Devnet, Ended, Home, Running, eventually, get},
};

/// Nobody answers here.
const NOWHERE: &str = "http://127.0.0.1:1";
/// Somebody whose key is not at hand.
const COLD: Address = address!("0x00000000000000000000000000000000000c01d0");

/// A command that asks a node which hangs has to end by then.
const BOUND: Duration = Duration::from_secs(45);

/// Runs `doctor`, and replaces what differs from machine to machine.
fn doctor(home: &Home, replaced: &[(&str, &str)]) -> (Ended, String) {
    let ended = home.run(&["doctor"]);
    let mut text = format!("{}{}[exit code {}]\n", ended.stdout, ended.stderr, ended.code);
    let place = home.path().to_str().unwrap();
    let escrow = Contracts::of_this_version().escrow.to_string();
    for (found, name) in [(place, "<home>"), (&escrow, "<escrow>")].iter().chain(replaced) {
        text = text.replace(found, name);
    }
    let lines: Vec<_> = text.lines().filter(|line| !line.contains("  disk ")).collect();
    (ended, lines.join("\n"))
}

/// Opens the store, lets `work` be done on it, and closes it again.
fn with_store(home: &Home, work: impl AsyncFnOnce(&Ledger)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let contracts = Contracts::of_this_version();
        let domain = Domain::new(31_337, contracts.escrow, contracts.settlement);
        let ledger = Ledger::open(&home.store(), &StoreDeployment::from(&domain))
            .await
            .unwrap();
        work(&ledger).await;
        ledger.close().await;
    });
}

async fn write(ledger: &Ledger, number: u8) {
    let block = Block {
        number: BlockNumber::new(number.into()),
        hash: B256::with_last_byte(number + 1),
        parent: B256::with_last_byte(number),
        timestamp: UnixSeconds::new(1_700_000_000),
    };
    let policy = ObligationPolicy::default();
    let applied = ledger.apply_blocks(vec![block], Vec::new(), BlockNumber::new(0), policy);
    applied.await.unwrap();
}

#[test]
fn nothing_is_set_up() {
    let home = Home::empty(NOWHERE);
    let (ended, text) = doctor(&home, &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let home = Home::executor(NOWHERE);
    home.monitor("listen_on = \"127.0.0.1:0\"\n");
    let (ended, text) = doctor(&home, &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    insta::assert_snapshot!(text);
    let json = home.run(&["doctor", "--json"]);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&answer["healthy"], &answer["checks"][0]["state"]),
        (&json!(false), &json!("bad"))
    );
}

#[test]
fn an_executor_that_never_began() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    let config = home.path().join("config.toml");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("[executor]", &format!("[executor]\npayee = \"{COLD}\""))
        .replace("/tcp/0", &format!("/tcp/{port}"));
    fs::write(&config, text).unwrap();
    let own = home.address().parse::<Address>().unwrap().to_string();
    let (ended, text) = doctor(
        &home,
        &[(&own, "<operator>"), (&port, "<port>"), (&COLD.to_string(), "<payee>")],
    );
    assert_ne!(ended.code, 0);
    insta::assert_snapshot!(without_amounts(&text));
}

/// The least coins for a claim depend on the chain's fees.
fn without_amounts(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("which takes ") {
        Some((before, after)) => {
            let (_, rest) = after.split_once(" ETH").unwrap();
            format!("{before}which takes <fee> ETH{rest}")
        }
        None => match line.split_once(", at block ") {
            Some((before, _)) => format!("{before}, at block <block>"),
            None => line.to_owned(),
        },
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_chain_that_is_not_there_or_another_one() {
    let home = Home::executor(NOWHERE);
    let (ended, text) = doctor(&home, &[]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(text.starts_with("BAD  chain "), "{text}");
    assert!(
        text.contains("127.0.0.1:1") && text.contains("`lloomctl devnet`"),
        "{text}"
    );

    // Two endpoints in the network's file: one of this chain, one of another.
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    fs::create_dir_all(home.path().join("networks")).unwrap();
    let token = format!("{:?}", lloom_bindings::dev_token_address());
    let network = |endpoints: &[&str], chain: u64| {
        let text = format!(
            "chain_id = {chain}\nrpc_urls = {endpoints:?}\nconfirmations = 0\ndevelopment = true\n[token]\naddress = \"{token}\"\nsymbol = \"LDEV\"\ndecimals = 6\n"
        );
        fs::write(home.path().join("networks/two.toml"), text).unwrap();
        let mut command = home.command(&["doctor", "--network", "two"]);
        command.env_remove("LLOOM_RPC_URL");
        crate::harness::end(command)
    };
    let one_is_down = network(&[NOWHERE, &devnet.url], 31_337);
    let told = &one_is_down.stdout;
    assert!(told.contains("!!   chain"), "the other does its work: {told}");
    assert!(told.contains("ok   chain"), "{told}");
    let other_chain = network(&[&devnet.url], 84_532);
    assert_eq!(other_chain.code, 5, "{other_chain:?}");
    assert!(
        other_chain.stdout.contains("serves the chain 31337, not 84532"),
        "{other_chain:?}"
    );

    // A second chain with the same id, which has mined something else.
    let fork = Devnet::start();
    fork.call("evm_mine", &json!([]));
    devnet.call("anvil_setBalance", &json!([COLD, "0x1"]));
    devnet.call("evm_mine", &json!([]));
    let apart = network(&[&devnet.url, &fork.url], 31_337);
    assert_eq!(apart.code, 5, "{apart:?}");
    assert!(
        apart.stdout.contains("have different blocks") || apart.stdout.contains("began with block"),
        "{apart:?}"
    );
}

#[test]
fn contracts_that_are_something_else() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let line = || {
        let (_, text) = doctor(&home, &[]);
        text.lines()
            .find(|line| line.contains("  contracts "))
            .unwrap()
            .to_owned()
    };
    assert!(line().starts_with("ok   contracts"), "{}", line());
    let settlement = Contracts::of_this_version().settlement;
    let code = devnet.call("eth_getCode", &json!([settlement, "latest"]));
    // Another escrow among its immutables.
    let escrow = format!("{:x}", Contracts::of_this_version().escrow);
    let other = code.as_str().unwrap().replacen(&escrow, &"11".repeat(20), 1);
    devnet.call("anvil_setCode", &json!([settlement, other]));
    let told = line();
    assert!(
        told.starts_with("BAD  contracts") && told.contains(&format!("the settlement contract at {settlement}")),
        "{told}"
    );
    devnet.call("anvil_setCode", &json!([settlement, code]));
    assert!(line().starts_with("ok   contracts"), "{}", line());
}

/// Sets what its configuration names as `bootstrap`.
fn meet_through(home: &Home, peers: &[&str]) {
    let path = home.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, after) = text.split_once("bootstrap = ").unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    fs::write(&path, format!("{before}bootstrap = {peers:?}\n{after}")).unwrap();
}

/// What it says of peers.
fn of_peers(home: &Home) -> Vec<String> {
    let (_, text) = doctor(home, &[]);
    let lines = text.lines().filter(|line| line.contains("  peers "));
    lines.map(str::to_owned).collect()
}

#[test]
fn peers_of_those_that_others_have_to_meet() {
    let devnet = Devnet::start();
    let node = Home::executor(&devnet.url);
    node.json(&["faucet"]);
    let mut process = Running::start(node.command(&["node", "run", "--json"]));
    let ready = process.json();
    let address = ready["addresses"][0].as_str().unwrap();
    let told = of_peers(&node);
    assert!(
        matches!(&told[..], [line] if line.starts_with("!!   peers") && line.contains("no peer is connected")),
        "{told:?}"
    );

    // One that is up, and one that is not.
    let (tower, executor) = (Home::tower(&devnet.url), Home::executor(&devnet.url));
    assert!(of_peers(&tower).is_empty(), "executors name it");
    for home in [&tower, &executor] {
        meet_through(home, &[address]);
        let told = of_peers(home);
        assert!(
            matches!(&told[..], [line] if line.starts_with("ok   peers") && line.contains("1 peer ")),
            "{told:?}"
        );
        meet_through(home, &[address, crate::towers::PEER]);
        let told = of_peers(home);
        assert!(
            matches!(&told[..], [line] if line.starts_with("!!   peers") && line.contains(crate::towers::PEER)),
            "{told:?}"
        );
        meet_through(home, &[address]);
    }

    // A tower that runs, and meets it.
    tower.json(&["faucet"]);
    let mut other = Running::start(tower.command(&["watch", "--tower", "--json"]));
    assert_eq!(other.json()["ready"], true);
    eventually("they meet", || {
        let met = |home: &Home| {
            of_peers(home)
                .iter()
                .all(|line| line.starts_with("ok") && line.ends_with(" met"))
        };
        (met(&tower) && met(&node)).then_some(())
    });
}

#[test]
fn a_tower_is_told_how_to_restart_a_tower() {
    let home = Home::tower(NOWHERE);
    let (_, text) = doctor(&home, &[]);
    assert!(
        text.contains("not running → `lloomctl watch --tower` starts it"),
        "{text}"
    );
    with_store(&home, async |_| {
        let (_, text) = doctor(&home, &[]);
        assert!(
            text.contains("has to be stopped before `lloomctl watch --tower`") && !text.contains("node run"),
            "{text}"
        );
    });
}

#[test]
fn what_is_owed_in_another_token_is_told_apart() {
    let other = address!("0x00000000000000000000000000000000000070c3");
    let home = Home::executor(NOWHERE);
    crate::caring::with_store(&home, async |ledger| {
        let mut served = Served::open(&home, &ledger, 1).await;
        served.serve(&ledger, 2).await;
        for number in [2, 3] {
            let mut served = Served::open_in(&home, &ledger, number, other).await;
            served.serve(&ledger, 1).await;
        }
    });
    let earned = home.json(&["earnings"]);
    let claimable = |value: &Value| {
        (
            value["token"].clone(),
            value["claimable"].clone(),
            value["receipts"].clone(),
        )
    };
    let own = json!(lloom_bindings::dev_token_address());
    let tokens: Vec<_> = earned["tokens"].as_array().unwrap().iter().map(claimable).collect();
    assert_eq!(
        tokens,
        [
            (own.clone(), json!("200"), json!(2)),
            (json!(other), json!("200"), json!(2))
        ]
    );
    assert_eq!((&earned["claimable"], &earned["receipts"]), (&json!("200"), &json!(2)));
    let text = home.run(&["earnings"]).stdout;
    let totals: Vec<_> = text.lines().filter(|line| line.starts_with("total ")).collect();
    assert!(
        matches!(totals[..], [first, second] if first.contains("0.0002 LDEV") && second.contains(&format!("200 base units of {other}"))),
        "{text}"
    );

    let of_claims = || {
        let (_, text) = doctor(&home, &[]);
        let lines = text.lines().filter(|line| line.contains("  claims "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let told = of_claims();
    let [one, another] = &told[..] else { panic!("{told:?}") };
    let (foreign, own) = if one.contains("base units") {
        (one, another)
    } else {
        (another, one)
    };
    assert!(
        own.contains("0.0002 LDEV in 1 channel can be claimed, and nothing runs"),
        "{own}"
    );
    assert!(
        foreign.contains(&format!(
            "200 base units of {other} in 2 channels can be claimed, and this home claims nothing"
        )) && foreign.contains(&format!("[watcher.tokens.\"{other}\"]")),
        "{foreign}"
    );
    let config = home.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}\n[watcher.tokens.\"{other}\"]\ndecimals = 6\nmin_claim = \"1\"\n"),
    )
    .unwrap();
    let told = of_claims();
    assert!(
        told.iter().all(|line| line.contains("and nothing runs that would")),
        "{told:?}"
    );
}

#[test]
fn stores_in_trouble() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    let line = |home: &Home| {
        let (_, text) = doctor(home, &[(&std::process::id().to_string(), "<pid>")]);
        text.lines().find(|line| line.contains("  store ")).unwrap().to_owned()
    };
    let mut told = vec![line(&home)];

    // Somebody has it open: this process, which takes no orders.
    with_store(&home, async |_| told.push(line(&home)));
    let copy = fs::read(home.store()).unwrap();
    with_store(&home, async |ledger| write(ledger, 1).await);
    told.push(line(&home));
    let newest = fs::read(home.store()).unwrap();

    // A backup is put back, and then opened.
    fs::write(home.store(), copy).unwrap();
    told.push(line(&home));
    with_store(&home, async |_| ());
    let restored = line(&home);
    assert!(
        restored.contains("it was restored") && restored.contains("refuses requests"),
        "{restored}"
    );

    // The database's user version: bytes 60 to 63, big-endian (SQLite's file format, section 1.3).
    let mut older = newest.clone();
    older[60..64].copy_from_slice(&0u32.to_be_bytes());
    fs::write(home.store(), older).unwrap();
    let found = line(&home);
    assert!(
        found.starts_with("!!   store") && found.contains("still has schema 0") && found.contains("back up"),
        "{found}"
    );

    let mut damaged = newest;
    let length = damaged.len();
    damaged[4_096..length - 1_024].fill(0xa5);
    fs::write(home.store(), damaged).unwrap();
    let (ended, _) = doctor(&home, &[]);
    assert_ne!(ended.code, 0);
    let last = line(&home);
    assert!(last.starts_with("BAD  store") && last.contains("is damaged"), "{last}");
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_key_that_others_can_read_or_that_does_not_open() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::client(NOWHERE);
    let key = home.path().join("keystore/hot.json");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, text) = doctor(&home, &[]);
    assert!(
        text.contains("can be read by others (644) → `chmod 600 <home>/keystore/hot.json`"),
        "{text}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = home.command(&["doctor"]);
    command.env("LLOOM_PASSWORD", "wrong").stdin(Stdio::null());
    let ended = crate::harness::end(command);
    assert!(ended.stdout.contains("BAD  key"), "{ended:?}");
    assert!(!ended.stdout.contains("wrong horse"), "{ended:?}");
}

#[test]
fn a_node_that_runs_and_one_that_gets_nowhere() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    home.json(&["faucet"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    home.monitor(&format!("listen = \"{free}\"\nmax_head_age_secs = 4\n"));
    let mut process = Running::start(home.command(&["node", "run", "--json"]));
    assert_eq!(process.json()["ready"], true);
    let url = format!("http://{free}");
    let wait_for = |ready: bool| {
        crate::harness::eventually(&format!("ready: {ready}"), || {
            let (status, _) = crate::harness::get(&url, "/readyz")?;
            ((status == 200) == ready).then_some(())
        });
    };
    wait_for(true);
    let (_, text) = doctor(&home, &[]);
    assert!(text.contains("ok   node"), "{text}");
    assert!(text.contains(&format!("http://{free}, ready")), "{text}");
    assert!(text.contains("ok   claims") || !text.contains("claims"), "{text}");

    devnet.call("evm_setIntervalMining", &json!([0]));
    wait_for(false);
    let (ended, text) = doctor(&home, &[]);
    assert_ne!(ended.code, 0, "{text}");
    let line = text.lines().find(|line| line.contains("monitoring")).unwrap();
    assert!(
        line.starts_with("BAD  monitoring") && line.contains("not ready: chain"),
        "{line}"
    );
    assert!(line.contains("block explorer"), "{line}");
}

/// Stops a process in its tracks, as one that hangs, and lets it go on when this is dropped: stopped, it could not end.
struct Hanging(Pid);

impl Hanging {
    fn process(id: u32) -> Self {
        let id = Pid::from_raw(id.try_into().unwrap()).unwrap();
        kill_process(id, Signal::STOP).unwrap();
        Self(id)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn a_node_that_hangs_is_told_by_whoever_asks_it() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    home.monitor("enabled = false\n");
    let mut process = Running::start(home.command(&["node", "run", "--json"]));
    assert_eq!(process.json()["ready"], true);
    let hanging = Hanging::process(process.id());
    let expected = format!(
        "process {} holds {} and does not answer",
        process.id(),
        home.path().join("control.sock").display()
    );

    let asked = bounded(&home, &["doctor"]);
    let told = |begin: &str| asked.stdout.lines().find(|line| line.starts_with(begin));
    let node = told("BAD  node ").unwrap_or_else(|| panic!("{asked:?}"));
    assert!(node.contains(&expected) && node.contains("start it again"), "{node}");
    assert!(told("ok   chain ").is_some(), "it looks at everything else: {asked:?}");
    assert!(told("BAD  ports ").is_none(), "{asked:?}");

    for arguments in [&["claim", "--dry-run", "--json"][..], &["claim", "--json"]] {
        let refused = bounded(&home, arguments);
        assert_ne!(refused.code, 0, "{refused:?}");
        let failure = refused.failure();
        assert_eq!(failure["message"], expected.as_str(), "{failure}");
        assert!(failure["hints"][0].as_str().unwrap().contains("kill"), "{failure}");
    }
    drop(hanging);
    assert_eq!(home.run(&["claim", "--dry-run"]).code, 0);
}

/// A way to a chain that never answers `method`.
fn without(chain: &str, method: &'static str) -> String {
    let chain = chain.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, chain) = (client.unwrap(), chain.clone());
            thread::spawn(move || {
                let Ok(Some(request)) = read_request(&mut client) else {
                    return;
                };
                if request.contains(method) {
                    // Until whoever asked gives up.
                    let _ = client.read(&mut [0]);
                    return;
                }
                let mut server = TcpStream::connect(chain).unwrap();
                server.write_all(request.as_bytes()).unwrap();
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    url
}

/// One request over HTTP, changed so that its answer ends with the connection. `None` when there is none.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.trim().is_empty() {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(format!(
        "{head}Connection: close\r\n\r\n{}",
        String::from_utf8(body).unwrap()
    )))
}

#[test]
fn a_node_that_catches_up_says_so_and_is_not_told_to_stop() {
    let devnet = Devnet::start();
    let endpoint = without(&devnet.url, "eth_getLogs");
    for (home, start) in [
        (Home::executor(&endpoint), &["node", "run"][..]),
        (Home::executor(&endpoint), &["watch"]),
        (Home::tower(&endpoint), &["watch", "--tower"]),
    ] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        home.monitor(&format!("listen = \"{free}\"\n"));
        // No call fails before all is looked at.
        let config = home.path().join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("rpc_timeout_secs = 300\n{text}")).unwrap();
        let process = Running::start(home.command(start));
        eventually("it is monitored", || get(&format!("http://{free}"), "/readyz"));
        eventually("it takes orders", || {
            home.path().join("control.sock").exists().then_some(())
        });

        let asked = bounded(&home, &["doctor"]);
        let told = &asked.stdout;
        assert!(!told.contains("  ports "), "what it listens on is its own: {told}");
        assert!(!told.contains("takes no orders"), "{told}");
        let node = told.lines().find(|line| line.contains("  node ")).unwrap();
        assert!(
            node.starts_with("!!   node") && node.contains("catching up with the chain"),
            "{start:?}: {told}"
        );
        let refused = bounded(&home, &["claim", "--dry-run", "--json"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        let failure = refused.failure().to_string();
        assert!(
            failure.contains("can't do that yet") && failure.contains("catching up"),
            "{failure}"
        );
        assert_eq!(process.terminate(), 0, "it ends when it is told to");
    }
}

#[test]
fn ports_are_not_looked_at_while_a_process_of_the_home_has_the_store() {
    let home = Home::executor(NOWHERE);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    home.monitor(&format!("listen = \"{}\"\n", taken.local_addr().unwrap()));
    let told = || home.run(&["doctor"]).stdout;
    assert!(told().contains("BAD  ports "));
    with_store(&home, async |_| {
        let told = told();
        assert!(!told.contains("  ports ") && told.contains("!!   node "), "{told}");
    });
    assert!(told().contains("BAD  ports "));
}

/// Runs `lloomctl`, which has to end by itself.
#[track_caller]
fn bounded(home: &Home, arguments: &[&str]) -> Ended {
    let mut command = home.command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > BOUND {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{arguments:?} does not end");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
