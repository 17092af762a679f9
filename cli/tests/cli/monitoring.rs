//! What running processes show, and that readiness is progress: each thing that can stand still is made to.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::{
    harness::{Devnet, Home, PASSWORD, Running, eventually, get},
    operating::{Documented, documented_metrics},
};

/// A free port for monitoring, and limits that a test can wait for.
const QUICK: &str = "listen = \"127.0.0.1:0\"\nmax_round_silence_secs = 2\n";

fn readiness(url: &str) -> Option<(bool, Value)> {
    let (status, body) = get(url, "/readyz")?;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["ready"], status == 200, "{status} {answer}");
    Some((status == 200, answer))
}

/// Waits until everything progresses.
#[track_caller]
fn wait_until_ready(url: &str) {
    eventually("ready", || readiness(url)?.0.then_some(()));
}

/// Waits until exactly these checks fail, and gives the first of them.
#[track_caller]
fn wait_until_failing(url: &str, expected: &[&str]) -> Value {
    eventually(&format!("{expected:?} fails"), || {
        let (_, answer) = readiness(url)?;
        let failing: Vec<_> = answer["checks"]
            .as_array()?
            .iter()
            .filter(|check| check["ok"] == false)
            .cloned()
            .collect();
        let names: Vec<_> = failing.iter().filter_map(|check| check["check"].as_str()).collect();
        (names == expected).then(|| failing[0].clone())
    })
}

/// A running node, and where it answers.
fn node(home: &Home) -> (Running, String) {
    started(Running::start(home.command(&["node", "run", "--json"])))
}

fn started(mut process: Running) -> (Running, String) {
    let ready = process.json();
    assert_eq!(ready["ready"], true, "{ready}");
    let url = ready["monitoring"].as_str().unwrap().to_owned();
    (process, url)
}

/// A way to a chain that can be blocked and opened again.
struct Gate {
    url: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn before(chain: &str) -> Self {
        let chain = chain.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        thread::spawn(move || {
            for accepted in listener.incoming() {
                let (Ok(client), true) = (accepted, is_open.load(Ordering::SeqCst)) else {
                    continue;
                };
                let server = TcpStream::connect(&chain).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let is_open = Arc::clone(&is_open);
                    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                    thread::spawn(move || forward(&mut from, &mut to, &is_open));
                }
            }
        });
        Self { url, open }
    }

    fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }
}

/// Carries bytes until one end closes, or the gate does.
fn forward(from: &mut TcpStream, to: &mut TcpStream, is_open: &AtomicBool) {
    use io::{Read as _, Write as _};
    let mut buffer = [0; 16 << 10];
    while is_open.load(Ordering::SeqCst) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// What a scrape shows: each metric's type, and the labels of its samples.
fn scrape(url: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let (status, text) = get(url, "/metrics").unwrap();
    assert_eq!(status, 200);
    // Sent in chunks where it is long.
    let mut metrics: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            let name = match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            let known = metrics.insert(name.clone(), (kind.to_owned(), BTreeSet::new()));
            assert_eq!(known, None, "{name} is there twice");
            current = Some(name);
        } else if !line.starts_with('#')
            && let Some((sample, _)) = line.rsplit_once(' ')
        {
            let name = current.as_ref().unwrap();
            assert!(sample.starts_with(name.as_str()), "{sample} after {name}");
            let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
            let found = &mut metrics.get_mut(name).unwrap().1;
            for label in labels.trim_end_matches('}').split("\",") {
                if let Some((label, _)) = label.split_once('=') {
                    found.insert(label.to_owned());
                }
            }
            found.remove("le");
        }
    }
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    metrics
}

/// That what is shown is documented, as it is shown.
#[track_caller]
fn assert_documented(shown: &BTreeMap<String, (String, BTreeSet<String>)>, documented: &BTreeMap<String, Documented>) {
    for (name, (kind, labels)) in shown {
        let Some(found) = documented.get(name) else {
            panic!("METRICS.md says nothing of {name}");
        };
        assert_eq!(&found.kind, kind, "{name}");
        if !labels.is_empty() {
            assert_eq!(&found.labels, labels, "{name}");
        }
    }
}

