// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Where everything lies, word by word. A change here is a change of gas, and of what proofs of storage say.
contract StorageTest is Fixture {
    uint256 private constant BALANCES = 0;
    uint256 private constant DESTINATION_INDEX = 1;
    uint256 private constant DESTINATIONS = 2;
    uint256 private constant DESTINATION_COUNT = 3;
    uint256 private constant CHANNELS = 4;
    uint256 private constant USED_NONCES = 5;

    function load(bytes32 slot) private view returns (uint256) {
        return uint256(vm.load(address(escrow), slot));
    }

    function channelWord(bytes32 id, uint256 word) private view returns (uint256) {
        return load(bytes32(uint256(keccak256(abi.encode(id, CHANNELS))) + word));
    }

    function test_AChannelTakesTwoWordsAndAThirdForItsSigner() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        settleWith(id, 40e6);
        vm.prank(payer.addr);
        escrow.requestClose(id);

        assertEq(channelWord(id, 0), uint256(40e6) << 128 | DEPOSIT);
        assertEq(
            channelWord(id, 1),
            uint256(1) << 208 | uint256(4) << 200 | uint256(1_800_000_000) << 160 | uint160(payer.addr)
        );
        assertEq(channelWord(id, 2), uint160(signer.addr));
        assertEq(channelWord(id, 3), 0);

        vm.prank(payee.addr);
        escrow.close(id, 0, "");
        assertEq(channelWord(id, 0), uint256(DEPOSIT) << 128 | 40e6, "swapped");
    }

    function settleWith(bytes32 id, uint128 amount) private {
        bytes memory signature = signVoucher(signer, id, amount);
        vm.prank(payee.addr);
        escrow.settle(id, amount, signature);
    }

    function test_DestinationsAreNumberedFromOne() public {
        openChannel();
        address first = address(token);
        token = deployToken();
        fund(payer.addr, DEPOSIT);
        openChannel();

        assertEq(load(bytes32(DESTINATION_COUNT)), 2);
        assertEq(load(keccak256(abi.encode(first, keccak256(abi.encode(payee.addr, DESTINATION_INDEX))))), 1);
        assertEq(load(keccak256(abi.encode(token, keccak256(abi.encode(payee.addr, DESTINATION_INDEX))))), 2);
        assertDestination(1, first);
        assertDestination(2, address(token));
        assertEq(load(keccak256(abi.encode(0, DESTINATIONS))), 0);
    }

    function assertDestination(uint256 index, address asset) private view {
        uint256 slot = uint256(keccak256(abi.encode(index, DESTINATIONS)));
        assertEq(load(bytes32(slot)), uint160(payee.addr));
        assertEq(load(bytes32(slot + 1)), uint160(asset));
    }

    /// @dev As Permit2 keeps them: 256 to a word.
    function test_UsedNoncesAreBitsByAccountThenChannel() public {
        bytes32 id = openChannel();
        uint256 nonce = uint256(3) << 8 | 7;
        bytes memory signature = sign(payer, escrowDomain(), requestCloseHash(id, nonce, block.timestamp));
        escrow.requestCloseWithAuthorization(id, nonce, block.timestamp, signature);
        bytes32 account = keccak256(abi.encode(payer.addr, USED_NONCES));
        assertEq(load(keccak256(abi.encode(3, keccak256(abi.encode(id, account))))), 1 << 7);
    }

    function test_BalancesAreByAccountThenToken() public {
        vm.prank(payer.addr);
        escrow.deposit(address(token), 7);
        assertEq(load(keccak256(abi.encode(token, keccak256(abi.encode(payer.addr, BALANCES))))), 7);
    }

    /// @dev What makes opening cheap: where payee and token are listed, and the payer signs, two words are all that is written.
    function test_OpeningWritesTwoWordsWhereThePairIsListed() public {
        vm.prank(payer.addr);
        escrow.open(payee.addr, address(token), 1, "first", address(0));

        vm.startStateDiffRecording();
        bytes32 id = openChannel();
        Vm.AccountAccess[] memory accesses = vm.stopAndReturnStateDiff();

        uint256 written;
        for (uint256 i = 0; i < accesses.length; ++i) {
            for (uint256 j = 0; j < accesses[i].storageAccesses.length; ++j) {
                Vm.StorageAccess memory access = accesses[i].storageAccesses[j];
                if (access.account != address(escrow) || !access.isWrite) continue;
                assertEq(uint256(access.slot), uint256(keccak256(abi.encode(id, CHANNELS))) + written);
                ++written;
            }
        }
        assertEq(written, 2);
        assertEq(load(bytes32(DESTINATION_COUNT)), 1, "listed once");
    }

    /// @dev What makes a claim cheap: of a channel, it touches the first word alone.
    function test_AClaimTouchesOneWordOfAChannel() public {
        bytes32 id = openChannel();
        vm.startStateDiffRecording();
        escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(40e6)));
        Vm.AccountAccess[] memory accesses = vm.stopAndReturnStateDiff();

        uint256 touched;
        for (uint256 i = 0; i < accesses.length; ++i) {
            for (uint256 j = 0; j < accesses[i].storageAccesses.length; ++j) {
                Vm.StorageAccess memory access = accesses[i].storageAccesses[j];
                if (access.account != address(escrow)) continue;
                assertEq(access.slot, keccak256(abi.encode(id, CHANNELS)));
                ++touched;
            }
        }
        assertGt(touched, 0);
    }
}
