//! What an executor takes on and refuses, counted where it happens.

use lloom_receipts::UsageBill;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    label::names,
    wire::{Ending, Refusal},
};

type Label = (&'static str, &'static str);

/// Documents that are taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// A request: work begins.
    Request,
    /// A voucher above those held before.
    Voucher,
    /// A receipt: both have signed.
    Receipt,
}

impl Accepted {
    const ALL: [Self; 3] = [Self::Request, Self::Voucher, Self::Receipt];

    const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Voucher => "voucher",
            Self::Receipt => "receipt",
        }
    }
}

names!(reason_of, REASONS, Refusal, {
    Malformed: "malformed",
    Oversize: "oversize",
    Truncated: "truncated",
    Busy: "busy",
    NeverSent: "never_sent",
    NotCommitted: "not_committed",
    OtherOperator: "other_operator",
    OtherPayment: "other_payment",
    WrongSigner: "wrong_signer",
    OtherChannel: "other_channel",
    NotThePayer: "not_the_payer",
    Expired: "expired",
    DeadlineTooFar: "deadline_too_far",
    AmountOverflow: "amount_overflow",
    UnknownModel: "unknown_model",
    PriceUnderAsk: "price_under_ask",
    LimitsOutsideOffer: "limits_outside_offer",
    InputLimitTooLow: "input_limit_too_low",
    PromptHashMismatch: "prompt_hash_mismatch",
    MalformedBody: "malformed_body",
    BodyModelMismatch: "body_model_mismatch",
    BodyLimitMismatch: "body_limit_mismatch",
    NonceUsed: "nonce_used",
    ChannelUnknown: "channel_unknown",
    ChannelUnconfirmed: "channel_unconfirmed",
    ChannelClosing: "channel_closing",
    ChannelFinalized: "channel_finalized",
    DepositTooSmall: "deposit_too_small",
    VoucherOverDeposit: "voucher_over_deposit",
    VoucherNotIncreasing: "voucher_not_increasing",
    Uncovered: "uncovered",
    DoesNotExtend: "does_not_extend",
    UnknownBill: "unknown_bill",
    BillAlreadyLinked: "bill_already_linked",
    Overloaded: "overloaded",
    Fruitless: "fruitless",
    RestoredTooRecently: "restored_too_recently",
    ChainOutOfSight: "chain_out_of_sight",
    NotNamed: "not_named",
    ShuttingDown: "shutting_down",
    Internal: "internal",
});

names!(ending_of, ENDINGS, Ending, {
    Complete: "complete",
    LimitReached: "limit_reached",
    BackendFailed: "backend_failed",
    Cancelled: "cancelled",
    Unpaid: "unpaid",
    ChannelClosing: "channel_closing",
    ShuttingDown: "shutting_down",
    ExecutorFailed: "executor_failed",
});

/// The client of an answer left before its end.
const CLIENT_LEFT: &str = "client_left";

/// What an executor does. Clones count together.
#[derive(Clone, Debug)]
pub struct ExecutorMetrics {
    accepted: Family<[Label; 1], Counter>,
    refusals: Family<[Label; 1], Counter>,
    answers: Family<[Label; 1], Counter>,
    billed_tokens: Family<[Label; 1], Counter>,
    streams: Gauge,
    running: Gauge,
}

impl Default for ExecutorMetrics {
    fn default() -> Self {
        let metrics = Self {
            accepted: Family::default(),
            refusals: Family::default(),
            answers: Family::default(),
            billed_tokens: Family::default(),
            streams: Gauge::default(),
            running: Gauge::default(),
        };
        // What is there from the beginning can be added up and compared before it happens the first time.
        for accepted in Accepted::ALL {
            drop(metrics.accepted.get_or_create(&[("document", accepted.name())]));
        }
        for reason in REASONS {
            drop(metrics.refusals.get_or_create(&[("reason", reason)]));
        }
        for ending in ENDINGS.iter().chain([&CLIENT_LEFT]) {
            drop(metrics.answers.get_or_create(&[("ending", ending)]));
        }
        for direction in ["input", "output"] {
            drop(metrics.billed_tokens.get_or_create(&[("direction", direction)]));
        }
        metrics
    }
}

impl ExecutorMetrics {
    /// Puts them into `registry`, which is prefixed with the program's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "accepted",
            "Documents that were durably taken on, by kind",
            self.accepted.clone(),
        );
        registry.register("refusals", "Refusals by reason", self.refusals.clone());
        registry.register("answers", "Answers that ended, by how", self.answers.clone());
        registry.register(
            "billed_tokens",
            "Model tokens on the bills that were signed",
            self.billed_tokens.clone(),
        );
        registry.register(
            "streams_open",
            "Inference streams that are open, whether an answer runs on them or not",
            self.streams.clone(),
        );
        registry.register("answers_running", "Answers that run now", self.running.clone());
    }

    /// Counts an open stream for as long as the guard lives.
    pub(super) fn stream(&self) -> Open {
        Open::new(&self.streams)
    }

    /// Counts a running answer for as long as the guard lives.
    pub(super) fn running(&self) -> Open {
        Open::new(&self.running)
    }

    pub(super) fn accepted(&self, accepted: Accepted) {
        self.accepted.get_or_create(&[("document", accepted.name())]).inc();
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        self.refusals.get_or_create(&[("reason", reason_of(refusal))]).inc();
    }

    /// Takes an answer that was billed; without an ending, its client left.
    pub(super) fn billed(&self, ending: Option<&Ending>, bill: &UsageBill) {
        let ending = ending.map_or(CLIENT_LEFT, ending_of);
        self.answers.get_or_create(&[("ending", ending)]).inc();
        for (direction, tokens) in [("input", bill.usage.input), ("output", bill.usage.output)] {
            self.billed_tokens
                .get_or_create(&[("direction", direction)])
                .inc_by(u64::from(tokens.get()));
        }
    }
}

/// One of something that is counted while it is there.
#[derive(Debug)]
pub(super) struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
