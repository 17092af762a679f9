//! What honest clients hear, and what they sign for it: one held against the other, frame by frame, whoever is at the other
//! end. It believes neither side's store.

use std::collections::{BTreeMap, BTreeSet};

use lloom_node::{
    client::Tolerance,
    wire::{ClientFrame, ExecutorFrame, Infer, MAX_OVERSHOOT},
};
use lloom_receipts::{
    BillHash, ChannelId, ContentHasher, InferenceRequest, Receipt, RequestHash, TokenAmount, TokenCount, Unverified,
    Usage, UsageBill,
};

use crate::{executor::INCREMENT, life::ProcessId};

/// All that honest clients asked for, heard and signed.
#[derive(Debug, Default)]
pub struct Dealings {
    asked: BTreeMap<RequestHash, Asked>,
    accounts: BTreeMap<ChannelId, Account>,
    /// What was signed and should not have been.
    pub violations: Vec<String>,
}

#[derive(Debug)]
struct Asked {
    client: ProcessId,
    request: InferenceRequest,
    tolerance: Tolerance,
    body_bytes: usize,
    heard: ContentHasher,
    text_bytes: u64,
    announced: Usage,
    /// The most output that may have been promised for.
    received: TokenCount,
    /// The bills that came on its own stream.
    billed: BTreeSet<BillHash>,
}

#[derive(Debug, Default)]
struct Account {
    /// The client that uses it, and how many of its chats are running on it.
    running: BTreeMap<ProcessId, u64>,
    /// How many chats may have begun a request that was never sent: its client died, or its stream broke.
    lost: u64,
    /// The most that could be promised at any time.
    ceiling: TokenAmount,
    /// The highest voucher, base units.
    signed: TokenAmount,
    linked: BTreeMap<RequestHash, UsageBill>,
    /// Its client was put back from a backup, and knows only a part of this.
    forgetful: bool,
}

impl Asked {
    /// The most tokens that what came can have.
    fn justified_output(&self) -> TokenCount {
        let text = u32::try_from(self.text_bytes).unwrap_or(u32::MAX);
        TokenCount::new(text).saturating_add(self.tolerance.output_slack)
    }

    /// What may be promised for it: what came, and one increment.
    fn promise(&self) -> TokenAmount {
        self.worth(self.received.saturating_add(TokenCount::new(INCREMENT)))
    }

    /// What is promised for it before anything came.
    fn first_promise(&self) -> TokenAmount {
        self.worth(TokenCount::new(INCREMENT))
    }

    fn worth(&self, output: TokenCount) -> TokenAmount {
        let usage = Usage {
            input: self.request.max_input,
            output: output.min(self.request.max_output),
        };
        self.request.prices.charge(usage).unwrap_or(TokenAmount::MAX)
    }

    /// Why `bill` should not have been linked, if it should not.
    fn judge(&self, bill: &UsageBill) -> Option<String> {
        if let Err(error) = bill.check(&self.request) {
            return Some(error.to_string());
        }
        if !self.billed.contains(&bill.hash()) {
            // Without its stream it is worth what was promised, and an event that may have come unpaid.
            let most = self.worth(self.received.saturating_add(TokenCount::new(INCREMENT + MAX_OVERSHOOT)));
            return (bill.amount > most).then(|| format!("it is over {}, and {most} were promised", bill.amount));
        }
        if bill.response_hash != self.heard.current() {
            return Some(String::from("it is over another response"));
        }
        let input = self.tolerance.input_bound(self.body_bytes);
        let (usage, announced) = (bill.usage, self.announced);
        if usage.output > announced.output || usage.input > announced.input {
            return Some(format!("it has {} tokens, and {} came", usage.output, announced.output));
        }
        (usage.output > self.justified_output() || usage.input > input)
            .then(|| format!("{} tokens are more than what came can have", usage.output))
    }
}

impl Dealings {
    /// A client hears `frame`, on a stream about `asked`.
    pub fn hear(&mut self, frame: &ExecutorFrame, asked: Option<RequestHash>) {
        let Some(asked) = asked.and_then(|hash| self.asked.get_mut(&hash)) else {
            return;
        };
        match frame {
            ExecutorFrame::Chunk { data, usage } => {
                asked.heard.update(data);
                asked.text_bytes += text_bytes(data);
                asked.announced = *usage;
                asked.received = asked.received.max(usage.output.min(asked.justified_output()));
            }
            ExecutorFrame::Bill { bill, .. } => {
                asked.billed.insert(bill.document().hash());
            }
            _ => {}
        }
    }

    /// A client that has this tolerance says `frame`.
    pub fn say(&mut self, client: ProcessId, frame: &ClientFrame, tolerance: Tolerance) {
        match frame {
            ClientFrame::Infer(infer) => {
                self.ask(client, infer, tolerance);
                if let Some(voucher) = &infer.voucher {
                    self.promise(voucher.document().channel, voucher.document().amount);
                }
            }
            ClientFrame::Voucher {
                voucher: Some(voucher), ..
            } => self.promise(voucher.document().channel, voucher.document().amount),
            ClientFrame::Receipt { receipt, voucher } => {
                self.link(receipt);
                if let Some(voucher) = voucher {
                    self.promise(voucher.document().channel, voucher.document().amount);
                }
            }
            ClientFrame::Voucher { voucher: None, .. } | ClientFrame::Sync { .. } | ClientFrame::Cancel => {}
        }
    }

