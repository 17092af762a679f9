//! Ways to break the model on purpose, to see that a disagreement is found.

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident,)*) => {
        /// A rule that the model gets wrong when it is told to. The contracts never have it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flaw {
            $($(#[$doc])* $flaw,)*
        }

        impl Flaw {
            /// Every flaw.
            pub const ALL: &'static [Self] = &[$(Self::$flaw),*];
        }
    };
}

flaws! {
    /// A relayed top-up cancels a pending close, whoever funds it.
    AnyonesTopUpCancelsClose,
    /// A top-up by the payer leaves a pending close as it is.
    TopUpKeepsClose,
    /// A claim pays the whole cumulative amount, not what is new of it.
    ClaimPaysWholeAmount,
    /// A claimed voucher settles what it signs, not the amount of its row.
    VoucherIsNoCeiling,
    /// A channel that comes twice in a batch is settled once.
    BatchForgetsItsOwnRows,
    /// A batch with a bad row reports the row and settles nothing.
    BadRowSinksBatch,
    /// Reasons to skip a row are looked for from the signature on.
    SignatureIsLookedAtFirst,
    /// What remains goes to the payer's wallet, wherever the deposit came from.
    RefundsGoToWallet,
    /// A payout that fails reverts instead of being credited.
    FailedPayoutReverts,
    /// The last second of the grace period is counted as after it.
    GraceEndsASecondEarly,
    /// The payer has to wait a second longer than the grace period.
    GraceEndsASecondLate,
    /// A second request starts the grace period anew.
    AskingAgainRestartsGrace,
    /// A deadline is already over in its own second.
    DeadlinesAreExclusive,
    /// An authorization's nonce can be used again.
    NoncesAreForgotten,
    /// To settle and to close use up nonces of their own.
    NoncesAreOfOneKind,
    /// The id of a finalized channel can be used again.
    FinalizedIdsReopen,
    /// Anyone may settle with a good voucher.
    AnyoneSettles,
    /// A signature with `s` in the upper half is as good as any.
    HighSIsTaken,
    /// Whoever signs for the payer, the payer's own voucher counts too.
    PayerAlwaysSigns,
    /// A close with nothing new looks at its voucher all the same.
    ForfeitNeedsVoucher,
    /// A retired operator may still claim.
    RetiredOperatorsClaim,
    /// Bills of a retired operator are refused.
    RetiredOperatorsBillsLapse,
    /// A grant tops up by its amount, not to it.
    GrantsAddUp,
    /// A deposit is credited to whoever submits its authorization.
    SubmitterGetsDeposit,
}
