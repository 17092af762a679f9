// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice Where several errors apply, the first one in the order of the draft's "Contract Errors" is raised: each test
/// begins with everything wrong and puts right one thing after the other.
contract PrecedenceTest is RelayedFixture {
    bytes32 private constant NONE = keccak256("none");
    bytes private constant BAD = "no signature";

    bytes32 private id;
    bytes32 private closed;
    uint256 private late;

    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
        id = openChannel();
        vm.prank(payer.addr);
        closed = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        closeAs(payee.addr, closed, 0);
        settleAs(payee.addr, id, 10e6);
        late = block.timestamp - 1;
    }

    function expectFrom(address caller, bytes4 expected, bytes memory call) private {
        vm.prank(caller);
        (bool success, bytes memory answer) = address(escrow).call(call);
        assertFalse(success, "taken");
        assertEq(bytes4(answer), expected, vm.toString(answer));
    }

    function test_Open() public {
        address from = payer.addr;
        bytes4 exists = IChannelEscrow.ChannelAlreadyExists.selector;
        expectFrom(from, exists, abi.encodeCall(IChannelEscrow.open, (payee.addr, address(token), 0, SALT, address(0))));
        expectFrom(
            from,
            IChannelEscrow.ZeroDeposit.selector,
            abi.encodeCall(IChannelEscrow.open, (address(0), address(0), 0, SALT, address(0)))
        );
        expectFrom(
            from,
            IChannelEscrow.InvalidPayee.selector,
            abi.encodeCall(IChannelEscrow.open, (address(0), address(0), 1, SALT, address(0)))
        );
        expectFrom(
            from,
            IChannelEscrow.InvalidToken.selector,
            abi.encodeCall(IChannelEscrow.open, (payee.addr, address(0), 1, SALT, address(0)))
        );
    }

    function test_OpenWithAuthorization() public {
        OpenCall memory call = openCall(payer);
        (call.deposit, call.nonce, call.signature) = (0, 0, BAD);
        assertRefused(encode(call), IChannelEscrow.ChannelAlreadyExists.selector);
        (call.payee, call.token, call.from) = (address(0), address(0), address(0));
        assertRefused(encode(call), IRelayedChannels.NonceMismatch.selector);
        call.nonce = openNonce(call);
        assertRefused(encode(call), IChannelEscrow.ZeroDeposit.selector);
        call.deposit = 1;
        assertRefused(encode(call), IChannelEscrow.InvalidPayer.selector);
        call.from = payer.addr;
        call.nonce = openNonce(call);
        assertRefused(encode(call), IChannelEscrow.InvalidPayee.selector);
        call.payee = payee.addr;
        call.nonce = openNonce(call);
        assertRefused(encode(call), IChannelEscrow.InvalidToken.selector);
    }

    function test_OpenWithPermit2() public {
        vm.etch(PERMIT2, "");
        Permit2OpenCall memory call = permit2OpenCall(payer);
        (call.deposit, call.deadline, call.signature) = (0, late, BAD);
        assertRefused(encode(call), IChannelEscrow.ChannelAlreadyExists.selector);
        (call.payee, call.token, call.from) = (address(0), address(0), address(0));
        assertRefused(encode(call), IChannelEscrow.ZeroDeposit.selector);
        call.deposit = 1;
        assertRefused(encode(call), IChannelEscrow.InvalidPayer.selector);
        call.from = payer.addr;
        assertRefused(encode(call), IChannelEscrow.InvalidPayee.selector);
        call.payee = payee.addr;
        assertRefused(encode(call), IChannelEscrow.InvalidToken.selector);
        (call.token, call.salt) = (address(token), keccak256("new"));
        assertRefused(encode(call), IRelayedChannels.Permit2NotDeployed.selector);
    }

    function grantCall(IRelayedChannels.ChannelGrant memory grant, bool isSigned) private view returns (bytes memory) {
        bytes memory signature = isSigned ? sign(payer, escrowDomain(), grantHash(grant)) : BAD;
        return abi.encodeCall(IRelayedChannels.openWithGrant, (grant, signature));
    }

    function test_OpenWithGrant() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        (grant.deposit, grant.deadline) = (0, uint64(late));
        assertRefused(grantCall(grant, false), IChannelEscrow.ChannelAlreadyExists.selector);
        (grant.payee, grant.token) = (address(0), address(0));
        assertRefused(grantCall(grant, false), IChannelEscrow.InvalidSignature.selector);
        assertRefused(grantCall(grant, true), IRelayedChannels.AuthorizationExpired.selector);
        grant.deadline = uint64(block.timestamp);
        assertRefused(grantCall(grant, true), IChannelEscrow.ZeroDeposit.selector);
        grant.deposit = 1;
        assertRefused(grantCall(grant, true), IChannelEscrow.InvalidPayee.selector);
        grant.payee = payee.addr;
        assertRefused(grantCall(grant, true), IChannelEscrow.InvalidToken.selector);
        (grant.token, grant.salt) = (address(token), keccak256("new"));
        assertRefused(grantCall(grant, true), IChannelEscrow.InsufficientBalance.selector);
    }

    function test_TopUp() public {
        bytes32[3] memory ids = [NONE, closed, id];
        bytes4[3] memory errors = [
            IChannelEscrow.ChannelNotFound.selector,
            IChannelEscrow.ChannelFinalized.selector,
            IChannelEscrow.NotPayer.selector
        ];
        for (uint256 i = 0; i < 3; ++i) {
            expectFrom(stranger, errors[i], abi.encodeCall(IChannelEscrow.topUp, (ids[i], 0)));
            expectFrom(stranger, errors[i], abi.encodeCall(IChannelEscrow.topUpFromBalance, (ids[i], 0)));
        }
        bytes4 zero = IChannelEscrow.ZeroDeposit.selector;
        expectFrom(payer.addr, zero, abi.encodeCall(IChannelEscrow.topUp, (id, 0)));
        expectFrom(payer.addr, zero, abi.encodeCall(IChannelEscrow.topUpFromBalance, (id, 0)));
        bytes4 overflow = IChannelEscrow.DepositOverflow.selector;
        expectFrom(payer.addr, overflow, abi.encodeCall(IChannelEscrow.topUp, (id, type(uint128).max)));
        expectFrom(payer.addr, overflow, abi.encodeCall(IChannelEscrow.topUpFromBalance, (id, type(uint128).max)));
    }

    function test_TopUpWithAuthorization() public {
        TopUpCall memory call = topUpCall(payer, NONE, 0);
        (call.nonce, call.signature) = (0, BAD);
        assertRefused(encode(call), IChannelEscrow.ChannelNotFound.selector);
        call.channelId = closed;
        assertRefused(encode(call), IChannelEscrow.ChannelFinalized.selector);
        call.channelId = id;
        assertRefused(encode(call), IRelayedChannels.NonceMismatch.selector);
        call.nonce = topUpNonce(call);
        assertRefused(encode(call), IChannelEscrow.ZeroDeposit.selector);
        call.additionalDeposit = type(uint128).max;
        call.nonce = topUpNonce(call);
        assertRefused(encode(call), IChannelEscrow.DepositOverflow.selector);
    }

    function test_TopUpWithPermit2() public {
        vm.etch(PERMIT2, "");
        Permit2TopUpCall memory call = permit2TopUpCall(payer, NONE, 0);
        (call.deadline, call.signature) = (late, BAD);
        assertRefused(encode(call), IChannelEscrow.ChannelNotFound.selector);
        call.channelId = closed;
        assertRefused(encode(call), IChannelEscrow.ChannelFinalized.selector);
        call.channelId = id;
        assertRefused(encode(call), IChannelEscrow.ZeroDeposit.selector);
        call.additionalDeposit = type(uint128).max;
        assertRefused(encode(call), IChannelEscrow.DepositOverflow.selector);
        call.additionalDeposit = 1;
        assertRefused(encode(call), IRelayedChannels.Permit2NotDeployed.selector);
    }

    function topUpGrantCall(bytes32 channelId, uint128 total, uint256 deadline, bool isSigned)
        private
        view
        returns (bytes memory)
    {
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(channelId, total, uint64(deadline));
        bytes memory signature = isSigned ? sign(payer, escrowDomain(), grantHash(grant)) : BAD;
        return abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, signature));
    }

    function test_TopUpWithGrant() public {
        assertRefused(topUpGrantCall(NONE, 0, late, false), IChannelEscrow.ChannelNotFound.selector);
        assertRefused(topUpGrantCall(closed, 0, late, false), IChannelEscrow.ChannelFinalized.selector);
        assertRefused(topUpGrantCall(id, 0, late, false), IChannelEscrow.InvalidSignature.selector);
        assertRefused(topUpGrantCall(id, 0, late, true), IRelayedChannels.AuthorizationExpired.selector);
        assertRefused(topUpGrantCall(id, 0, block.timestamp, true), IChannelEscrow.ZeroDeposit.selector);
        assertRefused(
            topUpGrantCall(id, type(uint128).max, block.timestamp, true), IChannelEscrow.InsufficientBalance.selector
        );
    }

    function test_Settle() public {
        uint128 over = DEPOSIT + 1;
        expectFrom(
            stranger, IChannelEscrow.ChannelNotFound.selector, abi.encodeCall(IChannelEscrow.settle, (NONE, over, BAD))
        );
        expectFrom(
            stranger,
            IChannelEscrow.ChannelFinalized.selector,
            abi.encodeCall(IChannelEscrow.settle, (closed, over, BAD))
        );
        expectFrom(stranger, IChannelEscrow.NotPayee.selector, abi.encodeCall(IChannelEscrow.settle, (id, over, BAD)));
        address from = payee.addr;
        expectFrom(
            from, IChannelEscrow.AmountNotIncreasing.selector, abi.encodeCall(IChannelEscrow.settle, (id, 10e6, BAD))
        );
        expectFrom(
            from, IChannelEscrow.AmountExceedsDeposit.selector, abi.encodeCall(IChannelEscrow.settle, (id, over, BAD))
        );
        expectFrom(
            from, IChannelEscrow.InvalidSignature.selector, abi.encodeCall(IChannelEscrow.settle, (id, DEPOSIT, BAD))
        );
    }

    function test_Close() public {
        uint128 over = DEPOSIT + 1;
        expectFrom(
            stranger, IChannelEscrow.ChannelNotFound.selector, abi.encodeCall(IChannelEscrow.close, (NONE, over, BAD))
        );
        expectFrom(
            stranger,
            IChannelEscrow.ChannelFinalized.selector,
            abi.encodeCall(IChannelEscrow.close, (closed, over, BAD))
        );
        expectFrom(stranger, IChannelEscrow.NotPayee.selector, abi.encodeCall(IChannelEscrow.close, (id, over, BAD)));
        address from = payee.addr;
        expectFrom(
            from, IChannelEscrow.AmountExceedsDeposit.selector, abi.encodeCall(IChannelEscrow.close, (id, over, BAD))
        );
        expectFrom(
            from, IChannelEscrow.InvalidSignature.selector, abi.encodeCall(IChannelEscrow.close, (id, DEPOSIT, BAD))
        );
    }

    /// @dev The voucher is looked at before the payee's signature; both have one error.
    function payeesCall(bool closes, bytes32 channelId, uint128 amount, uint256 nonce, uint256 deadline, bool isSigned)
        private
        view
        returns (bytes memory)
    {
        bytes32 structHash =
            closes ? closeHash(channelId, amount, nonce, deadline) : settleHash(channelId, amount, nonce, deadline);
        bytes memory authorization = isSigned ? sign(payee, escrowDomain(), structHash) : BAD;
        bytes memory voucher = isSigned ? signVoucher(payer, channelId, amount) : BAD;
        return closes
            ? abi.encodeCall(
                IRelayedChannels.closeWithAuthorization, (channelId, amount, nonce, deadline, authorization, voucher)
            )
            : abi.encodeCall(
                IRelayedChannels.settleWithAuthorization, (channelId, amount, nonce, deadline, authorization, voucher)
            );
    }

    function test_SettleAndCloseWithAuthorization() public {
        assertTaken(payeesCall(false, id, 11e6, 7, block.timestamp, true)); // nonce 7 is used
        uint128 over = DEPOSIT + 1;
        for (uint256 i = 0; i < 2; ++i) {
            bool closes = i == 1;
            assertRefused(payeesCall(closes, NONE, over, 7, late, false), IChannelEscrow.ChannelNotFound.selector);
            assertRefused(payeesCall(closes, closed, over, 7, late, false), IChannelEscrow.ChannelFinalized.selector);
            if (!closes) {
                assertRefused(payeesCall(closes, id, 11e6, 7, late, false), IChannelEscrow.AmountNotIncreasing.selector);
            }
            assertRefused(payeesCall(closes, id, over, 7, late, false), IChannelEscrow.AmountExceedsDeposit.selector);
            assertRefused(payeesCall(closes, id, DEPOSIT, 7, late, false), IChannelEscrow.InvalidSignature.selector);
            assertRefused(payeesCall(closes, id, DEPOSIT, 7, late, true), IRelayedChannels.NonceAlreadyUsed.selector);
            assertRefused(
                payeesCall(closes, id, DEPOSIT, 8, late, true), IRelayedChannels.AuthorizationExpired.selector
            );
        }
    }

    function test_RequestCloseAndWithdraw() public {
        bytes32[3] memory ids = [NONE, closed, id];
        bytes4[3] memory errors = [
            IChannelEscrow.ChannelNotFound.selector,
            IChannelEscrow.ChannelFinalized.selector,
            IChannelEscrow.NotPayer.selector
        ];
        for (uint256 i = 0; i < 3; ++i) {
            expectFrom(stranger, errors[i], abi.encodeCall(IChannelEscrow.requestClose, (ids[i])));
            expectFrom(stranger, errors[i], abi.encodeCall(IChannelEscrow.withdraw, (ids[i])));
        }
        expectFrom(payer.addr, IChannelEscrow.CloseNotReady.selector, abi.encodeCall(IChannelEscrow.withdraw, (id)));
    }

    function requestCall(bytes32 channelId, uint256 nonce, uint256 deadline, bool isSigned)
        private
        view
        returns (bytes memory)
    {
        bytes memory signature =
            isSigned ? sign(payer, escrowDomain(), requestCloseHash(channelId, nonce, deadline)) : BAD;
        return abi.encodeCall(IRelayedChannels.requestCloseWithAuthorization, (channelId, nonce, deadline, signature));
    }

    function test_RequestCloseWithAuthorization() public {
        assertTaken(requestCall(id, 7, block.timestamp, true));
        assertRefused(requestCall(NONE, 7, late, false), IChannelEscrow.ChannelNotFound.selector);
        assertRefused(requestCall(closed, 7, late, false), IChannelEscrow.ChannelFinalized.selector);
        assertRefused(requestCall(id, 7, late, false), IChannelEscrow.InvalidSignature.selector);
        assertRefused(requestCall(id, 7, late, true), IRelayedChannels.NonceAlreadyUsed.selector);
        assertRefused(requestCall(id, 8, late, true), IRelayedChannels.AuthorizationExpired.selector);
    }
}
