// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Claims} from "./escrow/Claims.sol";
import {RelayedChannels} from "./escrow/RelayedChannels.sol";
import {IChannelEscrow} from "./interfaces/IChannelEscrow.sol";
import {EscrowHash} from "./libraries/EscrowHash.sol";
import {ChannelFunds} from "./types/ChannelFunds.sol";
import {ChannelTerms} from "./types/ChannelTerms.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title ChannelEscrow
/// @notice See `IChannelEscrow`, which is the manual. Here: what payer and payee do themselves, and the views.
contract ChannelEscrow is RelayedChannels, Claims {
    constructor(address settlement) Claims(settlement) {}

    // --- The payer ---

    /// @inheritdoc IChannelEscrow
    function open(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId)
    {
        channelId = _newChannelId(msg.sender, payee, token, salt, authorizedSigner);
        _open(channelId, msg.sender, payee, token, amount, salt, authorizedSigner, false);
        _pull(token, msg.sender, amount);
    }

    /// @inheritdoc IChannelEscrow
    function openFromBalance(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId)
    {
        channelId = _newChannelId(msg.sender, payee, token, salt, authorizedSigner);
        _open(channelId, msg.sender, payee, token, amount, salt, authorizedSigner, true);
        _debit(msg.sender, token, amount);
    }

    /// @inheritdoc IChannelEscrow
    function topUp(bytes32 channelId, uint128 additionalDeposit) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayer(channelId);
        _topUp(channel, terms, channelId, additionalDeposit, true);
        _pull(_tokenAt(terms.destination()), msg.sender, additionalDeposit);
    }

    /// @inheritdoc IChannelEscrow
    function topUpFromBalance(bytes32 channelId, uint128 additionalDeposit) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayer(channelId);
        _topUp(channel, terms, channelId, additionalDeposit, true);
        _debit(msg.sender, _tokenAt(terms.destination()), additionalDeposit);
    }

    /// @inheritdoc IChannelEscrow
    function requestClose(bytes32 channelId) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayer(channelId);
        _requestClose(channel, terms, channelId);
    }

    /// @inheritdoc IChannelEscrow
    function withdraw(bytes32 channelId) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayer(channelId);
        if (!_isGraceOver(terms)) revert CloseNotReady();
        _withdraw(channel, terms, channelId);
    }

    // --- The payee ---

    /// @inheritdoc IChannelEscrow
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayee(channelId);
        ChannelFunds funds = channel.funds;
        _checkSettlement(channel, terms, funds, channelId, cumulativeAmount, signature);
        _settle(channel, terms, funds, channelId, cumulativeAmount, msg.sender);
    }

    /// @inheritdoc IChannelEscrow
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external {
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannelOfPayee(channelId);
        ChannelFunds funds = channel.funds;
        _checkClose(channel, terms, funds, channelId, cumulativeAmount, signature);
        _close(channel, terms, funds, channelId, cumulativeAmount, msg.sender);
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
        return MessageHashUtils.toTypedDataHash(domainSeparator(), EscrowHash.hashVoucher(channelId, cumulativeAmount));
    }

    /// @inheritdoc IChannelEscrow
    function getChannel(bytes32 channelId) public view returns (Channel memory) {
        ChannelRecord storage channel = _channels[channelId];
        ChannelTerms terms = channel.terms;
        ChannelFunds funds = terms.isFinalized() ? channel.funds.swapped() : channel.funds;
        return Channel({
            payer: terms.payer(),
            payee: _payeeAt(terms.destination()),
            token: _tokenAt(terms.destination()),
            authorizedSigner: channel.authorizedSigner,
            deposit: funds.upper(),
            settled: funds.lower(),
            closeRequestedAt: terms.closeRequestedAt(),
            finalized: terms.isFinalized(),
            refundsToBalance: terms.refundsToBalance()
        });
    }
}