    /// A client begins a chat on a channel. What it may cost at first is promised with whichever voucher is signed next,
    /// which may be sent before its request is.
    pub fn begin(&mut self, client: ProcessId, channel: ChannelId) {
        let account = self.accounts.entry(channel).or_default();
        *account.running.entry(client).or_default() += 1;
    }

    /// A chat is over. Where its stream broke, it may have begun a request without sending it.
    pub fn end(&mut self, client: ProcessId, channel: ChannelId, broke: bool) {
        let account = self.accounts.entry(channel).or_default();
        let running = account.running.entry(client).or_default();
        *running = running.saturating_sub(1);
        account.lost += u64::from(broke);
    }

    /// A client died: it knows nothing more of the answers that it was hearing, only what it had promised.
    pub fn lose_streams(&mut self, client: ProcessId) {
        for account in self.accounts.values_mut() {
            account.lost += account.running.remove(&client).unwrap_or_default();
        }
        for asked in self.asked.values_mut().filter(|asked| asked.client == client) {
            asked.billed.clear();
        }
    }

    /// A client's store was put back: what it signed since, it may sign differently.
    pub fn forget(&mut self, channel: ChannelId) {
        self.accounts.entry(channel).or_default().forgetful = true;
    }

    /// The highest voucher that was ever signed on a channel, base units.
    pub fn signed(&self, channel: ChannelId) -> TokenAmount {
        self.accounts
            .get(&channel)
            .map_or(TokenAmount::ZERO, |account| account.signed)
    }

    /// The most that each request of a channel can cost.
    pub fn maxima(&self, channel: ChannelId) -> impl Iterator<Item = TokenAmount> {
        let asked = self.asked.values().map(|asked| &asked.request);
        asked
            .filter(move |request| request.channel == channel)
            .map(|request| request.maximum().unwrap_or(TokenAmount::MAX))
    }

    /// The most that a channel may have lost to whoever is at its other end, base units: what was linked, and what was
    /// promised for each answer that was not.
    pub fn ceiling(&mut self, channel: ChannelId) -> TokenAmount {
        let account = self.accounts.entry(channel).or_default();
        let linked = account
            .linked
            .values()
            .fold(TokenAmount::ZERO, |sum, bill| sum.saturating_add(bill.amount));
        let open = self
            .asked
            .iter()
            .filter(|(hash, asked)| asked.request.channel == channel && !account.linked.contains_key(*hash));
        let sent = open.fold(linked, |sum, (_, asked)| sum.saturating_add(asked.promise()));
        let unsent = account.running.values().sum::<u64>() + account.lost;
        let first = self.asked.values().map(Asked::first_promise).max().unwrap_or_default();
        let unsent = TokenAmount::new(first.base_units() * u128::from(unsent));
        account.ceiling = account.ceiling.max(sent.saturating_add(unsent));
        account.ceiling
    }

    fn ask(&mut self, client: ProcessId, infer: &Infer, tolerance: Tolerance) {
        let request = *infer.request.document();
        self.asked.entry(request.hash()).or_insert_with(|| Asked {
            client,
            request,
            tolerance,
            body_bytes: infer.body.len(),
            heard: ContentHasher::new(infer.salt),
            text_bytes: 0,
            announced: Usage::default(),
            received: TokenCount::default(),
            billed: BTreeSet::new(),
        });
    }

    fn promise(&mut self, channel: ChannelId, amount: TokenAmount) {
        let ceiling = self.ceiling(channel);
        let account = self.accounts.entry(channel).or_default();
        account.signed = account.signed.max(amount);
        if amount > ceiling {
            self.violations.push(format!(
                "{amount} were promised on {channel}, where {ceiling} were linked or due"
            ));
        }
    }

    fn link(&mut self, receipt: &Receipt<Unverified>) {
        // What it could be before it shrinks to its bill.
        let channel = receipt.receipt().channel;
        self.ceiling(channel);
        let (sequence, bill) = (receipt.receipt().sequence, receipt.receipt().bill);
        let found = match self.asked.get(&bill.request) {
            None => Some(String::from("its request was never made")),
            Some(asked) if asked.request.channel != channel => Some(String::from("it is of another channel")),
            Some(asked) => asked.judge(&bill),
        };
        let account = self.accounts.entry(channel).or_default();
        let before = account.linked.insert(bill.request, bill);
        let found = match before {
            Some(before) if before != bill && !account.forgetful => {
                Some(String::from("another bill of its request is linked"))
            }
            Some(before) if before == bill => None,
            _ => found,
        };
        let linked = account
            .linked
            .values()
            .fold(TokenAmount::ZERO, |sum, bill| sum.saturating_add(bill.amount));
        let total = receipt.receipt().cumulative_amount;
        if total > linked && !account.forgetful {
            self.violations.push(format!(
                "receipt {sequence} of {channel} is over {total}, and its bills over {linked}"
            ));
        }
        if let Some(why) = found {
            self.violations.push(format!(
                "receipt {sequence} of {channel} links the bill of {}: {why}",
                bill.request
            ));
        }
    }
}

#[cfg(test)]
mod tests;

/// The text in a chunk: what the simulated model says stands behind this.
const CONTENT: &[u8] = b"\"content\":\"";

fn text_bytes(data: &[u8]) -> u64 {
    let mut bytes = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let Some(start) = line.windows(CONTENT.len()).position(|window| window == CONTENT) else {
            continue;
        };
        let text = &line[start + CONTENT.len()..];
        bytes += text.iter().take_while(|byte| **byte != b'"').count() as u64;
    }
    bytes
}
