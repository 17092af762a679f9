// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Tokens} from "./escrow/Tokens.sol";
import {IChannelEscrow} from "./interfaces/IChannelEscrow.sol";
import {Eip712Domain} from "./libraries/Eip712Domain.sol";
import {SignatureVerification} from "./libraries/SignatureVerification.sol";
import {VoucherHash} from "./libraries/VoucherHash.sol";
import {ChannelFunds, toChannelFunds} from "./types/ChannelFunds.sol";
import {deriveChannelId} from "./types/ChannelId.sol";
import {ChannelTerms, toChannelTerms} from "./types/ChannelTerms.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title ChannelEscrow
/// @notice See `IChannelEscrow`, which is the manual.
contract ChannelEscrow is Tokens {
    using SignatureVerification for address;

    /// @dev Records are never deleted: an id is used once.
    struct ChannelRecord {
        ChannelFunds funds; // slot 0: all that a claim touches
        ChannelTerms terms; // slot 1
        address payee; // slot 2
        address authorizedSigner; // slot 3, written only when nonzero
    }

    bytes32 private constant DOMAIN_NAME_HASH = keccak256("EVM Payment Channel");
    bytes32 private constant DOMAIN_VERSION_HASH = keccak256("1");

    /// @inheritdoc IChannelEscrow
    uint64 public constant CLOSE_GRACE_PERIOD = 1 hours;

    /// @inheritdoc IChannelEscrow
    address public immutable SETTLEMENT;

    // slot 4
    mapping(bytes32 channelId => ChannelRecord) private _channels;

    modifier onlySettlement() {
        if (msg.sender != SETTLEMENT) revert NotSettlement();
        _;
    }

    constructor(address settlement) {
        SETTLEMENT = settlement;
    }

    // --- Life of a channel ---

    /// @inheritdoc IChannelEscrow
    function open(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId)
    {
        channelId = _open(payee, token, amount, salt, authorizedSigner, false);
        _pull(token, msg.sender, amount);
    }

    /// @inheritdoc IChannelEscrow
    function openFromBalance(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId)
    {
        channelId = _open(payee, token, amount, salt, authorizedSigner, true);
        _debit(msg.sender, token, amount);
    }

    /// @inheritdoc IChannelEscrow
    function topUp(bytes32 channelId, uint128 additionalDeposit) external {
        address token = _topUp(channelId, additionalDeposit);
        _pull(token, msg.sender, additionalDeposit);
    }

    /// @inheritdoc IChannelEscrow
    function topUpFromBalance(bytes32 channelId, uint128 additionalDeposit) external {
        address token = _topUp(channelId, additionalDeposit);
        _debit(msg.sender, token, additionalDeposit);
    }

    /// @inheritdoc IChannelEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        if (msg.sender != channel.payee) revert NotPayee();
        ChannelFunds funds = channel.funds;
        _checkAmount(funds, cumulativeAmount);
        _checkVoucher(channel, terms, channelId, cumulativeAmount, signature);

        // Effect:
        uint128 paid = _advance(channel, funds, cumulativeAmount);
        emit ChannelSettled(channelId, cumulativeAmount);

        // Interaction:
        _pay(_tokenAt(terms.tokenIndex()), msg.sender, paid);
    }

    /// @inheritdoc IChannelEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        if (msg.sender != channel.payee) revert NotPayee();
        ChannelFunds funds = channel.funds;
        if (cumulativeAmount > funds.lower()) {
            _checkAmount(funds, cumulativeAmount);
            _checkVoucher(channel, terms, channelId, cumulativeAmount, signature);
        }

        _close(channel, channelId, terms, funds, msg.sender, cumulativeAmount);
    }

    /// @inheritdoc IChannelEscrow
    function requestClose(bytes32 channelId) external {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        if (msg.sender != terms.payer()) revert NotPayer();
        // The grace period runs from the first request.
        if (terms.closeRequestedAt() != 0) return;

        // Effect:
        uint40 requestedAt = uint40(block.timestamp);
        channel.terms = terms.withCloseRequestedAt(requestedAt);
        emit CloseRequested(channelId, requestedAt);
    }

    /// @inheritdoc IChannelEscrow
    function withdraw(bytes32 channelId) external {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        if (msg.sender != terms.payer()) revert NotPayer();
        uint256 requestedAt = terms.closeRequestedAt();
        if (requestedAt == 0 || block.timestamp < requestedAt + CLOSE_GRACE_PERIOD) revert CloseNotReady();

        // Effect:
        ChannelFunds funds = channel.funds;
        uint128 refunded = _finalize(channel, channelId, terms, funds);

        // Interaction:
        _refund(terms, _tokenAt(terms.tokenIndex()), refunded);
    }

    // --- Batches and the settlement's entry ---

    /// @inheritdoc IChannelEscrow
    function claimVouchers(address payee, address token, VoucherRow[] calldata rows) external returns (uint256 paid) {
        bytes32 separator = domainSeparator();
        for (uint256 i = 0; i < rows.length; ++i) {
            VoucherRow calldata row = rows[i];
            (address payer, address signer, uint128 amount) = (row.payer, row.authorizedSigner, row.amount);
            bytes32 channelId = computeChannelId(payer, payee, token, row.salt, signer);
            ChannelRecord storage channel = _channels[channelId];
            ChannelFunds funds = channel.funds;

            // Check:
            if (!funds.accepts(amount)) {
                emit RowSkipped(channelId, i, _refusal(channel, funds, amount));
                continue;
            }
            uint128 ceiling = row.cumulativeAmount;
            if (amount > ceiling) {
                emit RowSkipped(channelId, i, SkipReason.AmountExceedsVoucher);
                continue;
            }
            if (signer == address(0)) signer = payer;
            bytes32 digest = MessageHashUtils.toTypedDataHash(separator, VoucherHash.hash(channelId, ceiling));
            if (!signer.isSignedByKey(digest, row.r, row.vs)) {
                emit RowSkipped(channelId, i, SkipReason.InvalidSignature);
                continue;
            }

            // Effect:
            unchecked {
                paid += _advance(channel, funds, amount); // sums of uint128 don't reach 2^256
            }
            emit ChannelSettled(channelId, amount);
        }

        // Interaction:
        _payOrCredit(token, payee, paid);
    }

    /// @inheritdoc IChannelEscrow
    function advanceChannels(address payee, address token, Advance[] calldata rows)
        external
        onlySettlement
        returns (uint256[] memory settledRows)
    {
        settledRows = new uint256[]((rows.length + 255) / 256);
        uint256 paid;
        for (uint256 i = 0; i < rows.length; ++i) {
            Advance calldata row = rows[i];
            (bytes32 channelId, uint128 amount) = (row.channelId, row.amount);
            if (channelId == bytes32(0)) continue;
            ChannelRecord storage channel = _channels[channelId];
            ChannelFunds funds = channel.funds;

            // Check:
            if (!funds.accepts(amount)) {
                emit RowSkipped(channelId, i, _refusal(channel, funds, amount));
                continue;
            }

            // Effect:
            unchecked {
                paid += _advance(channel, funds, amount); // sums of uint128 don't reach 2^256
            }
            settledRows[i / 256] |= uint256(1) << (i % 256);
        }

        // Interaction:
        _payOrCredit(token, payee, paid);
    }

    /// @inheritdoc IChannelEscrow
    function closeChannel(bytes32 channelId, uint128 amount) external onlySettlement {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        ChannelFunds funds = channel.funds;
        if (amount > funds.upper()) revert AmountExceedsDeposit();

        _close(channel, channelId, terms, funds, channel.payee, amount);
    }

    // --- Views ---

    /// @inheritdoc IChannelEscrow
    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory channels) {
        channels = new Channel[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; ++i) {
            channels[i] = getChannel(channelIds[i]);
        }
    }

    /// @inheritdoc IChannelEscrow
    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32) {
        return _voucherDigest(channelId, cumulativeAmount);
    }

    /// @inheritdoc IChannelEscrow
    function getChannel(bytes32 channelId) public view returns (Channel memory) {
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = channel.terms;
        ChannelFunds funds = terms.isFinalized() ? channel.funds.swapped() : channel.funds;
        return Channel({
            payer: terms.payer(),
            payee: channel.payee,
            token: _tokenAt(terms.tokenIndex()),
            authorizedSigner: channel.authorizedSigner,
            deposit: funds.upper(),
            settled: funds.lower(),
            closeRequestedAt: terms.closeRequestedAt(),
            finalized: terms.isFinalized(),
            refundsToBalance: terms.refundsToBalance()
        });
    }

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

    // --- Internals ---

    /// @dev The caller brings the money in.
    function _open(
        address payee,
        address token,
        uint128 amount,
        bytes32 salt,
        address authorizedSigner,
        bool fromBalance
    ) private returns (bytes32 channelId) {
        // Check:
        channelId = computeChannelId(msg.sender, payee, token, salt, authorizedSigner);
        ChannelRecord storage channel = _channels[channelId];
        if (channel.terms.exists()) revert ChannelAlreadyExists();
        if (amount == 0) revert ZeroDeposit();
        if (payee == address(0) || payee == address(this)) revert InvalidPayee();

        // Effect:
        bool hasSigner = authorizedSigner != address(0);
        channel.funds = toChannelFunds(0, amount);
        channel.terms = toChannelTerms(msg.sender, _indexOf(token), fromBalance, hasSigner);
        channel.payee = payee;
        if (hasSigner) channel.authorizedSigner = authorizedSigner;
        emit ChannelOpened(channelId, msg.sender, payee, token, authorizedSigner, salt, amount, fromBalance);
    }

    /// @dev The caller brings the money in.
    function _topUp(bytes32 channelId, uint128 additionalDeposit) private returns (address token) {
        // Check:
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = _openTerms(channel);
        if (msg.sender != terms.payer()) revert NotPayer();
        if (additionalDeposit == 0) revert ZeroDeposit();
        ChannelFunds funds = channel.funds;
        if (additionalDeposit > type(uint128).max - funds.upper()) revert DepositOverflow();

        // Effect:
        uint128 total = funds.upper() + additionalDeposit;
        channel.funds = funds.withUpper(total);
        bool closeCancelled = terms.closeRequestedAt() != 0;
        if (closeCancelled) channel.terms = terms.withCloseRequestedAt(0);
        emit ChannelToppedUp(channelId, total, closeCancelled);

        token = _tokenAt(terms.tokenIndex());
    }

    /// @dev Raises `settled` to `amount`, which the caller has checked. The caller announces it and pays.
    function _advance(ChannelRecord storage channel, ChannelFunds funds, uint128 amount)
        private
        returns (uint128 delta)
    {
        unchecked {
            delta = amount - funds.lower();
        }
        channel.funds = funds.withLower(amount);
    }

    /// @dev Settles up to `amount` where that is more than is settled, finalizes, and pays both sides.
    function _close(
        ChannelRecord storage channel,
        bytes32 channelId,
        ChannelTerms terms,
        ChannelFunds funds,
        address payee,
        uint128 amount
    ) private {
        // Effect:
        uint128 paid;
        if (amount > funds.lower()) {
            paid = _advance(channel, funds, amount);
            emit ChannelSettled(channelId, amount);
            funds = funds.withLower(amount);
        }
        uint128 refunded = _finalize(channel, channelId, terms, funds);

        // Interaction:
        address token = _tokenAt(terms.tokenIndex());
        _payOrCredit(token, payee, paid);
        _refund(terms, token, refunded);
    }

    /// @dev The caller refunds.
    function _finalize(ChannelRecord storage channel, bytes32 channelId, ChannelTerms terms, ChannelFunds funds)
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

    function _openTerms(ChannelRecord storage channel) private view returns (ChannelTerms terms) {
        terms = channel.terms;
        if (!terms.exists()) revert ChannelNotFound();
        if (terms.isFinalized()) revert ChannelFinalized();
    }

    function _checkAmount(ChannelFunds funds, uint128 amount) private pure {
        if (amount <= funds.lower()) revert AmountNotIncreasing();
        if (amount > funds.upper()) revert AmountExceedsDeposit();
    }

    function _checkVoucher(
        ChannelRecord storage channel,
        ChannelTerms terms,
        bytes32 channelId,
        uint128 cumulativeAmount,
        bytes calldata signature
    ) private view {
        address signer = terms.hasSigner() ? channel.authorizedSigner : terms.payer();
        if (!signer.isSigned(_voucherDigest(channelId, cumulativeAmount), signature)) revert InvalidSignature();
    }

    /// @dev Names the reason why a channel's funds don't accept `amount`. Only here is the truth about the channel read.
    function _refusal(ChannelRecord storage channel, ChannelFunds funds, uint128 amount)
        private
        view
        returns (SkipReason)
    {
        ChannelTerms terms = channel.terms;
        if (!terms.exists()) return SkipReason.ChannelNotFound;
        if (terms.isFinalized()) return SkipReason.ChannelFinalized;
        return amount <= funds.lower() ? SkipReason.AmountNotIncreasing : SkipReason.AmountExceedsDeposit;
    }

    function _voucherDigest(bytes32 channelId, uint128 cumulativeAmount) private view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(domainSeparator(), VoucherHash.hash(channelId, cumulativeAmount));
    }
}
