//! Whether the archive's files are whole, and hold what the store says they hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::Check;
use crate::{
    Ledger, LedgerError,
    archive::{list_archives, verify_archive},
};

impl Check<'_> {
    pub(super) async fn look_at_archives(&mut self, ledger: &Ledger, directory: &Path) -> Result<(), LedgerError> {
        let names = match list_archives(directory, false) {
            Ok(names) => names,
            Err(error) => {
                self.find(
                    None,
                    format!("the archive {} can't be read: {error}", directory.display()),
                );
                return Ok(());
            }
        };
        let (mut found, mut bad) = (BTreeMap::new(), BTreeSet::new());
        for name in names {
            self.checked.archives += 1;
            let verified = verify_archive(
                &directory.join(&name),
                &self.domain,
                &self.verifier,
                &|payee, biller| self.is_named(payee, biller),
            );
            match verified {
                Ok(contents) => {
                    self.checked.archived_receipts += contents.receipts;
                    self.checked.signatures += contents.signatures;
                    found.insert(name, contents.heads);
                }
                Err(error) => {
                    self.find(None, chain_of(&error));
                    bad.insert(name);
                }
            }
        }
        for archived in ledger.archived_channels().await? {
            let name = &archived.file;
            match found.get(name).map(|heads| heads.get(&archived.channel)) {
                Some(Some(head)) if *head == archived.head => {}
                Some(Some(head)) => self.find(
                    archived.channel,
                    format!(
                        "its receipts end with {} in the archive's file {name}, and with {} in its account",
                        head.sequence, archived.head.sequence
                    ),
                ),
                Some(None) => self.find(archived.channel, format!("it is not in the archive's file {name}")),
                // Said already.
                None if bad.contains(name) => {}
                None => self.find(
                    archived.channel,
                    format!(
                        "its receipts are in the archive's file {name}, which is not in {}",
                        directory.display()
                    ),
                ),
            }
        }
        Ok(())
    }
}

/// An error with its sources, in a line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
