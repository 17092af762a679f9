use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use eyre::{Result, WrapErr as _};

use crate::nobody::{give_to_nobody, is_root};

/// What a server proves by TLS that it is the one meant. PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Certificate {
    /// Puts it where the server reads it. Gives the settings that say so.
    pub(crate) fn install(&self, directory: &Path) -> Result<[String; 3]> {
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        fs::write(&certificate, &self.certificate).wrap_err("writing the certificate")?;
        fs::write(&key, &self.key).wrap_err("writing its key")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).wrap_err("hiding the key")?;
        if is_root()? {
            give_to_nobody(&key)?;
        }
        Ok([
            String::from("ssl=on"),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ])
    }
}
