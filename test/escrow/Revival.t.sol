// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice Draft, "Channel Re-Use / Cross-Epoch Replay": an id is used once, by whichever entry it is opened, however it
/// was closed. Else an old voucher would take new money.
contract RevivalTest is RelayedFixture {
    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
    }

    function assertDead(bytes32 id) private {
        bytes32 before = stateOf(id);
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes memory grantCall =
            abi.encodeCall(IRelayedChannels.openWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant))));
        bytes4 exists = IChannelEscrow.ChannelAlreadyExists.selector;
        assertRefused(encode(openCall(payer)), exists);
        assertRefused(encode(permit2OpenCall(payer)), exists);
        assertRefused(grantCall, exists);
        vm.startPrank(payer.addr);
        vm.expectRevert(exists);
        escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        vm.expectRevert(exists);
        escrow.openFromBalance(payee.addr, address(token), DEPOSIT, SALT, address(0));
        vm.stopPrank();
        assertEq(stateOf(id), before);
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(DEPOSIT))), 0);
    }

    /// @dev The word of amounts then says (deposit, 0): nothing in it speaks of a channel.
    function test_NotWhenNothingWasSettled() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertDead(id);
    }

    function test_NotWhenAllWasSettled() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, DEPOSIT);
        assertDead(id);
    }

    function test_NotWhenThePayerWithdrew() public {
        bytes32 id = openChannel();
        vm.startPrank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        escrow.withdraw(id);
        vm.stopPrank();
        assertDead(id);
    }

    function test_NotWhenSomebodyWithdrewForThePayer() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = id;
        escrow.withdrawFor(ids);
        assertDead(id);
    }

    function test_NotWhenItWasClosedOnASignature() public {
        bytes32 id = openChannel();
        bytes memory close = sign(payee, escrowDomain(), closeHash(id, 0, 0, block.timestamp));
        escrow.closeWithAuthorization(id, 0, 0, block.timestamp, close, "");
        assertDead(id);
    }

    function test_NotWhenTheSettlementClosedIt() public {
        bytes32 id = openChannel();
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), receiptRow(40e6));
        assertDead(id);
    }

    /// @dev Nor while it is open: its deposit can't be reset, nor can what its balance returns to.
    function test_NotWhileItIsOpen() public {
        bytes32 id = openChannel(1);
        settleAs(payee.addr, id, 1);
        assertDead(id);
    }

    /// @dev Whichever of the five entries opened it.
    function test_NotHoweverItWasOpened() public {
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes[3] memory calls = [
            encode(openCall(payer)),
            encode(permit2OpenCall(payer)),
            abi.encodeCall(IRelayedChannels.openWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant))))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            assertTaken(calls[i]);
            closeAs(payee.addr, id, 0);
            assertDead(id);
            vm.revertToState(snapshot);
        }
    }
}