/// Labels whose values are a few words that METRICS.md names.
const ENUMS: [&str; 12] = [
    "answer",
    "check",
    "direction",
    "document",
    "ending",
    "file",
    "outcome",
    "purpose",
    "reason",
    "standing",
    "state",
    "status",
];

/// The values of such labels that a scrape shows, by metric and label.
fn values(text: &str) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
    let mut values: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else {
            continue;
        };
        let labels = labels.rsplit_once('}').unwrap().0;
        for label in labels.split("\",") {
            let (label, value) = label.split_once("=\"").unwrap();
            if ENUMS.contains(&label) {
                values
                    .entry((name, label))
                    .or_default()
                    .insert(value.trim_end_matches('"'));
            }
        }
    }
    values
}

/// That METRICS.md names each value of a label that is an enum, in the row of one of the metrics that have the label; and that
/// what a row quotes is shown, where the metric has all its samples from the beginning. Refusals are named by the code.
#[track_caller]
fn assert_values_documented(text: &str, documented: &BTreeMap<String, Documented>) {
    let by_code = |metric: &Documented| metric.quoted().any(|quoted| quoted.ends_with(".rs"));
    let shown = values(text);
    for ((name, label), values) in &shown {
        let found = &documented[*name];
        let of_label = documented.values().filter(|metric| metric.labels.contains(*label));
        let named: BTreeSet<_> = of_label.flat_map(Documented::quoted).collect();
        for value in values.iter().filter(|_| !by_code(found)) {
            assert!(named.contains(value), "METRICS.md has no {label} `{value}` for {name}");
        }
    }
    let metrics: BTreeSet<_> = shown.keys().map(|(name, _)| *name).collect();
    for name in metrics {
        let found = &documented[name];
        let has_all = !found.labels.contains("endpoint") || found.labels.contains("standing");
        let of_metric = shown.iter().filter(|((shown, _), _)| *shown == name);
        let of_metric: BTreeSet<_> = of_metric.flat_map(|(_, values)| values).copied().collect();
        for quoted in found.quoted().filter(|_| has_all && !by_code(found)) {
            assert!(of_metric.contains(quoted), "no {name} has the value `{quoted}`");
        }
    }
}

const OF_NODES: &str = "Serving (`node run` alone)";
const OF_TOWERS: &str = "Towers (`watch --tower` alone)";

/// The sections of METRICS.md with something that is not shown.
fn absent<'a>(
    shown: &BTreeMap<String, (String, BTreeSet<String>)>,
    documented: &'a BTreeMap<String, Documented>,
) -> Vec<&'a str> {
    let absent = documented.values().filter(|metric| !shown.contains_key(&metric.name));
    let sections: BTreeSet<_> = absent.map(|metric| metric.section.as_str()).collect();
    sections.into_iter().collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let devnet = Devnet::start();
    let documented = documented_metrics();
    let home = Home::executor(&devnet.url);
    home.monitor(QUICK);
    let (process, url) = node(&home);
    wait_until_ready(&url);
    // The first look at the key's coins, and the first survey, come right after the start.
    let shown = eventually("a survey", || {
        let shown = scrape(&url);
        let surveyed = get(&url, "/metrics")?.1.contains("\nlloom_gas_balance_wei{");
        surveyed.then_some(shown)
    });
    assert_documented(&shown, &documented);
    assert_values_documented(&get(&url, "/metrics").unwrap().1, &documented);
    assert_eq!(
        absent(&shown, &documented),
        [OF_TOWERS],
        "METRICS.md has what no node shows"
    );
    assert_eq!(process.terminate(), 0);
    assert_eq!(get(&url, "/readyz"), None, "nobody answers for a node that ended");

    // A watcher alone shows all of it but what serving is.
    let (process, url) = started(Running::start(home.command(&["watch", "--json"])));
    wait_until_ready(&url);
    let watched = scrape(&url);
    assert_documented(&watched, &documented);
    assert_eq!(absent(&watched, &documented), [OF_NODES, OF_TOWERS]);
    assert_eq!(process.terminate(), 0);
}

