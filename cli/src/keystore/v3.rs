//! Web3 Secret Storage, version 3: scrypt, AES-128-CTR, and a keccak checksum of the derived key and the ciphertext.
//! <https://ethereum.org/en/developers/docs/data-structures-and-encoding/web3-secret-storage/>

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use alloy::primitives::{Address, Keccak256};
use lloom_receipts::Keypair;
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

const DERIVED_BYTES: usize = 32;
/// scrypt takes `128 · N · r` bytes; a file that asks for more than this is refused.
const MAX_KDF_MEMORY: u64 = 1 << 30;

/// How hard guessing a password is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KdfCost {
    /// What wallets use: N = 2^18, 256 MiB and about a second.
    #[default]
    Standard,
    /// None worth the name. For keys of development networks.
    Insecure,
}

impl KdfCost {
    const fn log_n(self) -> u8 {
        match self {
            Self::Standard => 18,
            Self::Insecure => 2,
        }
    }
}

/// A key file's content.
#[derive(Debug)]
pub struct KeyFile {
    /// Whose key it is, where the file tells.
    pub address: Option<Address>,
    crypto: Crypto,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    version: u32,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Debug, Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    #[serde(with = "hex::serde")]
    ciphertext: Vec<u8>,
    kdf: String,
    kdfparams: serde_json::Value,
    #[serde(with = "hex::serde")]
    mac: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CipherParams {
    #[serde(with = "hex::serde")]
    iv: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ScryptParams {
    dklen: usize,
    n: u64,
    r: u32,
    p: u32,
    #[serde(with = "hex::serde")]
    salt: Vec<u8>,
}

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Not such a file at all.
    #[error("it is no keystore file of version 3")]
    Malformed(#[source] serde_json::Error),
    /// Another version.
    #[error("it is a keystore file of version {found}, not 3")]
    OtherVersion {
        /// Which.
        found: u32,
    },
    /// A part that this program doesn't know.
    #[error("its {part} is '{found}', and this program knows {known} only")]
    Unsupported {
        /// Which part.
        part: &'static str,
        /// What it is.
        found: String,
        /// What it could be.
        known: &'static str,
    },
    /// A part that can't be what it says.
    #[error("its {part} is wrong")]
    WrongPart {
        /// Which part.
        part: &'static str,
    },
    /// The checksum doesn't match.
    #[error("the password is wrong")]
    WrongPassword,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl KeyFile {
    /// Reads a file's content.
    pub fn parse(text: &[u8]) -> Result<Self, KeystoreError> {
        let wire: Wire = serde_json::from_slice(text).map_err(KeystoreError::Malformed)?;
        if wire.version != 3 {
            return Err(KeystoreError::OtherVersion { found: wire.version });
        }
        let address = wire
            .address
            .map(|text| text.parse().map_err(|_| KeystoreError::WrongPart { part: "address" }))
            .transpose()?;
        Ok(Self {
            address,
            crypto: wire.crypto,
        })
    }

    /// The secret scalar.
    pub fn decrypt(&self, password: &Secret) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let crypto = &self.crypto;
        if crypto.kdf != "scrypt" {
            return Err(KeystoreError::Unsupported {
                part: "key derivation",
                found: crypto.kdf.clone(),
                known: "scrypt",
            });
        }
        if crypto.cipher != "aes-128-ctr" {
            return Err(KeystoreError::Unsupported {
                part: "cipher",
                found: crypto.cipher.clone(),
                known: "aes-128-ctr",
            });
        }
        let params: ScryptParams =
            serde_json::from_value(crypto.kdfparams.clone()).map_err(KeystoreError::Malformed)?;
        let derived = derive(password, &params)?;
        if checksum(&derived, &crypto.ciphertext) != crypto.mac.as_slice() {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new([0; 32]);
        if crypto.ciphertext.len() != secret.len() {
            return Err(KeystoreError::WrongPart { part: "ciphertext" });
        }
        secret.copy_from_slice(&crypto.ciphertext);
        apply_cipher(&derived, &crypto.cipherparams.iv, secret.as_mut())?;
        Ok(secret)
    }
}

/// The content of a key file.
pub fn encrypt(key: &Keypair, password: &Secret, cost: KdfCost) -> Result<String, KeystoreError> {
    let mut salt = vec![0; 32];
    let mut iv = vec![0; 16];
    let mut id = [0; 16];
    for bytes in [&mut salt[..], &mut iv[..], &mut id[..]] {
        rand::rngs::OsRng
            .try_fill_bytes(bytes)
            .map_err(|_| KeystoreError::NoRandomness)?;
    }
    let params = ScryptParams {
        dklen: DERIVED_BYTES,
        n: 1 << cost.log_n(),
        r: 8,
        p: 1,
        salt,
    };
    let derived = derive(password, &params)?;
    let mut ciphertext = key.secret().to_vec();
    apply_cipher(&derived, &iv, &mut ciphertext)?;
    let wire = Wire {
        version: 3,
        id: uuid(id),
        address: Some(hex::encode(key.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".to_owned(),
            cipherparams: CipherParams { iv },
            mac: checksum(&derived, &ciphertext).to_vec(),
            ciphertext,
            kdf: "scrypt".to_owned(),
            kdfparams: serde_json::to_value(params).map_err(KeystoreError::Malformed)?,
        },
    };
    serde_json::to_string_pretty(&wire).map_err(KeystoreError::Malformed)
}

fn derive(password: &Secret, params: &ScryptParams) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
    let wrong = || KeystoreError::WrongPart { part: "kdfparams" };
    let memory = params
        .n
        .checked_mul(u64::from(params.r))
        .and_then(|blocks| blocks.checked_mul(128));
    if params.dklen != DERIVED_BYTES
        || !params.n.is_power_of_two()
        || params.p > 16
        || memory.is_none_or(|memory| memory > MAX_KDF_MEMORY)
    {
        return Err(wrong());
    }
    // A power of two has its logarithm in its trailing zeros, at most 63.
    let log_n = params.n.trailing_zeros() as u8;
    let cost = scrypt::Params::new(log_n, params.r, params.p).map_err(|_| wrong())?;
    let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
    scrypt::scrypt(password.expose(), &params.salt, &cost, derived.as_mut()).map_err(|_| wrong())?;
    Ok(derived)
}

fn checksum(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.update(&derived[16..]);
    hasher.update(ciphertext);
    hasher.finalize().0
}

fn apply_cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8], text: &mut [u8]) -> Result<(), KeystoreError> {
    Aes128Ctr::new_from_slices(&derived[..16], iv)
        .map_err(|_| KeystoreError::WrongPart { part: "iv" })?
        .apply_keystream(text);
    Ok(())
}

/// A random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    let part = |range: std::ops::Range<usize>| digits[range].to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn what_was_encrypted_comes_back_with_the_password_alone() {
        let key = Keypair::from_secret([7; 32]).unwrap();
        let text = encrypt(&key, &secret("open sesame"), KdfCost::Insecure).unwrap();
        assert!(!text.contains(&"07".repeat(32)));
        let file = KeyFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.address, Some(key.address()));
        assert_eq!(*file.decrypt(&secret("open sesame")).unwrap(), [7; 32]);
        assert!(matches!(
            file.decrypt(&secret("open sesame ")),
            Err(KeystoreError::WrongPassword)
        ));
    }

    /// Written by Foundry's `cast wallet import`. (The specification's own scrypt vector has N = 2^18 at r = 1, which
    /// RFC 7914, section 2, forbids.)
    #[test]
    fn reads_what_other_programs_write() {
        let text = r#"{
            "crypto": {
                "cipher": "aes-128-ctr",
                "cipherparams": { "iv": "5298696db94c931aa95644c7cd5df79a" },
                "ciphertext": "9bd3873f6e499bdc34016f33c46644f8ed8474e076a42cf58778b20554db959c",
                "kdf": "scrypt",
                "kdfparams": {
                    "dklen": 32, "n": 8192, "p": 1, "r": 8,
                    "salt": "36a734c04583d0eebbab4de0fe666af1d7808a265605d1730adb597dc8e9733f"
                },
                "mac": "6be2db1d1bb6ead19a806de844e0375f16e6625cb569fe3d7b1baff9368b0913"
            },
            "id": "035b5f63-b232-4723-bb71-ab2447f3ed9f",
            "version": 3
        }"#;
        let file = KeyFile::parse(text.as_bytes()).unwrap();
        assert_eq!(
            hex::encode(*file.decrypt(&secret("testpassword")).unwrap()),
            "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
        );
    }

    #[test]
    fn refuses_files_that_would_crash_or_exhaust_it() {
        let key = Keypair::from_secret([7; 32]).unwrap();
        let good: serde_json::Value =
            serde_json::from_str(&encrypt(&key, &secret("x"), KdfCost::Insecure).unwrap()).unwrap();
        let open = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = good.clone();
            change(&mut value);
            KeyFile::parse(value.to_string().as_bytes()).and_then(|file| file.decrypt(&secret("x")))
        };
        open(&|_| {}).unwrap();
        assert!(matches!(
            open(&|value| value["version"] = 1.into()),
            Err(KeystoreError::OtherVersion { found: 1 })
        ));
        assert!(matches!(
            open(&|value| value["crypto"]["kdf"] = "pbkdf2".into()),
            Err(KeystoreError::Unsupported { .. })
        ));
        for (name, number) in [
            ("n", 1u64 << 40),
            ("n", 3),
            ("n", 0),
            ("r", 1 << 30),
            ("dklen", 8),
            ("p", 1 << 20),
        ] {
            assert!(
                matches!(
                    open(&|value| value["crypto"]["kdfparams"][name] = number.into()),
                    Err(KeystoreError::WrongPart { part: "kdfparams" })
                ),
                "{name} = {number}"
            );
        }
        assert!(matches!(
            open(&|value| value["crypto"]["cipherparams"]["iv"] = "00".into()),
            Err(KeystoreError::WrongPart { part: "iv" })
        ));
        assert!(matches!(KeyFile::parse(b"{}"), Err(KeystoreError::Malformed(_))));
    }
}
