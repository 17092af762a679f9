//! The user that PostgreSQL runs as where a test runs as root, which PostgreSQL refuses.

use std::{ffi::OsString, path::Path, process::Command};

use eyre::{Result, WrapErr as _};

fn id(arguments: &[&str]) -> Result<u32> {
    let asked = Command::new("id").args(arguments).output().wrap_err("asking id")?;
    String::from_utf8_lossy(&asked.stdout)
        .trim()
        .parse()
        .wrap_err_with(|| format!("id {} says no number", arguments.join(" ")))
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(id(&["-u"])? == 0)
}

pub(crate) fn give_to_nobody(path: &Path) -> Result<()> {
    let (user, group) = (id(&["-u", "nobody"])?, id(&["-g", "nobody"])?);
    std::os::unix::fs::chown(path, Some(user), Some(group)).wrap_err("giving a file to nobody")
}

/// A program, run by a user that PostgreSQL accepts.
pub(crate) fn as_nobody(program: impl Into<OsString>) -> Result<Command> {
    let program = program.into();
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let (user, group) = (id(&["-u", "nobody"])?, id(&["-g", "nobody"])?);
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .args(["--clear-groups", "--"])
        .arg(program);
    Ok(command)
}
