// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {Eip712Domain} from "../libraries/Eip712Domain.sol";
import {EscrowHash} from "../libraries/EscrowHash.sol";
import {SignatureVerification} from "../libraries/SignatureVerification.sol";
import {ChannelFunds, toChannelFunds} from "../types/ChannelFunds.sol";
import {deriveChannelId} from "../types/ChannelId.sol";
import {ChannelTerms, toChannelTerms} from "../types/ChannelTerms.sol";
import {Destinations} from "./Destinations.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title Channels
/// @notice The channels' records, and the steps of a channel's life that several entry points share.
abstract contract Channels is Destinations {
    using SignatureVerification for address;

    /// @dev Records are never deleted: an id is used once.
    struct ChannelRecord {
        ChannelFunds funds; // slot 0: all that a claim touches
        ChannelTerms terms; // slot 1
        address authorizedSigner; // slot 2, written only when nonzero
    }

    bytes32 private constant DOMAIN_NAME_HASH = keccak256("EVM Payment Channel");
    bytes32 private constant DOMAIN_VERSION_HASH = keccak256("1");

    /// @inheritdoc IChannelEscrow
    uint64 public constant CLOSE_GRACE_PERIOD = 1 hours;

    // slot 4
    mapping(bytes32 channelId => ChannelRecord) internal _channels;

    /// @inheritdoc IChannelEscrow
    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        public
        view
        returns (bytes32)
    {
        return deriveChannelId(payer, payee, token, salt, authorizedSigner, address(this));
    }

    /// @inheritdoc IChannelEscrow
    function domainSeparator() public view returns (bytes32) {
        return Eip712Domain.separator(DOMAIN_NAME_HASH, DOMAIN_VERSION_HASH);
    }

    // --- Opening ---

    /// @dev The id of a channel that doesn't exist, and never did.
    function _newChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        internal
        view
        returns (bytes32 channelId)
    {
        channelId = computeChannelId(payer, payee, token, salt, authorizedSigner);
        if (_channels[channelId].terms.exists()) revert ChannelAlreadyExists();
    }

    /// @dev `channelId` is new, and of these parameters. The caller brings the money in.
    function _open(
        bytes32 channelId,
        address payer,
        address payee,
        address token,
        uint128 amount,
        bytes32 salt,
        address authorizedSigner,
        bool fromBalance
    ) internal {
        // Check:
        if (amount == 0) revert ZeroDeposit();
        // Only a token that moves money of nobody's lets it come to this.
        if (payer == address(0)) revert InvalidPayer();
        uint40 destination = _indexOf(payee, token);

        // Effect:
        ChannelRecord storage channel = _channels[channelId];
        bool hasSigner = authorizedSigner != address(0);
        channel.funds = toChannelFunds(0, amount);
        channel.terms = toChannelTerms(payer, destination, fromBalance, hasSigner);
        if (hasSigner) channel.authorizedSigner = authorizedSigner;
        emit ChannelOpened(channelId, payer, payee, token, authorizedSigner, salt, amount, fromBalance);
    }

    /// @dev The caller brings the money in.
    /// @param cancelsClose Whether a pending close is over with this.
    function _topUp(
        ChannelRecord storage channel,
        ChannelTerms terms,
        bytes32 channelId,
        uint128 additionalDeposit,
        bool cancelsClose
    ) internal {
        // Check:
        if (additionalDeposit == 0) revert ZeroDeposit();
        ChannelFunds funds = channel.funds;
        if (additionalDeposit > type(uint128).max - funds.upper()) revert DepositOverflow();

        // Effect:
        uint128 total = funds.upper() + additionalDeposit;
        channel.funds = funds.withUpper(total);
        bool closeCancelled = cancelsClose && terms.closeRequestedAt() != 0;
        if (closeCancelled) channel.terms = terms.withCloseRequestedAt(0);
        emit ChannelToppedUp(channelId, total, closeCancelled);
    }

    // --- Settling ---

    function _checkSettlement(
        ChannelRecord storage channel,
        ChannelTerms terms,
        ChannelFunds funds,
        bytes32 channelId,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) internal view {
        if (cumulativeAmount <= funds.lower()) revert AmountNotIncreasing();
        if (cumulativeAmount > funds.upper()) revert AmountExceedsDeposit();
        address signer = terms.hasSigner() ? channel.authorizedSigner : terms.payer();
        _checkSignature(signer, EscrowHash.hashVoucher(channelId, cumulativeAmount), signature);
    }

    /// @dev As `_checkSettlement`, unless the payee forfeits what it has not settled.
    function _checkClose(
        ChannelRecord storage channel,
        ChannelTerms terms,
        ChannelFunds funds,
        bytes32 channelId,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) internal view {
        if (cumulativeAmount <= funds.lower()) return;
        _checkSettlement(channel, terms, funds, channelId, cumulativeAmount, signature);
    }

    /// @dev Settles what the caller has checked, and pays.
    function _settle(
        ChannelRecord storage channel,
        ChannelTerms terms,
        ChannelFunds funds,
        bytes32 channelId,
        uint128 amount,
        address payee
    ) internal {
        // Effect:
        uint128 paid = _advance(channel, funds, amount);
        emit ChannelSettled(channelId, amount);

        // Interaction:
        _pay(_tokenAt(terms.destination()), payee, paid);
    }

    /// @dev Raises `settled` to `amount`, which the caller has checked. The caller announces it and pays.
    function _advance(ChannelRecord storage channel, ChannelFunds funds, uint128 amount)
        internal
        returns (uint128 delta)
    {
        unchecked {
            delta = amount - funds.lower();
        }
        channel.funds = funds.withLower(amount);
    }

    // --- Closing ---

    /// @dev Starts the grace period, unless it runs: it runs from the first request.
    function _requestClose(ChannelRecord storage channel, ChannelTerms terms, bytes32 channelId) internal {
        if (terms.closeRequestedAt() != 0) return;

        uint40 requestedAt = uint40(block.timestamp);
        channel.terms = terms.withCloseRequestedAt(requestedAt);
        emit CloseRequested(channelId, requestedAt);
    }

    /// @return Whether the payer may have its money back.
    function _isGraceOver(ChannelTerms terms) internal view returns (bool) {
        uint256 requestedAt = terms.closeRequestedAt();
        return requestedAt != 0 && block.timestamp >= requestedAt + CLOSE_GRACE_PERIOD;
    }

    /// @dev Settles up to `amount` where that is more than is settled, finalizes, and pays both sides.
    function _close(
        ChannelRecord storage channel,
        ChannelTerms terms,
        ChannelFunds funds,
        bytes32 channelId,
        uint128 amount,
        address payee
    ) internal {
        // Effect:
        uint128 paid;
        if (amount > funds.lower()) {
            paid = amount - funds.lower();
            funds = funds.withLower(amount);
        }
        uint128 refunded = _finalize(channel, terms, funds, channelId);

        // Interaction:
        address token = _tokenAt(terms.destination());
        _payOrCredit(token, payee, paid);
        _refund(terms, token, refunded);
    }

    /// @dev Finalizes, and refunds what is not settled. The caller has made sure that grace is over.
    function _withdraw(ChannelRecord storage channel, ChannelTerms terms, bytes32 channelId) internal {
        // Effect:
        uint128 refunded = _finalize(channel, terms, channel.funds, channelId);

        // Interaction:
        _refund(terms, _tokenAt(terms.destination()), refunded);
    }

    function _finalize(ChannelRecord storage channel, ChannelTerms terms, ChannelFunds funds, bytes32 channelId)
        private
        returns (uint128 refunded)
    {
        refunded = funds.upper() - funds.lower();
        channel.terms = terms.finalized();
        channel.funds = funds.swapped();
        emit ChannelClosed(channelId, funds.lower(), refunded);
    }

    function _refund(ChannelTerms terms, address token, uint128 amount) private {
        if (terms.refundsToBalance()) _credit(terms.payer(), token, amount);
        else _payOrCredit(token, terms.payer(), amount);
    }

    // --- Reading and checking ---

    function _openChannel(bytes32 channelId) internal view returns (ChannelRecord storage channel, ChannelTerms terms) {
        channel = _channels[channelId];
        terms = channel.terms;
        if (!terms.exists()) revert ChannelNotFound();
        if (terms.isFinalized()) revert ChannelFinalized();
    }

    /// @dev An open channel of the caller's.
    function _openChannelOfPayer(bytes32 channelId)
        internal
        view
        returns (ChannelRecord storage channel, ChannelTerms terms)
    {
        (channel, terms) = _openChannel(channelId);
        if (msg.sender != terms.payer()) revert NotPayer();
    }

    /// @dev An open channel that pays the caller.
    function _openChannelOfPayee(bytes32 channelId)
        internal
        view
        returns (ChannelRecord storage channel, ChannelTerms terms)
    {
        (channel, terms) = _openChannel(channelId);
        if (msg.sender != _payeeAt(terms.destination())) revert NotPayee();
    }

    /// @dev By `signer`, over a struct in the escrow's domain.
    function _checkSignature(address signer, bytes32 structHash, bytes calldata signature) internal view {
        bytes32 digest = MessageHashUtils.toTypedDataHash(domainSeparator(), structHash);
        if (!signer.isSigned(digest, signature)) revert InvalidSignature();
    }
}
