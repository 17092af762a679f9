use eyre::{Result, ensure};
use lloom_receipts::{Receipt, Unverified, Verifier};

use crate::{
    documents::Books,
    figure::{Figure, RUNS, Target, median, timed},
};

/// Receipts a run.
const RECEIPTS: usize = 10_000;

/// How many receipts are verified together.
const BATCHES: [usize; 6] = [1, 8, 16, 64, 256, 1_000];

/// Dual-signed receipts verified a second, on one core.
pub fn measure() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for channels in [1, 100] {
        let receipts = Receipts::new(channels)?;
        for batch in BATCHES {
            let rate = receipts.rate(batch)?;
            let plural = if channels == 1 { "channel" } else { "channels" };
            let figure = Figure::new(
                format!("dual-signed receipts verified, {channels} {plural}, batches of {batch}"),
                rate,
                "receipts/s, one core",
                format!(
                    "{RECEIPTS} different receipts in one thread, by its processor time, median of {RUNS} runs: both \
                     signatures checked with their recovery bits, both EIP-712 hashes computed, link and totals not \
                     looked at; parsing not included. Every signer was seen before."
                ),
            );
            figures.push(match (channels, batch) {
                (_, 1_000) => figure.with_target(Target::AtLeast(40_000.0)),
                _ => figure,
            });
        }
    }
    Ok(figures)
}

/// Receipts of several channels, by turns, and both sides of each.
struct Receipts {
    books: Vec<Books>,
    made: Vec<Receipt<Unverified>>,
}

impl Receipts {
    fn new(channels: u32) -> Result<Self> {
        let books = (0..channels).map(Books::new).collect::<Result<Vec<_>>>()?;
        let per_channel = (RECEIPTS / books.len()) as u64;
        let chains: Vec<_> = books.iter().map(|book| book.receipts(per_channel)).collect::<Result<_>>()?;
        let mut chains: Vec<_> = chains.into_iter().map(Vec::into_iter).collect();
        let mut made = Vec::with_capacity(RECEIPTS);
        for _ in 0..per_channel {
            made.extend(chains.iter_mut().filter_map(Iterator::next).map(Receipt::into_unverified));
        }
        Ok(Self { books, made })
    }

    fn rate(&self, batch: usize) -> Result<f64> {
        let verifier = Verifier::default();
        self.verify(&verifier, self.books.len());
        let mut rates = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let (verified, time) = timed(|| self.verify(&verifier, batch));
            ensure!(verified == RECEIPTS, "{verified} of {RECEIPTS} receipts are sound");
            rates.push(verified as f64 / time.as_secs_f64());
        }
        Ok(median(rates))
    }

    fn verify(&self, verifier: &Verifier, batch: usize) -> usize {
        let mut verified = 0;
        let mut books = self.books.iter().cycle();
        for receipts in self.made.chunks(batch) {
            let receipts = receipts.iter().cloned().zip(&mut books);
            let receipts = receipts
                .map(|(receipt, book)| receipt.by(book.payer.address(), book.operator.address()))
                .collect();
            let domain = &self.books[0].domain;
            let verdicts = verifier.verify_all(domain, receipts);
            verified += verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        }
        verified
    }
}
