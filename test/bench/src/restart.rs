use std::{
    fs::{self, File},
    time::{Duration, Instant},
};

use eyre::{Result, WrapErr, ensure, eyre};
use lloom_e2e::{Behavior, Process, Selling, Settings, StubBackend, wait};
use rustix::fs::{Advice, fadvise};
use serde_json::Value;

use crate::{
    documents::Books,
    figure::{Figure, RUNS, Target, median},
    history::{CHANNELS, History, Key, RECEIPTS_A_CHANNEL},
};

/// The model that the node sells.
const MODEL: &str = "bench";
/// How often it is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Blocks that came while the process was off.
const BLOCKS_MISSED: u64 = 10;
/// How long memory is looked at once the process is ready: its first look at all channels, and some rounds.
const LOOK_ON: Duration = Duration::from_secs(3);
/// Bytes in what `/proc` calls a kB.
const KIB: f64 = 1_024.0;

/// How a start went.
#[derive(Clone, Copy, Debug)]
struct Start {
    seconds: f64,
    /// Memory once it was ready, and the most that it ever had, MB.
    resident: f64,
    peak: f64,
}

/// Seconds until a process with a long history is ready, and its memory.
pub async fn measure(history: &History) -> Result<Vec<Figure>> {
    let anvil = history.chain().await?;
    let backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    let operator = Books::new(0)?.operator.address();
    let selling = Selling::new(operator, &backend.base_url(), &[MODEL]);
    history.configure(&Settings::executor(anvil.url(), selling))?;

    let mut ways = Vec::new();
    for (name, command, key, cache) in [
        ("node run", &["node", "run"][..], Key::Cheap, Cache::Warm),
        ("watch", &["watch"], Key::Cheap, Cache::Warm),
        (
            "node run, standard keystore",
            &["node", "run"],
            Key::Standard,
            Cache::Warm,
        ),
        (
            "node run, nothing of the store in memory",
            &["node", "run"],
            Key::Cheap,
            Cache::Cold,
        ),
    ] {
        // What earlier uses left of the store in the page cache, or what this way finds of it.
        if cache == Cache::Warm {
            start(history, command, key).await?;
        }
        let mut starts = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            anvil.mine(BLOCKS_MISSED).await?;
            if cache == Cache::Cold {
                forget(history)?;
            }
            starts.push(start(history, command, key).await?);
        }
        ways.push((name, starts));
    }
    Ok(figures(&ways))
}

fn figures(ways: &[(&str, Vec<Start>)]) -> Vec<Figure> {
    let receipts = u64::from(CHANNELS) * RECEIPTS_A_CHANNEL;
    let method = format!(
        "`lloomctl` with {receipts} receipts in {CHANNELS} confirmed channels of as many payers, each receipt with its \
         request, bill and voucher; {BLOCKS_MISSED} blocks came while it was off, anvil's; nothing is worth a claim. From \
         the start of the process until `/readyz` answers 200. Memory: VmRSS then, and VmHWM after {} s more, in which \
         it surveys all channels and plans several times. The store is in the page cache, and the key is one that costs \
         nothing to derive, unless the name says otherwise. Median of {RUNS} starts.",
        LOOK_ON.as_secs()
    );
    let mut figures = Vec::new();
    for (index, (name, starts)) in ways.iter().enumerate() {
        let of = |value: fn(&Start) -> f64| median(starts.iter().map(value).collect());
        let seconds = Figure::new(
            format!("restart: {name}"),
            of(|start| start.seconds),
            "s",
            method.clone(),
        );
        let resident = Figure::new(
            format!("restart: {name}, memory when ready"),
            of(|start| start.resident),
            "MB",
            method.clone(),
        );
        let peak = Figure::new(
            format!("restart: {name}, most memory ever"),
            of(|start| start.peak),
            "MB",
            method.clone(),
        );
        // The first way is the one that is promised.
        if index == 0 {
            figures.push(seconds.with_key("restart_s").with_target(Target::AtMost(2.0)));
            figures.push(resident);
            figures.push(peak.with_key("restart_rss_mb").with_target(Target::AtMost(200.0)));
        } else {
            figures.extend([seconds, resident, peak]);
        }
    }
    figures
}

/// Whether the system has the store in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Warm,
    Cold,
}

/// Lets the system forget what it has in memory of the store.
fn forget(history: &History) -> Result<()> {
    let file = File::open(history.store()).wrap_err("opening the store")?;
    file.sync_all().wrap_err("writing the store to the disk")?;
    fadvise(&file, 0, None, Advice::DontNeed).wrap_err("forgetting the store")
}

async fn start(history: &History, command: &[&str], key: Key) -> Result<Start> {
    let began = Instant::now();
    let process = history.start(&[command, &["--key", key.name()]].concat())?;
    let url = monitored_at(&process).await?;
    let client = reqwest::Client::new();
    let deadline = began + wait::LIMIT;
    loop {
        let answer = client.get(format!("{url}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        ensure!(Instant::now() < deadline, "lloomctl is never ready\n{}", process.tail());
        tokio::time::sleep(ASK_EVERY).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let resident = memory(&process, "VmRSS")?;
    tokio::time::sleep(LOOK_ON).await;
    let peak = memory(&process, "VmHWM")?;
    let ended = process.stop().await?;
    ensure!(ended.code() == Some(0), "lloomctl failed: {}", ended.stderr);
    Ok(Start {
        seconds,
        resident,
        peak,
    })
}

async fn monitored_at(process: &Process) -> Result<String> {
    let found = |line: &str| {
        let answer: Value = serde_json::from_str(line).ok()?;
        answer["monitoring"].as_str().map(str::to_owned)
    };
    process.line("place where it is monitored", found).await
}

/// A line of the process's `/proc/…/status`, MB.
fn memory(process: &Process, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).wrap_err("reading a process's memory")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: f64 = kilobytes
        .ok_or_else(|| eyre!("a process's status has no {name}"))?
        .parse()?;
    Ok(kilobytes * KIB / 1e6)
}
