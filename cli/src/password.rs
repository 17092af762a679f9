//! Where a keystore's password comes from: a file, the environment, or a terminal. Never the command line, which other
//! users of the machine can read.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    progress::out_of_the_way,
    secret::Secret,
};

const VARIABLE: &str = "LLOOM_PASSWORD";

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct PasswordSource {
    /// `--password-file`.
    pub file: Option<PathBuf>,
}

impl PasswordSource {
    /// Whether nobody has to be asked.
    pub fn is_at_hand(&self) -> bool {
        self.file.is_some() || env::var_os(VARIABLE).is_some()
    }

    /// The password of the key at `path`.
    ///
    /// # Errors
    /// When it can't be read, or when there is nobody to ask.
    pub fn for_key(&self, path: &Path) -> Result<Secret> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {}: ", path.display())),
        }
    }

    /// A password for a key that is being made. On a terminal it is asked for twice.
    ///
    /// # Errors
    /// As [`for_key`](Self::for_key), and when the two differ or are empty.
    pub fn for_new_key(&self) -> Result<Secret> {
        let password = match self.given()? {
            Some(password) => password,
            None => {
                let first = ask("Password for the new key: ")?;
                let second = ask("Again: ")?;
                if first.expose() != second.expose() {
                    return Err(Failure::new(Kind::Key, "the two passwords differ"));
                }
                first
            }
        };
        if password.expose().is_empty() {
            return Err(Failure::new(Kind::Key, "the password is empty")
                .hint("the key spends money: whoever reads its file could use it"));
        }
        Ok(password)
    }

    fn given(&self) -> Result<Option<Secret>> {
        if let Some(path) = &self.file {
            let bytes = fs::read(path).or_fail(Kind::Key, || {
                format!("cannot read the password file {}", path.display())
            })?;
            return Ok(Some(Secret::new(bytes).without_line_end()));
        }
        Ok(env::var_os(VARIABLE).map(|value| Secret::new(value.into_encoded_bytes())))
    }
}

fn ask(prompt: &str) -> Result<Secret> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Kind::Key,
            "the key needs its password, and there is no terminal to ask on",
        )
        .hint(format!("name a file with --password-file, or set {VARIABLE}")));
    }
    out_of_the_way(|| rpassword::prompt_password(prompt))
        .map(|text| Secret::new(text.into_bytes()))
        .or_fail(Kind::Key, || "cannot read the password".to_owned())
}
