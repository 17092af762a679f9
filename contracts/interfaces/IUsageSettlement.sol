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

    event UsageSettled(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount
    );
    event RowSkipped(bytes32 indexed channelId, uint256 index, IChannelEscrow.SkipReason reason);

    error NotOperator();
    error InvalidSignature();
    error AmountExceedsVoucher();

    /// @dev Callable by the payee and its active operators.
    function claimReceipts(address payee, address token, ReceiptRow[] calldata rows) external;
    /// @dev Warning: closes for good. What better authorizations would have settled is forfeited.
    function closeWithReceipt(address payee, address token, ReceiptRow calldata row) external;
    /// @dev Warning: closes for good. What better authorizations would have settled is forfeited. With `row.amount` not
    /// above what is already settled, the signature is not looked at (the draft's forfeit path).
    function closeWithVoucher(address payee, address token, IChannelEscrow.VoucherRow calldata row) external;

    function domainSeparator() external view returns (bytes32);
    function getReceiptDigest(
        bytes32 channelId,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount,
        bytes32 previousReceipt,
        bytes32 billHash
    ) external view returns (bytes32);
    function getBillDigest(bytes32 billHash) external view returns (bytes32);
    function ESCROW() external view returns (address);
    function REGISTRY() external view returns (address);
}
