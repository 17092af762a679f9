// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "./interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "./interfaces/IExecutorRegistry.sol";
import {IUsageSettlement} from "./interfaces/IUsageSettlement.sol";
import {Eip712Domain} from "./libraries/Eip712Domain.sol";
import {SignatureVerification} from "./libraries/SignatureVerification.sol";
import {UsageHash} from "./libraries/UsageHash.sol";
import {AdvanceList, newAdvanceList} from "./types/AdvanceList.sol";
import {deriveChannelId} from "./types/ChannelId.sol";
import {payerSide} from "./types/PayerSide.sol";
import {UsageList, newUsageList} from "./types/UsageList.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title UsageSettlement
/// @notice See `IUsageSettlement`, which is the manual.
/// @dev Holds no money and no state: there is nothing here to reenter.
contract UsageSettlement is IUsageSettlement {
    using SignatureVerification for address;

    bytes32 private constant DOMAIN_NAME_HASH = keccak256("Lloom");
    bytes32 private constant DOMAIN_VERSION_HASH = keccak256("1");

    /// @inheritdoc IUsageSettlement
    address public immutable ESCROW;
    /// @inheritdoc IUsageSettlement
    address public immutable REGISTRY;

    modifier onlyOperator(address payee) {
        if (msg.sender != payee && _operatorStatus(payee, msg.sender) != IExecutorRegistry.OperatorStatus.Active) {
            revert NotOperator();
        }
        _;
    }

    constructor(address escrow, address registry) {
        ESCROW = escrow;
        REGISTRY = registry;
    }

    /// @inheritdoc IUsageSettlement
    function claimReceipts(address payee, address token, ReceiptRow[] calldata rows) external onlyOperator(payee) {
        // Check:
        bytes32 separator = domainSeparator();
        AdvanceList advances = newAdvanceList(payee, token, rows.length);
        address known; // the executor side's signer found good last: most batches have one
        for (uint256 i = 0; i < rows.length; ++i) {
            ReceiptRow calldata row = rows[i];
            (bytes32 channelId, address billSigner) = _verify(separator, payee, token, row, known);
            if (billSigner == address(0)) {
                emit RowSkipped(channelId, i, IChannelEscrow.SkipReason.InvalidSignature);
                advances.set(i, 0, 0); // a gap, so that the escrow's indices are those of `rows`
                continue;
            }
            known = billSigner;
            advances.set(i, channelId, row.cumulativeAmount);
        }

        // Interaction:
        uint256[] memory settledRows = advances.send(ESCROW);
        UsageList list = newUsageList(rows.length);
        for (uint256 i = 0; i < rows.length; ++i) {
            if (settledRows[i / 256] & (uint256(1) << (i % 256)) != 0) list.push(advances.channelAt(i), rows[i]);
        }
        list.announce(UsageSettled.selector, UsagesSettled.selector, payee);
    }

    /// @inheritdoc IUsageSettlement
    function closeWithReceipt(address payee, address token, ReceiptRow calldata row) external onlyOperator(payee) {
        // Check:
        (bytes32 channelId, address billSigner) = _verify(domainSeparator(), payee, token, row, address(0));
        if (billSigner == address(0)) revert InvalidSignature();

        // Effect:
        UsageList list = newUsageList(1);
        list.push(channelId, row);
        list.announce(UsageSettled.selector, UsagesSettled.selector, payee);

        // Interaction:
        IChannelEscrow(ESCROW).closeChannel(channelId, row.cumulativeAmount);
    }

    /// @inheritdoc IUsageSettlement
    function closeWithVoucher(address payee, address token, IChannelEscrow.VoucherRow calldata row)
        external
        onlyOperator(payee)
    {
        // Check:
        bytes32 channelId = deriveChannelId(row.payer, payee, token, row.salt, row.authorizedSigner, ESCROW);
        (uint128 ceiling, uint128 amount) = (row.amounts.ceiling(), row.amounts.amount());
        if (amount > IChannelEscrow(ESCROW).getChannel(channelId).settled) {
            if (amount > ceiling) revert AmountExceedsVoucher();
            bytes32 digest = IChannelEscrow(ESCROW).getVoucherDigest(channelId, ceiling);
            address signer = payerSide(row.payer, row.authorizedSigner);
            if (!signer.isSignedByKey(digest, row.r, row.vs)) revert InvalidSignature();
        }

        // Interaction:
        IChannelEscrow(ESCROW).closeChannel(channelId, amount);
    }

    /// @inheritdoc IUsageSettlement
    function getReceiptDigest(
        bytes32 channelId,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount,
        bytes32 previousReceipt,
        bytes32 billHash
    ) external view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(
            domainSeparator(),
            UsageHash.hashReceipt(
                channelId,
                sequence,
                cumulativeInputTokens,
                cumulativeOutputTokens,
                cumulativeAmount,
                previousReceipt,
                billHash
            )
        );
    }

    /// @inheritdoc IUsageSettlement
    function getBillDigest(bytes32 billHash) external view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domainSeparator(), billHash);
    }

    /// @inheritdoc IUsageSettlement
    function domainSeparator() public view returns (bytes32) {
        return Eip712Domain.separator(DOMAIN_NAME_HASH, DOMAIN_VERSION_HASH);
    }

    /// @dev Checks both signatures of a row.
    /// @param known A signer already found to speak for `payee`, or zero.
    /// @return channelId The channel that the row names, existing or not.
    /// @return billSigner Who signed the bill for `payee`, or zero when either signature is bad.
    function _verify(bytes32 separator, address payee, address token, ReceiptRow calldata row, address known)
        private
        view
        returns (bytes32 channelId, address billSigner)
    {
        (address payer, address authorizedSigner) = (row.payer, row.authorizedSigner);
        channelId = deriveChannelId(payer, payee, token, row.salt, authorizedSigner, ESCROW);
        bytes32 receiptDigest = MessageHashUtils.toTypedDataHash(separator, UsageHash.hashReceipt(channelId, row));
        if (!payerSide(payer, authorizedSigner).isSignedByKey(receiptDigest, row.payerR, row.payerVs)) {
            return (channelId, address(0));
        }

        bytes32 billDigest = MessageHashUtils.toTypedDataHash(separator, row.billHash);
        billSigner = SignatureVerification.recover(billDigest, row.operatorR, row.operatorVs);
        if (billSigner == known || billSigner == payee) return (channelId, billSigner);
        // A retired operator's signature still counts: the money only reaches the payee.
        if (_operatorStatus(payee, billSigner) == IExecutorRegistry.OperatorStatus.None) billSigner = address(0);
    }

    function _operatorStatus(address payee, address operator) private view returns (IExecutorRegistry.OperatorStatus) {
        return IExecutorRegistry(REGISTRY).operatorStatus(payee, operator);
    }
}
