// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {EscrowHash} from "../libraries/EscrowHash.sol";
import {SignatureVerification} from "../libraries/SignatureVerification.sol";
import {ChannelFunds} from "../types/ChannelFunds.sol";
import {ChannelTerms} from "../types/ChannelTerms.sol";
import {payerSide} from "../types/PayerSide.sol";
import {SettledList, newSettledList} from "../types/SettledList.sol";
import {Channels} from "./Channels.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title Claims
/// @notice Many channels settled at once: by vouchers, for anyone to submit, and by the settlement, which has verified
/// usage receipts.
abstract contract Claims is Channels {
    using SignatureVerification for address;

    /// @inheritdoc IChannelEscrow
    address public immutable SETTLEMENT;

    modifier onlySettlement() {
        if (msg.sender != SETTLEMENT) revert NotSettlement();
        _;
    }

    constructor(address settlement) {
        SETTLEMENT = settlement;
    }

    /// @inheritdoc IChannelEscrow
    function claimVouchers(address payee, address token, VoucherRow[] calldata rows) external returns (uint256 paid) {
        bytes32 separator = domainSeparator();
        SettledList list = newSettledList(rows.length);
        for (uint256 i = 0; i < rows.length; ++i) {
            VoucherRow calldata row = rows[i];
            (address payer, address authorizedSigner, uint128 ceiling, uint128 amount) =
                (row.payer, row.authorizedSigner, row.amounts.ceiling(), row.amounts.amount());
            bytes32 channelId = computeChannelId(payer, payee, token, row.salt, authorizedSigner);
            ChannelRecord storage channel = _channels[channelId];
            ChannelFunds funds = channel.funds;

            // Check:
            if (!_isClaimable(channel, funds, channelId, i, ceiling, amount)) continue;
            bytes32 digest = MessageHashUtils.toTypedDataHash(separator, EscrowHash.hashVoucher(channelId, ceiling));
            if (!payerSide(payer, authorizedSigner).isSignedByKey(digest, row.r, row.vs)) {
                emit RowSkipped(channelId, i, SkipReason.InvalidSignature);
                continue;
            }

            // Effect:
            unchecked {
                paid += _advance(channel, funds, amount); // sums of uint128 don't reach 2^256
            }
            list.push(channelId, amount);
        }
        list.announce(ChannelSettled.selector, ChannelsSettled.selector);

        // Interaction:
        _payOrCredit(token, payee, paid);
    }

    /// @inheritdoc IChannelEscrow
    function claimContractVouchers(address payee, address token, ContractVoucherRow[] calldata rows)
        external
        returns (uint256 paid)
    {
        bytes32 separator = domainSeparator();
        SettledList list = newSettledList(rows.length);
        for (uint256 i = 0; i < rows.length; ++i) {
            ContractVoucherRow calldata row = rows[i];
            (address payer, address authorizedSigner, uint128 ceiling, uint128 amount) =
                (row.payer, row.authorizedSigner, row.amounts.ceiling(), row.amounts.amount());
            bytes32 channelId = computeChannelId(payer, payee, token, row.salt, authorizedSigner);
            ChannelRecord storage channel = _channels[channelId];
            ChannelFunds funds = channel.funds;

            // Check:
            if (!_isClaimable(channel, funds, channelId, i, ceiling, amount)) continue;
            bytes32 digest = MessageHashUtils.toTypedDataHash(separator, EscrowHash.hashVoucher(channelId, ceiling));
            if (!payerSide(payer, authorizedSigner).isSigned(digest, row.signature)) {
                emit RowSkipped(channelId, i, SkipReason.InvalidSignature);
                continue;
            }

            // Effect:
            unchecked {
                paid += _advance(channel, funds, amount); // sums of uint128 don't reach 2^256
            }
            list.push(channelId, amount);
        }
        list.announce(ChannelSettled.selector, ChannelsSettled.selector);

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
        (ChannelRecord storage channel, ChannelTerms terms) = _openChannel(channelId);
        ChannelFunds funds = channel.funds;
        if (amount > funds.upper()) revert AmountExceedsDeposit();

        _close(channel, terms, funds, channelId, amount, _payeeAt(terms.destination()));
    }

    /// @dev Whether a voucher of `ceiling` lets the channel settle `amount`. If not, says why.
    function _isClaimable(
        ChannelRecord storage channel,
        ChannelFunds funds,
        bytes32 channelId,
        uint256 index,
        uint128 ceiling,
        uint128 amount
    ) private returns (bool) {
        if (!funds.accepts(amount)) {
            emit RowSkipped(channelId, index, _refusal(channel, funds, amount));
            return false;
        }
        if (amount > ceiling) {
            emit RowSkipped(channelId, index, SkipReason.AmountExceedsVoucher);
            return false;
        }
        return true;
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
}
