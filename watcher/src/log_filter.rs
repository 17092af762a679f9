use alloy::{
    primitives::{Address, B256},
    rpc::types::Log,
};

/// Which logs are asked for: those of any of the contracts, of any of the kinds.
///
/// Kinds that nothing is derived from are left out, so that a stranger who has the contracts say much, such as that the rows
/// of a batch of junk were skipped, makes nobody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The contracts.
    pub addresses: Vec<Address>,
    /// First topics: the hashes of events' signatures.
    pub topics: Vec<B256>,
}

impl LogFilter {
    /// Whether `log` is asked for.
    pub fn matches(&self, log: &Log) -> bool {
        self.addresses.contains(&log.address()) && log.topic0().is_some_and(|topic| self.topics.contains(topic))
    }

    /// The same for each kind alone.
    pub(crate) fn one_by_one(&self) -> impl Iterator<Item = Self> {
        self.topics.iter().map(|topic| Self {
            addresses: self.addresses.clone(),
            topics: vec![*topic],
        })
    }
}
