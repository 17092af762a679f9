// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "./RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Every call of the escrow that takes a signature over its own domain, one signature a kind: the same question
/// can be put to all of them.
abstract contract SignedCalls is RelayedFixture {
    enum Kind {
        Settle,
        Close,
        ClaimContractVouchers,
        SettleOnPayeesSignature,
        SettleOnVoucher,
        CloseOnPayeesSignature,
        CloseOnVoucher,
        RequestClose,
        OpenWithGrant,
        TopUpWithGrant
    }

    uint256 internal constant KINDS = 10;
    uint128 internal constant AMOUNT = 40e6;
    uint128 internal constant RAISED = DEPOSIT + 10e6;
    bytes32 internal constant GRANT_SALT = keccak256("of the channel to open");

    /// @dev Whose signature a call of this kind is about.
    function isPayees(Kind kind) internal pure returns (bool) {
        return kind == Kind.SettleOnPayeesSignature || kind == Kind.CloseOnPayeesSignature;
    }

    /// @dev An open channel, and money for another in the payer's balance: enough for every kind.
    function prepare() internal returns (bytes32 id) {
        fund(payer.addr, 2 * DEPOSIT);
        id = openChannel();
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
    }

    /// @dev What the signer of a kind signs, in the domain of `domain`.
    function digestOf(Kind kind, bytes32 id) internal view returns (bytes32) {
        return typedDigest(escrowDomain(), structHashOf(kind, id));
    }

    function structHashOf(Kind kind, bytes32 id) internal view returns (bytes32) {
        if (kind == Kind.SettleOnPayeesSignature) return settleHash(id, AMOUNT, 1, block.timestamp);
        if (kind == Kind.CloseOnPayeesSignature) return closeHash(id, AMOUNT, 1, block.timestamp);
        if (kind == Kind.RequestClose) return requestCloseHash(id, 1, block.timestamp);
        if (kind == Kind.OpenWithGrant) return grantHash(grantToOpen());
        if (kind == Kind.TopUpWithGrant) return grantHash(grantToTopUp(id));
        bytes32 typeHash = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
        return keccak256(abi.encode(typeHash, id, AMOUNT));
    }

    function grantToOpen() internal view returns (IRelayedChannels.ChannelGrant memory grant) {
        grant = channelGrant();
        (grant.salt, grant.deadline) = (GRANT_SALT, uint64(block.timestamp));
    }

    function grantToTopUp(bytes32 id) internal view returns (IRelayedChannels.TopUpGrant memory) {
        return IRelayedChannels.TopUpGrant(id, RAISED, uint64(block.timestamp));
    }

    /// @dev The call with `signature`; `other` is that of the other side, where there are two.
    function callOf(Kind kind, bytes32 id, bytes memory signature, bytes memory other)
        internal
        view
        returns (bytes memory)
    {
        uint256 deadline = block.timestamp;
        if (kind == Kind.Settle) return abi.encodeCall(IChannelEscrow.settle, (id, AMOUNT, signature));
        if (kind == Kind.Close) return abi.encodeCall(IChannelEscrow.close, (id, AMOUNT, signature));
        if (kind == Kind.SettleOnPayeesSignature) {
            return abi.encodeCall(IRelayedChannels.settleWithAuthorization, (id, AMOUNT, 1, deadline, signature, other));
        }
        if (kind == Kind.SettleOnVoucher) {
            return abi.encodeCall(IRelayedChannels.settleWithAuthorization, (id, AMOUNT, 1, deadline, other, signature));
        }
        if (kind == Kind.CloseOnPayeesSignature) {
            return abi.encodeCall(IRelayedChannels.closeWithAuthorization, (id, AMOUNT, 1, deadline, signature, other));
        }
        if (kind == Kind.CloseOnVoucher) {
            return abi.encodeCall(IRelayedChannels.closeWithAuthorization, (id, AMOUNT, 1, deadline, other, signature));
        }
        if (kind == Kind.RequestClose) {
            return abi.encodeCall(IRelayedChannels.requestCloseWithAuthorization, (id, 1, deadline, signature));
        }
        if (kind == Kind.OpenWithGrant) {
            return abi.encodeCall(IRelayedChannels.openWithGrant, (grantToOpen(), signature));
        }
        if (kind == Kind.TopUpWithGrant) {
            return abi.encodeCall(IRelayedChannels.topUpWithGrant, (grantToTopUp(id), signature));
        }
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = IChannelEscrow.ContractVoucherRow(
            payer.addr, SALT, address(0), signature, toVoucherAmounts(AMOUNT, AMOUNT)
        );
        return abi.encodeCall(IChannelEscrow.claimContractVouchers, (payee.addr, address(token), rows));
    }

    /// @dev The call with a key's signature of the other side.
    function callOf(Kind kind, bytes32 id, bytes memory signature) internal view returns (bytes memory) {
        bytes memory other;
        if (kind == Kind.SettleOnPayeesSignature || kind == Kind.CloseOnPayeesSignature) {
            other = signVoucher(payer, id, AMOUNT);
        } else if (kind == Kind.SettleOnVoucher) {
            other = packed(payee, digestOf(Kind.SettleOnPayeesSignature, id));
        } else if (kind == Kind.CloseOnVoucher) {
            other = packed(payee, digestOf(Kind.CloseOnPayeesSignature, id));
        }
        return callOf(kind, id, signature, other);
    }

    function keySignature(Kind kind, bytes32 id) internal view returns (bytes memory) {
        return packed(isPayees(kind) ? payee : payer, digestOf(kind, id));
    }

    /// @dev By the payee where the draft wants it to be the caller, by nobody in particular elsewhere.
    function submit(Kind kind, bytes memory call) internal returns (bool success, bytes memory answer) {
        bool asPayee = kind == Kind.Settle || kind == Kind.Close;
        vm.prank(asPayee ? payee.addr : stranger);
        (success, answer) = address(escrow).call(call);
    }

    /// @dev And it has done what it is for.
    function assertTaken(Kind kind, bytes32 id, bytes memory call) internal {
        (bool success, bytes memory answer) = submit(kind, call);
        assertTrue(success, vm.toString(answer));
        assertTrue(isDone(kind, id), "nothing came of it");
    }

    /// @dev For its signature, and nothing has changed. A claim says so by skipping the row.
    function assertUnsigned(Kind kind, bytes32 id, bytes memory call) internal {
        bytes32 before = stateOf(id);
        (bool success, bytes memory answer) = submit(kind, call);
        if (kind == Kind.ClaimContractVouchers) {
            assertTrue(success, vm.toString(answer));
            assertEq(abi.decode(answer, (uint256)), 0, "paid");
        } else {
            assertFalse(success, "taken");
            assertEq(bytes4(answer), IChannelEscrow.InvalidSignature.selector, vm.toString(answer));
        }
        assertEq(stateOf(id), before);
        assertFalse(isDone(kind, id));
    }

    function isDone(Kind kind, bytes32 id) internal view returns (bool) {
        if (kind == Kind.OpenWithGrant) {
            return escrow.getChannel(channelIdOf(payer.addr, payee.addr, address(token), GRANT_SALT, address(0)))
                .deposit == DEPOSIT;
        }
        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        if (kind == Kind.TopUpWithGrant) return channel.deposit == RAISED;
        if (kind == Kind.RequestClose) return channel.closeRequestedAt != 0;
        bool closes = kind == Kind.Close || kind == Kind.CloseOnPayeesSignature || kind == Kind.CloseOnVoucher;
        return channel.settled == AMOUNT && channel.finalized == closes;
    }
}
