//! The contracts do what the model says, in sequences in which everything happens.

use std::time::Instant;

use lloom_model::{Campaign, Chain, Coverage};

/// What each action has to come to at least once: that it returns, every error that is documented for it, and what its
/// events say of its parts.
///
/// Left out is what can't be met here: `InsufficientGas`, as every transaction has gas enough; `UnexpectedDepositAmount`
/// where the token's allowance is used, as no token here charges a fee; `ERC3009UsedAuthorization` to open a channel, as
/// the nonce names the channel and `ChannelAlreadyExists` comes first.
const EXPECTED: &[(&str, &[&str])] = &[
    ("wait", &["Ok"]),
    (
        "open",
        &[
            "Ok",
            "ChannelAlreadyExists",
            "ZeroDeposit",
            "InvalidPayee",
            "InvalidToken",
            "TransferFailed",
        ],
    ),
    (
        "openFromBalance",
        &[
            "Ok",
            "ChannelAlreadyExists",
            "ZeroDeposit",
            "InvalidPayee",
            "InvalidToken",
            "InsufficientBalance",
        ],
    ),
    (
        "openWithAuthorization",
        &[
            "Ok",
            "ChannelAlreadyExists",
            "NonceMismatch",
            "ZeroDeposit",
            "InvalidPayer",
            "InvalidPayee",
            "InvalidToken",
            "UnexpectedDepositAmount",
            "ECDSAInvalidSignature",
            "ECDSAInvalidSignatureS",
            "ERC3009InvalidSignature",
            "ERC3009InvalidAuthorizationTime",
            "ERC20InsufficientBalance",
        ],
    ),
    (
        "openWithPermit2",
        &[
            "ChannelAlreadyExists",
            "ZeroDeposit",
            "InvalidPayer",
            "InvalidPayee",
            "InvalidToken",
            "Permit2NotDeployed",
        ],
    ),
    (
        "openWithGrant",
        &[
            "Ok",
            "ChannelAlreadyExists",
            "InvalidSignature",
            "AuthorizationExpired",
            "ZeroDeposit",
            "InvalidPayee",
            "InvalidToken",
            "InsufficientBalance",
        ],
    ),
    (
        "topUp",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NotPayer",
            "ZeroDeposit",
            "DepositOverflow",
            "TransferFailed",
            "ChannelToppedUp(closeCancelled)",
        ],
    ),
    (
        "topUpFromBalance",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NotPayer",
            "ZeroDeposit",
            "DepositOverflow",
            "InsufficientBalance",
            "ChannelToppedUp(closeCancelled)",
        ],
    ),
    (
        "topUpWithAuthorization",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NonceMismatch",
            "ZeroDeposit",
            "DepositOverflow",
            "ECDSAInvalidSignature",
            "ECDSAInvalidSignatureS",
            "ERC3009InvalidSignature",
            "ERC3009InvalidAuthorizationTime",
            "ERC3009UsedAuthorization",
            "ERC20InsufficientBalance",
            "ChannelToppedUp(closeCancelled)",
        ],
    ),
    (
        "topUpWithPermit2",
        &[
            "ChannelNotFound",
            "ChannelFinalized",
            "ZeroDeposit",
            "DepositOverflow",
            "Permit2NotDeployed",
        ],
    ),
    (
        "topUpWithGrant",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "InvalidSignature",
            "AuthorizationExpired",
            "ZeroDeposit",
            "InsufficientBalance",
            "ChannelToppedUp(closeCancelled)",
        ],
    ),
    ("deposit", &["Ok", "ZeroDeposit", "InvalidToken", "TransferFailed"]),
    (
        "depositFor",
        &[
            "Ok",
            "ZeroDeposit",
            "InvalidRecipient",
            "InvalidToken",
            "TransferFailed",
        ],
    ),
    (
        "depositWithPermit",
        &["Ok", "Ok(permitted)", "ZeroDeposit", "InvalidToken", "TransferFailed"],
    ),
    (
        "depositWithAuthorization",
        &[
            "Ok",
            "NonceMismatch",
            "ZeroDeposit",
            "InvalidRecipient",
            "InvalidToken",
            "UnexpectedDepositAmount",
            "ECDSAInvalidSignature",
            "ECDSAInvalidSignatureS",
            "ERC3009InvalidSignature",
            "ERC3009InvalidAuthorizationTime",
            "ERC3009UsedAuthorization",
            "ERC20InsufficientBalance",
        ],
    ),
    (
        "withdrawBalance",
        &["Ok", "InvalidRecipient", "InsufficientBalance", "TransferFailed"],
    ),
    (
        "settle",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NotPayee",
            "AmountNotIncreasing",
            "AmountExceedsDeposit",
            "InvalidSignature",
            "TransferFailed",
        ],
    ),
    (
        "settleWithAuthorization",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "AmountNotIncreasing",
            "AmountExceedsDeposit",
            "InvalidSignature",
            "NonceAlreadyUsed",
            "AuthorizationExpired",
            "TransferFailed",
        ],
    ),
    (
        "close",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NotPayee",
            "AmountExceedsDeposit",
            "InvalidSignature",
            "PayoutCredited",
        ],
    ),
    (
        "closeWithAuthorization",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "AmountExceedsDeposit",
            "InvalidSignature",
            "NonceAlreadyUsed",
            "AuthorizationExpired",
            "PayoutCredited",
        ],
    ),
    (
        "requestClose",
        &["Ok", "ChannelNotFound", "ChannelFinalized", "NotPayer"],
    ),
    (
        "requestCloseWithAuthorization",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "InvalidSignature",
            "NonceAlreadyUsed",
            "AuthorizationExpired",
        ],
    ),
    ("invalidateNonce", &["Ok", "NonceAlreadyUsed"]),
    (
        "withdraw",
        &[
            "Ok",
            "ChannelNotFound",
            "ChannelFinalized",
            "NotPayer",
            "CloseNotReady",
            "PayoutCredited",
        ],
    ),
    (
        "withdrawFor",
        &[
            "Ok",
            "ChannelClosed",
            "RowSkipped(ChannelNotFound)",
            "RowSkipped(ChannelFinalized)",
            "RowSkipped(CloseNotReady)",
            "PayoutCredited",
        ],
    ),
    ("claimVouchers", CLAIMED),
    ("claimContractVouchers", CLAIMED),
    ("advanceChannels", &["NotSettlement"]),
    ("closeChannel", &["NotSettlement"]),
    (
        "claimReceipts",
        &[
            "Ok",
            "NotOperator",
            "RowSkipped(ChannelNotFound)",
            "RowSkipped(ChannelFinalized)",
            "RowSkipped(AmountNotIncreasing)",
            "RowSkipped(AmountExceedsDeposit)",
            "RowSkipped(InvalidSignature)",
            "PayoutCredited",
            "UsageSettled",
            "UsagesSettled",
        ],
    ),
    (
        "closeWithReceipt",
        &[
            "Ok",
            "NotOperator",
            "InvalidSignature",
            "ChannelNotFound",
            "ChannelFinalized",
            "AmountExceedsDeposit",
            "PayoutCredited",
            "UsageSettled",
        ],
    ),
    (
        "closeWithVoucher",
        &[
            "Ok",
            "NotOperator",
            "AmountExceedsVoucher",
            "InvalidSignature",
            "ChannelNotFound",
            "ChannelFinalized",
            "AmountExceedsDeposit",
            "PayoutCredited",
        ],
    ),
    ("addOperator", &["Ok", "InvalidOperator", "OperatorAlreadyActive"]),
    ("removeOperator", &["Ok", "OperatorNotActive"]),
];

