//! What each payer owes, and when it last moved. Pure: surveys and times come in as arguments.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_ledger::SurveyedChannel;
use lloom_receipts::{TokenAmount, UnixSeconds};

/// Remembers each payer's totals from survey to survey. It begins anew with the process.
#[derive(Debug, Default)]
pub struct PayerBook {
    payers: HashMap<(Address, Address), Payer>,
    /// Whether a survey was begun and not concluded: what it counted is no survey's total.
    is_begun: bool,
}

/// One payer in one token. Base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payer {
    /// What could be claimed from it now.
    pub unclaimed: TokenAmount,
    /// What it was served that no authorization covers.
    pub exposure: TokenAmount,
    /// When something of it was last seen to be taken on: a request, a voucher, a bill.
    pub accepted_at: Option<UnixSeconds>,
    /// When the chain was last seen to pay something of it.
    pub settled_at: Option<UnixSeconds>,
    /// Since when something of it could be claimed and nothing was.
    pub unclaimed_since: Option<UnixSeconds>,
    totals: Totals,
    /// What they were at the survey before; `None` where it is new.
    before: Option<Mark>,
    /// Whether a channel of it is.
    is_open: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    authorized: TokenAmount,
    spent: TokenAmount,
    billed: TokenAmount,
    settled: TokenAmount,
}

/// What totals are told from others by: of a hundred thousand payers, each byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Of all that requests, vouchers and bills change.
    work: u64,
    settled: u64,
}

impl Totals {
    fn mark(&self) -> Mark {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Mark {
            work: hasher.hash_one((self.authorized, self.spent, self.billed)),
            settled: hasher.hash_one(self.settled),
        }
    }
}

impl PayerBook {
    /// Begins a survey: [`add`](Self::add) takes each channel, and [`conclude`](Self::conclude) what came of it.
    pub fn begin(&mut self) {
        // In place: there may be very many, and a second book beside this one would take as much again.
        for payer in self.payers.values_mut() {
            let totals = std::mem::take(&mut payer.totals);
            if !self.is_begun {
                payer.before = Some(totals.mark());
            }
            (payer.unclaimed, payer.exposure, payer.is_open) = (TokenAmount::ZERO, TokenAmount::ZERO, false);
        }
        self.is_begun = true;
    }

    /// Counts a channel.
    pub fn add(&mut self, channel: &SurveyedChannel) {
        let payer = self.payers.entry((channel.payer, channel.token)).or_default();
        payer.unclaimed = payer.unclaimed.saturating_add(channel.unclaimed());
        payer.exposure = payer.exposure.saturating_add(channel.exposure());
        payer.is_open |= !channel.finalized;
        let totals = &mut payer.totals;
        totals.authorized = totals.authorized.saturating_add(channel.authorized);
        totals.spent = totals.spent.saturating_add(channel.spent);
        totals.billed = totals.billed.saturating_add(channel.billed);
        totals.settled = totals.settled.saturating_add(channel.settled);
    }

    /// Compares it with the survey before.
    pub fn conclude(&mut self, now: UnixSeconds) {
        self.is_begun = false;
        self.payers.retain(|_, payer| payer.is_open);
        for payer in self.payers.values_mut() {
            let mark = payer.totals.mark();
            let settled = payer.before.is_some_and(|before| mark.settled != before.settled);
            if payer.before.is_some_and(|before| mark.work != before.work) {
                payer.accepted_at = Some(now);
            }
            if settled {
                payer.settled_at = Some(now);
            }
            payer.unclaimed_since = match payer.unclaimed_since {
                _ if payer.unclaimed.is_zero() => None,
                Some(since) if !settled => Some(since),
                _ => Some(now),
            };
        }
    }

    /// The `count` payers that owe the most, with their tokens.
    pub fn largest(&self, count: usize) -> Vec<((Address, Address), Payer)> {
        let mut owing: Vec<(&(Address, Address), &Payer)> = self
            .payers
            .iter()
            .filter(|(_, payer)| !payer.unclaimed.is_zero() || !payer.exposure.is_zero())
            .collect();
        owing.sort_unstable_by_key(|(key, payer)| (Reverse(payer.unclaimed.saturating_add(payer.exposure)), **key));
        owing
            .into_iter()
            .take(count)
            .map(|(key, payer)| (*key, *payer))
            .collect()
    }