/// Takes the chain from a process that watches it, and gives it back.
#[track_caller]
fn assert_red_without_a_chain(of: fn(&str) -> Home, arguments: &[&str]) {
    let devnet = Devnet::start();
    let gate = Gate::before(&devnet.url);
    let home = of(&gate.url);
    home.monitor(QUICK);
    let (_process, url) = started(Running::start(home.command(&[arguments, &["--json"]].concat())));
    wait_until_ready(&url);

    gate.set_open(false);
    let failed = wait_until_failing(&url, &["watcher"]);
    let finding = failed["finding"].as_str().unwrap();
    assert!(
        finding.contains("completed no round") && finding.contains("127.0.0.1"),
        "{failed}"
    );
    assert!(
        failed["since_unix_seconds"].as_u64().unwrap() > 1_700_000_000,
        "{failed}"
    );
    assert!(failed["mend"].as_str().unwrap().contains("lloomctl doctor"), "{failed}");
    assert_eq!(get(&url, "/healthz").unwrap().0, 200, "restarting would not help");
    let (_, text) = get(&url, "/metrics").unwrap();
    for line in [
        "lloom_ready 0",
        "lloom_check{check=\"watcher\"} 0",
        "lloom_watcher_problem 1",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line} in {text}");
    }
    assert!(text.contains("outcome=\"unavailable\"}"), "{text}");

    gate.set_open(true);
    wait_until_ready(&url);
}

#[test]
fn a_chain_that_does_not_answer_turns_a_nodes_readiness_red_until_it_does() {
    assert_red_without_a_chain(Home::executor, &["node", "run"]);
}

#[test]
fn a_chain_that_does_not_answer_turns_a_watchers_readiness_red_until_it_does() {
    assert_red_without_a_chain(Home::executor, &["watch"]);
}

#[test]
fn a_chain_that_does_not_answer_turns_a_towers_readiness_red_until_it_does() {
    assert_red_without_a_chain(Home::tower, &["watch", "--tower"]);
}

#[test]
fn a_chain_that_stands_still_turns_readiness_red_until_it_goes_on() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    home.monitor(&format!("{QUICK}max_head_age_secs = 5\n"));
    let (_process, url) = node(&home);
    wait_until_ready(&url);
    devnet.call("evm_setIntervalMining", &json!([0]));
    let failed = wait_until_failing(&url, &["chain"]);
    let finding = failed["finding"].as_str().unwrap();
    assert!(finding.contains("newest block"), "{failed}");
    devnet.call("evm_setIntervalMining", &json!([1]));
    wait_until_ready(&url);
}

#[test]
fn a_disk_that_takes_nothing_turns_readiness_red_until_it_does() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    home.monitor(QUICK);
    // A file that may not grow is what a full disk is to the store; without the trap the system would kill it.
    let mut command = std::process::Command::new("sh");
    let node = home.command(&["node", "run", "--json"]);
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(node.get_program());
    command.args(node.get_args());
    command.env_clear();
    for (name, value) in node.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    assert!(command.get_envs().any(|(_, value)| value == Some(PASSWORD.as_ref())));
    let (process, url) = started(Running::start(command));
    wait_until_ready(&url);

    devnet.call("evm_setIntervalMining", &json!([0]));
    let id = Pid::from_raw(process.id().try_into().unwrap());
    let before = getrlimit(Resource::Fsize);
    let full = || Rlimit {
        current: Some(1),
        maximum: getrlimit(Resource::Fsize).maximum,
    };
    prlimit(id, Resource::Fsize, full()).unwrap();
    // Nothing is recorded, so only the proof of writing can find it.
    let failed = wait_until_failing(&url, &["store"]);
    assert!(
        failed["finding"].as_str().unwrap().contains("it takes nothing"),
        "{failed}"
    );
    assert!(
        get(&url, "/metrics")
            .unwrap()
            .1
            .contains("\nlloom_check{check=\"store\"} 0")
    );
    prlimit(id, Resource::Fsize, before).unwrap();
    wait_until_ready(&url);

    // A node that can't record what the chain says ends, and says why: it must not serve on.
    prlimit(id, Resource::Fsize, full()).unwrap();
    devnet.call("evm_setIntervalMining", &json!([1]));
    assert_eq!(process.wait(), 6);
    assert_eq!(get(&url, "/readyz"), None);
}

