// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {SplitterFixture} from "./SplitterFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

contract CollectTest is SplitterFixture {
    FickleToken private fickle;

    function setUp() public override {
        super.setUp();
        fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, 1000e6);
    }

    function test_BringsInAPayoutThatFailed() public {
        openChannel();
        fickle.setBlocked(address(splitter));
        escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(40e6)));
        assertEq(escrow.balanceOf(address(splitter), address(token)), 40e6);
        fickle.setBlocked(address(0));

        vm.expectEmit(address(splitter));
        emit IRevenueSplitter.Collected(address(token), 40e6);
        vm.prank(stranger);
        assertEq(splitter.collect(address(token)), 40e6);
        releaseAll();
        assertShared(28e6, 8e6, 4e6);
    }

    function test_BringsInAGift() public {
        vm.prank(payer.addr);
        escrow.depositFor(address(splitter), address(token), 10e6);
        splitter.collect(address(token));
        releaseAll();
        assertShared(7e6, 2e6, 1e6);
    }

    function test_RevertGiven_NothingToCollect() public {
        vm.expectRevert(IRevenueSplitter.NothingToCollect.selector);
        splitter.collect(address(token));
    }

    function test_RevertGiven_TheTokenStillRefuses() public {
        vm.prank(payer.addr);
        escrow.depositFor(address(splitter), address(token), 10e6);
        fickle.setBlocked(address(splitter));
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        splitter.collect(address(token));
        assertEq(escrow.balanceOf(address(splitter), address(token)), 10e6);
    }
}
