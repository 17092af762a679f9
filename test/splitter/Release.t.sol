// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {SplitterFixture} from "./SplitterFixture.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

contract ReleaseTest is SplitterFixture {
    function receiveTokens(uint256 amount) private {
        token.mint(address(splitter), amount);
    }

    function test_PaysEachItsShare() public {
        receiveTokens(100e6);
        vm.expectEmit(address(splitter));
        emit IRevenueSplitter.Released(address(token), host.addr, 70e6);
        vm.prank(stranger);
        assertEq(splitter.release(address(token), host.addr), 70e6);
        assertEq(splitter.released(address(token), host.addr), 70e6);
        assertEq(splitter.totalReleased(address(token)), 70e6);
        splitter.release(address(token), validators);
        splitter.release(address(token), treasury);
        assertShared(70e6, 20e6, 10e6);
        assertEq(token.balanceOf(address(splitter)), 0);
    }

    /// @dev What came after one was paid is shared as if nobody had been.
    function test_PaysWhatCameInSince() public {
        receiveTokens(100e6);
        splitter.release(address(token), host.addr);
        receiveTokens(50e6);
        assertEq(splitter.releasable(address(token), host.addr), 35e6);
        assertEq(splitter.releasable(address(token), validators), 30e6);
        releaseAll();
        assertShared(105e6, 30e6, 15e6);
    }

    function test_RoundsDownAndKeepsTheRest() public {
        receiveTokens(9);
        assertEq(splitter.releasable(address(token), treasury), 0);
        splitter.release(address(token), host.addr);
        splitter.release(address(token), validators);
        assertShared(6, 1, 0);
        assertEq(token.balanceOf(address(splitter)), 2);
        receiveTokens(1);
        releaseAll();
        assertShared(7, 2, 1);
    }

    function test_TokensAreApart() public {
        receiveTokens(100e6);
        splitter.release(address(token), host.addr);
        IDevToken first = token;
        token = deployToken();
        receiveTokens(10e6);
        releaseAll();
        assertShared(7e6, 2e6, 1e6);
        assertEq(first.balanceOf(address(splitter)), 30e6);
        assertEq(splitter.releasable(address(first), validators), 20e6);
    }

    function test_OneAccountInTwoRolesIsPaidForBoth() public {
        useSplitter(create(host.addr, validators, host.addr, 7000, 2000, 1000));
        receiveTokens(100e6);
        assertEq(splitter.release(address(token), host.addr), 80e6);
        assertEq(splitter.release(address(token), validators), 20e6);
        vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
        splitter.release(address(token), host.addr);
    }

    /// @dev Tokens that come and releases that pay, in any order: what was and could be paid is what was received, up to
    /// less than a base unit for each of the three.
    function testFuzz_EverythingIsSharedWhateverTheOrder(bytes32 seed, uint16 hostShare, uint16 validatorsShare)
        public
    {
        hostShare = uint16(bound(hostShare, 0, 10_000));
        validatorsShare = uint16(bound(validatorsShare, 0, 10_000 - hostShare));
        useSplitter(
            create(host.addr, validators, treasury, hostShare, validatorsShare, 10_000 - hostShare - validatorsShare)
        );
        IDevToken[2] memory tokens = [token, deployToken()];
        address[3] memory accounts = [host.addr, validators, treasury];
        uint256[2] memory received;
        for (uint256 i = 0; i < 20; ++i) {
            seed = keccak256(abi.encode(seed));
            uint256 t = uint256(seed) % 2;
            address account = accounts[uint256(seed >> 8) % 3];
            token = tokens[t];
            uint256 due = splitter.releasable(address(token), account);
            if (uint256(seed >> 16) % 2 == 0) {
                uint256 amount = uint256(seed) >> (130 + uint256(seed >> 24) % 120);
                receiveTokens(amount);
                received[t] += amount;
            } else if (due != 0) {
                assertEq(splitter.release(address(token), account), due);
            }
        }
        for (uint256 t = 0; t < 2; ++t) {
            uint256 shared;
            for (uint256 i = 0; i < 3; ++i) {
                uint256 paid = splitter.released(address(tokens[t]), accounts[i]);
                assertEq(tokens[t].balanceOf(accounts[i]), paid);
                uint256 whole = paid + splitter.releasable(address(tokens[t]), accounts[i]);
                assertEq(whole, received[t] * splitter.shareOf(accounts[i]) / 10_000);
                shared += whole;
            }
            assertLe(shared, received[t]);
            assertLt(received[t] - shared, 3);
        }
    }

    function test_RevertGiven_NothingIsDue() public {
        vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
        splitter.release(address(token), host.addr);
        receiveTokens(100e6);
        splitter.release(address(token), host.addr);
        vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
        splitter.release(address(token), host.addr);
    }

    function testFuzz_RevertWhen_TheAccountHasNoShare(address account) public {
        vm.assume(account != host.addr && account != validators && account != treasury);
        receiveTokens(100e6);
        vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
        splitter.release(address(token), account);
    }
}