    /// How many payers have something that could be claimed.
    pub fn owing(&self) -> usize {
        self.payers.values().filter(|payer| !payer.unclaimed.is_zero()).count()
    }

    /// How long the payer that waits longest has had something claimable of which nothing was claimed.
    pub fn longest_wait(&self, now: UnixSeconds) -> Duration {
        let since = self.payers.values().filter_map(|payer| payer.unclaimed_since).min();
        since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use lloom_receipts::ChannelId;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000);

    fn channel(payer: u8, billed: u128, settled: u128) -> SurveyedChannel {
        SurveyedChannel {
            id: ChannelId::new(B256::repeat_byte(payer)),
            payer: Address::repeat_byte(payer),
            payee: Address::ZERO,
            token: Address::ZERO,
            authorized: TokenAmount::new(billed),
            spent: TokenAmount::new(billed),
            billed: TokenAmount::new(billed),
            settled: TokenAmount::new(settled),
            close_requested_at: None,
            finalized: false,
        }
    }

    fn observe(book: &mut PayerBook, channels: &[SurveyedChannel], now: UnixSeconds) {
        book.begin();
        channels.iter().for_each(|channel| book.add(channel));
        book.conclude(now);
    }

    fn of(book: &PayerBook, payer: u8) -> Payer {
        book.payers[&(Address::repeat_byte(payer), Address::ZERO)]
    }

    fn at(seconds: u64) -> UnixSeconds {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_payer_that_piles_up_waits_from_its_first_unclaimed_unit_to_a_settlement() {
        let mut book = PayerBook::default();
        observe(&mut book, &[channel(1, 10, 0)], at(0));
        assert_eq!(
            (of(&book, 1).accepted_at, of(&book, 1).settled_at),
            (None, None),
            "nothing moved yet"
        );
        observe(&mut book, &[channel(1, 20, 0)], at(60));
        assert_eq!(
            (of(&book, 1).accepted_at, of(&book, 1).settled_at),
            (Some(at(60)), None)
        );
        assert_eq!(
            book.longest_wait(at(100)),
            Duration::from_secs(100),
            "more work is no settlement"
        );
        observe(&mut book, &[channel(1, 20, 15)], at(110));
        assert_eq!(of(&book, 1).settled_at, Some(at(110)));
        assert_eq!(
            book.longest_wait(at(130)),
            Duration::from_secs(20),
            "what is left waits from here on"
        );
        observe(&mut book, &[channel(1, 20, 20)], at(140));
        assert_eq!((book.longest_wait(at(200)), book.owing()), (Duration::ZERO, 0));
    }

    #[test]
    fn only_the_largest_are_named_and_those_that_are_over_are_forgotten() {
        let mut book = PayerBook::default();
        let mut channels: Vec<_> = (1..=20).map(|payer| channel(payer, u128::from(payer), 0)).collect();
        channels.push(channel(30, 5, 5));
        observe(&mut book, &channels, NOW);
        let largest = book.largest(3);
        let named: Vec<_> = largest.iter().map(|((payer, _), _)| *payer).collect();
        assert_eq!(named, [20, 19, 18].map(Address::repeat_byte));
        assert_eq!(book.owing(), 20);
        observe(
            &mut book,
            &[SurveyedChannel {
                finalized: true,
                ..channel(20, 20, 0)
            }],
            NOW,
        );
        assert!(book.payers.is_empty() && book.largest(3).is_empty());
    }

    #[test]
    fn a_survey_that_broke_off_moves_nothing() {
        let mut book = PayerBook::default();
        observe(&mut book, &[channel(1, 50, 0)], NOW);
        book.begin();
        book.add(&channel(2, 5, 0));
        let later = NOW.plus(Duration::from_secs(10));
        observe(&mut book, &[channel(1, 50, 0), channel(2, 5, 0)], later);
        assert_eq!(of(&book, 1).accepted_at, None);
        assert_eq!(of(&book, 1).unclaimed_since, Some(NOW));
        assert_eq!(of(&book, 2).accepted_at, None, "it is new");
    }
}
