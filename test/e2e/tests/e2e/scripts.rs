//! The deployment scripts, as deployments/README.md has them typed, against a chain: in a copy of the project, because
//! they write there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use eyre::{Result, WrapErr as _, ensure};
use lloom_e2e::{Anvil, Mining};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// anvil's first account, which signs for whoever asks.
const DEPLOYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// One transaction after the other: anvil may leave one in its pool, and forge wait for it for ever, that comes while a block
/// is made for the one before.
const BROADCAST: [&str; 3] = ["--broadcast", "--unlocked", "--slow"];

/// For one command of forge, which may have to compile everything first.
const PATIENCE: Duration = Duration::from_mins(5);

struct Project {
    copy: TempDir,
    rpc_url: String,
}

impl Project {
    fn copy(rpc_url: &str) -> Result<Self> {
        let (root, copy) = (root(), tempfile::tempdir()?);
        // With what is compiled already, if it is.
        for part in ["contracts", "script", "foundry.toml", "out", "cache"] {
            if root.join(part).exists() {
                copy_to(&root.join(part), &copy.path().join(part))?;
            }
        }
        fs::create_dir(copy.path().join("deployments"))?;
        std::os::unix::fs::symlink(root.join("node_modules"), copy.path().join("node_modules"))?;
        Ok(Self {
            copy,
            rpc_url: rpc_url.to_owned(),
        })
    }

    async fn forge(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(root().join("script/foundry"));
        command.arg("forge").args(arguments).current_dir(self.copy.path());
        command
            .env_remove("FOUNDRY_PROFILE")
            .env("DEV_TOKEN", "true")
            // Kept by chain id and block number, it would be another chain's.
            .env("FOUNDRY_NO_STORAGE_CACHING", "true")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = timeout(PATIENCE, command.output()).await;
        Ok(ended.wrap_err_with(|| format!("forge {arguments:?} doesn't end"))??)
    }

    async fn deploy(&self, how: &[&str]) -> Result<()> {
        let script = [
            "script",
            "script/Deploy.s.sol",
            "--rpc-url",
            &self.rpc_url,
            "--sender",
            DEPLOYER,
        ];
        let ended = self.forge(&[&script, how].concat()).await?;
        ensure!(ended.status.success(), "{ended:?}");
        Ok(())
    }

    /// What Doctor says, and whether it is content.
    async fn doctor(&self) -> Result<(bool, String)> {
        let ended = self
            .forge(&["script", "script/Doctor.s.sol", "--sig", "run(string)", &self.rpc_url])
            .await?;
        let said = [ended.stdout, ended.stderr].concat();
        Ok((ended.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    fn deployment(&self) -> Option<Value> {
        let text = fs::read(self.copy.path().join("deployments/31337.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[tokio::test]
async fn what_is_deployed_is_written_down_and_found_healthy_until_it_is_something_else() -> Result<()> {
    let anvil = Anvil::start(Mining::OnTransaction).await?;
    let project = Project::copy(anvil.url())?;
    anvil.mine(5).await?;

    project.deploy(&[]).await?;
    assert_eq!(
        (project.deployment(), anvil.block_number().await?),
        (None, 5),
        "a dry run"
    );
    let (content, said) = project.doctor().await?;
    assert!(!content && said.contains("Unhealthy"), "nothing is there yet: {said}");

    project.deploy(&BROADCAST).await?;
    let deployment = project.deployment().expect("it is written down");
    assert_eq!(deployment["startBlock"], json!(5), "{deployment}");
    assert!(deployment["token"].is_string(), "{deployment}");
    let (content, said) = project.doctor().await?;
    assert!(content && said.contains("This is Lloom"), "{said}");

    let before = anvil.block_number().await?;
    project.deploy(&BROADCAST).await?;
    assert_eq!(
        project.deployment(),
        Some(deployment.clone()),
        "what it found in place, it left"
    );
    assert_eq!(anvil.block_number().await?, before);

    anvil
        .call("anvil_setCode", json!([deployment["escrow"], "0x00"]))
        .await?;
    let (content, said) = project.doctor().await?;
    assert!(!content && said.contains("Unhealthy"), "{said}");
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn copy_to(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_to(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
