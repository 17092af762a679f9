//! Whether what is held for others, and what towers have promised, is signed.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, ChannelParameters, Signed, TokenAmount, Voucher};

use super::{Check, PAGE};
use crate::{
    Ledger, LedgerError,
    appointment::page_of_appointments,
    column::{Put as _, Read as _, sql},
};

impl Check<'_> {
    pub(super) async fn look_at_towers(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let looked = self.look_at_held(ledger).await;
        self.read(None, looked)?;
        let looked = self.look_at_appointments(ledger).await;
        self.read(None, looked)?;
        Ok(())
    }

    /// A tower's side: the vouchers it defends others' channels with.
    async fn look_at_held(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let mut session = ledger.snapshot("check what is held").await?;
        let mut after: Option<(ChannelId, TokenAmount)> = None;
        loop {
            let statement = sql(
                "SELECT h.channel, h.claim, h.ceiling, h.signature, c.payer, c.payee, c.token, c.salt,
                        c.authorized_signer
                 FROM held_vouchers h JOIN channels c ON c.id = h.channel
                 WHERE $1 IS NULL OR h.channel > $1 OR (h.channel = $1 AND h.claim > $2)
                 ORDER BY h.channel, h.claim LIMIT $3",
            );
            let (channel, claim) = after.unzip();
            let statement = statement.put_optional(channel).put_optional(claim).put(i64::from(PAGE));
            let rows = session.rows(statement).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some((last.read("channel")?, last.read("claim")?));
            let mut signed = Vec::with_capacity(rows.len());
            for row in &rows {
                let parameters = ChannelParameters {
                    payer: row.read("payer")?,
                    payee: row.read("payee")?,
                    token: row.read("token")?,
                    salt: row.read("salt")?,
                    authorized_signer: row.read("authorized_signer")?,
                };
                let voucher = Voucher {
                    channel: row.read("channel")?,
                    amount: row.read("ceiling")?,
                };
                signed.push(Signed::new(voucher, row.read("signature")?).by(parameters.payer_side()));
            }
            self.checked.vouchers += rows.len() as u64;
            self.checked.signatures += rows.len() as u64;
            let verdicts = self.verifier.verify_all(&self.domain, signed);
            for (row, verdict) in rows.iter().zip(verdicts) {
                if let Err(error) = verdict {
                    let ceiling: TokenAmount = row.read("ceiling")?;
                    let channel: ChannelId = row.read("channel")?;
                    self.find(
                        channel,
                        format!("the voucher over {ceiling} that is held for another: {error}"),
                    );
                }
            }
        }
    }

    /// An executor's side: what towers have promised it.
    async fn look_at_appointments(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let mut session = ledger.snapshot("check the appointments").await?;
        let mut after: Option<(Address, ChannelId)> = None;
        loop {
            let page = page_of_appointments(&mut session, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some((last.document().tower, last.document().channel));
            self.checked.appointments += page.len() as u64;
            self.checked.signatures += page.len() as u64;
            let documents: Vec<_> = page.iter().map(|signed| *signed.document()).collect();
            let signed = page
                .into_iter()
                .map(|signed| {
                    let tower = signed.document().tower;
                    signed.into_unverified().by(tower)
                })
                .collect();
            let verdicts = self.verifier.verify_all(&self.domain, signed);
            for (document, verdict) in documents.iter().zip(verdicts) {
                if let Err(error) = verdict {
                    self.find(
                        document.channel,
                        format!("the promise of the tower {}: {error}", document.tower),
                    );
                }
            }
        }
    }
}
