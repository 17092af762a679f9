// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice The ways to raise a deposit.
contract ToppingUpTest is SymbolicFixture {
    function check_TopUp(uint128 amount) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.topUp(ID, amount);
        assertStep(before, ID);
    }

    function check_TopUpFromBalance(uint128 amount) public {
        address caller = anyAccount("caller");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.topUpFromBalance(ID, amount);
        assertStep(before, ID);
    }

    function check_TopUpWithAuthorization(uint128 amount, bytes32 salt, uint256 validAfter, uint256 validBefore)
        public
    {
        address from = anyAddress("from");
        bytes32 nonce = keccak256(abi.encode(ID, amount, from, salt));
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.topUpWithAuthorization(ID, amount, from, salt, validAfter, validBefore, nonce, signature);
        assertStep(before, ID);
    }

    function check_TopUpWithPermit2(uint128 amount, uint256 nonce, uint256 deadline) public {
        address from = anyAddress("from");
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.topUpWithPermit2(ID, amount, from, nonce, deadline, signature);
        assertStep(before, ID);
    }

    function check_TopUpWithGrant(IRelayedChannels.TopUpGrant memory grant) public {
        grant.channelId = ID;
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.topUpWithGrant(grant, signature);
        assertStep(before, ID);
    }
}
