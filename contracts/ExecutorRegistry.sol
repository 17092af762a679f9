// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "./interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "./interfaces/IExecutorRegistry.sol";
import {IUsageSettlement} from "./interfaces/IUsageSettlement.sol";
import {SignatureVerification} from "./libraries/SignatureVerification.sol";
import {UsageHash} from "./libraries/UsageHash.sol";
import {Bonds} from "./registry/Bonds.sol";
import {Operators} from "./registry/Operators.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title ExecutorRegistry
/// @notice See `IExecutorRegistry`, which is the manual. Here the proofs join operators and bonds.
contract ExecutorRegistry is Operators, Bonds {
    /// @dev Prices are per this many tokens.
    uint256 private constant PRICE_UNIT = 1e6;

    /// @inheritdoc IExecutorRegistry
    address public immutable ESCROW;
    /// @inheritdoc IExecutorRegistry
    address public immutable SETTLEMENT;

    // slot 3
    /// @inheritdoc IExecutorRegistry
    /// @dev By channel too: a double bill may name any hash as its request's, and a payee that made one in a channel with
    /// itself would use up a fault that it committed against somebody else.
    mapping(bytes32 channelId => mapping(bytes32 requestHash => bool)) public isCharged;

    constructor(address escrow, address settlement) {
        ESCROW = escrow;
        SETTLEMENT = settlement;
    }

    /// @inheritdoc IExecutorRegistry
    function proveOvercharge(InferenceRequest calldata request, UsageBill calldata bill, bytes calldata billSignature)
        external
    {
        // Check:
        bytes32 requestHash = UsageHash.hashRequest(request);
        if (requestHash != bill.requestHash || request.channelId != bill.channelId) revert RequestMismatch();
        if (!_isOvercharged(request, bill)) revert NotOvercharged();
        address signer = _recover(UsageHash.hashBill(bill), billSignature);

        _charge(Fault.Overcharge, bill.channelId, requestHash, signer);
    }

    /// @inheritdoc IExecutorRegistry
    function proveDoubleBill(
        UsageBill calldata first,
        bytes calldata firstSignature,
        UsageBill calldata second,
        bytes calldata secondSignature
    ) external {
        // Check:
        (bytes32 channelId, bytes32 requestHash) = (first.channelId, first.requestHash);
        if (channelId != second.channelId || requestHash != second.requestHash) revert DifferentRequests();
        (bytes32 firstHash, bytes32 secondHash) = (UsageHash.hashBill(first), UsageHash.hashBill(second));
        if (firstHash == secondHash) revert SameBill();
        address signer = _recover(firstHash, firstSignature);
        if (signer != _recover(secondHash, secondSignature)) revert DifferentSigners();

        _charge(Fault.DoubleBill, channelId, requestHash, signer);
    }

    function _charge(Fault fault, bytes32 channelId, bytes32 requestHash, address signer) private {
        // Check:
        IChannelEscrow.Channel memory channel = IChannelEscrow(ESCROW).getChannel(channelId);
        if (channel.payer == address(0)) revert ChannelNotFound();
        if (!_isPunishable(channel.payee, signer)) revert NotPunishable(signer);
        if (isCharged[channelId][requestHash]) revert AlreadyCharged();

        // Effect:
        isCharged[channelId][requestHash] = true;
        (address token, uint128 slice, uint256 rest) = _slice(channel.payee, channel.payer, msg.sender);
        emit FaultCharged(channel.payee, channelId, msg.sender, requestHash, fault, signer, token, slice);

        // Interaction:
        _burn(token, rest);
    }

    function _recover(bytes32 billHash, bytes calldata signature) private view returns (address signer) {
        bytes32 digest = IUsageSettlement(SETTLEMENT).getBillDigest(billHash);
        signer = SignatureVerification.recover(digest, signature);
        if (signer == address(0)) revert InvalidSignature();
    }

    /// @dev A payee answers for what it signs itself, for its operators, and for those it retired less than the delay ago.
    function _isPunishable(address payee, address signer) private view returns (bool) {
        if (signer == payee) return true;
        OperatorStatus status = operatorStatus(payee, signer);
        if (status != OperatorStatus.Retired) return status == OperatorStatus.Active;
        return block.timestamp < retiredAt(payee, signer) + UNBONDING_DELAY;
    }

    function _isOvercharged(InferenceRequest calldata request, UsageBill calldata bill) private pure returns (bool) {
        if (bill.inputTokens > request.maxInputTokens || bill.outputTokens > request.maxOutputTokens) return true;
        // At most 2^161: counts are of 32 bits, prices of 128.
        uint256 cost = uint256(bill.inputTokens) * request.inputPrice + uint256(bill.outputTokens) * request.outputPrice;
        return bill.amount > Math.ceilDiv(cost, PRICE_UNIT);
    }
}
