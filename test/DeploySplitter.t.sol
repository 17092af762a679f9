// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Deploy} from "../script/Deploy.s.sol";
import {DeploySplitter} from "../script/DeploySplitter.s.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Test} from "forge-std/Test.sol";
import {LloomDeployer} from "lloom/LloomDeployer.sol";
import {RevenueSplitter} from "lloom/RevenueSplitter.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

contract DeploySplitterTest is Test {
    DeploySplitter private script;
    address private host = makeAddr("host");
    address private validators = makeAddr("validators");
    address private treasury = makeAddr("treasury");

    function setUp() public {
        script = new DeploySplitter();
    }

    /// @dev One test for all of the environment: it is the process's, and tests run side by side.
    function test_ReadsTheEnvironment() public {
        LloomDeployer lloom = new Deploy().run().deployer;
        vm.setEnv("HOST", vm.toString(host));
        vm.setEnv("VALIDATORS", vm.toString(validators));
        vm.setEnv("TREASURY", vm.toString(treasury));

        RevenueSplitter splitter = script.run();
        assertEq(splitter.REGISTRY(), address(lloom.REGISTRY()));
        assertEq(splitter.ESCROW(), address(lloom.ESCROW()));
        assertEq(splitter.HOST(), host);
        assertEq(splitter.VALIDATORS(), validators);
        assertEq(splitter.TREASURY(), treasury);
        assertEq(splitter.HOST_SHARE(), 7000);
        assertEq(splitter.VALIDATORS_SHARE(), 2000);
        assertEq(splitter.TREASURY_SHARE(), 1000);

        vm.setEnv("HOST_SHARE", "9000");
        vm.setEnv("VALIDATORS_SHARE", "900");
        vm.setEnv("TREASURY_SHARE", "100");
        splitter = script.run();
        assertEq(splitter.HOST_SHARE(), 9000);
        assertEq(splitter.VALIDATORS_SHARE(), 900);
        assertEq(splitter.TREASURY_SHARE(), 100);

        vm.setEnv("HOST_SHARE", "74536"); // 9000 in 16 bits
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 16, 74_536));
        script.run();
    }

    function test_RevertGiven_LloomIsNotOnThisChain() public {
        address deployer = new Deploy().addressOf(type(LloomDeployer).creationCode);
        vm.expectRevert(abi.encodeWithSelector(DeploySplitter.LloomMissing.selector, deployer));
        script.deploy(IRevenueSplitter.Parties(host, validators, treasury), IRevenueSplitter.Shares(7000, 2000, 1000));
    }
}
