// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice One call of an entry point, from any state: `SymbolicFixture` says what is shown. `PayoutTest` has the others.
contract SolvencyTest is SymbolicFixture {
    // --- Life of a channel ---

    function check_Open(address payee, uint128 amount, bytes32 salt, address signer) public {
        address caller = assumeCaller();
        bytes32 id = escrow.computeChannelId(caller, payee, address(token), salt, signer);
        assumeChannel(id);
        Roles memory roles = Roles(caller, payee, caller);
        State memory before = observe(id, roles);
        vm.prank(caller);
        escrow.open(payee, address(token), amount, salt, signer);
        assertStep(before, id, roles);
    }

    function check_OpenFromBalance(address payee, uint128 amount, bytes32 salt, address signer) public {
        address caller = assumeCaller();
        bytes32 id = escrow.computeChannelId(caller, payee, address(token), salt, signer);
        assumeChannel(id);
        Roles memory roles = Roles(caller, payee, caller);
        State memory before = observe(id, roles);
        vm.prank(caller);
        escrow.openFromBalance(payee, address(token), amount, salt, signer);
        assertStep(before, id, roles);
    }

    function check_TopUp(bytes32 id, uint128 amount) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        vm.prank(caller);
        escrow.topUp(id, amount);
        assertStep(before, id, roles);
    }

    function check_TopUpFromBalance(bytes32 id, uint128 amount) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        vm.prank(caller);
        escrow.topUpFromBalance(id, amount);
        assertStep(before, id, roles);
    }

    function check_Settle(bytes32 id, uint128 amount) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        bytes memory signature = SVM.createBytes(65, "signature");
        vm.prank(caller);
        escrow.settle(id, amount, signature);
        assertStep(before, id, roles);
    }

    function check_RequestClose(bytes32 id) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        vm.prank(caller);
        escrow.requestClose(id);
        assertStep(before, id, roles);
    }

    function check_Withdraw(bytes32 id) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        vm.prank(caller);
        escrow.withdraw(id);
        assertStep(before, id, roles);
    }

    // --- Balances ---

    function check_DepositFor(bytes32 id, address account, uint256 amount) public {
        address caller = assumeCaller();
        assumeChannel(id);
        Roles memory roles = Roles(caller, account, account);
        State memory before = observe(id, roles);
        vm.prank(caller);
        escrow.depositFor(account, address(token), amount);
        assertStep(before, id, roles);
    }

    function check_WithdrawBalance(bytes32 id, uint256 amount, address to) public {
        address caller = assumeCaller();
        assumeChannel(id);
        Roles memory roles = Roles(caller, to, to);
        State memory before = observe(id, roles);
        vm.prank(caller);
        escrow.withdrawBalance(address(token), amount, to);
        assertStep(before, id, roles);
    }

    // --- The settlement's entry: this contract is the settlement ---

    function check_OnlyTheSettlementAdvancesAndCloses(
        address payee,
        IChannelEscrow.Advance calldata row,
        bytes32 id,
        uint128 amount
    ) public {
        address caller = assumeCaller();
        vm.assume(caller != address(this));
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1);
        rows[0] = row;
        vm.prank(caller);
        try escrow.advanceChannels(payee, address(token), rows) {
            assert(false);
        } catch {}
        vm.prank(caller);
        try escrow.closeChannel(id, amount) {
            assert(false);
        } catch {}
    }
}
