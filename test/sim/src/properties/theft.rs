use lloom_receipts::{Prices, TokenAmount, Usage};

use crate::{evidence::Evidence, witness::Seen};

/// Nothing is paid twice, and nothing is taken that was neither billed nor delivered: a payee has exactly what its channels
/// settled, a payer lacks exactly that, a channel settled no more than its bills, and no bill charges more than what left.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for payee in &evidence.payees {
        if payee.received != payee.settled {
            let (who, received, settled) = (payee.payee, payee.received, payee.settled);
            found.push(format!("{who} received {received}, and its channels settled {settled}"));
        }
    }
    for payer in &evidence.payers {
        if payer.lost != payer.spent {
            let (who, lost, spent) = (payer.payer, payer.lost, payer.spent);
            found.push(format!("{who} lost {lost}, and its channels settled {spent}"));
        }
    }
    for channel in &evidence.channels {
        if channel.on_chain.settled > channel.billed {
            let (id, settled, billed) = (channel.id, channel.on_chain.settled, channel.billed);
            found.push(format!("{id} settled {settled}, and {billed} were billed"));
        }
    }
    for (hash, seen) in &evidence.requests {
        for bill in seen.bills.values() {
            let delivered = worth(seen.request.prices, seen, bill.usage);
            if bill.amount > delivered {
                found.push(format!(
                    "{} were billed for {hash}, and {delivered} delivered",
                    bill.amount
                ));
            }
        }
    }
    found
}

/// What was delivered is worth: the output that left, and the prompt, which was read whole.
fn worth(prices: Prices, seen: &Seen, billed: Usage) -> TokenAmount {
    let delivered = Usage {
        input: billed.input.min(seen.request.max_input),
        output: seen.delivered.output,
    };
    prices.charge(delivered).unwrap_or(TokenAmount::MAX)
}
