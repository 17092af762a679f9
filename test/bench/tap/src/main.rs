//! How many receipts of The Graph's Timeline Aggregation Protocol one core verifies in a second, with the crates it
//! publishes and their default features. Prints the number: the median of several runs.
//!
//! A TAP receipt bears one signature, where a usage receipt bears two.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tap_core::{TapVersion, tap_eip712_domain};
use tap_graph::v2::{Receipt, SignedReceipt};
use thegraph_core::alloy::{
    primitives::{Address, FixedBytes},
    signers::local::PrivateKeySigner,
};

/// Receipts a run.
const RECEIPTS: usize = 5_000;
const RUNS: usize = 5;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let domain = tap_eip712_domain(31_337, Address::repeat_byte(0xe5), TapVersion::V2);
    let payer = PrivateKeySigner::random();
    let receipts: Vec<SignedReceipt> = (0..RECEIPTS)
        .map(|number| {
            let receipt = Receipt::new(
                FixedBytes::repeat_byte(1),
                payer.address(),
                Address::repeat_byte(2),
                Address::repeat_byte(3),
                number as u128,
            )?;
            Ok(SignedReceipt::new(&domain, receipt, &payer)?)
        })
        .collect::<Result<_, Failure>>()?;
    let mut rates = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = thread_time();
        let mut sound = 0;
        for receipt in &receipts {
            sound += usize::from(receipt.recover_signer(&domain)? == payer.address());
        }
        let time = thread_time().saturating_sub(start);
        if sound != RECEIPTS {
            return Err(format!("{sound} of {RECEIPTS} receipts are sound").into());
        }
        rates.push(RECEIPTS as f64 / time.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("{:.0}", rates[RUNS / 2]);
    Ok(())
}

/// This thread's processor time.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
