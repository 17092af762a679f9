// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract RemoveOperatorTest is Fixture {
    function test_RetiresAnOperatorAndRemembersWhen() public {
        assertEq(registry.retiredAt(payee.addr, operator.addr), 0);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.OperatorRetired(payee.addr, operator.addr);
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        assertEq(
            uint8(registry.operatorStatus(payee.addr, operator.addr)), uint8(IExecutorRegistry.OperatorStatus.Retired)
        );
        assertEq(registry.retiredAt(payee.addr, operator.addr), 1_800_000_000);
    }

    function test_RetiringAgainIsRememberedAnew() public {
        vm.startPrank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(1 days);
        registry.addOperator(operator.addr);
        registry.removeOperator(operator.addr);
        assertEq(registry.retiredAt(payee.addr, operator.addr), 1_800_000_000 + 1 days);
    }

    function testFuzz_RevertWhen_CallerIsAnother(address caller) public {
        vm.assume(caller != payee.addr);
        vm.prank(caller);
        vm.expectRevert(IExecutorRegistry.OperatorNotActive.selector);
        registry.removeOperator(operator.addr);
    }

    function test_RevertGiven_OperatorWasNeverNamed() public {
        vm.prank(payee.addr);
        vm.expectRevert(IExecutorRegistry.OperatorNotActive.selector);
        registry.removeOperator(signer.addr);
    }

    /// @dev Else its faults would become punishable once more, or the delay be stretched.
    function test_RevertGiven_OperatorIsRetired() public {
        vm.startPrank(payee.addr);
        registry.removeOperator(operator.addr);
        vm.expectRevert(IExecutorRegistry.OperatorNotActive.selector);
        registry.removeOperator(operator.addr);
    }
}
