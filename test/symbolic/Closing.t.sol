// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";

/// @notice The ways to end a channel. This contract is the settlement.
contract ClosingTest is SymbolicFixture {
    function check_RequestClose() public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.requestClose(ID);
        assertStep(before, ID);
    }

    function check_RequestCloseWithAuthorization(uint256 nonce, uint256 deadline) public {
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.requestCloseWithAuthorization(ID, nonce, deadline, signature);
        assertStep(before, ID);
    }

    function check_Withdraw() public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.withdraw(ID);
        assertStep(before, ID);
    }

    function check_WithdrawFor() public {
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = ID;
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.withdrawFor(ids);
        assertStep(before, ID);
    }

    function check_Close(uint128 amount) public {
        address caller = anyAccount("caller");
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.close(ID, amount, signature);
        assertStep(before, ID);
    }

    function check_CloseWithAuthorization(uint128 amount, uint256 nonce, uint256 deadline) public {
        bytes memory payeeSignature = SVM.createBytes(65, "payee signature");
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.closeWithAuthorization(ID, amount, nonce, deadline, payeeSignature, signature);
        assertStep(before, ID);
    }

    function check_CloseChannel(uint128 amount) public {
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.closeChannel(ID, amount);
        assertStep(before, ID);
    }
}
