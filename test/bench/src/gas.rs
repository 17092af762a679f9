use std::{collections::BTreeMap, fs, path::Path};

use eyre::{Result, WrapErr, eyre};

use crate::figure::{Figure, Target};

/// The whole-transaction gas that the contracts' tests measured (`make bench-gas` writes it anew).
const SNAPSHOT: &str = "snapshots/Settlement.json";

/// How gas is measured.
const METHOD: &str = "Gas of the whole transaction divided by its channels, 21,000 and calldata included: distinct \
                      payers, one payee, random-looking addresses, recipient balance nonzero, second claim on every \
                      channel, payout included. Not a median: gas is exact.";

/// Gas a channel of claims, from the snapshot.
pub fn measure() -> Result<Vec<Figure>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(SNAPSHOT);
    let text = fs::read_to_string(&path).wrap_err_with(|| format!("reading {SNAPSHOT}: `make bench-gas` writes it"))?;
    let snapshot: BTreeMap<String, String> =
        serde_json::from_str(&text).wrap_err_with(|| format!("{SNAPSHOT} is no gas snapshot"))?;
    let mut figures = Vec::new();
    for (call, title, target) in [
        ("claimVouchers", "claim by vouchers", 14_500.0),
        ("claimReceipts", "claim by receipts", 21_500.0),
    ] {
        for channels in [1_u32, 10, 100] {
            let key = format!("{call}_{channels}");
            let gas = snapshot.get(&key).ok_or_else(|| eyre!("{SNAPSHOT} has no {key}"))?;
            let gas: f64 = gas.parse().wrap_err_with(|| format!("{key} in {SNAPSHOT}"))?;
            let plural = if channels == 1 { "channel" } else { "channels" };
            let title = format!("{title}, {channels} {plural}");
            let figure = Figure::new(title, gas / f64::from(channels), "gas/channel", METHOD);
            figures.push(if channels == 100 {
                figure.with_target(Target::AtMost(target))
            } else {
                figure
            });
        }
    }
    Ok(figures)
}
