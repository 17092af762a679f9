use eyre::{Result, ensure};
use lloom_receipts::{Receipt, Unverified, Verifier};

use crate::{
    documents::Books,
    figure::{Figure, RUNS, Target, median, timed},
};

/// Receipts a run.
const RECEIPTS: u64 = 10_000;

/// Dual-signed receipts verified a second, on one core.
pub fn measure() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for channels in [1, 100] {
        let books = (0..channels).map(Books::new).collect::<Result<Vec<_>>>()?;
        let mut made = Vec::new();
        for book in &books {
            let receipts = book.receipts(RECEIPTS / u64::from(channels))?;
            made.extend(receipts.into_iter().map(|receipt| (book, receipt.into_unverified())));
        }
        let mut rates = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let verifier = Verifier::default();
            let (verified, time) = timed(|| {
                made.iter()
                    .filter(|(book, receipt)| is_sound(book, receipt, &verifier))
                    .count()
            });
            ensure!(
                verified as u64 == RECEIPTS,
                "{verified} of {RECEIPTS} receipts are sound"
            );
            rates.push(verified as f64 / time.as_secs_f64());
        }
        let plural = if channels == 1 { "channel" } else { "channels" };
        figures.push(
            Figure::new(
                format!("dual-signed receipts verified, {channels} {plural}"),
                median(rates),
                "receipts/s, one core",
                format!(
                    "{RECEIPTS} different receipts in one thread, by its processor time, median of {RUNS} runs: both signatures recovered and \
                     checked, both EIP-712 hashes computed, link and totals not looked at; parsing not included."
                ),
            )
            .with_target(Target::AtLeast(10_000.0)),
        );
    }
    Ok(figures)
}

fn is_sound(book: &Books, receipt: &Receipt<Unverified>, verifier: &Verifier) -> bool {
    let operator = book.operator.address();
    let verified = receipt
        .clone()
        .verify(&book.domain, verifier, book.payer.address(), |biller| {
            biller == operator
        });
    verified.is_ok()
}
