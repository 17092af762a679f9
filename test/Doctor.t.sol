// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Doctor} from "../script/Doctor.s.sol";
import {Test} from "forge-std/Test.sol";

contract DoctorTest is Test {
    Doctor private doctor;
    Doctor.Wanted[] private wanted;

    function setUp() public {
        doctor = new Doctor();
        Doctor.Wanted[] memory all = doctor.wantedOnEveryChain();
        for (uint256 i = 0; i < all.length; ++i) {
            wanted.push(all[i]);
        }
    }

    function test_KnowsWhatItWantsWithoutLeavingIt() public view {
        for (uint256 i = 0; i < wanted.length; ++i) {
            assertGt(uint256(wanted[i].codeHash), 0);
            assertEq(wanted[i].location.code.length, 0);
        }
        assertEq(doctor.examine(wanted), 4, "nothing is deployed");
    }

    function test_FindsNothingWrongWithADeploymentOnAnyChain() public {
        vm.chainId(8453);
        doctor.run();
        assertEq(doctor.examine(wanted), 0);
    }

    function test_FindsOtherCode() public {
        doctor.run();
        for (uint256 i = 0; i < wanted.length; ++i) {
            bytes memory code = wanted[i].location.code;
            bytes memory changed = bytes.concat(code);
            changed[changed.length - 1] ^= 0x01;
            vm.etch(wanted[i].location, changed);
            assertEq(doctor.examine(wanted), 1, wanted[i].name);
            vm.etch(wanted[i].location, code);
        }
    }

    function test_FindsAContractThatIsMissing() public {
        doctor.run();
        vm.etch(wanted[3].location, "");
        assertEq(doctor.examine(wanted), 1);
    }

    /// @dev The right code, on a chain that can't run it.
    function test_FindsAnEscrowThatDoesNotAnswer() public {
        doctor.run();
        vm.mockCallRevert(wanted[2].location, abi.encodeWithSignature("domainSeparator()"), "");
        assertEq(doctor.examine(wanted), 1);
        vm.clearMockedCalls();
        vm.mockCall(wanted[2].location, abi.encodeWithSignature("domainSeparator()"), abi.encode(bytes32(0)));
        assertEq(doctor.examine(wanted), 1);
    }
}
