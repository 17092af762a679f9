//! The demo itself: it is what a stranger tries first.

use std::{collections::BTreeSet, fs};

use eyre::{Result, WrapErr};
use lloom_e2e::{Process, wait};
use serde_json::Value;
use tempfile::TempDir;

fn demo(folder: &TempDir) -> Result<Process> {
    let summary = folder.path().join("summary.json").display().to_string();
    Process::start(
        "demo",
        env!("CARGO_BIN_EXE_demo"),
        &["--summary".to_owned(), summary],
        &[],
    )
}

#[tokio::test]
async fn moves_exactly_what_it_charged() -> Result<()> {
    let folder = TempDir::new()?;
    let finished = demo(&folder)?.finish_within(wait::LIMIT * 3).await?;
    assert_eq!(finished.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
    assert!(finished.stdout.contains("stub"), "it says that no LLM answered");
    let summary: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("summary.json"))?)?;
    let keys: BTreeSet<&str> = summary
        .as_object()
        .expect("it is an object")
        .keys()
        .map(String::as_str)
        .collect();
    let promised = [
        "requests",
        "receipts",
        "input_tokens",
        "output_tokens",
        "charged",
        "settled",
        "payee_balance_delta",
        "payer_balance_delta",
        "channels",
        "claim_transactions",
        "claim_gas",
    ];
    assert_eq!(keys, BTreeSet::from(promised));
    assert!(summary["requests"].as_u64() >= Some(24));
    assert_eq!(summary["requests"], summary["receipts"]);
    assert_eq!(summary["channels"], 6);
    for equal in ["settled", "payee_balance_delta"] {
        assert_eq!(summary[equal], summary["charged"]);
    }
    let charged = summary["charged"].as_str().expect("money is a string");
    assert_eq!(summary["payer_balance_delta"], format!("-{charged}"));
    Ok(())
}

#[tokio::test]
async fn leaves_nothing_behind_when_it_is_interrupted() -> Result<()> {
    let folder = TempDir::new()?;
    let demo = demo(&folder)?;
    // Both nodes run by now, and the clients ask.
    demo.line("executors", |line| line.contains("executors").then_some(()))
        .await?;
    let started = descendants(demo.id())?;
    assert!(
        started.len() >= 4,
        "a chain, two backends and two nodes run: {started:?}"
    );
    let finished = demo.stop().await?;
    assert_eq!(finished.code(), Some(130), "{}", finished.stderr);
    wait::until("the end of all processes", || async {
        Ok(started.iter().all(|&id| is_gone(id)).then_some(()))
    })
    .await?;
    assert!(!folder.path().join("summary.json").exists());
    Ok(())
}

/// All processes that `ancestor` started, and those that they did.
fn descendants(ancestor: u32) -> Result<BTreeSet<u32>> {
    let mut family = BTreeSet::from([ancestor]);
    loop {
        let before = family.len();
        for entry in fs::read_dir("/proc").wrap_err("listing processes")? {
            let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            if parent_of(id).is_some_and(|parent| family.contains(&parent)) {
                family.insert(id);
            }
        }
        if family.len() == before {
            family.remove(&ancestor);
            return Ok(family);
        }
    }
}

/// The fields of `/proc/<id>/stat` behind the name: state, parent, …
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn parent_of(id: u32) -> Option<u32> {
    stat(id)?.get(1)?.parse().ok()
}

/// Gone, or dead and waiting for its parent to look.
fn is_gone(id: u32) -> bool {
    stat(id).is_none_or(|fields| fields.first().is_none_or(|state| state == "Z"))
}
