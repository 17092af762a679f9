// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {Accomplice, CallingPermitToken, FickleToken, PhantomToken} from "../adversary/Tokens.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract DepositWithPermitTest is RelayedFixture {
    function setUp() public override {
        super.setUp();
        vm.prank(payer.addr);
        token.approve(address(escrow), 0);
    }

    function signPermit(uint256 amount, uint256 deadline) private view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 structHash =
            keccak256(abi.encode(typeHash, payer.addr, address(escrow), amount, token.nonces(payer.addr), deadline));
        return vm.sign(payer.key, typedDigest(domainOf("Lloom Dev Token", address(token)), structHash));
    }

    function test_NeedsNoApproval() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(40e6, block.timestamp);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.Deposited(payer.addr, address(token), payer.addr, 40e6);
        vm.prank(payer.addr);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, v, r, s);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
        assertEq(token.allowance(payer.addr, address(escrow)), 0);
    }

    function test_APermitThatSomebodySubmittedBeforeDoesNoHarm() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(40e6, block.timestamp);
        vm.prank(stranger);
        token.permit(payer.addr, address(escrow), 40e6, block.timestamp, v, r, s);

        vm.prank(payer.addr);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, v, r, s);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
    }

    /// @dev The allowance decides: with one, the permit may be anything.
    function test_AnAllowanceMakesUpForABadPermit() public {
        vm.startPrank(payer.addr);
        token.approve(address(escrow), 40e6);
        escrow.depositWithPermit(address(token), 40e6, 0, 0, 0, 0);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
    }

    /// @dev A permit gives the escrow an allowance; nobody but its owner can make it use it.
    function test_RevertWhen_SomebodyElseUsesThePermit() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(40e6, block.timestamp);
        vm.startPrank(stranger);
        token.permit(payer.addr, address(escrow), 40e6, block.timestamp, v, r, s);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, v, r, s);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositFor(stranger, address(token), 40e6);
        assertEq(token.balanceOf(payer.addr), 1000e6);
    }

    function test_RevertWhen_ThePermitIsBadAndNothingIsAllowed() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(40e6, block.timestamp);
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6 + 1, block.timestamp, v, r, s);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, v, r, bytes32(uint256(s) + 1));
        skip(1);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp - 1, v, r, s);
        rewind(1);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, v, r, s);
    }

    function test_RevertWhen_DepositIsZero() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(0, block.timestamp);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.depositWithPermit(address(token), 0, block.timestamp, v, r, s);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.depositWithPermit(stranger, 0, block.timestamp, v, r, s);
    }

    function test_RevertWhen_TokenIsNone() public {
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.depositWithPermit(stranger, 1, block.timestamp, 27, 0, 0);
    }

    function test_ATokenWithoutPermitsNeedsAnAllowance() public {
        token = IDevToken(address(new FickleToken()));
        token.mint(payer.addr, 40e6);
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, 27, 0, 0);
        token.approve(address(escrow), 40e6);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, 27, 0, 0);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
    }

    /// @dev What is called from inside a permit comes before all that counts: both deposits are made, and each is its own.
    function test_APermitThatReentersGainsNothing() public {
        CallingPermitToken calling = new CallingPermitToken();
        token = IDevToken(address(calling));
        fund(payer.addr, 40e6);
        Accomplice accomplice = new Accomplice();
        fund(address(accomplice), 7e6);
        bytes memory inner = abi.encodeCall(IChannelEscrow.deposit, (address(token), 7e6));
        calling.setHook(address(accomplice), abi.encodeCall(Accomplice.insist, (address(escrow), inner)));

        vm.prank(payer.addr);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, 27, 0, 0);
        assertTrue(calling.hookSucceeded());
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
        assertEq(escrow.balanceOf(address(accomplice), address(token)), 7e6);
        assertEq(token.balanceOf(address(escrow)), 47e6);
    }

    /// @dev Wrapped Ether says yes to any permit, and its holders approved it once and for all: nothing of theirs moves.
    function test_RevertWhen_APermitIsAPhantom() public {
        token = IDevToken(address(new PhantomToken()));
        fund(payer.addr, 40e6);
        vm.prank(stranger);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, 27, 0, 0);
        assertRefused(encode(depositCall(payer, 40e6)), IChannelEscrow.UnexpectedDepositAmount.selector);
        assertRefused(encode(openCall(payer)), IChannelEscrow.UnexpectedDepositAmount.selector);
        assertEq(token.balanceOf(payer.addr), 40e6);
    }
}
