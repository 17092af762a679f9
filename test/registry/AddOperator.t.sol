// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract AddOperatorTest is Fixture {
    function assertStatus(address of_, IExecutorRegistry.OperatorStatus wanted) private view {
        assertEq(uint8(registry.operatorStatus(payee.addr, of_)), uint8(wanted));
    }

    function test_MakesAnOperatorActive() public {
        assertStatus(signer.addr, IExecutorRegistry.OperatorStatus.None);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.OperatorAdded(payee.addr, signer.addr);
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        assertStatus(signer.addr, IExecutorRegistry.OperatorStatus.Active);
    }

    function test_MakesARetiredOneActiveAgain() public {
        vm.startPrank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(30 days);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.OperatorAdded(payee.addr, operator.addr);
        registry.addOperator(operator.addr);
        assertStatus(operator.addr, IExecutorRegistry.OperatorStatus.Active);
        assertEq(registry.retiredAt(payee.addr, operator.addr), 0);
    }

    function test_APayeeHasManyOperatorsAndAnOperatorManyPayees() public {
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        vm.prank(stranger);
        registry.addOperator(operator.addr);
        vm.prank(stranger);
        registry.removeOperator(operator.addr);
        assertStatus(signer.addr, IExecutorRegistry.OperatorStatus.Active);
        assertStatus(operator.addr, IExecutorRegistry.OperatorStatus.Active);
    }

    function testFuzz_NobodyNamesOperatorsForAnother(address caller, address candidate) public {
        vm.assume(caller != payee.addr && candidate != address(0) && candidate != operator.addr);
        vm.prank(caller);
        registry.addOperator(candidate);
        assertStatus(candidate, IExecutorRegistry.OperatorStatus.None);
    }

    function test_RevertWhen_OperatorIsZero() public {
        vm.expectRevert(IExecutorRegistry.InvalidOperator.selector);
        registry.addOperator(address(0));
    }

    function test_RevertGiven_OperatorIsActive() public {
        vm.prank(payee.addr);
        vm.expectRevert(IExecutorRegistry.OperatorAlreadyActive.selector);
        registry.addOperator(operator.addr);
    }
}