const CLAIMED: &[&str] = &[
    "Ok",
    "ChannelSettled",
    "ChannelsSettled",
    "PayoutCredited",
    "RowSkipped(ChannelNotFound)",
    "RowSkipped(ChannelFinalized)",
    "RowSkipped(AmountNotIncreasing)",
    "RowSkipped(AmountExceedsDeposit)",
    "RowSkipped(AmountExceedsVoucher)",
    "RowSkipped(InvalidSignature)",
];

#[test]
fn contracts_agree_with_the_model_and_everything_happens() {
    let campaign = Campaign::from_env();
    let started = Instant::now();
    let coverage = match campaign.run(None) {
        Ok(coverage) => coverage,
        Err(disagreement) => panic!("{}", disagreement.shrunk(&Chain::deploy())),
    };
    let seconds = started.elapsed().as_secs_f64();
    let Campaign { seed, sequences, steps } = campaign;
    #[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
    let speed = sequences as f64 / seconds;
    println!("{sequences} sequences of {steps} steps from seed {seed} on: {seconds:.1} s, {speed:.1} a second");
    for (action, end, count) in coverage.iter() {
        println!("{count:9} {action}: {end}");
    }
    if sequences >= Campaign::DEFAULT.sequences {
        assert_eq!(missing(&coverage), Vec::<String>::new(), "this never happened");
    }
}

fn missing(coverage: &Coverage) -> Vec<String> {
    let ends = EXPECTED
        .iter()
        .flat_map(|(action, ends)| ends.iter().map(move |end| (action, end)));
    ends.filter(|(action, end)| coverage.of(action, end) == 0)
        .map(|(action, end)| format!("{action}: {end}"))
        .collect()
}
