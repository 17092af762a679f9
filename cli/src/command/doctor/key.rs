//! The key that signs.

use alloy::primitives::Address;

use super::diagnosis::Checks;
use crate::session::Session;

/// Looks at its file, and opens it where a password is at hand. Gives its address.
pub fn check(session: &Session, checks: &mut Checks) -> Option<Address> {
    let address = match session.address() {
        Ok(address) => address,
        Err(failure) => {
            checks.bad("key", &failure);
            return None;
        }
    };
    let named = format!("'{}' is {address}", session.key_name());
    #[cfg(unix)]
    if let Some(mode) = mode_for_others(session) {
        checks.warn(
            "key",
            format!("{named}, and its file can be read by others ({mode:03o})"),
            format!("`chmod 600 {}`", session.home.key(session.key_name()).display()),
        );
        return Some(address);
    }
    if !session.password().is_at_hand() {
        checks.good("key", named);
        return Some(address);
    }
    match session.unlock() {
        Ok(_) => checks.good("key", format!("{named}, and opens with the password")),
        Err(failure) => checks.bad("key", &failure),
    }
    Some(address)
}

/// The file's permissions, where they let others in.
#[cfg(unix)]
fn mode_for_others(session: &Session) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(session.home.key(session.key_name())).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}
