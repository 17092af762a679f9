//! Ways to break what the daemons rely on, to see that the properties notice.
//!
//! Each makes the surroundings lie about the one thing that the code takes care to do, so that the real code behaves as one
//! would that did not: nothing of it is in the crates that are tested.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A transaction is durable only once it was broadcast: the commit that stores it is lost with a crash before that.
    PersistAfterBroadcast,
    /// The cursor moves before the events are stored: what a crash interrupts is never read again.
    ForgetCursor,
    /// A start finds the obligations that stood resolved, as if everything were settled.
    DropObligation,
    /// A broadcast without an answer counts as failed: its transaction is taken for one that never can be mined.
    TrustTimeout,
    /// A block that was seen once at a height is the one at that height for ever.
    SkipReorg,
    /// An executor trusts every payer as if it had settled enough.
    TrustBlindly,
    /// A client counts what it spends in all, and not with whom.
    SpendBlindly,
    /// A copy that was put back passes for the store itself.
    TrustCopy,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 8] = [
        Self::PersistAfterBroadcast,
        Self::ForgetCursor,
        Self::DropObligation,
        Self::TrustTimeout,
        Self::SkipReorg,
        Self::TrustBlindly,
        Self::SpendBlindly,
        Self::TrustCopy,
    ];
}