#[test]
fn a_tower_is_monitored_as_a_node_is() {
    let devnet = Devnet::start();
    let home = Home::tower(&devnet.url);
    home.monitor(QUICK);
    let (process, url) = started(Running::start(home.command(&["watch", "--tower", "--json"])));
    wait_until_ready(&url);
    let (shown, documented) = (scrape(&url), documented_metrics());
    assert_documented(&shown, &documented);
    assert!(!absent(&shown, &documented).contains(&OF_TOWERS));
    let (_, text) = get(&url, "/metrics").unwrap();
    assert_values_documented(&text, &documented);
    assert!(text.contains("\nlloom_check{check=\"network\"} 1"), "{text}");
    assert!(text.contains("standing=\"healthy\"} 1"), "{text}");
    let told = home.run(&["doctor"]).stdout;
    assert!(told.contains(&format!("{url}, ready")), "{told}");
    assert_eq!(process.terminate(), 0);
}

#[test]
fn what_no_tower_covers_is_shown_where_towers_are_named() {
    let devnet = Devnet::start();
    let home = Home::executor(&devnet.url);
    home.monitor(QUICK);
    let uncovered = |home: &Home| {
        let (process, url) = started(Running::start(home.command(&["watch", "--json"])));
        wait_until_ready(&url);
        let text = eventually("a survey", || {
            let text = get(&url, "/metrics")?.1;
            text.contains("\nlloom_survey_timestamp_seconds ").then_some(text)
        });
        assert_eq!(process.terminate(), 0);
        let unit = text.lines().find(|line| line.starts_with("lloom_token_base_units{"));
        let unit = unit.and_then(|line| line.rsplit_once(' '));
        assert_eq!(unit.map(|(_, value)| value.parse()), Some(Ok(1e6)), "{text}");
        text.contains("\nlloom_uncovered_value{")
    };
    assert!(!uncovered(&home));
    let config = home.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("\npeers = []\n"), "{text}");
    let named = text.replace("\npeers = []\n", &format!("\npeers = [\"{}\"]\n", crate::towers::PEER));
    std::fs::write(&config, named).unwrap();
    assert!(uncovered(&home));
}

#[test]
fn monitoring_answers_where_it_was_told_to_or_not_at_all() {
    let devnet = Devnet::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::executor(&devnet.url);
    home.monitor(&format!("listen = \"{}\"\n", taken.local_addr().unwrap()));
    let refused = home.run(&["watch", "--json"]);
    assert_eq!((refused.code, &refused.failure()["kind"]), (3, &"configuration".into()));
    assert!(
        refused.failure()["message"].as_str().unwrap().contains("monitoring"),
        "{refused:?}"
    );

    let wrong = Home::executor(&devnet.url);
    wrong.monitor("listen = \"localhost\"\n");
    let refused = wrong.run(&["watch", "--json"]);
    assert_eq!((refused.code, &refused.failure()["kind"]), (3, &"configuration".into()));

    // Where nobody chose, a node beside another one takes a free port, and tells `doctor` which.
    let _first = TcpListener::bind("127.0.0.1:9464");
    let beside = Home::executor(&devnet.url);
    let log = beside.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let (process, url) = started(Running::start_logging(beside.command(&["watch", "--json"]), file));
    assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":9464"), "{url}");
    let logged = std::fs::read_to_string(&log).unwrap();
    let port = url.strip_prefix("http://").unwrap();
    assert!(
        logged
            .lines()
            .any(|line| line.contains(" WARN ") && line.contains("127.0.0.1:9464") && line.contains(port)),
        "{logged}"
    );
    wait_until_ready(&url);
    let told = beside.run(&["doctor"]).stdout;
    assert!(told.contains(&format!("{url}, ready")), "{told}");
    assert_eq!(process.terminate(), 0);

    let silent = Home::executor(&devnet.url);
    silent.monitor("enabled = false\n");
    let mut process = Running::start(silent.command(&["watch", "--json"]));
    assert_eq!(process.json()["monitoring"], Value::Null);
    assert!(silent.run(&["doctor"]).stdout.contains("switched off"));
    assert_eq!(process.terminate(), 0);
}
