//! Encrypted keys: a file a key, in the format that wallets exchange (Web3 Secret Storage, version 3).

mod v3;

use std::{fs, path::Path};

use alloy::primitives::Address;
use lloom_receipts::Keypair;
use rand::TryRngCore as _;

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    home::Home,
    password::PasswordSource,
    secret::Secret,
};
pub use v3::{KdfCost, KeystoreError};

/// A key file that was read, still encrypted.
#[derive(Debug)]
pub struct LockedKey {
    name: String,
    path: std::path::PathBuf,
    file: v3::KeyFile,
}

impl LockedKey {
    /// Reads the key `name`.
    ///
    /// # Errors
    /// When there is none, or its file isn't one.
    pub fn read(home: &Home, name: &str) -> Result<Self> {
        crate::home::check_name("key", name)?;
        let path = home.key(name);
        if !path.exists() {
            let failure = Failure::new(Kind::Key, format!("there is no key '{name}' ({})", path.display()));
            return Err(if home.is_initialized() {
                failure.hint("see config.toml's `key`, or name another one with --key")
            } else {
                failure.hint("`lloomctl init` makes one")
            });
        }
        let text = read_key_file(&path)?;
        let file = v3::KeyFile::parse(text.expose())
            .or_fail(Kind::Key, || format!("cannot read the key file {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            path,
            file,
        })
    }

    /// The key's address, which the file tells without a password.
    ///
    /// # Errors
    /// When the file keeps it to itself.
    pub fn address(&self) -> Result<Address> {
        self.file.address.ok_or_else(|| {
            Failure::new(
                Kind::Key,
                format!("the key file {} doesn't tell its address", self.path.display()),
            )
            .hint("import it again with `lloomctl init --import`")
        })
    }

    /// Decrypts it.
    ///
    /// # Errors
    /// When the password is wrong, or can't be had.
    pub fn unlock(&self, password: &PasswordSource) -> Result<Keypair> {
        let password = password.for_key(&self.path)?;
        let key = decrypt(&self.file, &password)
            .map_err(|failure| failure.while_(format!("cannot unlock the key '{}'", self.name)))?;
        if self.file.address.is_some_and(|address| address != key.address()) {
            return Err(Failure::new(
                Kind::Key,
                format!(
                    "the file {} holds the key of {}, not of the address it names",
                    self.path.display(),
                    key.address()
                ),
            ));
        }
        Ok(key)
    }
}

/// A new random key.
///
/// # Errors
/// When the system has no randomness.
pub fn generate() -> Result<Keypair> {
    loop {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        rand::rngs::OsRng
            .try_fill_bytes(secret.as_mut())
            .or_fail(Kind::Key, || "the system gives no random bytes".to_owned())?;
        // One in 2^128 scalars is none; the next one is.
        if let Ok(key) = Keypair::from_secret(*secret) {
            return Ok(key);
        }
    }
}

/// Reads a key to import: 32 bytes in hex, or another version-3 keystore file.
///
/// # Errors
/// When it is neither.
pub fn import(text: &Secret, password: &PasswordSource, path: &Path) -> Result<Keypair> {
    let trimmed = text.expose().trim_ascii();
    if trimmed.first() == Some(&b'{') {
        let file = v3::KeyFile::parse(trimmed).or_fail(Kind::Key, || "cannot read the key to import".to_owned())?;
        return decrypt(&file, &password.for_key(path)?);
    }
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    let digits = trimmed.strip_prefix(b"0x").unwrap_or(trimmed);
    // What is wrong with it is not said: it would quote the secret.
    hex::decode_to_slice(digits, secret.as_mut())
        .ok()
        .and_then(|()| Keypair::from_secret(*secret).ok())
        .ok_or_else(|| {
            Failure::new(Kind::Key, "what was given is no key")
                .hint("a key is 64 hexadecimal digits, or a keystore file (JSON, version 3)")
        })
}

/// Encrypts `key` and writes it down as `name`, never over another.
///
/// # Errors
/// When the file exists, or can't be written.
pub fn store(home: &Home, name: &str, key: &Keypair, password: &Secret, cost: KdfCost) -> Result {
    crate::home::check_name("key", name)?;
    let content = v3::encrypt(key, password, cost).or_fail(Kind::Key, || "cannot encrypt the key".to_owned())?;
    home.write(&home.key(name), content.as_bytes(), false)
}

fn decrypt(file: &v3::KeyFile, password: &Secret) -> Result<Keypair> {
    let secret = file.decrypt(password).map_err(|error| {
        let wrong_password = matches!(error, KeystoreError::WrongPassword);
        let failure = Failure::of(Kind::Key, error);
        if wrong_password {
            failure.hint("the password comes from --password-file, LLOOM_PASSWORD or the prompt, in this order")
        } else {
            failure
        }
    })?;
    Keypair::from_secret(*secret).or_fail(Kind::Key, || "the key file holds no key".to_owned())
}

/// Bounded: nobody's key takes more.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

fn read_key_file(path: &Path) -> Result<Secret> {
    let operation = || format!("cannot read the key file {}", path.display());
    let size = fs::metadata(path).or_fail(Kind::Key, operation)?.len();
    if size > MAX_KEY_FILE_BYTES {
        return Err(Failure::new(
            Kind::Key,
            format!("{} is too large for a key file", path.display()),
        ));
    }
    fs::read(path).map(Secret::new).or_fail(Kind::Key, operation)
}
