// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "./IChannelEscrow.sol";

/// @title IUsageSettlement
/// @notice Settles channels by dual-signed usage receipts, and publishes what was used.
/// @dev EIP-712 domain `("Lloom", "1", chainId, UsageSettlement)`. Types:
/// `InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)`
/// `UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)`
/// `UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)`
interface IUsageSettlement {
    /// @notice A usage receipt with its channel's parameters and both signatures.
    struct ReceiptRow {
        address payer;
        address authorizedSigner; // as the channel was opened with: zero means the payer
        bytes32 salt;
        uint64 sequence;
        uint64 cumulativeInputTokens;
        uint64 cumulativeOutputTokens;
        uint128 cumulativeAmount;
        bytes32 previousReceipt; // struct hash
        bytes32 billHash; // the newest bill's struct hash
        bytes32 payerR; // the payer side's signature over the receipt, EIP-2098
        bytes32 payerVs;
        bytes32 operatorR; // the executor side's signature over the bill, EIP-2098
        bytes32 operatorVs;
    }

    /// @notice An entry of `UsagesSettled`: a channel's totals.
    struct Usage {
        bytes32 channelId;
        address payer;
        uint64 sequence;
        uint64 cumulativeInputTokens;
        uint64 cumulativeOutputTokens;
        uint128 cumulativeAmount; // base units
    }

    /// @notice What a payer and a payee both signed was used in a channel so far: public accounting without storage.
    /// @dev Cumulative, so the totals with the highest `sequence` are a channel's. `closeWithReceipt` may publish an older
    /// receipt than a claim did.
    event UsageSettled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount
    );
    /// @notice The same of each channel that a claim advanced, where it advanced several, in the order of its rows.
    /// @dev One event a claim, because one a row would cost 1,360 gas more each.
    event UsagesSettled(address indexed payee, Usage[] usages);
    /// @notice Row `index` of the call's rows was skipped for a bad signature. For all else the escrow's event of the
    /// same name speaks, with the same index.
    event RowSkipped(bytes32 indexed channelId, uint256 index, IChannelEscrow.SkipReason reason);

    /// @notice The caller is neither the payee nor one of its active operators.
    error NotOperator();
    /// @notice One of the two sides has not signed this.
    error InvalidSignature();
    /// @notice The amount to settle is above the voucher's ceiling.
    error AmountExceedsVoucher();

    /// @notice Settles many channels of one payee in one token by receipts, pays the sum as `claimVouchers` does, and
    /// publishes the usage of each row that advanced its channel. For the payee and its active operators, who attest the
    /// totals by calling.
    /// @dev A row needs the payer side's signature over the receipt and one over the bill by the payee or an operator of
    /// its, active or retired; both by keys. A row without them, or that the escrow refuses, is skipped and sinks nothing.
    /// Warning: a receipt publishes nothing once a voucher of its amount or more was claimed: it settles nothing new. Only
    /// `closeWithReceipt` still publishes it.
    /// @custom:reverts NotOperator
    function claimReceipts(address payee, address token, ReceiptRow[] calldata rows) external;

    /// @notice Settles a receipt, publishes its usage, and closes its channel. For the payee and its active operators.
    /// @dev Warning: closes for good. What better authorizations would have settled is forfeited. A receipt whose amount
    /// is not above what is settled settles nothing more; its signatures must be good all the same.
    /// @custom:reverts NotOperator, InvalidSignature, and those of the escrow's `closeChannel`
    function closeWithReceipt(address payee, address token, ReceiptRow calldata row) external;

    /// @notice Settles a voucher's `amount`, and closes its channel. For the payee and its active operators.
    /// @dev Warning: closes for good. What better authorizations would have settled is forfeited. With an `amount` not
    /// above what is already settled, neither ceiling nor signature are looked at (the draft's forfeit path).
    /// @custom:reverts NotOperator, AmountExceedsVoucher, InvalidSignature, and those of the escrow's `closeChannel`
    function closeWithVoucher(address payee, address token, IChannelEscrow.VoucherRow calldata row) external;

    /// @return Of the domain `("Lloom", "1", chainId, UsageSettlement)`.
    function domainSeparator() external view returns (bytes32);

    /// @param billHash Struct hash of the receipt's bill.
    /// @return The EIP-712 digest of a `UsageReceipt`.
    function getReceiptDigest(
        bytes32 channelId,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount,
        bytes32 previousReceipt,
        bytes32 billHash
    ) external view returns (bytes32);

    /// @param billHash Struct hash of a bill.
    /// @return The EIP-712 digest of that `UsageBill`.
    function getBillDigest(bytes32 billHash) external view returns (bytes32);

    /// @return The escrow whose channels are settled here.
    function ESCROW() external view returns (address);

    /// @return The registry that knows a payee's operators.
    function REGISTRY() external view returns (address);
}
