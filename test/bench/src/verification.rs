use std::{path::PathBuf, process::Command};

use eyre::{Result, WrapErr, ensure};
use lloom_receipts::{Receipt, TokenAmount, Unverified, Verifier};

use crate::{
    documents::Books,
    figure::{Figure, RUNS, Target, median, timed},
};

/// Receipts a run.
const RECEIPTS: usize = 10_000;

/// How many receipts are verified together.
const BATCHES: [usize; 7] = [1, 4, 8, 16, 64, 256, LARGEST];
const LARGEST: usize = 1_000;

/// How many times as fast as the receipts of The Graph ours are to be verified.
const TIMES_TAP: f64 = 8.0;

/// Dual-signed receipts verified a second, on one core, beside others' receipts.
pub fn measure() -> Result<Vec<Figure>> {
    let tap = tap()?;
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
                    "{RECEIPTS} different receipts of one executor in one thread, by its processor time, median of \
                     {RUNS} runs: both signatures checked with their recovery bits, both EIP-712 hashes computed, link \
                     and totals not looked at; parsing not included. Every signer was seen before."
                ),
            );
            if (channels, batch) == (100, LARGEST) {
                let target = Target::AtLeast((TIMES_TAP * tap.value).max(40_000.0));
                figures.push(figure.with_key("verified_per_s").with_target(target));
            } else {
                figures.push(figure);
            }
        }
    }
    figures.push(worst()?);
    figures.push(tap);
    Ok(figures)
}

/// What a peer can make verification cost: batches in which every receipt has been changed after it was signed.
fn worst() -> Result<Figure> {
    let mut receipts = Receipts::new(1)?;
    let verifier = Verifier::default();
    receipts.verify(&verifier, 1);
    receipts.forge();
    let mut rates = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (verified, time) = timed(|| receipts.verify(&verifier, LARGEST));
        ensure!(verified == 0, "{verified} forged receipts are sound");
        rates.push(RECEIPTS as f64 / time.as_secs_f64());
    }
    Ok(Figure::new(
        format!("forged receipts refused, 1 channel, batches of {LARGEST}"),
        median(rates),
        "receipts/s, one core",
        "The same, but every receipt's total and every bill's amount were changed after they were signed: no part of a \
         batch holds, down to single signatures.",
    ))
}

/// What the program in `tap/` measures. It is built apart, in a workspace of its own.
fn tap() -> Result<Figure> {
    let program = PathBuf::from(
        std::env::var_os("LLOOM_BENCH_TAP").unwrap_or_else(|| "target/tap/release/lloom-bench-tap".into()),
    );
    let output = Command::new(&program)
        .output()
        .wrap_err_with(|| format!("running {} (`make bench` builds it)", program.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = String::from_utf8(output.stdout)?
        .trim()
        .parse()
        .wrap_err("reading what it printed")?;
    let method = "5,000 different receipts of The Graph (tap_core 6.0.2, tap_graph 0.3.5, default features), one signature \
                  each, signer recovered and compared, in one thread, by its processor time, median of 5 runs.";
    Ok(Figure::new("TAP receipts verified", rate, "receipts/s, one core", method).with_key("tap_per_s"))
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
        let chains: Vec<_> = books
            .iter()
            .map(|book| book.receipts(per_channel))
            .collect::<Result<_>>()?;
        let mut chains: Vec<_> = chains.into_iter().map(Vec::into_iter).collect();
        let mut made = Vec::with_capacity(RECEIPTS);
        for _ in 0..per_channel {
            made.extend(
                chains
                    .iter_mut()
                    .filter_map(Iterator::next)
                    .map(Receipt::into_unverified),
            );
        }
        Ok(Self { books, made })
    }

    /// Changes every document after it was signed.
    fn forge(&mut self) {
        for receipt in &mut self.made {
            let mut document = *receipt.receipt();
            document.cumulative_amount = document.cumulative_amount.saturating_add(TokenAmount::new(1));
            document.bill.amount = document.bill.amount.saturating_add(TokenAmount::new(1));
            *receipt = Receipt::new(document, *receipt.payer_signature(), *receipt.bill_signature());
        }
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
