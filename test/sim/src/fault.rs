//! What can go wrong, and how often it did.

use std::collections::BTreeMap;

/// Something that goes wrong around the processes. It counts where it bites, and not where it is ordered: weather in which
/// nobody asks, and a fork of a chain that nobody has seen, prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A question that is never answered.
    Timeout,
    /// An answer that is an error.
    ErrorAnswer,
    /// An answer that can't be read.
    Malformed,
    /// An answer by an endpoint that is behind, or on a fork that the others have left.
    StaleHead,
    /// More blocks than an endpoint gives the logs of at once.
    RangeRefused,
    /// A block whose logs an endpoint leaves out.
    BareBlock,
    /// A transaction that is reported sent, and dropped.
    SentAndDropped,
    /// A transaction that is sent, and reported failed.
    SentAndDisowned,
    /// A transaction that is sent, and whose sender never learns.
    SentInSilence,
    /// A transaction that a dearer one replaces in the pool.
    Replaced,
    /// A transaction that a block doesn't take because it takes none.
    Stuck,
    /// A transaction that a block doesn't take because gas is dearer than it offers.
    TooDear,
    /// A transaction that the pool forgets.
    Forgotten,
    /// A transaction of a stranger who uses an operator's key.
    Stranger,
    /// A fork up to as deep as the confirmations, which takes transactions back.
    Fork,
    /// One that is deeper.
    DeepFork,
    /// Streams that break while somebody talks.
    CutStream,
    /// A peer that can't be reached.
    Unreachable,
    /// A process that dies at a statement, a flush or a question to the chain.
    DeathAtStep,
    /// One that dies at a byte of a stream.
    DeathOnStream,
    /// One that dies at some moment, whatever it waits for.
    DeathAtMoment,
    /// A power cut that takes commits which nobody was told of.
    LostCommits,
    /// A backup that is put back beside the newer lock file.
    RestoredCopy,
    /// One that is put back where nothing knows what came after it.
    RestoredAlone,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 24] = [
        Self::Timeout,
        Self::ErrorAnswer,
        Self::Malformed,
        Self::StaleHead,
        Self::RangeRefused,
        Self::BareBlock,
        Self::SentAndDropped,
        Self::SentAndDisowned,
        Self::SentInSilence,
        Self::Replaced,
        Self::Stuck,
        Self::TooDear,
        Self::Forgotten,
        Self::Stranger,
        Self::Fork,
        Self::DeepFork,
        Self::CutStream,
        Self::Unreachable,
        Self::DeathAtStep,
        Self::DeathOnStream,
        Self::DeathAtMoment,
        Self::LostCommits,
        Self::RestoredCopy,
        Self::RestoredAlone,
    ];
}

/// How often what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    /// It went wrong once more.
    pub fn count(&mut self, fault: Fault) {
        self.count_many(fault, 1);
    }

    /// It went wrong so many times more.
    pub fn count_many(&mut self, fault: Fault, times: u64) {
        if times > 0 {
            *self.0.entry(fault).or_default() += times;
        }
    }

    /// Adds what went wrong elsewhere.
    pub fn add(&mut self, more: &Self) {
        for (fault, times) in &more.0 {
            self.count_many(*fault, *times);
        }
    }

    /// How often it went wrong.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }
}
