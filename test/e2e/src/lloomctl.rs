use std::path::{Path, PathBuf};

use eyre::{Result, WrapErr, bail, ensure};
use tokio::{process::Command, sync::OnceCell};

/// The program under test.
#[derive(Clone, Debug)]
pub struct Lloomctl {
    program: PathBuf,
}

impl Lloomctl {
    /// `LLOOM_LLOOMCTL`, or the one built beside this program. Under cargo it is built first, so it is never older than
    /// its sources.
    ///
    /// # Errors
    /// When there is none, or it doesn't build.
    pub async fn find() -> Result<Self> {
        static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
        let program = FOUND.get_or_try_init(locate).await?.clone();
        Ok(Self { program })
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

async fn locate() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("LLOOM_LLOOMCTL") {
        return Ok(PathBuf::from(program));
    }
    let program = beside_this_program("lloomctl")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        // The whole workspace's features, as `make` builds it: nothing is compiled twice.
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bin", "lloomctl"]);
        if program.parent().is_some_and(|folder| folder.ends_with("release")) {
            build.arg("--release");
        }
        // Cargo says to this program what package it is of. A build script that listens to that (ring's does) would run anew,
        // and all that is built on it.
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&variable);
            }
        }
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let built = build.status().await.wrap_err("running cargo to build lloomctl")?;
        ensure!(built.success(), "lloomctl doesn't build");
    }
    if !program.is_file() {
        bail!("no {}: run `cargo build --workspace --bins`", program.display());
    }
    Ok(program)
}

/// Where cargo puts a program of this workspace in the profile that this one was built in.
///
/// # Errors
/// When this program's own place is unknown.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().wrap_err("finding this program's own place")?;
    let folder = own.parent().unwrap_or(Path::new("."));
    // Tests lie one folder deeper.
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.join(name))
}
