// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IRelayedChannels} from "../interfaces/IRelayedChannels.sol";
import {EscrowHash} from "../libraries/EscrowHash.sol";
import {ChannelFunds} from "../types/ChannelFunds.sol";
import {ChannelTerms} from "../types/ChannelTerms.sol";
import {Channels} from "./Channels.sol";

/// @title RelayedChannels
/// @notice Everything that anyone may submit because somebody else has signed it: see `IRelayedChannels`.
abstract contract RelayedChannels is Channels {
    bytes32 private constant OPEN_WITNESS_TYPEHASH =
        keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)");
    bytes32 private constant TOP_UP_WITNESS_TYPEHASH = keccak256("ChannelTopUpWitness(bytes32 channelId)");
    /// @dev Permit2 puts its own types before these; EIP-712 orders the referenced ones by name.
    string private constant OPEN_WITNESS_TYPE = "ChannelOpenWitness witness)"
        "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"
        "TokenPermissions(address token,uint256 amount)";
    string private constant TOP_UP_WITNESS_TYPE = "ChannelTopUpWitness witness)"
        "ChannelTopUpWitness(bytes32 channelId)" "TokenPermissions(address token,uint256 amount)";

    /// @dev Bit `nonce % 256` of word `nonce / 256`, as Permit2 keeps them: unordered, and 256 to a slot.
    // slot 5
    mapping(address account => mapping(bytes32 channelId => mapping(uint256 word => uint256))) private _usedNonces;

    // --- Funded by the payer's EIP-3009 or Permit2 signature ---

    /// @inheritdoc IRelayedChannels
    function openWithAuthorization(
        address payee,
        address token,
        uint128 amount,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (bytes32 channelId) {
        // Check:
        channelId = _newChannelId(from, payee, token, salt, authorizedSigner);
        _checkDerived(nonce, keccak256(abi.encode(from, payee, token, salt, authorizedSigner)));

        // Effect:
        _open(channelId, from, payee, token, amount, salt, authorizedSigner, false);

        // Interaction:
        _pullWithAuthorization(token, from, amount, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc IRelayedChannels
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);
        _checkDerived(nonce, keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt)));

        // Effect:
        _topUp(channel, terms, channelId, additionalDeposit, from == terms.payer());

        // Interaction:
        address token = _tokenAt(terms.destination());
        _pullWithAuthorization(token, from, additionalDeposit, validAfter, validBefore, nonce, signature);
    }

    /// @inheritdoc IRelayedChannels
    function openWithPermit2(
        address payee,
        address token,
        uint128 amount,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 channelId) {
        // Check:
        channelId = _newChannelId(from, payee, token, salt, authorizedSigner);

        // Effect:
        _open(channelId, from, payee, token, amount, salt, authorizedSigner, false);

        // Interaction:
        bytes32 witness = keccak256(abi.encode(OPEN_WITNESS_TYPEHASH, payee, salt, authorizedSigner));
        _pullWithPermit2(token, from, amount, nonce, deadline, witness, OPEN_WITNESS_TYPE, signature);
    }

    /// @inheritdoc IRelayedChannels
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);

        // Effect:
        _topUp(channel, terms, channelId, additionalDeposit, from == terms.payer());

        // Interaction:
        bytes32 witness = keccak256(abi.encode(TOP_UP_WITNESS_TYPEHASH, channelId));
        address token = _tokenAt(terms.destination());
        _pullWithPermit2(token, from, additionalDeposit, nonce, deadline, witness, TOP_UP_WITNESS_TYPE, signature);
    }

    /// @inheritdoc IRelayedChannels
    function depositWithAuthorization(
        address token,
        uint256 amount,
        address from,
        bytes32 depositSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        // Check:
        _checkDerived(nonce, keccak256(abi.encode(from, token, depositSalt)));

        // Effect:
        _recordDeposit(from, token, from, amount);

        // Interaction:
        _pullWithAuthorization(token, from, amount, validAfter, validBefore, nonce, signature);
    }

    // --- Funded by the payer's balance ---

    /// @inheritdoc IRelayedChannels
    function openWithGrant(ChannelGrant calldata grant, bytes calldata signature) external returns (bytes32 channelId) {
        // Check:
        (address payer, address payee, address token) = (grant.payer, grant.payee, grant.token);
        channelId = _newChannelId(payer, payee, token, grant.salt, grant.authorizedSigner);
        _checkSignature(payer, EscrowHash.hashGrant(grant), signature);
        _checkDeadline(grant.deadline);

        // Effect:
        _open(channelId, payer, payee, token, grant.deposit, grant.salt, grant.authorizedSigner, true);
        _debit(payer, token, grant.deposit);
    }

    /// @inheritdoc IRelayedChannels
    function topUpWithGrant(TopUpGrant calldata grant, bytes calldata signature) external {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(grant.channelId);
        address payer = terms.payer();
        _checkSignature(payer, EscrowHash.hashGrant(grant), signature);
        _checkDeadline(grant.deadline);
        uint128 deposited = channel.funds.upper();
        uint128 additionalDeposit = grant.deposit > deposited ? grant.deposit - deposited : 0;

        // Effect:
        _topUp(channel, terms, grant.channelId, additionalDeposit, true);
        _debit(payer, _tokenAt(terms.destination()), additionalDeposit);
    }

    // --- On the payee's signature ---

    /// @inheritdoc IRelayedChannels
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);
        ChannelFunds funds = channel.funds;
        _checkSettlement(channel, terms, funds, channelId, cumulativeAmount, voucherSignature);
        address payee = _payeeAt(terms.destination());
        _checkSignature(payee, EscrowHash.hashSettle(channelId, cumulativeAmount, nonce, deadline), payeeSignature);
        _checkUsable(payee, channelId, nonce, deadline);

        // Effect:
        _useNonce(payee, channelId, nonce);
        _settle(channel, terms, funds, channelId, cumulativeAmount, payee);
    }

    /// @inheritdoc IRelayedChannels
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);
        ChannelFunds funds = channel.funds;
        _checkClose(channel, terms, funds, channelId, cumulativeAmount, voucherSignature);
        address payee = _payeeAt(terms.destination());
        _checkSignature(payee, EscrowHash.hashClose(channelId, cumulativeAmount, nonce, deadline), payeeSignature);
        _checkUsable(payee, channelId, nonce, deadline);

        // Effect:
        _useNonce(payee, channelId, nonce);
        _close(channel, terms, funds, channelId, cumulativeAmount, payee);
    }

    // --- The payer's way out ---

    /// @inheritdoc IRelayedChannels
    function requestCloseWithAuthorization(bytes32 channelId, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
    {
        // Check:
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);
        address payer = terms.payer();
        _checkSignature(payer, EscrowHash.hashRequestClose(channelId, nonce, deadline), signature);
        _checkUsable(payer, channelId, nonce, deadline);

        // Effect:
        _useNonce(payer, channelId, nonce);
        _requestClose(channel, terms, channelId);
    }

    /// @inheritdoc IRelayedChannels
    function withdrawFor(bytes32[] calldata channelIds) external {
        for (uint256 i = 0; i < channelIds.length; ++i) {
            bytes32 channelId = channelIds[i];
            ChannelRecord storage channel = _channels[channelId];
            ChannelTerms terms = channel.terms;

            // Check:
            if (!terms.exists()) {
                emit RowSkipped(channelId, i, SkipReason.ChannelNotFound);
            } else if (terms.isFinalized()) {
                emit RowSkipped(channelId, i, SkipReason.ChannelFinalized);
            } else if (!_isGraceOver(terms)) {
                emit RowSkipped(channelId, i, SkipReason.CloseNotReady);
            } else {
                _withdraw(channel, terms, channelId);
            }
        }
    }

    /// @inheritdoc IRelayedChannels
    function invalidateNonce(bytes32 channelId, uint256 nonce) external {
        _checkUnused(msg.sender, channelId, nonce);
        _useNonce(msg.sender, channelId, nonce);
    }

    /// @inheritdoc IRelayedChannels
    function isNonceUsed(address account, bytes32 channelId, uint256 nonce) public view returns (bool) {
        return _usedNonces[account][channelId][nonce / 256] & _bitOf(nonce) != 0;
    }

    /// @dev What `account` signed under this nonce is neither used, nor taken back, nor late.
    function _checkUsable(address account, bytes32 channelId, uint256 nonce, uint256 deadline) private view {
        _checkUnused(account, channelId, nonce);
        _checkDeadline(deadline);
    }

    function _useNonce(address account, bytes32 channelId, uint256 nonce) private {
        _usedNonces[account][channelId][nonce / 256] |= _bitOf(nonce);
    }

    function _checkUnused(address account, bytes32 channelId, uint256 nonce) private view {
        if (isNonceUsed(account, channelId, nonce)) revert NonceAlreadyUsed();
    }

    function _bitOf(uint256 nonce) private pure returns (uint256) {
        return uint256(1) << (nonce % 256);
    }

    /// @dev EIP-3009 has no witness: what the payer signed for is bound by its nonce.
    function _checkDerived(bytes32 nonce, bytes32 derived) private pure {
        if (nonce != derived) revert NonceMismatch();
    }

    function _checkDeadline(uint256 deadline) private view {
        if (block.timestamp > deadline) revert AuthorizationExpired();
    }
}
