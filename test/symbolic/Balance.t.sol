// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";

/// @notice What concerns no channel: each is left as it is, whatever its ID.
contract BalanceTest is SymbolicFixture {
    function check_Deposit(uint256 amount) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.deposit(address(token), amount);
        assertStep(before, ID);
    }

    function check_DepositFor(uint256 amount) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        address account = anyAddress("account");
        vm.prank(caller);
        escrow.depositFor(account, address(token), amount);
        assertStep(before, ID);
    }

    function check_DepositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.depositWithPermit(address(token), amount, deadline, v, r, s);
        assertStep(before, ID);
    }

    function check_DepositWithAuthorization(
        bytes32 ID,
        uint256 amount,
        bytes32 salt,
        uint256 validAfter,
        uint256 validBefore
    ) public {
        address from = anyAddress("from");
        bytes32 nonce = keccak256(abi.encode(from, address(token), salt));
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.depositWithAuthorization(address(token), amount, from, salt, validAfter, validBefore, nonce, signature);
        assertStep(before, ID);
    }

    function check_WithdrawBalance(uint256 amount) public {
        address caller = anyAccount("caller");
        address to = anyAddress("to");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.withdrawBalance(address(token), amount, to);
        assertStep(before, ID);
    }

    function check_InvalidateNonce(bytes32 namedId, uint256 nonce) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.invalidateNonce(namedId, nonce);
        assertStep(before, ID);
    }
}
